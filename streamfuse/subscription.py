"""Subscription: the client. Frames as they are published, by another process or on another host.

Frames that wait in sockets grow old: kernel and ZeroMQ hold seconds of them for a reader that is slow. So a thread of
its own takes each message as soon as it is there, and the reader finds the newest in a slot.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import zmq

from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame
from pipeline.wire import MOST_ROOM, STREAM_NAME, ByeMessage, FrameMessage, Head, StatsMessage, WireError
from streamfuse.arrivals import Arrival, Arrivals, missed
from streamfuse.broadcast import Listener
from streamfuse.clocks import clock
from streamfuse.decoding import decoded
from streamfuse.lossless import Ended, Taker
from streamfuse.slot import Slot

log = logging.getLogger("streamfuse")

LOOK_S = 0.2  # how long to wait for a message before looking whether to end
SILENT_S = 3.0  # stats come every second
REVIVE_NS = 10_000_000_000  # nothing came for so long: connect anew, see `sockets.reconnect`
AHEAD, PATIENCE_S = 8, 60.0  # lossless: frames that are asked for ahead; how long a publisher may say nothing


@dataclass(frozen=True, slots=True)
class Received:
    """A frame, handed over."""

    frame: Frame
    """Decoded; times on this host's clock, and a sequence that goes on when the publisher restarts."""
    message: FrameMessage
    """As it came: with the publisher's times, and drops and stages before it."""
    age_ms: float | None
    """Since its capture, at hand-over; None for recordings."""
    lost: int
    """Frames published since the one handed over before, which did not come or were skipped for this newer one."""

    @property
    def state(self) -> str | None:
        """Of a fused frame, how it was made: see `pipeline.frame.Fusion`."""
        return None if self.frame.fusion is None else self.frame.fusion.state


