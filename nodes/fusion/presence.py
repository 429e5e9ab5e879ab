"""Which sensors are there to be fused: a lost or frozen one is told, and worked without.

A thermal camera shutters every few minutes: for about a second its picture stands still though frames go on. A live
sensor has noise, so that two frames of it are never equal bit by bit; frames that are, for longer than any camera
repeats them to keep a rate, show a picture that is frozen.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.frame import Frame

log = logging.getLogger("streamfuse")

MOST_TOLD = 10  # changes of state a minute: a sensor that flaps shall not fill the log
FROZEN_NS = 150_000_000  # a thermal camera of 9 Hz that is read at 30 gives each picture three times, over 74 ms
ROWS = 16  # every so manieth row tells most changes at a fraction of the time


class Presence:
    """Judges the frames of each moment by those before it.

    Args:
        sources: the inputs, in the order of the task.
        max_shutter_ms: a source whose picture is frozen is held for so long, and then lost; None: held for ever.
    """

    def __init__(self, sources: Sequence[str], max_shutter_ms: float | None) -> None:
        self.sources = tuple(sources)
        self._limit_ns = math.inf if max_shutter_ms is None else max(max_shutter_ms * 1e6, FROZEN_NS)
        self._last: dict[str, Frame] = {}
        self._since_ns: dict[str, int] = {}

    def judge(self, frames: Mapping[str, Frame], held: Sequence[str]) -> tuple[dict[str, Frame], str]:
        """The frames to fuse, and the state of the result.

        Args:
            frames: of the sources that are there.
            held: those of which the frame is an older one.

        Returns:
            At least one of the frames by source in the order of the task, and "fused", "held" or "X_only" as in
            `pipeline.frame.Fusion`.
        """
        frozen_ns = {name: self._frozen_ns(name, frame) for name, frame in frames.items()}
        moving = [name for name, duration in frozen_ns.items() if duration <= self._limit_ns]
        used = {name: frames[name] for name in self.sources if name in (moving or frames)}
        if len(used) < len(self.sources):
            return used, f"{'_'.join(used)}_only"
        stale = any(duration > FROZEN_NS for duration in frozen_ns.values())
        return used, "held" if held or stale else "fused"

    def _frozen_ns(self, name: str, frame: Frame) -> int:
        """For how long a source has shown the very same picture."""
        last, self._last[name] = self._last.get(name), frame
        if last is None or not same_picture(last, frame):
            self._since_ns[name] = frame.timestamp_ns
        return frame.timestamp_ns - self._since_ns[name]


class States:
    """Counts the states of fused frames, and tells when a source is lost or back; not each time that one is held."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._told = ""
        self._told_at_s: deque[float] = deque(maxlen=MOST_TOLD)

    def note(self, state: str, node: str) -> None:
        """The state of the next frame of a node."""
        self.counts[state] += 1
        if state in ("held", self._told) or self._told_enough():
            return
        if self._told or state != "fused":
            log.warning("%s: %s from now on", node, state.replace("_", " "))
        self._told = state

    def _told_enough(self) -> bool:
        """Whether there were too many changes in the last minute to tell one more."""
        now_s, told = time.monotonic(), self._told_at_s
        if len(told) == MOST_TOLD and now_s - told[0] < 60:
            return True
        told.append(now_s)
        return False


def same_picture(one: Frame, other: Frame) -> bool:
    """Whether two frames are equal bit by bit."""
    if one is other:
        return True
    a, b = one.planes[0], other.planes[0]
    if a.shape != b.shape or a.dtype != b.dtype or not np.array_equal(a[::ROWS], b[::ROWS]):
        return False
    return np.array_equal(one.data, other.data)
