"""Clocks: from a stream's own clock to the host's. Pure: no threads, and no clock of its own.

A frame arrives at `(1 + drift) * stream time + offset + delay`, where the delay is at least some constant, and often
much more: networks and schedulers only ever add. So the frames that were least delayed tell the clock, and the others
nothing: the line is fitted to the lower envelope of the arrivals, after Zhang, Liu and Xia, "Clock synchronization
algorithms for network measurements" (INFOCOM 2002), as the edge of their convex hull that lies under their mean time.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000
STEP_NS = 2_000_000  # two frames in a row that are earlier than ever by more: the delay has become less
BEHIND = 5  # so many frames in a row behind the newest are no reordering
BELIEVED_NS = 2 * SECOND_NS  # a delay that stays up by more than a jump for so long is none: the stream's clock jumped
PRIOR_S = 10.0  # a slope over so many seconds is worth as much as what is believed before any


class StreamClock:
    """From a stream's own clock (kernel, RTP, presentation time) to the host's monotonic clock.

    It is re-anchored, and `epoch` counts up, where the stream's clock jumps: back, ahead of the frames' arrival, or
    behind it for good. One frame that contradicts all others is not believed; two that agree are. A higher delay of
    the network is told from a slower clock by time: what lasts for longer than the window is the clock.

    Args:
        window_s: how far back the envelope goes, in seconds in which frames came.
        max_drift_ppm: a drift beyond this is not believed.
        jump_ms: how far time stamps may be from where they are expected until that is a jump.

    Raises:
        ValueError: one of them is not above 0.
    """

    epoch: int
    """How often it was re-anchored."""
    drift_ppm: float
    """By how much the host's clock is faster than the stream's, in parts per million."""
    offset_ns: int
    """Host's clock minus stream's clock, at the newest frame."""

    def __init__(self, *, window_s: float = 30.0, max_drift_ppm: float = 500.0, jump_ms: float = 500.0) -> None:
        if min(window_s, max_drift_ppm, jump_ms) <= 0:
            raise ValueError(f"must be above 0: {window_s=}, {max_drift_ppm=}, {jump_ms=}")

    def host_ns(self, stream_ns: int, arrived_ns: int) -> int:
        """Capture time of a frame on the host's clock; to be called once for each frame, as they arrive.

        Args:
            stream_ns: time stamp of the stream, from any start; a clock that wraps goes through `Unwrapped` first.
            arrived_ns: `time.monotonic_ns()` when it was there; more than at the last call.

        Returns:
            Nanoseconds, never later than `arrived_ns`, and more than at the last call.
        """

    def restart(self) -> None:
        """The source knows that the stream's clock starts anew, as after a reconnection: what is known of its offset is
        forgotten, of its drift kept."""


class Unwrapped:
    """Time stamps that wrap round, as one clock that goes on: RTP has 32 bits, MPEG-TS 33, both of 90 kHz.

    Args:
        bits: of the time stamps.
        ticks_per_second: their unit.
    """

    def __init__(self, bits: int = 33, ticks_per_second: int = 90_000) -> None: ...

    def ns(self, ticks: int) -> int:
        """Nanoseconds since the first's zero, of a time stamp less than half a turn from the last one."""
