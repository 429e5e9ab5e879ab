"""Clocks: from a stream's own clock to the host's. Pure: no threads, and no clock of its own.

A frame arrives at `stream time * (1 + drift) + offset + delay`. The delay has a least value, which no clock can tell
from the offset, and is often more: networks and schedulers only ever add. So the frames that were least delayed tell
the clock, and the others nothing. The line is fitted to the lower envelope of the arrivals as the edge of their convex
hull that lies under their mean time: Zhang, Liu, Xia, "Clock synchronization algorithms for network measurements"
(INFOCOM 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND_NS = 1_000_000_000
STEP_NS = 2_000_000  # two frames in a row below the envelope by more: the delay has become less, for all to come
BEHIND = 5  # so many frames in a row that are not newer than the newest are no reordering
BELIEVED_NS = 2 * SECOND_NS  # a delay beyond a jump for so long, and not becoming less, is a clock that was set back
MEMORY = 2.0  # windows over which the drift is averaged
PRIOR_S = 10.0  # a slope over so many seconds counts as much as what was believed before

Point = tuple[int, int]  # a frame's stream time and its lag, arrival minus stream time, both in nanoseconds


@dataclass(slots=True)
class _Contrary:
    """Frames in a row that contradict the clock."""

    began_ns: int
    lag_ns: int  # of the first
    lowest: Point
    count: int = 1


class StreamClock:
    """From a stream's own clock (kernel, RTP, presentation time) to the host's monotonic clock.

    It is re-anchored, and `epoch` counts up, when the stream's clock jumps: back, ahead of the arrival, or behind it
    for good. One frame alone that contradicts all others is not believed, two that agree are. A delay that becomes
    less is followed at once; one that becomes more is known for what it is until it has lasted for the window.

    Args:
        window_s: how far back the envelope goes, in seconds in which there were frames.
        max_drift_ppm: the most by which two clocks are believed to differ.
        jump_ms: stamps that are further off are a jump of the stream's clock, not a delay.

    Raises:
        ValueError: one of them is not above 0.
    """

    epoch: int
    """How often it was re-anchored."""
    drift_ppm: float
    """By how much the host's clock is faster than the stream's, in parts per million."""
    offset_ns: int
    """Host's clock minus stream's clock at the newest frame."""

    def __init__(self, *, window_s: float = 30.0, max_drift_ppm: float = 500.0, jump_ms: float = 500.0) -> None:
        if not all(value > 0 for value in (window_s, max_drift_ppm, jump_ms)):
            raise ValueError(f"must be above 0: {window_s=}, {max_drift_ppm=}, {jump_ms=}")
        self.epoch, self.drift_ppm, self.offset_ns = 0, 0.0, 0
        self._window_s, self._max_drift_ppm, self._jump_ns = window_s, max_drift_ppm, round(jump_ms * 1e6)
        self._least: dict[int, Point] = {}  # the least delayed frame of each second of the stream
        self._lowest: Point = 0, 0  # of them the one that the envelope goes through
        self._newest_ns = 0
        self._contrary: _Contrary | None = None
        self._dropped_ns = 0  # by how much the frame before lowered the envelope, if by a step
        self._weight = PRIOR_S**2  # of the drift, in square seconds
        self._last_ns: int | None = None

    def host_ns(self, stream_ns: int, arrived_ns: int) -> int:
        """Capture time of a frame on the host's clock. To be called once for each frame, as they arrive.

        Args:
            stream_ns: the stream's stamp, from any start. One that wraps goes through `Unwrapped` first.
            arrived_ns: `time.monotonic_ns()` when it was there; later than in the last call.

        Returns:
            Nanoseconds, never later than `arrived_ns`, and later than all before, across epochs too. A frame that
            comes twice or out of order therefore gets the next free nanosecond.
        """
        host_ns = arrived_ns - self._delay_ns(stream_ns, arrived_ns)
        if self._last_ns is not None and host_ns <= self._last_ns:
            host_ns = self._last_ns + 1
        self._last_ns = host_ns
        return host_ns

    def restart(self) -> None:
        """Forget the offset, and keep the drift: for a source that knows that the stream's clock begins anew."""
        if self._least:
            self.epoch += 1
        self._least.clear()
        self._contrary, self._dropped_ns, self._weight = None, 0, PRIOR_S**2

    def _delay_ns(self, stream_ns: int, arrived_ns: int) -> int:
        """By how much longer than the least delayed ones the frame was under way; 0 where there is nothing to compare.

        What it tells of the clock is taken in first.
        """
        point = stream_ns, arrived_ns - stream_ns
        if not self._least:
            self._anchor(point, stream_ns)
        delay_ns = self._above(point)
        far = delay_ns < -self._jump_ns or stream_ns < self._newest_ns - self._jump_ns
        if far or delay_ns > self._jump_ns or stream_ns <= self._newest_ns:
            if self._believes(point, arrived_ns, far):
                lowest = self._contrary.lowest if self._contrary else point
                self.restart()
                self._anchor(lowest, stream_ns)
                return max(0, self._above(point))
            return 0 if far else max(0, delay_ns)
        self._contrary = None
        self._take(point, delay_ns)
        return max(0, delay_ns)

    def _anchor(self, point: Point, stream_ns: int) -> None:
        self._least[point[0] // SECOND_NS] = self._lowest = point
        self._newest_ns, self.offset_ns = stream_ns, point[1]

    def _above(self, point: Point) -> int:
        """Height of a point over the envelope."""
        at_ns, lag_ns = self._lowest
        return point[1] - lag_ns - round(self.drift_ppm * 1e-6 * (point[0] - at_ns))

    def _believes(self, point: Point, arrived_ns: int, far: bool) -> bool:
        """Whether there are enough frames that contradict the clock, with this one, to believe them.

        Args:
            point: of the frame.
            arrived_ns: when it came.
            far: it is back, or ahead of the arrival, by more than a jump.
        """
        run, (stream_ns, lag_ns) = self._contrary, point
        late = not far and stream_ns <= self._newest_ns
        if run is None or not (late or abs(lag_ns - run.lag_ns) <= self._jump_ns):
            self._contrary = _Contrary(arrived_ns, lag_ns, point)
            return False
        run.count += 1
        if lag_ns <= run.lowest[1]:
            run.lowest = point
        if far:
            return stream_ns > run.began_ns - run.lag_ns  # not the same frame again
        return run.count >= BEHIND if late else arrived_ns - run.began_ns >= BELIEVED_NS

    def _take(self, point: Point, delay_ns: int) -> None:
        """Into the envelope with the newest frame, if it was delayed less than the others of its second."""
        second = point[0] // SECOND_NS
        if self._dropped_ns and delay_ns < self._dropped_ns - STEP_NS:  # under what the envelope was before that, too
            self._least = {self._lowest[0] // SECOND_NS: self._lowest}
        self._dropped_ns = -delay_ns if delay_ns < -STEP_NS else 0
        known = self._least.get(second)
        if known is None:
            self._fit()
        if known is None or delay_ns < self._above(known):
            self._least[second] = point
        if delay_ns < 0:
            self._lowest = point
        if len(self._least) > max(1.0, self._window_s):
            del self._least[min(self._least)]
        if known is None:
            self._lowest = min(self._least.values(), key=self._above)
        self._newest_ns = point[0]
        self.offset_ns = point[1] - self._above(point)

    def _fit(self) -> None:
        """Learn the drift from the seconds that are over; by the square of the time they span, as the error of a slope
        goes with its inverse."""
        points = sorted(self._least.values())
        if len(points) < 3:
            return
        span_s = min((points[-1][0] - points[0][0]) / SECOND_NS, self._window_s)
        slope_ppm = 1e6 * slope_under_mean(points)
        slope_ppm = max(-self._max_drift_ppm, min(self._max_drift_ppm, slope_ppm))
        self._weight = min(self._weight + span_s**2, MEMORY * max(self._window_s, PRIOR_S) * self._window_s**2)
        self.drift_ppm += (slope_ppm - self.drift_ppm) * span_s**2 / self._weight


def slope_under_mean(points: list[Point]) -> float:
    """Slope of the line that lies under all points and has the least mean distance from them.

    Args:
        points: two or more, sorted, of different times.
    """
    x0, y0 = points[0]
    near = [(float(x - x0), float(y - y0)) for x, y in points]
    hull: list[tuple[float, float]] = []
    for x, y in near:  # Andrew's monotone chain
        while len(hull) > 1:
            (x1, y1), (x2, y2) = hull[-2:]
            if (x2 - x1) * (y - y1) > (x - x1) * (y2 - y1):
                break
            hull.pop()
        hull.append((x, y))
    mean = sum(x for x, _ in near) / len(near)
    right = next(n for n, (x, _) in enumerate(hull) if n and x >= mean)
    (x1, y1), (x2, y2) = hull[right - 1 : right + 1]
    return (y2 - y1) / (x2 - x1)


class Unwrapped:
    """Stamps that wrap round, as one time that goes on. RTP (RFC 3550) has 32 bits, MPEG-TS (ISO/IEC 13818-1) 33, both
    of 90 kHz for video.

    Args:
        bits: of a stamp.
        ticks_per_second: its unit.
    """

    def __init__(self, bits: int = 33, ticks_per_second: int = 90_000) -> None:
        self._turn, self._ticks_per_second = 1 << bits, ticks_per_second
        self._ticks: int | None = None

    def ns(self, ticks: int) -> int:
        """Nanoseconds of a stamp, which is taken to be less than half a turn before or behind the last one."""
        if self._ticks is None:
            self._ticks = ticks
        else:
            half = self._turn // 2
            self._ticks += (ticks - self._ticks + half) % self._turn - half
        return self._ticks * SECOND_NS // self._ticks_per_second
