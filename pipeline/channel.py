"""Channel: the arrow into a node. Bounded, with a named policy when full; every drop is counted with its reason."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from pipeline.frame import Frame
from pipeline.live_sync import LiveMatcher
from pipeline.sync import Match, Matcher

WhenFull = Literal["wait", "drop_oldest"]


class Channel:
    """Frames on their way into one node, matched by time when it has several inputs.

    With several inputs, "drop_oldest" matches as live streams need it: see `pipeline.live_sync`.

    Args:
        inputs: names of the node's inputs.
        capacity: most frames to keep of each input, at least 2; of live matches, most that wait to be taken.
        when_full: "wait" blocks the sender (recorded mode); "drop_oldest" makes room and counts it (live mode).
        reference: with several inputs, the one whose every frame wants partners; default the last.
        max_skew_ns: with several inputs, how far apart partners may be; None for half the reference's usual interval.
        max_hold_ns, partial: of live matching; see `LiveMatcher`.
        clock: tells the time in nanoseconds, for live matching.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        capacity: int = 8,
        when_full: WhenFull = "wait",
        reference: str | None = None,
        max_skew_ns: int | None = None,
        max_hold_ns: int | None = None,
        partial: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if capacity < 2:
            raise ValueError(f"a channel keeps at least 2 frames of each input, got {capacity}")
        self.reference = reference or inputs[-1]
        self._live = when_full == "drop_oldest" and len(inputs) > 1
        self._matcher: Matcher[Frame] | LiveMatcher[Frame] = (
            LiveMatcher(inputs, self.reference, max_skew_ns, max_hold_ns, partial=partial)
            if self._live
            else Matcher(inputs, self.reference, max_skew_ns)
        )
        self._ready: deque[Match[Frame]] = deque()
        self._capacity, self._when_full, self._clock = capacity, when_full, clock
        self._changed = threading.Condition()
        self._senders_waiting = 0
        self._closed_because: str | None = None
        self.taken = 0
        """Matches handed out."""
        self.arrived: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        """By input and reason: what the matcher left, and the reason of closing."""
        self.max_skew_seen_ns = 0

    def put(self, name: str, frame: Frame) -> None:
        """Send a frame to an input; blocks while it is full, if that is the policy."""
        with self._changed:
            self.arrived[name] += 1
            self._make_room(name)
            if self._closed_because is not None:
                self.dropped[name, self._closed_because] += 1
                return
            self._push(name, frame)
            self._count_left()
            self._changed.notify_all()

    def end(self, name: str) -> None:
        """Nothing more will be sent to an input."""
        with self._changed:
            self._matcher.end(name)
            self._changed.notify_all()

    def take(self) -> Match[Frame] | None:
        """The next matched frames, waiting for them; None when there will be no more."""
        with self._changed:
            while self._closed_because is None:
                match, wait_s = self._next()
                self._count_left()
                self._changed.notify_all()  # there may be room now, at the end of the reference too
                if match is not None:
                    self.taken += 1
                    self.delivered.update(match.fresh)
                    self.max_skew_seen_ns = max(self.max_skew_seen_ns, match.skew_ns)
                    return match
                if self._matcher.finished:
                    return None
                self._changed.wait(wait_s)
            return None

    def close(self, reason: str) -> None:
        """Take no more, let go of what waits, and wake everybody; what is lost is counted under the reason."""
        with self._changed:
            if self._matcher.finished:
                self._settle()
            elif self._closed_because is None:
                self._closed_because = reason
                self.dropped.update((name, reason) for name, _ in self._matcher.clear())
            while self._ready:
                self._drop_match(reason)
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """Nothing that is sent now will be delivered."""
        with self._changed:
            return self._closed_because is not None or self._matcher.finished

    def grow(self) -> int:
        """Double the room if a sender waits for some: the new capacity, or 0 if none waits."""
        with self._changed:
            if not self._senders_waiting:
                return 0
            self._capacity *= 2
            self._changed.notify_all()
            return self._capacity

    def behind_ms(self) -> dict[str, float]:
        """Live, with several inputs: by how much the frames of each arrive later than those of the promptest."""
        with self._changed:
            return self._matcher.behind_ms()

    def drops(self) -> dict[tuple[str, str], int]:
        """Drops by input and reason, sorted, as they are at one moment."""
        with self._changed:
            return dict(sorted(self.dropped.items()))

    def balance(self, name: str) -> int:
        """Frames of an input that arrived and are neither delivered nor dropped: in the end 0, or we lost count."""
        with self._changed:
            dropped = sum(count for (input_name, _), count in self.dropped.items() if input_name == name)
            return self.arrived[name] - self.delivered[name] - dropped

    def _push(self, name: str, frame: Frame) -> None:
        self._matcher.push(name, frame.timestamp_ns, frame, self._clock())
        if self._matcher.finished:
            self._settle()

    def _settle(self) -> None:
        """Nothing is left to be matched: find the reason why what waits is left."""
        self._matcher.pull(self._clock())
        self._count_left()

    def _next(self) -> tuple[Match[Frame] | None, float | None]:
        """The next match; else how many seconds to wait for one at most, None for as long as it takes."""
        if not isinstance(self._matcher, LiveMatcher):
            return self._matcher.pull(), None
        now_ns = self._clock()
        while (match := self._matcher.pull(now_ns)) is not None:
            self._ready.append(match)
            if len(self._ready) > self._capacity:
                self._drop_match("queue_full")
        if self._ready:
            return self._ready.popleft(), None
        wake_ns = self._matcher.wake_ns(now_ns)
        return None, None if wake_ns is None else max(wake_ns - now_ns, 0) / 1e9

    def _drop_match(self, reason: str) -> None:
        """Let go of the oldest match that nobody took; of its frames those in the next one are not lost yet."""
        oldest = self._ready.popleft()
        following = self._ready[0].items if self._ready else {}
        kept = tuple(name for name in oldest.fresh if following.get(name) is oldest.items[name])
        self.dropped.update((name, reason) for name in oldest.fresh if name not in kept)
        if kept:
            self._ready[0] = replace(self._ready[0], fresh=(*self._ready[0].fresh, *kept))

    def _make_room(self, name: str) -> None:
        while not self._live and self._closed_because is None and self._matcher.waiting(name) >= self._capacity:
            if self._when_full == "drop_oldest":
                self._matcher.drop_oldest(name)
                self._count_left()
            else:
                self._senders_waiting += 1
                self._changed.wait()
                self._senders_waiting -= 1

    def _count_left(self) -> None:
        while self._matcher.left:
            name, reason, _ = self._matcher.left.popleft()
            self.dropped[name, reason] += 1
