"""Time matching: which frames belong together. Pure: no threads, no clock of its own.

For each item of the reference stream the partner nearest in time of every other stream, decided as soon as no nearer
one can come. What is decided depends on the times alone, never on the order in which the streams' items arrive.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Reason = Literal["no_partner", "surplus", "out_of_order", "queue_full"]


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """Items that belong together, by stream, and how far the worst of them is from the reference."""

    items: dict[str, T]
    skew_ns: int
    fresh: tuple[str, ...]
    """Streams whose item is in a match for the first time: a partner may serve several items of the reference."""
    held: tuple[str, ...] = ()
    """Streams whose item is further away than near partners are, and is used for want of a nearer one (live)."""
    driver: str = ""
    """The stream whose item wanted partners: the reference, or what stands in for it (live)."""


@dataclass(slots=True)
class _Waiting(Generic[T]):
    time_ns: int
    item: T
    interval_ns: float = math.inf
    """Of the reference: its usual interval as this item and those before it show it."""
    used: bool = False


class Matcher(Generic[T]):
    """Pair items of several streams by time.

    Args:
        streams: their names.
        reference: the one whose every item wants partners.
        max_skew_ns: partners further apart than this are none; None for half the reference's usual interval (median of
            its last nine; without limit while it has only one item, as two stills have).
    """

    def __init__(self, streams: Sequence[str], reference: str, max_skew_ns: int | None = None) -> None:
        if reference not in streams:
            raise ValueError(f"the reference {reference!r} is none of the streams: {', '.join(streams)}")
        self.reference, self.max_skew_ns = reference, max_skew_ns
        self.partners = [name for name in streams if name != reference]
        self._waiting: dict[str, deque[_Waiting[T]]] = {name: deque() for name in streams}
        self._ended: set[str] = set()
        self._latest_ns: dict[str, int] = {}
        self._intervals: deque[int] = deque(maxlen=9)
        self._span_ns = (math.inf, -math.inf)  # of the reference, with one usual interval before and after it
        self.left: deque[tuple[str, Reason, T]] = deque()
        """Items that found no place in any match, with the reason, for the caller to take: `no_partner` when nothing of
        the other stream is near, `surplus` when a nearer one was taken because the reference is slower, `out_of_order`
        when it is older than the one before it, `queue_full` from `drop_oldest`."""

    def push(self, stream: str, time_ns: int, item: T, now_ns: int = 0) -> None:
        """Add the next item of a stream; what time it is now makes no difference here."""
        latest_ns = self._latest_ns.get(stream, time_ns)
        if self.partners and time_ns < latest_ns:
            self.left.append((stream, "out_of_order", item))
            return
        waiting = _Waiting(time_ns, item)
        if stream == self.reference:
            self._learn(waiting)
        self._latest_ns[stream] = time_ns
        self._waiting[stream].append(waiting)
        self._trim()

    def end(self, stream: str) -> None:
        """Nothing more will come of this stream."""
        self._ended.add(stream)

    def waiting(self, stream: str) -> int:
        """How many items of a stream are kept, for the caller to bound. Room for two of each is enough to go on."""
        return len(self._waiting[stream])

    def pull(self, now_ns: int = 0) -> Match[T] | None:
        """The next match that can be decided, or None until more is pushed or ended."""
        self._trim()
        while self._decidable():
            match = self._decide()
            self._trim()
            if match is not None:
                return match
        if self.finished:
            for name in self.partners:
                while self._waiting[name]:
                    self._leave_oldest(name)
        return None

    def behind_ms(self) -> dict[str, float]:
        """Nothing comes late in a recording."""
        return {}

    @property
    def finished(self) -> bool:
        """Nothing of the reference waits and nothing can come of it: no match is left to be made."""
        return self.reference in self._ended and not self._waiting[self.reference]

    def drop_oldest(self, stream: str) -> None:
        """Let go of the oldest waiting item of a stream."""
        oldest = self._waiting[stream].popleft()
        if not oldest.used:
            self.left.append((stream, "queue_full", oldest.item))

    def clear(self) -> list[tuple[str, T]]:
        """Give up: everything that waits and was not used, with its stream."""
        rest = [(name, w.item) for name, queue in self._waiting.items() for w in queue if not w.used]
        for queue in self._waiting.values():
            queue.clear()
        return rest

    def _learn(self, new: _Waiting[T]) -> None:
        """Keep the reference's usual interval, and the time that it spans."""
        last_ns = self._latest_ns.get(self.reference)
        if last_ns is None:
            self._span_ns = (new.time_ns, new.time_ns)
            return
        first = not self._intervals
        self._intervals.append(new.time_ns - last_ns)
        new.interval_ns = statistics.median(self._intervals)
        self._span_ns = (self._span_ns[0] - new.interval_ns * first, new.time_ns + new.interval_ns)
        for waiting in self._waiting[self.reference] if first else ():
            waiting.interval_ns = new.interval_ns  # the first item has none of its own

    def _interval_known(self) -> bool:
        return bool(self._intervals) or self.reference in self._ended

    def _decidable(self) -> bool:
        references = self._waiting[self.reference]
        if not references or (self.partners and not self._interval_known()):
            return False
        return all(
            name in self._ended or (queue and queue[-1].time_ns >= references[0].time_ns)
            for name, queue in self._waiting.items()
            if name != self.reference
        )

    def _decide(self) -> Match[T] | None:
        reference = self._waiting[self.reference].popleft()
        limit_ns = reference.interval_ns / 2 if self.max_skew_ns is None else self.max_skew_ns
        chosen, skew_ns = {self.reference: reference}, 0
        for name in self.partners:
            partner = self._nearest(name, reference.time_ns)
            if partner is None or abs(partner.time_ns - reference.time_ns) > limit_ns:
                self.left.append((self.reference, "no_partner", reference.item))
                return None
            chosen[name] = partner
            skew_ns = max(skew_ns, abs(partner.time_ns - reference.time_ns))
        fresh = tuple(name for name, waiting in chosen.items() if not waiting.used)
        for waiting in chosen.values():
            waiting.used = True
        return Match({name: chosen[name].item for name in self._waiting}, skew_ns, fresh)

    def _nearest(self, stream: str, now: int) -> _Waiting[T] | None:
        """The item nearest to `now`, the earlier of two equally near ones; none before it can be nearest again."""
        queue = self._waiting[stream]
        while len(queue) > 1 and abs(queue[1].time_ns - now) < abs(queue[0].time_ns - now):
            self._leave_oldest(stream)
        return queue[0] if queue else None

    def _trim(self) -> None:
        """Let go of what is surely older than the nearest, so that a full queue never waits for itself."""
        references = self._waiting[self.reference]
        if not references or not self._interval_known():
            return
        for name in self.partners:
            queue = self._waiting[name]
            while len(queue) > 1 and queue[1].time_ns < references[0].time_ns:
                self._leave_oldest(name)

    def _leave_oldest(self, stream: str) -> None:
        oldest = self._waiting[stream].popleft()
        if oldest.used:
            return
        begin_ns, end_ns = self._span_ns
        reason: Reason = "surplus" if begin_ns < oldest.time_ns < end_ns else "no_partner"
        self.left.append((stream, reason, oldest.item))
