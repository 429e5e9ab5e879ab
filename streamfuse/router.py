"""Router: the publisher's socket of lossless delivery. It tells who wants what, and sends to one of them at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import zmq

from pipeline import wire
from pipeline.wire import Buffer, WantMessage, WireError
from streamfuse import keys as curve
from streamfuse import sockets

MOST_WANTS = 256  # worked on at a time, so that a flood of them does not keep the owner from its work
LINGER_MS = 500  # in the background


class Router:
    """A ROUTER that binds. Not thread-safe.

    Args:
        address: to bind.
        keys: folder of CURVE keys; None is plain.
        most_waiting: messages that may wait for one connection.
        broken_s: a connection over which nothing comes for so long is broken.

    Raises:
        OutputError: cannot bind; one line.
        ConfigError: keys that are not there or not right; one line.
    """

    address: str
    """The one really bound."""
    malformed: int
    """Messages that were no `want` of this format."""

    def __init__(self, address: str, keys: Path | None, most_waiting: int, broken_s: float) -> None:
        self.malformed = 0
        self._socket = sockets.context().socket(zmq.ROUTER)
        try:
            sockets.tune(self._socket, wire.MOST_HEADER_BYTES)  # nobody sends pictures here
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else what finds no room or no peer is dropped unsaid
            self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, round(broken_s * 1000))
            self._socket.setsockopt(zmq.RCVHWM, 64)
            self._socket.setsockopt(zmq.SNDHWM, most_waiting)
            if keys is not None:
                curve.serve(self._socket, keys)
            self.address = sockets.bind(self._socket, address)
        except BaseException:
            self._socket.close(linger=0)
            raise

    def wants(self, wait_s: float) -> Iterator[tuple[bytes, WantMessage]]:
        """What came, each with the routing id of its connection, after up to `wait_s` for the first of it."""
        if wait_s > 0 and not self._socket.poll(round(wait_s * 1000)):
            return
        for _ in range(MOST_WANTS):
            try:
                peer, *parts = (part.bytes for part in sockets.parts(self._socket, zmq.NOBLOCK, sockets.MOST_PARTS + 1))
            except zmq.Again:
                return
            try:
                want = wire.unpack(parts, 0)
            except WireError:
                want = None
            if isinstance(want, WantMessage):
                yield peer, want
            else:
                self.malformed += 1

    def send(self, peer: bytes, parts: Sequence[Buffer]) -> bool:
        """Whether it went into the queue of the connection, from where it arrives in order or is lost with it.

        Raises:
            ConnectionError: there is no such connection any more.
        """
        try:
            self._socket.send_multipart([peer, *parts], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            raise ConnectionError from error
        return True

    def close(self) -> None:
        if not self._socket.closed:
            sockets.unbind(self._socket, self.address)
            self._socket.close(linger=LINGER_MS)
