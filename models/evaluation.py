"""Judging a fusion on a folder of pairs: every metric of the field, as a table, as JSON and as a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models import data, metrics
from models.controls import Fusing, controls_for
from models.data import DataError, images_by_stem, read_luma

Pair = tuple[str, Path, Path]

SHEET_WIDTH = 320  # px of a column


def find_pairs(first: Path, second: Path | None, task: str) -> list[Pair]:
    """Pairs of images of the same name in two folders, in the order of their names.

    Without `second`, `first` is a data set: every folder below it that has the task's two sources in it.
    """
    if second is None:
        return [(data.name_of(a), a, b) for a, b in data.find_pairs(first, task)]
    for folder in (first, second):
        if not folder.is_dir():
            what = (
                "is no folder; eval takes folders of images, or videos"
                if folder.exists()
                else "there is no such folder"
            )
            raise DataError(f"{folder}: {what}")
    a, b = images_by_stem(first), images_by_stem(second)
    if not a or a.keys() != b.keys():
        lonely = sorted(a.keys() ^ b.keys())
        what = f"{len(lonely)} names are in one only, the first is {lonely[0]!r}" if lonely else "they hold no image"
        raise DataError(f"{first} and {second} do not pair: {what}")
    return [(stem, a[stem], b[stem]) for stem in a]


def from_folder(folder: Path) -> Fusing:
    """Fused images that lie ready under the names of their sources."""
    ready = images_by_stem(folder) if folder.is_dir() else {}

    def read(stem: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        if stem not in ready:
            raise DataError(f"{folder}: there is no fused image {stem!r} in it")
        fused = read_luma(ready[stem])
        if fused.shape != first.shape:
            raise DataError(f"{ready[stem]}: is {fused.shape}, its sources are {first.shape}")
        return fused

    return read


def judge(
    pairs: Sequence[Pair],
    task: str,
    fusions: Mapping[str, Fusing],
    sheet_to: Path | None,
    controls: Mapping[str, Fusing] | None = None,
) -> dict[str, Any]:
    """Mean of each metric over the pairs, for the fusions and for the classical controls.

    Args:
        pairs: as found by `find_pairs`.
        task: decides which metrics there are.
        fusions: by name.
        sheet_to: a PNG to write all pictures to, a row a pair.
        controls: instead of all those of the task.

    Returns:
        `pairs` (their number), `names`, `task`, and `means` by fusion and metric. Hot is over all parts of all pairs.
    """
    fusions = {**(controls_for(task) if controls is None else controls), **fusions}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in fusions}
    hot: dict[str, list[tuple[int, float]]] = {name: [] for name in fusions}
    strips = []
    for stem, first, second in pairs:
        a, b = read_luma(first), read_luma(second)
        if a.shape != b.shape:
            raise DataError(f"{first} is {a.shape} and {second} is {b.shape}: a pair to be judged must have one size")
        pictures = {name: fuse(stem, a, b) for name, fuse in fusions.items()}
        for name, fused in pictures.items():
            rows[name].append(metrics.evaluate_pair(a, b, fused, task))
            hot[name] += metrics.hot_parts(a, fused) if task == "infrared" else []
        if sheet_to:
            strips.append(strip([a, b, *pictures.values()]))
    if sheet_to:
        write_sheet(sheet_to, ["first", "second", *fusions], strips)
    means = {name: {key: mean(row[key] for row in found) for key in found[0]} for name, found in rows.items()}
    if task == "infrared":
        for name, parts in hot.items():
            means[name]["Hot"] = metrics.hot_contrast(parts)
    return {"pairs": len(pairs), "task": task, "names": [stem for stem, _, _ in pairs], "means": means}


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


def strip(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W) uint8 pictures of one size side by side, each SHEET_WIDTH px wide."""
    height = max(1, round(pictures[0].shape[0] * SHEET_WIDTH / pictures[0].shape[1]))
    return np.hstack([cv2.resize(picture, (SHEET_WIDTH, height), interpolation=cv2.INTER_AREA) for picture in pictures])


def write_sheet(path: Path, labels: Sequence[str], strips: Sequence[np.ndarray]) -> None:
    """One picture of all strips, with the names of the columns on top."""
    bar = np.zeros((24, SHEET_WIDTH * len(labels)), np.uint8)
    for column, label in enumerate(labels):
        cv2.putText(bar, label, (column * SHEET_WIDTH + 6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
    if (
        path.suffix.lower() != ".png"
        or not path.parent.is_dir()
        or not cv2.imwrite(str(path), np.vstack([bar, *strips]))
    ):
        raise DataError(f"{path}: cannot be written; a sheet is a .png in a folder that is there")
