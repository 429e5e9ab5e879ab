"""Grey images, ways to fuse them, and the shared data: for the tests of the metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from models.metrics import Grey

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ABSENT = "the shared data is not there (../shared/data)"
FUSIONS: dict[str, Callable[[Grey, Grey], Grey]] = {
    "average": lambda a, b: ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8),
    "maximum": np.maximum,
    "mix": lambda a, b: ((3 * a.astype(np.uint16) + b + 2) // 4).astype(np.uint8),
}


def noise(seed: int, shape: tuple[int, int] = (180, 300)) -> Grey:
    """Smooth noise: local structure at every scale, as a natural image has."""
    fine = np.random.default_rng(seed).normal(128, 60, shape)
    smooth = cv2.GaussianBlur(fine, (0, 0), 2) - 128
    return np.asarray(np.clip(128 + smooth * 50 / smooth.std() + (fine - 128) / 6, 0, 255), np.uint8)


def flat(value: int, shape: tuple[int, int] = (180, 300)) -> Grey:
    return np.full(shape, value, np.uint8)
