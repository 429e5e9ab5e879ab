"""Judging a fusion on a folder of pairs: every metric of the field, as a table, as JSON and as a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models import metrics
from models.data import DataError, images_by_stem, read_luma

Pair = tuple[str, Path, Path]
Fusing = Callable[[np.ndarray, np.ndarray], np.ndarray]

CONTROLS: dict[str, Fusing] = {
    "average": lambda a, b: ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8),
    "maximum": np.maximum,
}


def find_pairs(first: Path, second: Path) -> list[Pair]:
    """Pairs of images of the same name in two folders, in the order of their names."""
    for folder in (first, second):
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder")
    a, b = images_by_stem(first), images_by_stem(second)
    if not a or a.keys() != b.keys():
        lonely = sorted(a.keys() ^ b.keys())
        what = f"{len(lonely)} names are in one only, the first is {lonely[0]!r}" if lonely else "they hold no image"
        raise DataError(f"{first} and {second} do not pair: {what}")
    return [(stem, a[stem], b[stem]) for stem in a]


def from_folder(folder: Path) -> Callable[[str], np.ndarray]:
    """Fused images that lie ready under the names of their sources."""
    ready = images_by_stem(folder) if folder.is_dir() else {}

    def read(stem: str) -> np.ndarray:
        if stem not in ready:
            raise DataError(f"{folder}: there is no fused image {stem!r} in it")
        return read_luma(ready[stem])

    return read


def evaluate(
    pairs: Sequence[Pair], task: str, fusions: dict[str, Callable[[str, np.ndarray, np.ndarray], np.ndarray]]
) -> dict[str, dict[str, float]]:
    """Mean of each metric over the pairs, by fusion; Hot over all hot parts of all pairs.

    Args:
        pairs: as found by `find_pairs`.
        task: decides which metrics there are.
        fusions: name to a function of (stem, first, second), luma (H, W) uint8 each, that gives the fused luma.
    """
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in fusions}
    hot: dict[str, list[tuple[int, float]]] = {name: [] for name in fusions}
    for stem, first, second in pairs:
        a, b = read_luma(first), read_luma(second)
        if a.shape != b.shape:
            raise DataError(f"{first} is {a.shape} and {second} is {b.shape}: a pair to be judged must have one size")
        for name, fuse in fusions.items():
            fused = fuse(stem, a, b)
            if fused.shape != a.shape:
                raise DataError(f"the fused image {stem!r} is {fused.shape}, its sources are {a.shape}")
            rows[name].append(metrics.evaluate_pair(a, b, fused, task))
            if task == "infrared":
                hot[name] += metrics.hot_parts(a, fused)
    means = {name: {key: mean(row[key] for row in found) for key in found[0]} for name, found in rows.items()}
    for name, parts in hot.items():
        if task == "infrared":
            means[name]["Hot"] = metrics.hot_contrast(parts)
    return means


def mean(values: Any) -> float:
    """Mean of the values that are defined; NaN of none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def table(means: dict[str, dict[str, float]]) -> str:
    """Markdown, a row for each fusion."""
    columns = list(next(iter(means.values())))
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in means.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |")
    return "\n".join(lines)


def sheet(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str], width: int = 320) -> np.ndarray:
    """Rows of (H, W) uint8 images as one (H, W) uint8 picture, the labels of the columns on top."""
    bar = np.zeros((24, width * len(labels)), np.uint8)
    for column, label in enumerate(labels):
        cv2.putText(bar, label, (column * width + 6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
    strips = [bar]
    for row in rows:
        height = max(1, round(row[0].shape[0] * width / row[0].shape[1]))
        strips.append(np.hstack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in row]))
    return np.vstack(strips)
