"""Synthetic frames of every kind that a sensor gives, for the tests of the fusion node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nodes.fusion.fuse import Fuse
from pipeline.frame import ColorRange, Frame, PixelFormat, half
from tests import media

Making = Callable[..., Fuse]
"""Of a size and settings: an open node."""


def frame(data: np.ndarray, pixel_format: PixelFormat = "gray8", time_ms: float = 40, **settings: Any) -> Frame:
    size = settings.pop("size", data.shape[1::-1])
    return Frame(data.copy(), pixel_format, size, round(time_ms * 1e6), "pts", 1, "camera", **settings)


def yuv(number: int = 0, size: tuple[int, int] = media.SIZE, color_range: ColorRange = "limited", **how: Any) -> Frame:
    """Luma a slope over the range that begins with some black, chroma of all values."""
    width, height = size
    low, high = (16, 235) if color_range == "limited" else (0, 255)
    luma = np.linspace(low - 40, high, width * height).clip(low).astype(np.uint8)
    chroma = np.random.default_rng(number).integers(0, 256, 2 * half(width) * half(height), dtype=np.uint8)
    return frame(np.concatenate([luma, chroma]), "yuv420p", size=size, color_range=color_range, **how)


def heat(number: int = 0, size: tuple[int, int] = media.SIZE, **how: Any) -> Frame:
    return frame(media.heat(number, size), **how)
