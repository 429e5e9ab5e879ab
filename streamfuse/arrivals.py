"""Arrivals: what a subscriber makes of the messages that come, and what it counts. Pure: no socket, no thread.

Gaps are known from the sequence numbers in the messages, restarts of the publisher from its session.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.frame import Frame
from pipeline.wire import (
    MOST_NS,
    Buffer,
    ByeMessage,
    FrameMessage,
    Head,
    Message,
    StatsMessage,
    WantMessage,
    WireError,
    unpack,
)
from streamfuse.clocks import HostTimes, believed

log = logging.getLogger("streamfuse")

TELL_EVERY_NS = 60_000_000_000  # of the same kind of trouble
MOST_REASONS = 64  # that are told apart


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that came."""

    frame: Frame
    """With times on our clock, and a sequence that goes on when the publisher restarts; see `Arrivals`."""
    message: FrameMessage
    comparable: bool
    """Whether its times are on our clock."""


def missed(before: Head | None, now: Head) -> int:
    """Frames published between two, as far as their numbers tell."""
    if before is None:
        return 0
    return max(0, now.sequence - before.sequence - 1) if now.session == before.session else now.sequence


class Arrivals:
    """Everything that came from one publisher.

    The sequence of a frame is the publisher's; a restarted one begins anew, and its numbers are raised so that they go
    on after a gap of one. So a consumer sees one stream in which something is missing.

    Args:
        stream: name of the stream that is wanted; "" for the first that is seen.
        clock: name of this host's clock.
        tell: what to do with a line on something that is wrong.
        live: frames are of now; times that say otherwise are not believed. Those of recordings always are.
    """

    received: int
    """Frames that came."""
    lost_in_transit: int
    """Frames that were published while we were connected, and did not come."""
    malformed: int
    """Messages that were none of this format."""
    foreign: int
    """Messages of other streams on the same address."""
    mistimed: int
    """Frames with a time that a live one cannot have; they got that of their arrival."""
    sessions: int
    """Publishers seen: one more at each restart."""
    dropped_upstream: Counter[str]
    """Frames dropped before the publisher, by reason, as far as the frames that came tell."""
    stats: StatsMessage | None
    """The newest."""
    bye: ByeMessage | None
    """The publisher has said that it goes, and nothing came since."""
    heard_ns: int | None
    """When something of this stream came last."""

    def __init__(
        self, stream: str, clock: str, tell: Callable[[str], None] = log.warning, *, live: bool = True
    ) -> None:
        self.stream, self._live = stream, live
        self.received = self.lost_in_transit = self.malformed = self.foreign = self.mistimed = self.sessions = 0
        self.dropped_upstream = Counter()
        self.stats, self.bye, self.heard_ns = None, None, None
        self._times = HostTimes(clock)
        self._tell = tell
        self._told_ns: dict[str, int] = {}
        self._session, self._expected = "", 0
        self._raised_by: int | None = 0  # by how much the sequence of frames is raised; None: see the next frame
        self._newest = -1  # sequence handed on

    def take(self, parts: Sequence[Buffer], arrived_ns: int) -> Arrival | None:
        """The frame in a message; None if there is none in it, or if it is not for us. Never raises."""
        try:
            message = unpack(parts)
        except WireError as error:
            self.malformed += 1
            self.tell("malformed", f"a message was no message: {error}", arrived_ns)
            return None
        if isinstance(message, WantMessage) or not self._is_ours(message.head.stream, arrived_ns):
            self.malformed += isinstance(message, WantMessage)
            return None
        return self._take(message, arrived_ns)

    def tell(self, kind: str, line: str, now_ns: int) -> None:
        """Say that something is wrong, of each kind once a minute."""
        if now_ns - self._told_ns.get(kind, now_ns - TELL_EVERY_NS) >= TELL_EVERY_NS:
            self._told_ns[kind] = now_ns
            self._tell(line)

    def _is_ours(self, stream: str, arrived_ns: int) -> bool:
        self.stream = self.stream or stream
        if stream == self.stream:
            return True
        self.foreign += 1
        line = f"there is also a stream {stream!r} at this address; give `stream` to choose: {self.stream!r} is taken"
        self.tell("foreign", line, arrived_ns)
        return False

    def _take(self, message: Message, arrived_ns: int) -> Arrival | None:
        assert not isinstance(message, WantMessage)
        self.heard_ns, self.bye = arrived_ns, None
        self._count(message.head, isinstance(message, FrameMessage))
        self._times.heard(message.head.clock, message.head.sent_ns, arrived_ns)
        if isinstance(message, StatsMessage):
            self.stats = message
        elif isinstance(message, ByeMessage):
            self.bye = message
        else:
            self.received += 1
            for reason, count in message.drops.items():
                known = reason in self.dropped_upstream or len(self.dropped_upstream) < MOST_REASONS
                self.dropped_upstream[reason if known else "other reasons"] += count
            frame = self._believed(self._times.of(message.frame), arrived_ns)
            return Arrival(self._in_sequence(frame), message, self._times.comparable)
        return None

    def _believed(self, frame: Frame, arrived_ns: int) -> Frame:
        if not (self._live and self._times.comparable):
            return frame
        possible = believed(frame, arrived_ns)
        if possible is not frame:
            self.mistimed += 1
            line = "times of a frame cannot be (it says that it is {:.3g} s old); it gets ours"
            self.tell("mistimed", line.format((arrived_ns - frame.timestamp_ns) / 1e9), arrived_ns)
        return possible

    def _count(self, head: Head, is_frame: bool) -> None:
        """Sessions, and gaps; a `stats` tells of a gap before it as well."""
        if head.session != self._session:
            self.sessions += 1
            self._session = head.session
            self._expected = 0 if self.sessions > 1 else head.sequence  # what was there before we came is no loss
            if self.sessions > 1:
                self._raised_by = None
                self._times.restart()
        self.lost_in_transit += max(0, head.sequence - self._expected)
        self._expected = max(self._expected, head.sequence + is_frame)

    def _in_sequence(self, frame: Frame) -> Frame:
        if self._raised_by is None:
            self._raised_by = self._newest + 2 - frame.sequence if self._newest >= 0 else 0
        sequence = frame.sequence + self._raised_by
        if sequence > MOST_NS:  # more than can be sent on: nobody has counted so far
            self._raised_by, self._newest, sequence = 0, -1, frame.sequence
        self._newest = max(self._newest, sequence)
        return replace(frame, sequence=sequence) if self._raised_by else frame
