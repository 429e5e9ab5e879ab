"""Frame: one image in host memory, when it was captured, and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PixelFormat = Literal["gray8", "gray16", "yuv420p", "bgr24"]
TimestampSource = Literal["device", "pts", "arrival"]
ColorRange = Literal["limited", "full"]
ColorMatrix = Literal["bt601", "bt709", "bt2020"]

# Code points of matrix coefficients, ITU-T H.273 table 4; 5 (625 lines) and 6 (525 lines) are the same matrix.
MATRIX_CODES: Mapping[ColorMatrix, int] = MappingProxyType({"bt601": 6, "bt709": 1, "bt2020": 9})


@dataclass(frozen=True, slots=True)
class Fusion:
    """How a fused frame was made."""

    state: str
    """`fused`: from partners within tolerance. `held`: a partner is an older frame, or shows a frozen picture.
    `visible_only`, `infrared_only` (`under_only` and so on): the others are lost, and this one is passed through."""
    skew_ns: int
    """Largest distance in capture time of a partner from the reference, in nanoseconds, >= 0."""
    timestamps_ns: Mapping[str, int]
    """Capture time of each source frame by the name of its input."""
    model: str = ""
    """Name of the network that made it, where one did."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image. Immutable: the array is made read-only, and nobody writes to memory that another may still read.

    Args:
        data: gray8 (H, W) uint8; gray16 (H, W) uint16; bgr24 (H, W, 3) uint8; yuv420p the three planes one after the
            other as one (H * W + 2 * ceil(H / 2) * ceil(W / 2),) uint8, so that odd sizes have a place.
        pixel_format: one of the above.
        size: (width, height) in pixels.
        timestamp_ns: start of exposure in nanoseconds. Live: on the host's monotonic clock (`time.monotonic_ns`);
            recorded: the presentation time.
        timestamp_source: where that time comes from, best first: the device, the file, or our clock at arrival.
        sequence: counts up by one at the source; a gap means that frames were lost there.
        stream: name of the node that made it.
        color_range: of luma: `limited` is 16..235, `full` 0..255.
        color_matrix: of yuv420p, and of bgr24 the one to use when it becomes YUV.
        frame_rate: nominal frames per second of its stream, where known.
        name: stem of the file it came from, where each frame has its own.
        exposure_us: time of exposure in microseconds, where the device tells.
        fusion: how it was made, for fused frames.

    Raises:
        ValueError: shape or dtype do not fit format and size.
    """

    data: NDArray[Any]
    pixel_format: PixelFormat
    size: tuple[int, int]
    timestamp_ns: int
    timestamp_source: TimestampSource
    sequence: int
    stream: str
    color_range: ColorRange = "full"
    color_matrix: ColorMatrix = "bt601"
    frame_rate: Fraction | None = None
    name: str | None = None
    exposure_us: float | None = None
    fusion: Fusion | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        shape, dtype = layout(self.pixel_format, self.size)
        if self.data.shape != shape or self.data.dtype != dtype:
            width, height = self.size
            raise ValueError(
                f"{self.pixel_format} of {width}x{height} is {shape} {dtype}, got {self.data.shape} {self.data.dtype}"
            )
        self.data.flags.writeable = False

    def __repr__(self) -> str:
        width, height = self.size
        return (
            f"Frame({self.stream} #{self.sequence}, {width}x{height} {self.pixel_format}, "
            f"{self.timestamp_ns / 1e9:.4f} s by {self.timestamp_source})"
        )

    @property
    def planes(self) -> tuple[NDArray[Any], ...]:
        """yuv420p as (H, W) luma and two (ceil(H / 2), ceil(W / 2)) chroma planes, views; other formats as they are."""
        if self.pixel_format != "yuv420p":
            return (self.data,)
        width, height = self.size
        luma, chroma = width * height, half(width) * half(height)
        return (
            self.data[:luma].reshape(height, width),
            self.data[luma : luma + chroma].reshape(half(height), half(width)),
            self.data[luma + chroma :].reshape(half(height), half(width)),
        )


def half(side: int) -> int:
    """Side of a 4:2:0 chroma plane: rounded up, as every codec does."""
    return (side + 1) // 2


@lru_cache(64)
def layout(pixel_format: PixelFormat, size: tuple[int, int]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of the data of a frame."""
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"a frame has at least one pixel, got {width}x{height}")
    if pixel_format == "gray8":
        return (height, width), np.dtype(np.uint8)
    if pixel_format == "gray16":
        return (height, width), np.dtype(np.uint16)
    if pixel_format == "bgr24":
        return (height, width, 3), np.dtype(np.uint8)
    if pixel_format == "yuv420p":
        return (width * height + 2 * half(width) * half(height),), np.dtype(np.uint8)
    raise ValueError(f"there is no pixel format {pixel_format!r}; there is: gray8, gray16, yuv420p, bgr24")
