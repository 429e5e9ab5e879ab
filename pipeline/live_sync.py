"""Live time matching: the right partners now, and a picture also when a stream is late, silent or gone.

Pure: no threads, no clock of its own. All times are nanoseconds on one clock: capture times come with the items, and
every call says what time it is.

For each item of the driving stream the partner nearest in capture time, decided as soon as no nearer one can come, and
at the latest when one should have come. A partner that is too far away is used again while it is young enough (held);
after that its stream counts as lost, and matches are made without it. If the reference itself is lost, the next stream
drives, until the reference is back.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pipeline.sync import Match, Reason

T = TypeVar("T")

MS = 1_000_000
LEAST_HOLD_NS = 200 * MS  # a stream is not lost before it was silent for so long,
HOLD_INTERVALS = 3  # nor for so many of its usual intervals
FIRST_SKEW_NS = 20 * MS  # tolerated until the interval of the driving stream is known
MOST_WAIT_NS = 500 * MS  # for a partner: what is later is done without
SLACK_NS = 2 * MS  # for what is a little later than ever before
BACK_IN_TIME_NS = 1000 * MS  # further back than this and the stream's clock was set anew
REMEMBERED = 30  # intervals and delays
MOST_WAITING = 32  # items of a stream while nobody asks for matches


@dataclass(slots=True, eq=False)
class _Item(Generic[T]):
    time_ns: int
    arrived_ns: int
    item: T
    used: bool = False


@dataclass(slots=True)
class _Stream(Generic[T]):
    """What is known of one stream."""

    name: str
    max_hold_ns: int | None
    waiting: deque[_Item[T]] = field(default_factory=deque)
    """Its items, of those already used only the last."""
    latest_ns: int | None = None
    """Capture time of its newest item."""
    arrived_ns: int | None = None
    """When that came."""
    ended: bool = False
    intervals: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    delays: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def note(self, time_ns: int, now_ns: int) -> None:
        """Learn from the next item."""
        if self.latest_ns is not None:
            self.intervals.append(time_ns - self.latest_ns)
        self.delays.append(now_ns - time_ns)
        self.latest_ns, self.arrived_ns = time_ns, now_ns

    def start_anew(self) -> None:
        """Forget its clock."""
        self.intervals.clear()
        self.delays.clear()
        self.latest_ns = None

    @property
    def interval_ns(self) -> float | None:
        """Its usual one; None until two items came."""
        return statistics.median(self.intervals) if self.intervals else None

    @property
    def hold_ns(self) -> float:
        """Up to this age an item is used again, and for so long it may be silent."""
        if self.max_hold_ns is not None:
            return self.max_hold_ns
        return max(LEAST_HOLD_NS, HOLD_INTERVALS * (self.interval_ns or 0))

    @property
    def next_ns(self) -> float:
        """The earliest capture time that its next item can have, by all it has shown of late."""
        return (self.latest_ns or 0) + 0.9 * min(self.intervals, default=0)

    @property
    def least_delay_ns(self) -> int:
        """The shortest from capture to arrival of late."""
        return min(self.delays, default=0)

    @property
    def delay_ns(self) -> int:
        """The longest from capture to arrival of late."""
        return max(self.delays, default=0)

    @property
    def head(self) -> _Item[T] | None:
        """The oldest item that was in no match yet."""
        return next((item for item in self.waiting if not item.used), None)

    def nearest(self, time_ns: int) -> _Item[T] | None:
        return min(self.waiting, key=lambda item: abs(item.time_ns - time_ns), default=None)


class LiveMatcher(Generic[T]):
    """Pair items of several live streams.

    Args:
        streams: their names; when the reference is lost, the first of the others that lives drives.
        reference: the one whose every item becomes a match.
        max_skew_ns: partners within this distance are near; None for half the driving stream's usual interval.
        max_hold_ns: older partners are held up to this age, and a stream that was silent for so long is lost; None for
            200 ms or three of the stream's usual intervals, whichever is longer.
        partial: make matches without the streams that are lost; otherwise an item without all partners is left.
    """

    def __init__(
        self,
        streams: Sequence[str],
        reference: str,
        max_skew_ns: int | None = None,
        max_hold_ns: int | None = None,
        *,
        partial: bool = False,
    ) -> None:
        if reference not in streams:
            raise ValueError(f"the reference {reference!r} is none of the streams: {', '.join(streams)}")
        self.partial, self._max_skew_ns = partial, max_skew_ns
        self._streams: dict[str, _Stream[T]] = {name: _Stream(name, max_hold_ns) for name in streams}
        self._reference = self._streams[reference]
        self._began_ns: int | None = None
        self._shown_ns: int | None = None
        self._shown_by: _Stream[T] | None = None
        self.left: deque[tuple[str, Reason, T]] = deque()
        """Items that found no place in any match, with the reason, for the caller to take: `surplus` where a nearer one
        was taken or the moment was shown already, `no_partner`, `out_of_order` and `queue_full`."""

    def push(self, stream: str, time_ns: int, item: T, now_ns: int) -> None:
        """Add the next item of a stream."""
        s = self._streams[stream]
        self._began_ns = now_ns if self._began_ns is None else self._began_ns
        if s.latest_ns is not None and time_ns <= s.latest_ns:
            if s.latest_ns - time_ns < BACK_IN_TIME_NS:
                self.left.append((stream, "out_of_order", item))
                return
            self._start_anew(s)
        s.note(time_ns, now_ns)
        s.waiting.append(_Item(time_ns, now_ns, item))
        if len(s.waiting) > MOST_WAITING:
            self.drop_oldest(stream)

    def end(self, stream: str) -> None:
        """Nothing more will come of this stream."""
        self._streams[stream].ended = True

    def waiting(self, stream: str) -> int:
        """How many items of a stream are kept."""
        return len(self._streams[stream].waiting)

    def pull(self, now_ns: int) -> Match[T] | None:
        """The next match that can be decided now, or None."""
        while (driver := self._driver(now_ns)) is not None and (head := driver.head) is not None:
            if self._shown_ns is not None and head.time_ns <= self._shown_ns:
                self._leave(driver, head, "surplus")
            elif any(not self._decided(s, driver, head, now_ns) for s in self._others(driver)):
                return None
            elif match := self._decide(driver, head):
                return match
        if self.finished:
            for s in self._streams.values():
                self._leave_before(s, None)
        return None

    def wake_ns(self, now_ns: int) -> int | None:
        """When there may be a match without a further push; None for never."""
        driver = self._driver(now_ns)
        if driver is None:
            return None
        if (head := driver.head) is not None:
            open_ns = [
                self._deadline_ns(s, driver, head)
                for s in self._others(driver)
                if not self._decided(s, driver, head, now_ns)
            ]
            return math.ceil(min(open_ns)) if open_ns else now_ns
        drives_instead = self.partial and any(s.head is not None for s in self._others(driver))
        return math.ceil(self._lost_at_ns(driver)) if drives_instead else None

    @property
    def finished(self) -> bool:
        """No match is left to be made."""
        driving = self._streams.values() if self.partial else (self._reference,)
        return all(s.ended and s.head is None for s in driving)

    def behind_ms(self) -> dict[str, float]:
        """By how much the items of each stream arrive later after their capture than those of the promptest one."""
        delays = {s.name: s.least_delay_ns for s in self._streams.values() if s.delays}
        return {name: (delay - min(delays.values())) / MS for name, delay in delays.items()}

    def drop_oldest(self, stream: str) -> None:
        """Let go of the oldest waiting item of a stream."""
        s = self._streams[stream]
        self._leave(s, s.waiting[0], "queue_full")

    def clear(self) -> list[tuple[str, T]]:
        """Give up: everything that waits and was not used, with its stream."""
        rest = [(s.name, item.item) for s in self._streams.values() for item in s.waiting if not item.used]
        for s in self._streams.values():
            s.waiting.clear()
        return rest

    def _others(self, than: _Stream[T]) -> list[_Stream[T]]:
        return [s for s in self._streams.values() if s is not than]

    def _driver(self, now_ns: int) -> _Stream[T] | None:
        """The reference while it lives; else, if matches may be partial, the first other stream that does."""
        if not self.partial or not self._lost(self._reference, now_ns):
            return self._reference
        return next((s for s in self._streams.values() if not self._lost(s, now_ns)), None)

    def _lost(self, s: _Stream[T], now_ns: int) -> bool:
        return s.head is None if s.ended else now_ns >= self._lost_at_ns(s)

    def _lost_at_ns(self, s: _Stream[T]) -> float:
        """When a stream counts as lost if nothing more comes."""
        since_ns = self._began_ns if s.arrived_ns is None else s.arrived_ns
        return math.inf if since_ns is None else since_ns + s.hold_ns

    def _skew_ns(self, driver: _Stream[T]) -> float:
        """How far apart near partners may be."""
        if self._max_skew_ns is not None:
            return self._max_skew_ns
        return FIRST_SKEW_NS if driver.interval_ns is None else driver.interval_ns / 2

    def _decided(self, s: _Stream[T], driver: _Stream[T], head: _Item[T], now_ns: int) -> bool:
        """Whether the best partner that a stream will have for the driver's oldest item is known."""
        if self._lost(s, now_ns) or s.ended:
            return True
        if s.latest_ns is None:
            return False
        if s.least_delay_ns - (head.arrived_ns - head.time_ns) > MOST_WAIT_NS:
            return True  # its frames come too late, all of them
        distance_ns, to_next_ns = head.time_ns - s.latest_ns, s.next_ns - head.time_ns
        if distance_ns <= 0 or to_next_ns >= distance_ns:
            return True
        skew_ns = self._skew_ns(driver)
        if distance_ns > skew_ns and to_next_ns > skew_ns:
            return True  # neither this nor the next is near: no need to wait for that
        return now_ns >= self._deadline_ns(s, driver, head)

    def _deadline_ns(self, s: _Stream[T], driver: _Stream[T], head: _Item[T]) -> float:
        """When a better partner would have come, however late its stream has been of late."""
        if s.latest_ns is None:
            return self._lost_at_ns(s)
        better_ns = min(self._skew_ns(driver), head.time_ns - s.latest_ns)
        from_ns = min(head.time_ns + s.delay_ns, head.arrived_ns + MOST_WAIT_NS)
        return min(from_ns + better_ns + SLACK_NS, self._lost_at_ns(s))

    def _decide(self, driver: _Stream[T], head: _Item[T]) -> Match[T] | None:
        """The match of the driver's oldest item, which is then used or left."""
        chosen, held, limit_ns = {driver.name: head}, [], self._skew_ns(driver)
        for s in self._others(driver):
            nearest = s.nearest(head.time_ns)
            distance_ns = math.inf if nearest is None else abs(nearest.time_ns - head.time_ns)
            if nearest is not None and distance_ns <= max(limit_ns, s.hold_ns):
                chosen[s.name] = nearest
                held += [s.name] if distance_ns > limit_ns else []
        if len(chosen) < len(self._streams) and not self.partial:
            self._leave(driver, head, "no_partner")
            return None
        self._shown_ns, self._shown_by = head.time_ns, driver
        fresh = tuple(name for name, item in chosen.items() if not item.used)
        for name, item in chosen.items():
            item.used = True
            self._leave_before(self._streams[name], item)
        items = {name: chosen[name].item for name in self._streams if name in chosen}
        skew_ns = max(abs(item.time_ns - head.time_ns) for item in chosen.values())
        return Match(items, skew_ns, fresh, tuple(held), driver.name)

    def _start_anew(self, s: _Stream[T]) -> None:
        """The clock of a stream was set back: what waits is of another time."""
        self._leave_before(s, None)
        s.start_anew()
        if s in (self._reference, self._shown_by):
            self._shown_ns = None

    def _leave_before(self, s: _Stream[T], item: _Item[T] | None) -> None:
        """Let go of all items before one, or of all."""
        while s.waiting and s.waiting[0] is not item:
            self._leave(s, s.waiting[0], "surplus")

    def _leave(self, s: _Stream[T], item: _Item[T], reason: Reason) -> None:
        s.waiting.remove(item)
        if not item.used:
            self.left.append((s.name, reason, item.item))
