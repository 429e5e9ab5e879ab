"""What a camera at this machine is to `capture.camera`, whoever drives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from pipeline.frame import ColorMatrix, ColorRange

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mode:
    """A kind of picture that a camera offers, in one size or a range of sizes."""

    fourcc: str
    """V4L2's name of the pixel format without spaces at its end: YUYV, MJPG, Y16, and Y16-BE for big-endian."""
    least: Size
    most: Size
    step: Size = (1, 1)
    most_fps: float = 0.0
    """0 where it does not tell."""

    def fits(self, size: Size) -> bool:
        """Whether it offers a (width, height)."""
        sides = zip(size, self.least, self.most, self.step, strict=True)
        return all(least <= side <= most and (side - least) % step == 0 for side, least, most, step in sides)

    def __str__(self) -> str:
        size = f"{self.most[0]}x{self.most[1]}"
        if self.least != self.most:
            size = f"{self.least[0]}x{self.least[1]} to {size}"
        return f"{self.fourcc} {size}" + (f" at {self.most_fps:g} fps" if self.most_fps else "")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a camera gives once it is started."""

    fourcc: str
    size: Size
    bytes_per_line: int
    """Of the first plane, with padding; 0 of compressed pictures."""
    color_range: ColorRange = "limited"
    color_matrix: ColorMatrix = "bt601"
    frame_rate: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture as the device gave it."""

    data: bytes
    timestamp_ns: int | None = None
    """On the clock of `time.monotonic_ns`; None where the device does not tell."""
    sequence: int | None = None
    """Counts up; a gap is a loss. None where the device does not count."""
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """Something of the camera that can be set: exposure, gain."""

    least: int
    most: int
    step: int
    value: int


class Device(Protocol):
    """An open camera. What fails raises OSError: it is gone, or has to be opened again."""

    name: str
    """For people."""

    def modes(self) -> list[Mode]:
        """What it offers, in its own order; none where it does not tell."""

    def settings(self) -> Mapping[str, Setting]:
        """What can be set, by name."""

    def set(self, name: str, value: int) -> None:
        """Set one of its settings."""

    def start(self, fourcc: str | None, size: Size | None, fps: float | None) -> Setup:
        """Begin to take pictures, as near as it can to what is wanted; None leaves it as it is."""

    def read(self, timeout_s: float) -> Shot | None:
        """The next picture; None if there is none in time."""

    def close(self) -> None:
        """Let go of it; does not fail."""
