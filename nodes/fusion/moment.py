"""A moment: frames of the sources that belong together, and how each becomes a plane of the fused picture.

Deciding how is cheap and depends on the moments before; doing it is work, for the processor (`luma`) or for a device
(`warp`), and depends on nothing else. So it may be done later, elsewhere, and a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from nodes.fusion.chroma import with_chroma
from nodes.fusion.look import Look
from nodes.fusion.planes import COLOURED, resized
from pipeline.frame import ColorRange, Frame

Picture = tuple[np.ndarray, dict[str, Any]]
"""Data of a fused frame, and its format, size, range and matrix."""


@dataclass(frozen=True)
class Source:
    """One of the frames."""

    frame: Frame
    table: np.ndarray | None
    """(256,) or (65536,) uint8: the gain's grey level of each count; None where counts are grey levels."""
    color_range: ColorRange
    """Of its luma."""
    shift: tuple[float, float] = (0.0, 0.0)
    """(right, down) in pixels of the fused picture."""

    @cached_property
    def counts(self) -> np.ndarray:
        """(h, w) uint8 or uint16, before the gain."""
        if self.frame.pixel_format == "bgr24":
            return cv2.cvtColor(self.frame.data, cv2.COLOR_BGR2YCrCb)[:, :, 0]
        return self.frame.planes[0]

    def luma(self, shape: tuple[int, ...]) -> np.ndarray:
        """(H, W) uint8."""
        grey = self.counts if self.table is None else np.take(self.table, self.counts)
        if self.shift == (0, 0) or self.shrinks(shape):
            return moved(resized(grey, shape), self.shift)
        warp = self.warp(shape)
        assert warp is not None
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # in one step, which blurs less than two
        return np.asarray(cv2.warpAffine(grey, warp[:2], shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE))

    def warp(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """(3, 3) float32 from pixels of the fused picture of (H, W) to those of `counts`; None if they are the same."""
        if self.counts.shape == shape and self.shift == (0, 0):
            return None
        x, y = (n / m for n, m in zip(self.counts.shape[::-1], shape[::-1], strict=True))
        right, down = self.shift
        return np.array([[x, 0, (0.5 - right) * x - 0.5], [0, y, (0.5 - down) * y - 0.5], [0, 0, 1]], np.float32)

    def shrinks(self, shape: tuple[int, ...]) -> bool:
        """Whether pixels are left out when it becomes (H, W): then it takes a mean, which no warp gives."""
        return shape[0] < self.counts.shape[0] or shape[1] < self.counts.shape[1]


def moved(plane: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """An (H, W) plane moved by (right, down) px; the border is repeated."""
    if shift == (0, 0):
        return plane
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    return np.asarray(cv2.warpAffine(plane, move, plane.shape[::-1], borderMode=cv2.BORDER_REPLICATE))


@dataclass(frozen=True)
class Moment:
    """All of them, in the order of the task; the last gives size and colour."""

    names: tuple[str, ...]
    sources: tuple[Source, ...]
    look: Look
    """As it was then."""
    color_range: ColorRange
    """Of the fused luma."""
    steadily: bool
    fresh: bool
    """The moment before was not fused: nothing is to be held back."""

    @property
    def frames(self) -> list[Frame]:
        return [source.frame for source in self.sources]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the fused picture."""
        rows, columns = self.sources[-1].counts.shape
        return rows, columns

    @property
    def ranges(self) -> list[ColorRange]:
        return [source.color_range for source in self.sources]

    @cached_property
    def lumas(self) -> list[np.ndarray]:
        """(H, W) uint8 of each source."""
        return [source.luma(self.shape) for source in self.sources]


def finished(task: str, moment: Moment, luma: np.ndarray) -> Picture:
    """Fused luma as an operator wants to see it, with the colour of the task.

    Args:
        task: of the fusion.
        moment: what it is fused of.
        luma: (H, W) uint8 of its range.
    """
    frames, look, lumas = moment.frames, moment.look, moment.lumas
    luma = look.blended(luma, lumas, moment.ranges, moment.color_range)
    data, pixel_format = with_chroma(task, frames, lumas, luma)
    looks = looks_of(moment, pixel_format)
    if "infrared" in moment.names:
        return look.painted(data, looks, lumas[0], moment.ranges[0], alone=False)
    return data, looks


def looks_of(moment: Moment, pixel_format: str) -> dict[str, Any]:
    """Format, size, range and matrix of the fused frame."""
    height, width = moment.shape
    coloured = next((f for f in moment.frames[::-1] if f.pixel_format in COLOURED), moment.frames[-1])
    return {
        "pixel_format": pixel_format,
        "size": (width, height),
        "color_range": "full" if pixel_format == "bgr24" else moment.color_range,
        "color_matrix": coloured.color_matrix,
    }
