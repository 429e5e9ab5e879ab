"""capture.bracket: one camera that alternates its exposures becomes a stream for each of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from nodes.tasks import BRACKET, INPUTS
from pipeline.bracket import Cycle, Grouping, Groups, View
from pipeline.frame import Frame
from pipeline.node import Node

log = logging.getLogger("streamfuse")

STEP = 8  # of the grid of pixels that the brightness is measured on: one in 64 is plenty for a mean
BLACK = 16  # luma of limited range
LEAST_BRIGHTNESS = 0.5  # levels of 255
LEVELS_12_BIT = 16  # of 16-bit pixels, one level of 255: most sensors of this kind fill 12 bits
PUZZLED = 150  # unclear frames in a row until it is said: five seconds at 30 frames a second


class Bracket(Node):
    """Frames of one camera that alternates two or three exposures in a fixed cycle, as the streams `under`, (`middle`,)
    `over`: write `inputs: {under: NAME.under, over: NAME.over}`.

    Which exposure a frame is, its time of exposure tells where the camera reports it, or its brightness; either is
    checked against the frame's place in the cycle, so that a lost frame never swaps the rest. A frame of which that is
    not clear is dropped: the first ones, some after the light was switched, all in a picture that is black or white
    whatever the exposure. Without reported exposures, so is the first one after a gap that only the timestamps show:
    a camera that has become slower looks just like that.

    The frames of a group are handed on together, all with the timestamp of the newest of them and the number of the
    group, so that they are paired whatever else is; they are less than two cycles apart. Frame rates and the exposures
    stay true.

    Args:
        exposures: 2 or 3 in a cycle.
        group: "block" uses each frame once, one group a cycle. "sliding" completes a group with each frame and the
            newest of each other exposure, at the frame rate of the camera.
    """

    def __init__(self, exposures: Literal[2, 3] = 2, group: Grouping = "block") -> None:
        self.streams = BRACKET if exposures == 3 else INPUTS["exposure"]
        self.group = group
        self._cycle = Cycle(exposures, LEAST_BRIGHTNESS)
        self._groups: Groups[Frame] = Groups(exposures, group)
        self._kind: tuple[Any, ...] = ()
        self._given = self._unclear_in_a_row = 0

    def outputs(self) -> tuple[str, ...]:
        return self.streams

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        self.size = sizes.get("frame")

    def process(self, frame: Frame) -> dict[str, Frame] | None:
        kind = (frame.size, frame.pixel_format, frame.color_range)
        if kind != self._kind:  # a camera with other settings: its brightness is of another scale, too
            self._begin_anew(kind)
        view = View(frame.timestamp_ns, frame.sequence, brightness(frame), frame.exposure_us)
        began = self._cycle.beginnings
        rank = self._cycle.rank(view)
        if self._cycle.beginnings != began:
            self._groups.clear()
        self._tell(rank)
        if rank is None:
            return None
        group = self._groups.add(rank, frame.timestamp_ns, frame, self._cycle.interval_ns)
        return None if group is None else self._handed_on(group, frame)

    def report(self) -> dict[str, Any]:
        counts = {"groups": self._given, "unclear": self._cycle.unclear, "lost": self._cycle.lost}
        return {"notes": {name: count for name, count in counts.items() if count}}

    def gauges(self) -> dict[str, float]:
        return {"groups": self._given, "unclear": self._cycle.unclear, "lost": self._cycle.lost}

    def _begin_anew(self, kind: tuple[Any, ...]) -> None:
        self._kind = kind
        self._cycle.begin()
        self._groups.clear()

    def _handed_on(self, group: tuple[Frame, ...], newest: Frame) -> dict[str, Frame]:
        """The frames of a group by stream."""
        number, self._given = self._given, self._given + 1
        rate = newest.frame_rate
        if rate is not None and self.group == "block":
            rate /= len(group)
        return {
            name: replace(
                frame,
                timestamp_ns=newest.timestamp_ns,
                sequence=number,
                stream=f"{self.name}.{name}",
                frame_rate=rate,
            )
            for name, frame in zip(self.streams, group, strict=True)
        }

    def _tell(self, rank: int | None) -> None:
        """Say once when it goes on and on without a cycle to be seen."""
        self._unclear_in_a_row = 0 if rank is not None else self._unclear_in_a_row + 1
        if self._unclear_in_a_row == PUZZLED:
            log.warning(
                "%s: no cycle of %d exposures is to be seen in the last %d frames, and none is handed on: is the "
                "camera set to alternate as many as 'exposures' says, and is the picture neither black nor white?",
                *(self.name, len(self.streams), PUZZLED),
            )


def brightness(frame: Frame) -> float:
    """Mean luma over black, on a grid of pixels, in levels of 255 (0 to about 4096 / 16 of 12 bits in 16); of bgr24
    that of green, which is most of it."""
    plane = frame.planes[0][::STEP, ::STEP]
    if frame.pixel_format == "bgr24":
        plane = plane[..., 1]
    level = float(np.mean(plane))
    if frame.pixel_format == "gray16":
        return level / LEVELS_12_BIT
    return max(0.0, level - BLACK) if frame.color_range == "limited" else level
