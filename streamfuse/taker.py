"""The consumer's end of lossless delivery. `streamfuse/lossless.py` says how it works and why."""

from __future__ import annotations

import contextlib
import math
import secrets
import threading
import time
from pathlib import Path

import zmq

from pipeline import wire
from pipeline.errors import SourceError, SourceFailed
from pipeline.wire import ByeMessage, FrameMessage, StatsMessage, WantMessage, WireError
from streamfuse import keys as curve
from streamfuse import sockets

ASK_S = 1.0  # a `want` at least so often while frames come
WAIT_S = 0.2  # and so often while none come: over a new connection the publisher needs one to begin
FAREWELL_S = 5.0  # the answer to `done` is waited for for so long
MOST_REWINDS = 3  # without a frame in between
LINGER_MS = 200  # in the background
WHY = {
    "failed": "the publisher failed after {count} frames; its own messages say why",
    "stopped": "the publisher was stopped after {count} frames",
    "refused": "the publisher has its consumers, or this one comes too late for its first frames; set consumers there "
    "to how many there are, and start them at the same time",
}


class Ended(EOFError):
    """The stream has ended, and all of it is here."""


class Taker:
    """Takes each frame once and in order, and learns the end. For one thread; another may close it.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH` of the publisher, which need not be there yet.
        keys: folder of CURVE keys; None is plain.
        room: so many frames may wait here for `receive`, 1 to 1024.
        timeout_s: a publisher that says nothing while it is waited for for so long is gone. A frame may be on its way
            for half of it.
        name: of the client's key in the folder; None for the only one.

    Raises:
        ConfigError: no such address, or keys that are not there or not right; one line.
    """

    sequence: int
    """Frames that were received: the number of the next one."""
    session: str
    """Of the publisher; "" before the first frame."""
    silent_s: float
    """For how long the publisher was waited for since it said something; it does so every second or two."""
    rewinds: int
    """How often frames were missing and asked for again; what is handed on has no gap."""

    def __init__(
        self,
        address: str,
        *,
        keys: Path | None = None,
        room: int = 8,
        timeout_s: float = 60.0,
        name: str | None = None,
    ) -> None:
        if not 1 <= room <= 1024 or timeout_s <= 0:
            raise ValueError(f"room is 1 to 1024, timeout_s above 0: {room=} {timeout_s=}")
        self.sequence, self.session, self.silent_s, self.rewinds = 0, "", 0.0, 0
        self._address, self._keys, self._name, self._room, self._timeout_s = address, keys, name, room, timeout_s
        self._consumer = secrets.token_hex(8)
        self._told = 0  # the sequence of the last want
        self._asked_at = 0.0
        self._fruitless = 0  # rewinds since the last frame
        self._done = False
        self._revived_s = 0.0  # the silence at which it was last connected anew
        self._over: Exception | None = None
        self._closing = False
        self._lock = threading.Lock()
        self._socket = self._connect()
        self._ask()

    def _connect(self) -> zmq.Socket[bytes]:
        socket = sockets.context().socket(zmq.DEALER)
        try:
            sockets.tune(socket)
            socket.setsockopt(zmq.RCVHWM, self._room + 128)  # never full: what waits here could not be told the end
            socket.setsockopt(zmq.SNDHWM, 16)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, round(self._timeout_s * 500))
            if self._keys is not None:
                curve.use(socket, self._keys, self._name)
            sockets.connect(socket, self._address)
        except BaseException:
            socket.close(linger=0)
            raise
        return socket

    def receive(self, timeout_s: float) -> list[memoryview] | None:
        """Topic, header and payload of the next frame; None if it did not come within `timeout_s`, or it is closed.

        Between the frames come `stats` as well, but none that knows of frames that are still to come. The views are of
        ZeroMQ's own memory, which lives as long as they do.

        Raises:
            Ended: all frames of the stream were received. Again if it is called again, as the following.
            SourceError: the publisher was stopped; one line.
            SourceFailed: it failed, is gone or started anew, or refuses; one line.
        """
        with self._lock:
            if self._over is not None:
                raise self._over
            try:
                return self._receive(time.monotonic() + timeout_s)
            except (Ended, SourceError) as over:
                self._over = over
                self._socket.close(linger=LINGER_MS)  # now: the publisher waits a moment for us to leave
                raise

    def close(self) -> None:
        """From any thread: who waits in `receive` gets None, within 0.2 s. May be called twice."""
        self._closing = True
        with self._lock:
            self._socket.close(linger=LINGER_MS)

    def _receive(self, until: float) -> list[memoryview] | None:
        while not self._closing:
            parts = self._read()
            self._ask_if_due(idle=parts is None)
            if parts is None:
                if not self._wait(until):
                    return None
            elif self._take(parts):
                return parts
            elif time.monotonic() > until:
                return None  # what comes without an end is not to keep us from being stopped
        return None

    def _wait(self, until: float) -> bool:
        """For a message, or until it is time to ask again. False: it is `until`."""
        began = time.monotonic()
        allowed_s = max(0.0, min(until, self._asked_at + WAIT_S) - began)
        if self._socket.poll(math.ceil(allowed_s * 1000)):
            return True
        now = time.monotonic()
        self.silent_s += min(now - began, allowed_s)  # not more: this process may have been stopped meanwhile
        self._check_silence()
        return now < until

    def _check_silence(self) -> None:
        if self._done and self.silent_s >= FAREWELL_S:
            raise Ended
        if self.silent_s < self._timeout_s:
            if self.silent_s - self._revived_s > self._timeout_s / 2:  # ZeroMQ gives up for ever who is no ZeroMQ
                self._revived_s = self.silent_s
                self._connect_anew()
            return
        if self.session:
            raise SourceFailed(
                f"{self._address}: the publisher is gone: silent for {self._timeout_s:g} s after {self.sequence} "
                "frames; its own messages say why"
            )
        raise SourceFailed(
            f"{self._address}: no lossless publisher for {self._timeout_s:g} s; start it, with delivery: lossless"
        )

    def _read(self) -> list[memoryview] | None:
        try:
            return [part.buffer for part in sockets.parts(self._socket, zmq.NOBLOCK)]
        except zmq.Again:
            return None

    def _ask_if_due(self, idle: bool) -> None:
        """When nothing is there to do, all news at once; else after each half of the room, and after a second."""
        news, ago_s = self.sequence - self._told, time.monotonic() - self._asked_at
        if (idle and (news or ago_s >= WAIT_S)) or ago_s >= ASK_S or news * 2 >= self._room:
            self._ask()

    def _ask(self) -> None:
        want = WantMessage(self._consumer, self.session, self.sequence, self._room, self._done)
        with contextlib.suppress(zmq.Again):  # some are waiting for a connection; the next one will say all
            self._socket.send_multipart(wire.pack_want(want), zmq.NOBLOCK)
        self._told = self.sequence
        self._asked_at = time.monotonic()

    def _take(self, parts: list[memoryview]) -> bool:
        """Whether this is to be handed on: the next frame, or stats."""
        message = self._unpacked(parts)
        another = self.session != "" and message.head.session != self.session
        if self._done:
            if another or isinstance(message, ByeMessage):
                raise Ended  # it knows that all is here, or has gone already and another one has its address
            return False
        self.silent_s = self._revived_s = 0.0
        if another:
            raise SourceFailed(
                f"{self._address}: the publisher was started anew after {self.sequence} frames of the stream; "
                "start this end anew, too"
            )
        if isinstance(message, FrameMessage):
            return self._take_frame(message)
        if isinstance(message, ByeMessage):
            self._take_bye(message)
            return False
        return message.head.sequence <= self.sequence

    def _unpacked(self, parts: list[memoryview]) -> FrameMessage | StatsMessage | ByeMessage:
        try:
            message = wire.unpack(parts)
        except WireError as error:
            raise SourceFailed(f"{self._address}: what came is not of a lossless publisher: {error}") from error
        if isinstance(message, WantMessage):
            raise SourceFailed(f"{self._address}: there is a consumer at this address, and no publisher")
        return message

    def _take_frame(self, message: FrameMessage) -> bool:
        if message.head.sequence > self.sequence:
            self._rewind(message.head.sequence)
        if message.head.sequence != self.sequence:
            return False  # it came twice
        self.session = message.head.session
        self.sequence += 1
        self._fruitless = 0
        return True

    def _take_bye(self, bye: ByeMessage) -> None:
        if bye.reason == "end" and bye.head.sequence > self.sequence:
            return self._rewind(bye.head.sequence)
        if bye.reason == "end" and bye.head.sequence < self.sequence:
            raise SourceFailed(
                f"{self._address}: the publisher ended after {bye.head.sequence} frames, and {self.sequence} came"
            )
        self._done = bye.reason != "refused"
        self._ask()
        if bye.reason != "end":
            why = f"{self._address}: {WHY[bye.reason].format(count=self.sequence)}"
            raise SourceError(why) if bye.reason == "stopped" else SourceFailed(why)
        return None

    def _rewind(self, came: int) -> None:
        """Frames are missing: a new connection begins with the one that is expected."""
        self.rewinds += 1
        self._fruitless += 1
        if self._fruitless > MOST_REWINDS:
            raise SourceFailed(f"{self._address}: frame {self.sequence} is lost: the publisher goes on at {came}")
        self._connect_anew()

    def _connect_anew(self) -> None:
        self._socket.close(linger=0)
        self._socket = self._connect()
        self._ask()
