"""A TCP connection that breaks when a test wants it to."""

from __future__ import annotations

import random
import selectors
import socket
import struct
import threading
from collections.abc import Callable

from tests.pipeline.fakes import PATIENCE

Cut = Callable[[bytes, bool], int | None]
"""What to do with bytes, and whether they go to the consumer: how many to let through and then cut, or None."""


class Line:
    """A TCP connection to an address by way of a line that breaks, with a reset, whenever `cut` says so."""

    def __init__(self, target: str, cut: Cut) -> None:
        host, port = target.removeprefix("tcp://").split(":")
        self._target, self._cut = (host, int(port)), cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self._closing = False
        self._ends: dict[socket.socket, tuple[socket.socket, bool]] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._join()
                elif key.fileobj in self._ends:
                    self._relay(key.fileobj)
        while self._ends:
            self._part(next(iter(self._ends)))
        self._listener.close()
        self._selector.close()

    def _join(self) -> None:
        consumer, _ = self._listener.accept()
        try:
            publisher = socket.create_connection(self._target, PATIENCE)
        except OSError:
            consumer.close()
            return
        for end, (other, forth) in {consumer: (publisher, False), publisher: (consumer, True)}.items():
            end.settimeout(PATIENCE)
            self._ends[end] = (other, forth)
            self._selector.register(end, selectors.EVENT_READ)

    def _relay(self, end: socket.socket) -> None:
        other, to_consumer = self._ends[end]
        try:
            data = end.recv(1 << 16)
            through = self._cut(data, to_consumer)
            other.sendall(data[:through])
        except OSError:
            return self._part(end)
        if through is not None:
            self.cuts += 1
        if through is not None or not data:
            self._part(end)
        return None

    def _part(self, end: socket.socket) -> None:
        other, _ = self._ends[end]
        for each in (end, other):
            del self._ends[each]
            self._selector.unregister(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # what is under way is lost
            each.close()

    def close(self) -> None:
        self._closing = True
        self._thread.join(PATIENCE)


def after_bytes(least: int, most: int, cuts: int) -> Cut:
    """Cut so often, each time after so many bytes to the consumer."""
    source = random.Random(5)
    left = [source.randint(least, most) for _ in range(cuts)]

    def cut(data: bytes, to_consumer: bool) -> int | None:
        if not to_consumer or not left:
            return None
        if len(data) < left[0]:
            left[0] -= len(data)
            return None
        return left.pop(0)

    return cut


def once_before(mark: bytes, towards_consumer: bool) -> Cut:
    """Cut once, in the middle of a message that has this in it."""
    seen: list[bytes] = []

    def cut(data: bytes, to_consumer: bool) -> int | None:
        if to_consumer != towards_consumer or seen or mark not in data:
            return None
        seen.append(data)
        return data.index(mark)

    return cut


def anywhere(seed: int, cuts: int) -> Cut:
    """Cut so often, after some bytes that went either way."""
    source = random.Random(seed)
    left = [source.randint(0, 6000) for _ in range(cuts)]

    def cut(data: bytes, to_consumer: bool) -> int | None:
        if not left or len(data) < left[0]:
            left[:1] = [left[0] - len(data)] if left else []
            return None
        return left.pop(0)

    return cut
