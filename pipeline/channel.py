"""Channel: the arrow into a node. Bounded, with a named policy when full; every drop is counted with its reason."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pipeline.frame import Frame
from pipeline.sync import Matcher

WhenFull = Literal["wait", "drop_oldest"]


class Channel:
    """Frames on their way into one node, matched by time when it has several inputs.

    Args:
        inputs: names of the node's inputs.
        capacity: most frames to keep of each input, at least 2.
        when_full: "wait" blocks the sender (recorded mode); "drop_oldest" makes room and counts it (live mode).
        reference: with several inputs, the one whose every frame wants partners; default the last.
        max_skew_ns: with several inputs, how far apart partners may be; None for half the reference's usual interval.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        capacity: int = 8,
        when_full: WhenFull = "wait",
        reference: str | None = None,
        max_skew_ns: int | None = None,
    ) -> None:
        if capacity < 2:
            raise ValueError(f"a channel keeps at least 2 frames of each input, got {capacity}")
        self.reference = reference or inputs[-1]
        self._matcher: Matcher[Frame] = Matcher(inputs, self.reference, max_skew_ns)
        self._capacity, self._when_full = capacity, when_full
        self._changed = threading.Condition()
        self._senders_waiting = 0
        self._closed_because: str | None = None
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
            self._matcher.push(name, frame.timestamp_ns, frame)
            if self._matcher.finished:
                self._matcher.pull()  # nothing to match any more: only finds the reason why this one is left
            self._count_left()
            self._changed.notify_all()

    def end(self, name: str) -> None:
        """Nothing more will be sent to an input."""
        with self._changed:
            self._matcher.end(name)
            self._changed.notify_all()

    def take(self) -> dict[str, Frame] | None:
        """The next matched frames by input, waiting for them; None when there will be no more."""
        with self._changed:
            while self._closed_because is None:
                match = self._matcher.pull()
                self._count_left()
                self._changed.notify_all()  # there may be room now, at the end of the reference too
                if match is not None:
                    self.delivered.update(match.fresh)
                    self.max_skew_seen_ns = max(self.max_skew_seen_ns, match.skew_ns)
                    return match.items
                if self._matcher.finished:
                    return None
                self._changed.wait()
            return None

    def close(self, reason: str) -> None:
        """Take no more, let go of what waits, and wake everybody; what is lost is counted under the reason."""
        with self._changed:
            if self._closed_because is None:
                self._closed_because = reason
                for name, _ in self._matcher.clear():
                    self.dropped[name, reason] += 1
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

    def drops(self) -> dict[tuple[str, str], int]:
        """Drops by input and reason, sorted, as they are at one moment."""
        with self._changed:
            return dict(sorted(self.dropped.items()))

    def balance(self, name: str) -> int:
        """Frames of an input that arrived and are neither delivered nor dropped: in the end 0, or we lost count."""
        with self._changed:
            dropped = sum(count for (input_name, _), count in self.dropped.items() if input_name == name)
            return self.arrived[name] - self.delivered[name] - dropped

    def _make_room(self, name: str) -> None:
        while self._closed_because is None and self._matcher.waiting(name) >= self._capacity:
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
