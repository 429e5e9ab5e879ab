"""Peers: sockets that say what happens to them, so that no test waits to see whether something does not come."""

from __future__ import annotations

import socket as system
import time
from types import TracebackType
from typing import ClassVar, Self

import zmq
from zmq.utils.monitor import parse_monitor_message

from streamfuse import sockets

PATIENCE_MS = 20_000
SUCCEEDED = zmq.EVENT_HANDSHAKE_SUCCEEDED
FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
DISCONNECTED = zmq.EVENT_DISCONNECTED


class Peer:
    """A socket that is tuned, but does not wait long for a handshake, and its monitor.

    Args:
        kind: such as zmq.SUB, which subscribes to everything.
        most_bytes: as of `tune`.
        context: another than that of the process.
    """

    _all: ClassVar[set[Peer]] = set()

    def __init__(self, kind: int, most_bytes: int = 1 << 20, context: zmq.Context[zmq.Socket[bytes]] | None = None):
        self.socket = (context or sockets.context()).socket(kind)
        sockets.tune(self.socket, most_bytes)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, 200)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 10)
        if kind == zmq.SUB:
            self.socket.subscribe(b"")
        self._monitor = self.socket.get_monitor_socket(SUCCEEDED | FAILED | DISCONNECTED)
        self._all.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.discard(self)
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close(0)

    def wait_for(self, events: int) -> int:
        """Wait until one of these events happens; which it is. Others before it are forgotten."""
        until = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < until:
            event = int(parse_monitor_message(self._monitor.recv_multipart())["event"]) if self._monitor.poll(50) else 0
            self.work()
            if event & events:
                return event
        raise AssertionError(f"none of the events {events:#x} came")

    @classmethod
    def work(cls) -> None:
        """On a busy machine a handshake may time out; over the next connection libzmq subscribes only when asked."""
        for peer in cls._all:
            peer.socket.getsockopt(zmq.EVENTS)

    def receive(self) -> list[bytes]:
        until = time.monotonic() + PATIENCE_MS / 1000
        while not self.socket.poll(50):
            assert time.monotonic() < until, "nothing came"
            self.work()
        return self.socket.recv_multipart()

    @property
    def has_nothing(self) -> bool:
        return not self.socket.poll(0)


def dialled(address: str) -> system.socket:
    """A bare TCP connection to an address of ours."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return system.create_connection((host, int(port)), timeout=PATIENCE_MS / 1000)


def shake_hands(raw: system.socket, kind: bytes) -> None:
    """As ZMTP 3.0 without security (https://rfc.zeromq.org/spec/23/), up to where messages may be sent.

    Args:
        raw: a connection.
        kind: of socket, such as b"DEALER".
    """
    raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    ready = b"\x05READY" + b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    raw.sendall(b"\x04" + bytes([len(ready)]) + ready)
    take(raw, 64)
    take(raw, take(raw, 2)[1])


def take(raw: system.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = raw.recv(size - len(found))
        assert more, "the connection was closed"
        found += more
    return found