class Subscription:
    """Frames of a publisher: an iterator, and a context manager that closes it.

    By default the newest frame, however slow the reader is: a thread receives, and what is not taken in time is
    skipped and counted. It reconnects by itself, for as long as it lives, and iterates for ever, or until no frame
    came for `timeout_s`; that a publisher went is in `bye`, that it fell silent in `connected`.

    With `lossless`, from a publisher that delivers so: every frame once and in order. It iterates until the stream
    ends; one that breaks off is a SourceError.

    One thread takes frames; all else may be called from any.

    Args:
        address: of the publisher, `tcp://HOST:PORT` or `ipc://PATH`.
        stream: name of the stream; None for the first that is seen.
        keep: so many of the newest frames wait for the reader, in order; None is 1, the frame that is now. With
            `lossless` so many are asked for ahead; None is 8.
        lossless: the publisher delivers lossless, and waits for us.
        keys: folder with a client's keys (`run.py keygen`), where the publisher wants one.
        name: of the client's key in it; None for the only one.
        timeout_s: iterating ends when no frame came for so long; None: never. With `lossless`, for how long a
            publisher may say nothing before that is an error; None: 60 s.
        silent_s: a publisher of which nothing came for so long is silent; it says something every second.
        now: nanoseconds on the monotonic clock.

    Raises:
        ConfigError: one of them is not legal, or the keys are not usable.
    """

    silences: int
    """How often the publisher fell silent."""

    def __init__(
        self,
        address: str,
        *,
        stream: str | None = None,
        keep: int | None = None,
        lossless: bool = False,
        keys: Path | str | None = None,
        name: str | None = None,
        timeout_s: float | None = None,
        silent_s: float = SILENT_S,
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        check(stream, keep, timeout_s, silent_s)
        self.address, self.lossless, self.silences = address, lossless, 0
        self._timeout_s, self._silent_ns, self._now = timeout_s, round(silent_s * 1e9), now
        self._arrivals = Arrivals(
            stream or "", clock(), lambda line: log.warning("%s: %s", address, line), live=not lossless
        )
        self._slot = Slot(keep or 1)
        self._handed: Head | None = None
        self._undecodable = 0
        self._silent = self._closing = False
        self._revived_ns = now()
        folder = None if keys is None else Path(keys)
        self._thread: threading.Thread | None = None
        self._taker: Taker | None = None
        if lossless:
            patience_s = PATIENCE_S if timeout_s is None else timeout_s
            self._taker = Taker(address, keys=folder, room=keep or AHEAD, timeout_s=patience_s, name=name)
            return
        topic = b"" if stream is None else f"{stream}/".encode("ascii")
        listener = Listener(address, topic, folder, name)
        self._thread = threading.Thread(
            target=self._receive, args=(listener,), name=f"subscription {address}", daemon=True
        )
        self._thread.start()

    # Frames:

    def take(self, timeout_s: float | None = None) -> Received | None:
        """The newest frame that was not yet handed over, or the next; None if none comes in time, or it is closed.

        Args:
            timeout_s: None waits for ever.

        Raises:
            Ended: lossless: the stream has ended, and all of it was handed over.
            SourceError: lossless: it broke off. Or it is encoded, and nothing is there to decode it with.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            arrival = self._slot.take(left_s) if self._taker is None else self._take_all(self._taker, left_s)
            if arrival is None:
                return None
            if (received := self._hand_over(arrival)) is not None:
                return received

    def __iter__(self) -> Iterator[Received]:
        try:
            while (received := self.take(None if self.lossless else self._timeout_s)) is not None:
                yield received
        except Ended:
            return

    def _hand_over(self, arrival: Arrival) -> Received | None:
        try:
            frame = decoded(arrival.frame, arrival.message)
        except WireError as error:
            if self.lossless:
                raise SourceError(
                    f"{self.address}: frame {arrival.message.head.sequence} is damaged: {error}"
                ) from error
            self._undecodable += 1
            self._arrivals.tell("damaged", f"a frame could not be decoded: {error}", self._now())
            return None
        age_ms = (self._now() - frame.timestamp_ns) / 1e6 if arrival.comparable else None
        head = arrival.message.head
        lost, self._handed = missed(self._handed, head), head
        return Received(frame, arrival.message, age_ms, lost)

    def _take_all(self, taker: Taker, timeout_s: float | None) -> Arrival | None:
        """Lossless: in the caller's thread, for the publisher waits."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._closing:
            left_s = LOOK_S if until is None else min(LOOK_S, until - time.monotonic())
            parts = taker.receive(max(0.0, left_s))
            if parts is not None:
                if (arrival := self._arrivals.take(parts, self._now())) is not None:
                    return arrival
            elif left_s <= 0:
                return None
        return None

    # The thread that receives:

    def _receive(self, listener: Listener) -> None:
        error: Exception | None = None
        try:
            while not self._closing:
                self._receive_one(listener)
                self._watch(listener)
        except zmq.ContextTerminated:
            log.info("%s: ZeroMQ was shut down", self.address)
        except Exception as failure:
            error = failure
        listener.close()
        self._slot.close(error)

    def _receive_one(self, listener: Listener) -> None:
        """A function, so that nothing of a frame is held here while the next one is waited for."""
        parts = listener.receive(LOOK_S)
        if parts is not None and (arrival := self._arrivals.take(parts, self._now())) is not None:
            self._slot.put(arrival)

    def _watch(self, listener: Listener) -> None:
        """Count when the publisher falls silent, and say it once; one that said goodbye is not silent."""
        now_ns, heard_ns, gone = self._now(), self._arrivals.heard_ns, self._arrivals.bye is not None
        silent = heard_ns is not None and not gone and now_ns - heard_ns > self._silent_ns
        if silent and not self._silent:
            self.silences += 1
            log.warning("%s: the publisher is silent", self.address)
        elif self._silent and not silent:
            log.info("%s: the publisher is back", self.address)
        self._silent = silent
        if now_ns - max(heard_ns or 0, self._revived_ns) > REVIVE_NS:
            self._revived_ns = now_ns
            listener.reconnect()

    # What came so far, from any thread:

    @property
    def connected(self) -> bool:
        """Whether the publisher is there: something came within `silent_s`, and it was no goodbye."""
        heard_ns = self._arrivals.heard_ns
        if heard_ns is None or self._arrivals.bye is not None or self._closing:
            return False
        return self._now() - heard_ns <= self._silent_ns

    @property
    def stream(self) -> str:
        """Name of the stream; "" as long as none is known."""
        return self._arrivals.stream

    @property
    def stats(self) -> StatsMessage | None:
        """The publisher's newest, of each second."""
        return self._arrivals.stats

    @property
    def bye(self) -> ByeMessage | None:
        """The publisher's goodbye, until something comes again."""
        return self._arrivals.bye

    @property
    def dropped_upstream(self) -> dict[str, int]:
        """Frames dropped before the publisher, by reason, as far as the frames that came tell."""
        return dict(self._arrivals.dropped_upstream)

    def counts(self) -> dict[str, int]:
        """`received` frames, of which `skipped` were replaced by newer ones before they were taken; `lost_in_transit`;
        `malformed` messages, `foreign` ones of other streams; `mistimed` frames, whose times were not believed;
        `sessions` of the publisher and its `silences`."""
        arrivals = self._arrivals
        return {
            "received": arrivals.received,
            "skipped": self._slot.skipped,
            "lost_in_transit": arrivals.lost_in_transit,
            "malformed": arrivals.malformed + self._undecodable,
            "foreign": arrivals.foreign,
            "mistimed": arrivals.mistimed,
            "sessions": arrivals.sessions,
            "silences": self.silences,
        }

    # Its end:

    def close(self) -> None:
        """End it, from any thread: who waits in `take` gets None. May be called twice; takes less than a second."""
        self._closing = True
        self._slot.close()
        if self._taker is not None:
            self._taker.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check(stream: str | None, keep: int | None, timeout_s: float | None, silent_s: float) -> None:
    """Raise ConfigError for what is not legal."""
    if stream is not None and not STREAM_NAME.fullmatch(stream):
        raise ConfigError(f"stream is {stream!r}; legal are 1 to 64 of letters, digits, _ . and -")
    if keep is not None and not 1 <= keep <= MOST_ROOM:
        raise ConfigError(f"keep is {keep}; legal are 1 to {MOST_ROOM} frames")
    for name, value in (("timeout_s", timeout_s), ("silent_s", silent_s)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} is {value}; legal are seconds above 0")
