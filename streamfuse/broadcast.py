"""Broadcast: one publisher, any number of subscribers, none of which is waited for. XPUB and SUB of ZeroMQ (RFC 29).

Nothing here is thread-safe: who has one locks, or uses it in one thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import zmq

from pipeline.wire import Buffer
from streamfuse import keys as curve
from streamfuse import sockets

WAITING = 2  # messages that wait for a slow subscriber; libzmq drops the newest when they are full, so few are right
SEND_BUFFER_BYTES = 1 << 19  # of the kernel: what is there cannot be taken back; less or more is slower over tcp, too
SUBSCRIPTION_BYTES = 512  # what a subscriber may send: names of topics, and the handshake of CURVE
NEWS_WAITING = 1  # of each subscriber; libzmq takes in all that waits, for as long as more comes, before anything else
MOST_TOPICS = 4096  # different ones that are kept apart
MOST_NEWS = 1000  # subscriptions that are read at once, and for how long: no subscriber can keep the publisher busy
NEWS_S = 0.002
FAREWELL_S = 0.3  # for a `bye` to find room, and to leave before the socket is closed


class Broadcaster:
    """The publisher. A subscriber that is too slow misses messages; it never makes the publisher wait.

    Args:
        address: to bind, `tcp://HOST:PORT` or `ipc://PATH`.
        keys: folder with the server's keys and the allow-list (`run.py keygen`); None for no encryption.

    Raises:
        ConfigError: the keys are not usable.
        OutputError: the address cannot be bound.
    """

    address: str
    """The one really bound: port 0 has become a number."""

    def __init__(self, address: str, keys: Path | None = None) -> None:
        self._topics: set[bytes] = set()
        self._crowded = False
        """There were too many to keep apart, so it is not known who listens."""
        self._farewell: zmq.MessageTracker | None = None
        self._socket = sockets.context().socket(zmq.XPUB)
        try:
            sockets.tune(self._socket, SUBSCRIPTION_BYTES)
            self._socket.setsockopt(zmq.SNDHWM, WAITING)
            self._socket.setsockopt(zmq.RCVHWM, NEWS_WAITING)
            self._socket.setsockopt(zmq.SNDBUF, SEND_BUFFER_BYTES)
            if keys is not None:
                curve.serve(self._socket, keys)
            self.address = sockets.bind(self._socket, address)
        except BaseException:
            self._socket.close(0)
            raise

    def heard(self, topic: bytes) -> bool:
        """Whether anybody has subscribed to a topic, or to what it begins with."""
        until = time.monotonic() + NEWS_S
        for _ in range(MOST_NEWS):
            try:
                news = self._socket.recv(zmq.NOBLOCK)  # EVENTS would make libzmq take in more than is read here
            except zmq.Again:
                break
            self._note(news)
            if time.monotonic() > until:
                break
        return self._crowded or any(topic.startswith(each) for each in self._topics)

    def _note(self, news: bytes) -> None:
        if news[:1] == b"\0":
            self._topics.discard(news[1:])
        elif news[:1] == b"\1" and not self._crowded:
            self._topics.add(news[1:])
            if len(self._topics) > MOST_TOPICS:  # for good: of those that come now, each may be one that stays
                self._crowded = True
                self._topics.clear()

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send to all who want it, at once and without a copy: what the parts show must never change again.

        Memory of a large part is held until ZeroMQ has sent it to everybody.
        """
        self._events()  # ZeroMQ learns what has left meanwhile; else that is up to 1 ms old
        self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)

    def send_last(self, parts: Sequence[Buffer]) -> None:
        """Send a `bye`. Right behind a frame it finds no room where that has not left yet: wait a moment for it."""
        tracked = zmq.Frame(parts[1], track=True, copy=False)
        until, sent = time.monotonic() + FAREWELL_S, False
        while not sent:
            self._socket.setsockopt(zmq.XPUB_NODROP, time.monotonic() < until)
            try:
                self._socket.send_multipart([parts[0], tracked, parts[2]], zmq.NOBLOCK, copy=False)
                sent = True
            except zmq.Again:
                time.sleep(0.002)
        self._socket.setsockopt(zmq.XPUB_NODROP, False)
        self._farewell = tracked.tracker

    def _events(self) -> int:
        return int(self._socket.getsockopt(zmq.EVENTS))

    def close(self) -> None:
        """Let what was sent last leave, as far as the subscribers take it, and go. May be called twice."""
        if self._socket.closed:
            return
        if self._farewell is not None:
            with suppress(zmq.NotDone):
                self._farewell.wait(FAREWELL_S)
        sockets.unbind(self._socket, self.address)  # which cuts connections, so it comes after
        self._socket.close(0)


class Listener:
    """A subscriber: connects, and connects again by itself for as long as it lives.

    Args:
        address: of the publisher.
        topic: what the topics begin with that are wanted; b"" for all.
        keys: folder with the client's keys and the server's public one; None for no encryption.
        name: of the client's key in that folder; None for the only one.

    Raises:
        ConfigError: the address or the keys are not usable.
    """

    def __init__(self, address: str, topic: bytes, keys: Path | None = None, name: str | None = None) -> None:
        self.address = address
        self._timeout_s: float | None = None
        self._socket = sockets.context().socket(zmq.SUB)
        try:
            sockets.tune(self._socket)
            self._socket.setsockopt(zmq.RCVHWM, WAITING)
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
            if keys is not None:
                curve.use(self._socket, keys, name)
            sockets.connect(self._socket, address)
        except BaseException:
            self._socket.close(0)
            raise

    def receive(self, timeout_s: float) -> list[memoryview] | None:
        """The parts of the next message, as views of ZeroMQ's own memory; None if none comes in time.

        Of a message of more parts than are legal only as many are there as tell that it is none.
        """
        if timeout_s != self._timeout_s:
            self._timeout_s = timeout_s
            self._socket.setsockopt(zmq.RCVTIMEO, round(1000 * timeout_s))
        try:
            return [part.buffer for part in sockets.parts(self._socket)]
        except zmq.Again:
            return None

    def reconnect(self) -> None:
        """Connect anew: after a long silence, see `sockets.reconnect`."""
        sockets.reconnect(self._socket, self.address)

    def close(self) -> None:
        """Let go of the connection. May be called twice."""
        self._socket.close(0)
