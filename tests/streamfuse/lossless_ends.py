"""Ends of lossless delivery for tests: in threads of their own, and such as follow a script."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zmq
from numpy.typing import NDArray

from pipeline import wire
from pipeline.frame import Frame
from pipeline.wire import About, Buffer, ByeMessage, FrameMessage, Head, Reason, WantMessage
from streamfuse import sockets
from streamfuse.lossless import Ended, Giver, Taker
from tests.pipeline.fakes import PATIENCE

SESSION, ANOTHER = "0123456789abcdef", "fedcba9876543210"
SMALL, LARGE = (64, 48), (640, 480)
LOOPBACK = "tcp://127.0.0.1:0"


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """`closing(thing)` is the thing, and it is closed after the test."""
    things: list[Any] = []

    def do(thing: Any) -> Any:
        things.append(thing)
        return thing

    yield do
    for thing in reversed(things):
        thing.close()


def picture(number: int, size: tuple[int, int] = SMALL) -> NDArray[np.uint8]:
    """(H, W) uint8, of each number another one."""
    width, height = size
    return np.random.default_rng(number).integers(0, 256, (height, width), np.uint8)


def head(sequence: int, session: str = SESSION) -> Head:
    return Head("recording", session, sequence, wire.PRESENTATION, 0, 0)


def message(number: int, session: str = SESSION, size: tuple[int, int] = SMALL) -> list[Buffer]:
    frame = Frame(picture(number, size), "gray8", size, number * 40_000_000, "pts", number, "recording")
    return wire.pack_frame(head(number, session), frame, About())


def bye(reason: Reason, sequence: int, session: str = SESSION) -> list[Buffer]:
    return wire.pack_bye(ByeMessage(head(sequence, session), reason))


def giver(address: str = LOOPBACK, session: str = SESSION, **options: Any) -> Giver:
    return Giver(address, stream="recording", session=session, clock=wire.PRESENTATION, **options)


def until(condition: Callable[[], Any], meanwhile: Callable[[], object] = lambda: time.sleep(0.005)) -> None:
    """Do something until it is so."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "what was waited for did not happen"
        meanwhile()


def turn(publisher: Giver, consumer: Taker) -> list[memoryview] | None:
    """Both in this thread, one after the other."""
    publisher.tick()
    return consumer.receive(0)


def take(taker: Taker, count: int | None = None, then: Callable[[], object] = bool) -> list[int]:
    """Numbers of the frames that come, whose pixels are compared, until the stream ends or so many are here."""
    numbers: list[int] = []
    give_up = time.monotonic() + PATIENCE
    while count is None or len(numbers) < count:
        assert time.monotonic() < give_up, f"{len(numbers)} frames came, and no more"
        try:
            parts = taker.receive(0.1)
        except Ended:
            break
        came = parts and wire.unpack(parts)
        if isinstance(came, FrameMessage):
            numbers.append(came.head.sequence)
            assert np.array_equal(came.frame.data, picture(numbers[-1], came.frame.size))
            then()
    return numbers


class Publishing:
    """A publisher in a thread of its own: gives so many frames, and tells the end."""

    def __init__(
        self,
        count: int,
        *,
        reason: Reason | None = "end",
        size: tuple[int, int] = SMALL,
        session: str = SESSION,
        **options: Any,
    ) -> None:
        self.giver = giver(session=session, **options)
        self._size, self._session = size, session
        self.address = self.giver.address
        self.most_kept = 0
        self.given = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(count, reason), daemon=True)
        self._thread.start()

    def _run(self, count: int, reason: Reason | None) -> None:
        try:
            for number in range(count):
                if not self.giver.give(message(number, self._session, self._size)):
                    break
                self.given += 1
                self.most_kept = max(self.most_kept, self.giver.kept)
            if reason:
                self.giver.end(reason)
        except BaseException as error:
            self.error = error
        finally:
            self.giver.close()

    def end(self) -> None:
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            pytest.fail("the publisher does not end")
        if self.error:
            raise self.error


class Taking:
    """A consumer in a thread of its own, until the stream ends."""

    def __init__(self, taker: Taker, then: Callable[[], object] = bool) -> None:
        self._taker, self._then = taker, then
        self._numbers: list[int] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._numbers = take(self._taker, then=self._then)
        except BaseException as error:
            self._error = error
        finally:
            self._taker.close()

    def end(self) -> list[int]:
        """Numbers of what came."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            pytest.fail("the consumer does not end")
        if self._error:
            raise self._error
        return self._numbers


class Scripted:
    """A publisher that does what a test says."""

    def __init__(self, address: str = LOOPBACK) -> None:
        self._socket = sockets.context().socket(zmq.ROUTER)
        sockets.tune(self._socket)
        self.address = sockets.bind(self._socket, address)
        self.peer = b""
        """Routing id of who wanted something last."""

    def want(self, meets: Callable[[WantMessage], Any], meanwhile: Callable[[], object] = bool) -> WantMessage:
        """The next want that meets it."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            meanwhile()
            if self._socket.poll(20):
                self.peer, *parts = self._socket.recv_multipart()
                want = wire.unpack(parts)
                assert isinstance(want, WantMessage)
                if meets(want):
                    return want
        pytest.fail("nobody wants that")

    def say(self, parts: list[Buffer]) -> None:
        self._socket.send_multipart([self.peer, *parts])

    def close(self) -> None:
        sockets.unbind(self._socket, self.address)
        self._socket.close(linger=0)


class Wanting:
    """A consumer that does what a test says."""

    def __init__(self, address: str, name: str = "00000000000000aa") -> None:
        self._socket = sockets.context().socket(zmq.DEALER)
        sockets.tune(self._socket)
        self._want = WantMessage(name, "", 0, 8)
        self._socket.connect(address)

    def want(self, **fields: Any) -> None:
        self.send(wire.pack_want(replace(self._want, **fields)))

    def send(self, parts: list[Any]) -> None:
        self._socket.send_multipart(parts, zmq.NOBLOCK)

    def came(self, meanwhile: Callable[[], object]) -> wire.Message:
        """The next message."""
        until(lambda: self._socket.poll(0), meanwhile)
        return wire.unpack(self._socket.recv_multipart())

    @property
    def waiting(self) -> bool:
        """Whether a message is there."""
        return bool(self._socket.poll(0))

    def close(self) -> None:
        self._socket.close(linger=0)
