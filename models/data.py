"""Training pairs: folders of registered stills, cut into crops.

A data set is a folder with one sub-folder per source (`infrared/` and `visible/`), same file stems in both; or a folder
of such folders. Everything is held in memory as 8-bit luma.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

SOURCES = {"infrared": ("infrared", "visible"), "exposure": ("under", "over"), "focus": ("near", "far")}
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


class DataError(ValueError):
    """The training data are not as they should be; the message says where, what came and what is legal."""


def find_pairs(root: Path, task: str) -> list[tuple[Path, Path]]:
    """Pairs of image files below `root`, in the order of their names."""
    if task not in SOURCES:
        raise DataError(f"{root}: no names of folders are known for task {task!r}; legal are {', '.join(SOURCES)}")
    first, second = SOURCES[task]
    folders = sorted({found.parent for found in root.glob(f"**/{first}") if (found.parent / second).is_dir()})
    if not folders:
        raise DataError(f"{root}: no folder here has both {first}/ and {second}/ in it")
    pairs = []
    for folder in folders:
        a, b = images_by_stem(folder / first), images_by_stem(folder / second)
        if lonely := sorted(a.keys() ^ b.keys()):
            raise DataError(
                f"{folder}: {len(lonely)} names are not in both {first}/ and {second}/, the first is {lonely[0]!r}"
            )
        pairs += [(a[stem], b[stem]) for stem in sorted(a)]
    return pairs


def images_by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}


def read_luma(path: Path) -> np.ndarray:
    """(H, W) uint8, 0..255."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: not an image that can be read (PNG, JPEG, BMP and TIFF can)")
    return image


class Crops:
    """Batches of augmented crops; batch n is the same in every run with the same seed, wherever training resumes.

    Args:
        pairs: as found by `find_pairs`.
        crop: side of the square crops in px; smaller pictures are mirrored at their border to reach it.
        batch: crops a batch.
        seed: of the order, places and augmentation.
        jitter: strength of the change of gain and gamma, each source on its own; 0 for none.
    """

    def __init__(self, pairs: list[tuple[Path, Path]], *, crop: int, batch: int, seed: int, jitter: float) -> None:
        self.pictures = [(read_luma(a), read_luma(b)) for a, b in pairs]
        for (a, b), (first, second) in zip(pairs, self.pictures, strict=True):
            if first.shape != second.shape:
                raise DataError(f"{a} is {first.shape} and {b} is {second.shape}: a pair must have one size")
        self.crop, self.batch, self.seed, self.jitter = crop, batch, seed, jitter

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch number `step`: two (B, 1, crop, crop) float32 in -1..1."""
        rng = np.random.default_rng([self.seed, step])
        pairs = [self.one(rng) for _ in range(self.batch)]
        first, second = (np.stack(planes)[:, None] for planes in zip(*pairs, strict=True))
        return torch.from_numpy(first), torch.from_numpy(second)

    def one(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        first, second = self.pictures[rng.integers(len(self.pictures))]
        height, width = (max(side, self.crop) for side in first.shape)
        y, x = rng.integers(height - self.crop + 1), rng.integers(width - self.crop + 1)
        turns, flip = int(rng.integers(4)), int(rng.integers(2))
        planes = []
        for picture in (first, second):
            missing = [(0, max(0, self.crop - side)) for side in picture.shape]
            if any(pad for _, pad in missing):
                picture = np.pad(picture, missing, mode="symmetric")
            plane = np.rot90(picture[y : y + self.crop, x : x + self.crop], turns)
            planes.append(self.change_tone(plane[:, ::-1] if flip else plane, rng))
        return planes[0], planes[1]

    def change_tone(self, plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 to float32 in -1..1, with a gain and a gamma of about e^(+-jitter)."""
        gain, gamma = np.exp(self.jitter * rng.uniform(-1, 1, size=2))
        unit = np.clip(gain * (plane.astype(np.float32) / 255) ** gamma, 0, 1)
        return np.ascontiguousarray(2 * unit - 1, dtype=np.float32)
