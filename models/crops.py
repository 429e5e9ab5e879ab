"""Batches for training: augmented crops of registered pictures, some of them damaged as real sensors damage them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from models import damage
from models.data import read_luma, read_set

Planes = list[np.ndarray]


class Batch(NamedTuple):
    """What the network sees, and what the loss compares its picture with: tuples of (B, 1, crop, crop) float32, -1..1.

    The two differ where the network shall see through a damage, and where the wanted picture is known. `choice`, where
    it is known, is (B, 1, crop, crop): 1 where the first source is to be taken, 0 where the second is.
    """

    inputs: tuple[Tensor, ...]
    wanted: tuple[Tensor, ...]
    choice: Tensor | None = None


class Batches(Protocol):
    """Batch number `step`; the same in every run with the same seed, wherever training resumes."""

    def __getitem__(self, step: int) -> Batch: ...


class Crops:
    """Crops of sets of registered pictures.

    Args:
        sets: as found by `find_sets`.
        crop: side of the square crops in px; smaller pictures are mirrored at their border to reach it.
        batch: crops a batch.
        seed: of the order, places and augmentation.
        jitter: strength of the change of gain and gamma, each source on its own; 0 for none.
        damage: share of the crops whose first source is damaged (noise, blur, shift, saturation, emptiness), 0..1.
        sources: the most sources in a batch; one in four batches has as many where there are such sets.
    """

    def __init__(
        self,
        sets: list[tuple[Path, ...]],
        *,
        crop: int,
        batch: int,
        seed: int,
        jitter: float,
        damage: float = 0.0,
        sources: int = 2,
    ) -> None:
        self.pictures = [read_set(paths) for paths in sets]
        self.large = [planes for planes in self.pictures if len(planes) >= sources]
        self.crop, self.batch, self.seed, self.jitter = crop, batch, seed, jitter
        self.damage, self.sources = damage, sources

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        many = self.sources > 2 and bool(self.large) and rng.random() < 0.25
        inputs, wanted = zip(*[self.one(rng, many) for _ in range(self.batch)], strict=True)
        return Batch(stacked(inputs), stacked(wanted))

    def one(self, rng: np.random.Generator, many: bool) -> tuple[Planes, Planes]:
        pictures = self.large if many else self.pictures
        planes = chosen(pictures[rng.integers(len(pictures))], self.sources if many else 2, rng)
        planes = [change_tone(plane, self.jitter, rng) for plane in cut(planes, self.crop, rng)]
        if rng.random() < self.damage:
            return damage.first_source(planes, rng)
        return planes, planes


class Defocused:
    """Crops of sharp pictures, of which two are made that are each in focus in one part; the right choice is wanted.

    Args:
        paths: of sharp pictures.
        crop, batch, seed, jitter: as for `Crops`.
    """

    def __init__(self, paths: list[Path], *, crop: int, batch: int, seed: int, jitter: float) -> None:
        self.pictures = [read_luma(path) for path in paths]
        self.crop, self.batch, self.seed, self.jitter = crop, batch, seed, jitter

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        inputs, wanted, choices = zip(*[self.one(rng) for _ in range(self.batch)], strict=True)
        return Batch(stacked(inputs), stacked(wanted), torch.from_numpy(np.stack(choices)[:, None]))

    def one(self, rng: np.random.Generator) -> tuple[Planes, Planes, np.ndarray]:
        picture = self.pictures[rng.integers(len(self.pictures))]
        (plane,) = cut([picture], self.crop, rng)
        sharp = change_tone(plane, self.jitter, rng)
        planes, choice = damage.two_focal_planes(sharp, rng)
        return planes, [choice * planes[0] + (1 - choice) * planes[1]] * 2, choice


def chosen(planes: Planes, count: int, rng: np.random.Generator) -> Planes:
    """So many of a set, in its order; of two, mostly the first and the last."""
    if len(planes) <= count:
        return planes
    if count == 2 and rng.random() < 0.6:
        return [planes[0], planes[-1]]
    return [planes[i] for i in sorted(rng.choice(len(planes), count, replace=False))]


def cut(planes: Planes, crop: int, rng: np.random.Generator) -> Planes:
    """The same square of each, turned and mirrored alike."""
    height, width = (max(side, crop) for side in planes[0].shape)
    y, x = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
    turns, flip = int(rng.integers(4)), int(rng.integers(2))
    cuts = []
    for plane in planes:
        missing = [(0, max(0, crop - side)) for side in plane.shape]
        whole = np.pad(plane, missing, mode="symmetric") if any(pad for _, pad in missing) else plane
        square = np.rot90(whole[y : y + crop, x : x + crop], turns)
        cuts.append(square[:, ::-1] if flip else square)
    return cuts


def change_tone(plane: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 to float32 in -1..1, with a gain and a gamma of about e^(+-jitter)."""
    gain, gamma = np.exp(jitter * rng.uniform(-1, 1, size=2))
    unit = np.clip(gain * (plane.astype(np.float32) / 255) ** gamma, 0, 1)
    return np.ascontiguousarray(2 * unit - 1, dtype=np.float32)


def stacked(crops: Sequence[Planes]) -> tuple[Tensor, ...]:
    """The planes of each crop to one (B, 1, crop, crop) of each source."""
    return tuple(torch.from_numpy(np.stack(planes)[:, None]) for planes in zip(*crops, strict=True))
