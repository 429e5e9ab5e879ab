"""How a fused picture is shown: what an operator may turn while it runs."""

from __future__ import annotations

import logging
from typing import Any

import cv2
import numpy as np

from nodes.fusion.network import SCALES
from nodes.fusion.palettes import PALETTES, Palette, coloured, overlay
from nodes.fusion.planes import in_range, without_colour
from pipeline import control
from pipeline.control import Control
from pipeline.frame import ColorRange

log = logging.getLogger("streamfuse")

PLAIN: Palette = "white-hot"
MOST_SHIFT = 200.0  # px


class Look:
    """Settings of the picture, and what they do to it.

    Args:
        names: of the first source (infrared) and the last (visible).
        blend: -100..100 %: 0 is the fused picture, 100 the first source alone, -100 the last.
        palette: colours of infrared, where it is shown alone or laid over.
        overlay: paint what is hot in the colours of the palette over the fused picture.
        shift_px: (right, down) in pixels of the fused picture that the first source is moved by.
    """

    def __init__(
        self, names: tuple[str, str], blend: float, palette: Palette, overlay: bool, shift_px: tuple[float, float]
    ) -> None:
        self.names, self.blend, self.palette, self.overlay = names, blend, palette, overlay
        self.shift_x, self.shift_y = shift_px
        self._told = False

    def controls(self) -> dict[str, Control]:
        first, last = self.names
        everything = {
            "blend": control.number(f"Blend: {last} < fused < {first}", self.blend, -100, 100, unit="%"),
            "shift_x": shift(f"{first} to the right", self.shift_x),
            "shift_y": shift(f"{first} down", self.shift_y),
        }
        if first == "infrared":
            everything["palette"] = control.choice("Palette of infrared", self.palette, PALETTES)
            everything["overlay"] = control.switch("Paint what is hot", self.overlay)
        return everything

    def change(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def blended(
        self, fused: np.ndarray, lumas: list[np.ndarray], ranges: list[ColorRange], out: ColorRange
    ) -> np.ndarray:
        """The fused (H, W) uint8 plane of range `out`, mixed with a source as the blend says."""
        if not self.blend:
            return fused
        source = 0 if self.blend > 0 else -1
        share = abs(self.blend) / 100
        other = in_range(lumas[source], SCALES[ranges[source]], SCALES[out])
        return np.asarray(cv2.addWeighted(fused, 1 - share, other, share, 0))

    def paints(self, alone: bool) -> bool:
        """Whether there is colour of a palette in the picture, be it of infrared alone or of a fused one."""
        return self.palette != PLAIN if alone else self.overlay

    def painted(
        self, data: np.ndarray, looks: dict[str, Any], infrared: np.ndarray, infrared_range: ColorRange, *, alone: bool
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A picture with the colours of the palette, which make it yuv420p.

        Args:
            data, looks: of the frame without them: pixel_format, size, color_range and color_matrix.
            infrared: (H, W) uint8, of its size.
            infrared_range: of that.
            alone: the picture is the infrared one.
        """
        if looks["pixel_format"] == "bgr24" or not self.paints(alone):
            if looks["pixel_format"] == "bgr24" and self.paints(alone) and not self._told:
                self._told = True
                log.warning("palettes are for yuv420p and gray; these frames are bgr24 and stay without")
            return data, looks
        color_range, matrix = looks["color_range"], looks["color_matrix"]
        if alone:
            made = coloured(infrared, self.palette, color_range, matrix, infrared_range)
        else:
            if looks["pixel_format"] == "gray8":
                data = without_colour(data)
            full = in_range(infrared, SCALES[infrared_range], SCALES["full"])
            made = overlay(data, looks["size"], full, self.palette, color_range, matrix)
        return made, looks | {"pixel_format": "yuv420p"}


def shift(label: str, value: float) -> Control:
    """A slider for pixels in one direction."""
    return control.number(label, value, -MOST_SHIFT, MOST_SHIFT, step=0.5, unit="px")
