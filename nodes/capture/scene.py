"""The street of `street.py` as one camera sees it: what `capture.pattern` shows. Not a node.

What does not move is painted once; a frame is a copy of it with small pictures of what moves, noise and a clock on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from nodes.capture.street import FOOT, Body, Look, street, tracks
from pipeline.frame import PixelFormat, half

View = Literal["infrared", "visible", "under", "middle", "over"]

# Exposures are two stops apart: a quarter and four times the light of the middle one. The visible camera sees less.
EXPOSURES_US: Mapping[View, float] = {"visible": 16_000, "under": 1_000, "middle": 4_000, "over": 16_000}
GAINS: Mapping[View, float] = {"visible": 0.7, "under": 0.25, "middle": 1.0, "over": 4.0}
GAMMA = 1 / 2.2
NOISE_LEVELS: Mapping[View, float] = {"infrared": 1.5, "visible": 6.0, "under": 2.0, "middle": 2.0, "over": 2.0}
# In gray16 a level of infrared is 0.2 K, told as a radiometric Lepton does (TLinear): in hundredths of a kelvin.
FREEZING_COUNTS, COUNTS_A_LEVEL = 27_315, 20
LUMA_BGR = np.array([0.114, 0.587, 0.299], np.float32)  # BT.601
ROAM = 64  # pixels that the window into the noise moves about
DARK, BRIGHT = 16.0, 250.0  # levels of the clock
# The clocks of the views stand below one another: in a fused picture the hand is one line, or broken by a wrong pair.
CLOCK_ROWS: Mapping[View, int] = {"infrared": 0, "under": 0, "middle": 1, "visible": 2, "over": 2}


@dataclass(frozen=True)
class Sprite:
    """Something that moves, plane by plane: values, and where they count."""

    planes: list[NDArray[Any]]
    masks: list[NDArray[np.bool_]]


class Scene:
    """One view of the street.

    Args:
        view: `infrared`: warm bodies on cool ground. `visible`: dark, with glaring lamps. `under`, `middle` and `over`:
            exposures of what is visible, two stops apart.
        size: (width, height). Views of different sizes show the same field.
        pixel_format: gray8, gray16, yuv420p (limited range, BT.601) or bgr24.
        seed: of the street, of who is in it and of the noise.
        noise: standard deviation in levels of 255; None for what suits the view.
    """

    def __init__(
        self,
        view: View,
        size: tuple[int, int] = (640, 480),
        pixel_format: PixelFormat = "gray8",
        seed: int = 0,
        noise: float | None = None,
    ) -> None:
        self.view, self.size, self.pixel_format = view, size, pixel_format
        self._tracks = tracks(seed)
        background = self._developed(street(size, seed))
        self._row = clear_clock(background, CLOCK_ROWS[view])
        self._background = np.concatenate([plane.reshape(-1) for plane in self._planes(background)])
        self._sprites = [[self._sprite(look) for look in track.looks(size)] for track in self._tracks]
        self._digits = [self._values(glyph) for glyph in digits(size)]
        random = np.random.default_rng((seed, 2, get_args(View).index(view)))
        self._brighter, self._darker = self._noise(random, NOISE_LEVELS[view] if noise is None else noise)

    def truth(self, time_ns: int) -> list[Body]:
        """Who is where at a time, from the farthest to the nearest."""
        return [track.at(time_ns, self.size) for track in self._tracks]

    def draw(self, time_ns: int, number: int, step: float = 0.0) -> NDArray[Any]:
        """The picture of a moment in memory of its own, laid out as the data of a frame.

        Args:
            time_ns: the moment.
            number: of the frame: each has another noise.
            step: levels by which the whole picture is brighter.
        """
        data = self._background.copy()
        planes = self._split(data)
        for body, looks in zip(self.truth(time_ns), self._sprites, strict=True):
            quarter = time_ns * len(looks) // 1_000_000_000 % len(looks)
            paint(planes, looks[quarter], round(body.x), round(body.y))
        if step:
            cv2.add(planes[0], np.full_like(planes[0], round(step * self._a_level)), dst=planes[0])
        self._add_noise(planes[0], number)
        self._show_clock(planes[0], time_ns)
        return data.reshape(-1) if self.pixel_format == "yuv420p" else planes[0]

    def _add_noise(self, plane: NDArray[Any], number: int) -> None:
        """Another part of one field of noise for each frame: new noise for each pixel would take ten times as long."""
        (height, width), right, down = plane.shape[:2], number * 29 % ROAM, number * 47 % (ROAM - 3)
        window = np.s_[down : down + height, right : right + width]
        cv2.add(plane, self._brighter[window], dst=plane)
        cv2.subtract(plane, self._darker[window], dst=plane)

    def _show_clock(self, plane: NDArray[Any], time_ns: int) -> None:
        """A hand that crosses the foot of the picture once a second, and the second and its thousandths in digits."""
        width = plane.shape[1]
        place, thick = time_ns % 1_000_000_000 * width // 1_000_000_000, max(1, width // 160)
        plane[self._row, max(place - thick, 0) : place + thick + 1] = self._value(BRIGHT)
        if not self._digits:
            return
        rows, columns = self._digits[0].shape[:2]
        top = 2 + CLOCK_ROWS[self.view] * (rows + 2)
        for index, digit in enumerate(f"{time_ns // 1_000_000 % 60_000:05d}"):
            left = 2 + (index + (index > 1) / 2) * columns
            plane[top : top + rows, int(left) : int(left) + columns] = self._digits[int(digit)]

    # Levels of 255 to the values of the pixel format:

    @property
    def _a_level(self) -> float:
        """Values in a level."""
        if self.pixel_format == "gray16":
            return COUNTS_A_LEVEL if self.view == "infrared" else 257
        return 219 / 255 if self.pixel_format == "yuv420p" else 1

    def _value(self, levels: Any) -> Any:
        """Of luma, in the type of the pixel format."""
        zero = 16 if self.pixel_format == "yuv420p" else 0
        if self.pixel_format == "gray16" and self.view == "infrared":
            zero = FREEZING_COUNTS
        dtype = np.uint16 if self.pixel_format == "gray16" else np.uint8
        return np.rint(np.clip(np.asarray(levels, np.float32), 0, 255) * self._a_level + zero).astype(dtype)

    def _values(self, levels: NDArray[Any]) -> NDArray[Any]:
        """(h, w) levels of gray as a part of the first plane."""
        values = self._value(levels)
        return np.repeat(values[..., None], 3, axis=2) if self.pixel_format == "bgr24" else np.asarray(values)

    def _developed(self, look: Look) -> NDArray[np.float32]:
        """(H, W, 3) BGR levels of what this camera sees."""
        if self.view == "infrared":
            return np.repeat(look.heat[..., None], 3, axis=2)
        return np.float32(255) * np.clip(look.light * GAINS[self.view], 0, 1) ** np.float32(GAMMA)

    def _planes(self, levels: NDArray[np.float32]) -> list[NDArray[Any]]:
        """(H, W, 3) BGR levels as the planes of the pixel format."""
        if self.pixel_format == "bgr24":
            return [self._value(levels)]
        luma = levels @ LUMA_BGR
        if self.pixel_format != "yuv420p":
            return [self._value(luma)]
        blue, red = (
            128 + halved(levels[..., channel] - luma) * (112 / 255 / (1 - LUMA_BGR[channel])) for channel in (0, 2)
        )
        return [self._value(luma), *(np.rint(plane).astype(np.uint8) for plane in (blue, red))]

    def _split(self, data: NDArray[Any]) -> list[NDArray[Any]]:
        """The planes in flat data, as views."""
        width, height = self.size
        if self.pixel_format == "bgr24":
            return [data.reshape(height, width, 3)]
        planes = [data[: width * height].reshape(height, width)]
        if self.pixel_format == "yuv420p":
            planes.extend(data[width * height :].reshape(2, half(height), half(width)))
        return planes

    def _sprite(self, look: Look) -> Sprite:
        planes = self._planes(self._developed(look))
        if self.pixel_format == "bgr24":
            return Sprite(planes, [np.repeat(look.mask[..., None], 3, axis=2)])
        masks = [look.mask] + [look.mask[::2, ::2]] * (len(planes) - 1)
        return Sprite(planes, masks)

    def _noise(self, random: np.random.Generator, levels: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """What to add and what to take away: values have no sign, and stay within their range."""
        width, height = self.size
        shape = (height + ROAM, width + ROAM, 3) if self.pixel_format == "bgr24" else (height + ROAM, width + ROAM)
        field = np.rint(random.standard_normal(shape, np.float32) * (levels * self._a_level))
        dtype = self._background.dtype
        most = np.iinfo(dtype).max
        brighter, darker = (np.clip(side, 0, most).astype(dtype) for side in (field, -field))
        return brighter, darker


def halved(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) to (ceil(H / 2), ceil(W / 2)): the mean of each four, the last column and row of odd sizes repeated."""
    rows, columns = plane.shape
    even = np.pad(plane, ((0, rows % 2), (0, columns % 2)), mode="edge")
    return np.asarray(even.reshape(half(rows), 2, half(columns), 2).mean(axis=(1, 3)))


