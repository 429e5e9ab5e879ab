"""The publisher's end of lossless delivery. `streamfuse/lossless.py` says how it works and why."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline import wire
from pipeline.errors import OutputError
from pipeline.wire import Buffer, ByeMessage, Head, StatsMessage, WantMessage
from streamfuse.consumers import Consumer, Consumers
from streamfuse.router import Router

WAIT_S = 0.1  # a slice of waiting, after which is asked whether to stop
FAREWELL_S = 0.3  # `failed` and `stopped` are waited for so long
STATS_S = 1.5  # the last stats are said again when the owner had no time for new ones
PROBE_S = 0.5  # a stranger that finds no place makes this end look who is away, but not more often
LEAP_S = 1.0  # more did not pass between two ticks, but this process was stopped, and nobody could be heard
LEAVE_S = 0.5  # so long may it take until consumers have the answer to `done` and leave


class Giver:
    """Gives each frame to all consumers, waits for the slowest, tells them the end. Not thread-safe: the owner locks.

    The owner's thread gives frames, and one beside it calls `stats` each second and `tick` more often::

        while not giver.room():          # each call under the owner's lock, which is free in between
            if stopping(): return
            giver.tick(0.1)
        giver.offer(wire.pack_frame(head, frame, about))     # head.sequence is giver.sequence

    `give` is this loop for owners that need no lock. At the end `end(reason)`, then `close()`.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH` to bind; port 0 is any that is free.
        stream: name in the headers.
        session: 16 hexadecimal digits, drawn anew at each start.
        clock: as in headers.
        consumers: so many are waited for and served, at least 1.
        window: so many frames are kept at most, at least 1.
        timeout_s: a consumer that is waited for for so long is given up. A frame may be on its way for half of it.
        keys: folder of CURVE keys; None is plain.
        stopping: asked while waiting; True ends each wait within 0.5 s.

    Raises:
        OutputError: cannot bind; one line.
        ConfigError: keys that are not there or not right; one line.
    """

    address: str
    """The one really bound."""
    refused: int
    """Wants that got a `bye` of reason `refused`."""

    def __init__(
        self,
        address: str,
        *,
        stream: str,
        session: str,
        clock: str,
        consumers: int = 1,
        window: int = 8,
        timeout_s: float = 60.0,
        keys: Path | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        if consumers < 1 or window < 1 or timeout_s <= 0:
            raise ValueError(f"at least 1, 1 and above 0: {consumers=} {window=} {timeout_s=}")
        self.refused = 0
        self._stream, self._session, self._clock = stream, session, clock
        self._window, self._stopping = window, stopping
        self._consumers = Consumers(consumers, timeout_s)
        self._kept: deque[Sequence[Buffer]] = deque()
        self._first = 0  # number of the first one kept
        self._bye: ByeMessage | None = None
        self._ticked = self._probed = time.monotonic()
        self._stats: Sequence[Buffer] = wire.pack_stats(StatsMessage(self._head(), 0.0, 0, {}, {}))
        # Beside the window there is room for stats and the end. A frame may be on its way for half of the patience.
        self._router = Router(address, keys, window + 16, timeout_s / 2)
        self.address = self._router.address

    @property
    def sequence(self) -> int:
        """Of the next frame, which its header must say: 0 at first, then one more with each `offer`."""
        return self._first + len(self._kept)

    @property
    def kept(self) -> int:
        """Frames that some consumer has not got yet; at most the window."""
        return len(self._kept)

    @property
    def malformed(self) -> int:
        """Messages that were no `want` of this format."""
        return self._router.malformed

    @property
    def present(self) -> int:
        """Consumers that came and were not found gone."""
        return sum(not (each.away or each.done) for each in self._consumers)

    def room(self) -> bool:
        """Whether one more frame may be offered. If not: `tick(0.1)`, and ask again.

        Raises:
            OutputError: a consumer is silent or missing for longer than `timeout_s` and holds all up; one line.
        """
        if len(self._kept) < self._window:
            return True
        self._check()
        return False

    def offer(self, parts: Sequence[Buffer]) -> None:
        """Take one frame, as `wire.pack_frame` makes it, and send it to who has room. Does not wait; needs `room()`.

        The buffers are not copied and must not change until all have them.
        """
        if len(self._kept) >= self._window or self._bye is not None:
            raise RuntimeError("offer() without room(), or after end()")
        self._kept.append(parts)
        self.tick()

    def give(self, parts: Sequence[Buffer]) -> bool:
        """Wait for room, and offer. False if it was stopped before there was any.

        Raises:
            OutputError: as `room`.
        """
        while not self.room():
            if self._stopping():
                return False
            self.tick(WAIT_S)
        self.offer(parts)
        return True

    def stats(self, parts: Sequence[Buffer]) -> None:
        """Send `stats`, as `wire.pack_stats` makes it, to all consumers, which keeps them patient; never waits."""
        self._stats = parts
        self._probe()

    def tick(self, wait_s: float = 0.0) -> None:
        """Work on what consumers want; wait up to `wait_s` for the first of it. Raises nothing of a peer's making."""
        for peer, want in self._router.wants(wait_s):
            self._hear(peer, want)
        now = time.monotonic()
        elapsed_s, self._ticked = min(now - self._ticked, LEAP_S), now
        self._consumers.pass_time(elapsed_s, len(self._kept) >= self._window or self._bye is not None)
        self._forget()
        self._send_wanted()
        if now - self._probed > STATS_S:
            self._probe()

    def end(self, reason: wire.Reason) -> None:
        """Tell all consumers the end, and wait until they know.

        Args:
            reason: `end`: waits until all frames are there, `timeout_s` at most for who is silent; if it is stopped
                meanwhile, goes on as `stopped`. Others are told at once, and waited for for 0.3 s.

        Raises:
            OutputError: a consumer did not take all of it (reason `end` only); one line.
        """
        self._bye = ByeMessage(self._head(), reason)
        until = time.monotonic() + FAREWELL_S
        self.tick()
        while not self._all_ended():
            if reason == "end":
                if self._stopping():
                    return self.end("stopped")
                self._check()
            elif time.monotonic() >= until:
                return None
            self.tick(WAIT_S)
        return self._see_off() if reason == "end" else None

    def _see_off(self) -> None:
        """A consumer leaves when its `done` is answered; if the answer was lost, it is still here and says it again."""
        until = time.monotonic() + LEAVE_S
        while not all(each.away for each in self._consumers):
            if self._stopping() or time.monotonic() >= until:
                return
            self.tick(0.01)
            self._probe()

    def close(self) -> None:
        """At once. Without `end` the consumers know nothing of it, and wait for their `timeout_s`."""
        self._router.close()
        self._kept.clear()

    # What comes:

    def _hear(self, peer: bytes, want: WantMessage) -> None:
        """First whether there are such frames: in another session the same number was another frame."""
        before = want.session == "" and want.sequence == 0
        if not (before or want.session == self._session) or want.sequence > self.sequence:
            return self._refuse(peer)
        consumer = self._consumers.named(want.consumer)
        if consumer is None:
            return self._admit(peer, want)
        if consumer.hear(peer, want) and want.done:
            self._let_go(consumer)
        return None

    def _let_go(self, consumer: Consumer) -> None:
        """It knows the end, and shall know that this end knows: else it says so again."""
        if self._bye is None or (self._bye.reason == "end" and consumer.sequence < self.sequence):
            return
        consumer.done = True
        self._send(consumer, wire.pack_bye(self._bye))

    def _admit(self, peer: bytes, want: WantMessage) -> None:
        """One that was not here before takes a place, if there is one and all it wants is there."""
        if want.sequence < self._first:
            return self._refuse(peer)
        if self._consumers.full:
            if time.monotonic() - self._probed < PROBE_S:
                return None  # it asks again; a flood of strangers is not to become one of probes
            self._probe()
        if not self._consumers.admit(want.consumer, Consumer(peer, want.sequence, want.room, want.sequence)):
            self._refuse(peer)
        return None

    def _refuse(self, peer: bytes) -> None:
        self.refused += 1
        self._send(Consumer(peer, 0), wire.pack_bye(ByeMessage(self._head(), "refused")))

    # What goes:

    def _forget(self) -> None:
        """Frames that all consumers have."""
        while self._first < self._consumers.least:
            self._kept.popleft()
            self._first += 1

    def _send_wanted(self) -> None:
        for each in self._consumers:
            until = min(each.sequence + each.room, self.sequence)
            while not each.away and each.sent < until and self._send(each, self._kept[each.sent - self._first]):
                each.sent += 1
            if self._bye is None or each.told or each.away or each.done:
                continue
            if self._bye.reason != "end" or each.sent == self.sequence:
                each.told = self._send(each, wire.pack_bye(self._bye))

    def _probe(self) -> None:
        """Say the stats to all: it tells them that this end is there, and this end whether they are."""
        self._probed = time.monotonic()
        for each in self._consumers:
            if not each.away:
                self._send(each, self._stats)

    def _send(self, consumer: Consumer, parts: Sequence[Buffer]) -> bool:
        """Whether it is on its way; if not, there was no room, or the consumer is found away."""
        try:
            return self._router.send(consumer.peer, parts)
        except ConnectionError:
            consumer.away = True
            return False

    def _head(self) -> Head:
        return Head(self._stream, self._session, self.sequence, self._clock, time.monotonic_ns(), time.time_ns())

    # Who is waited for:

    def _all_ended(self) -> bool:
        """Those that have not come yet shall know, too."""
        return self._consumers.full and self._consumers.have_ended(self.sequence)

    def _check(self) -> None:
        complaint = self._consumers.complaint(self.sequence)
        if complaint is not None:
            raise OutputError(f"{self.address}: {complaint}")