def paint(planes: list[NDArray[Any]], sprite: Sprite, x: int, y: int) -> None:
    """Put something into a picture, with its left upper corner at (x, y), which may be outside."""
    for index, (plane, values, mask) in enumerate(zip(planes, sprite.planes, sprite.masks, strict=True)):
        left, top = (x // 2, y // 2) if index else (x, y)
        rows = slice(max(top, 0), max(top + values.shape[0], 0))
        columns = slice(max(left, 0), max(left + values.shape[1], 0))
        target = plane[rows, columns]
        part = np.s_[rows.start - top :, columns.start - left :]
        part_rows, part_columns = target.shape[:2]
        np.copyto(target, values[part][:part_rows, :part_columns], where=mask[part][:part_rows, :part_columns])


def clear_clock(levels: NDArray[np.float32], row: int) -> slice:
    """Make room for the clock at the foot of (H, W, 3) levels, with a scale of tenths; the rows where the hand goes."""
    height, width = levels.shape[:2]
    top = round(FOOT * height)
    levels[top:] = DARK
    for tenth in range(10):
        levels[top:, tenth * width // 10] = 4 * DARK
    third = (height - top) // 3
    return slice(top + row * third, top + (row + 1) * third)


def digits(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """(h, w) levels of 0 to 9; none where the picture is too small to read them."""
    width, height = size
    if width < 160 or height < 120:
        return []
    scale = height / 960
    glyphs = []
    for digit in "0123456789":
        glyph = np.full((round(26 * scale), round(20 * scale)), DARK, np.uint8)
        cv2.putText(glyph, digit, (0, round(23 * scale)), cv2.FONT_HERSHEY_SIMPLEX, scale, (BRIGHT,), 1)
        glyphs.append(glyph)
    return glyphs
