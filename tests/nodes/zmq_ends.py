"""Both ends of a ZeroMQ link for the tests of output.zmq and capture.zmq: the nodes, and plain sockets beside them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nodes.capture.zmq import ZmqCapture
from nodes.output.zmq import ZmqOutput
from pipeline import wire
from pipeline.frame import Frame
from pipeline.wire import About, Buffer, ByeMessage, FrameMessage, Head, Message, StatsMessage
from streamfuse.broadcast import Broadcaster, Listener
from streamfuse.clocks import clock
from tests.nodes.capture.media import make_frame
from tests.pipeline.fakes import PATIENCE

ANY_PORT = "tcp://127.0.0.1:0"


def wait_until(true: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < give_up, "what was waited for did not happen"
        time.sleep(0.005)


class FakeRun:
    """A pipeline as these nodes see it."""

    def __init__(self, mode: str = "live") -> None:
        self.mode, self.stopping = mode, False
        self.dropped: Counter[str] = Counter()
        self.nodes: dict[str, dict[str, Any]] = {}

    def drops(self, node: str) -> Counter[str]:
        return self.dropped.copy()

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return self.nodes


@contextmanager
def publishing(address: str = ANY_PORT, run: FakeRun | None = None, **settings: Any) -> Iterator[ZmqOutput]:
    """An open output.zmq; with delivery lossless that of a recorded run."""
    node = ZmqOutput(address, **settings)
    mode = "recorded" if node.delivery == "lossless" else "live"
    node.name, node.running = "fused", run or FakeRun(mode)  # type: ignore[assignment]
    node.open({})
    try:
        yield node
    finally:
        node.abort()


@contextmanager
def watching(address: str, **settings: Any) -> Iterator[ZmqCapture]:
    """An open capture.zmq."""
    node = ZmqCapture(address, **settings)
    node.name = "seen"
    node.open({})
    try:
        yield node
    finally:
        node.close()


def take(node: ZmqCapture, count: int = 1, meanwhile: Callable[[], object] = bool) -> list[Frame]:
    """So many frames, or fail; until each one is there, something else may be done again and again."""
    frames: list[Frame] = []
    give_up = time.monotonic() + PATIENCE
    while len(frames) < count:
        assert time.monotonic() < give_up, f"only {len(frames)} of {count} frames came: {node.gauges()}"
        meanwhile()
        if (frame := node.process()) is not None:
            frames.append(frame)
    return frames


def join(publisher: ZmqOutput, capture: ZmqCapture) -> None:
    """Until what is published is received: who subscribes is heard some time later. Uses frames up, all numbered 0."""
    take(capture, 1, lambda: publisher.process(make_frame(0, "gray8", (2, 2))))
    while publisher.gauges()["published"] > capture.gauges()["received"] or capture.process():
        assert publisher.gauges()["published"] < 1000


class Publisher:
    """Says what the test wants, and nothing by itself."""

    def __init__(self, address: str = ANY_PORT, stream: str = "fused", clock_name: str | None = None) -> None:
        self.link = Broadcaster(address)
        self.address, self.stream, self.clock = self.link.address, stream, clock_name or clock()
        self.session, self.sequence = f"{time.monotonic_ns() % 2**64:016x}", 0

    def head(self) -> Head:
        times = time.monotonic_ns(), time.time_ns()
        return Head(self.stream, self.session, self.sequence, self.clock, *times)

    def wait_for_listener(self) -> None:
        wait_until(lambda: self.link.heard(wire.topic(self.stream, "frame")))

    def say(self, parts: Sequence[Buffer]) -> None:
        self.link.heard(b"")  # ZeroMQ then knows what has left, and does not drop what comes soon after
        self.link.send(parts)

    def frame(self, frame: Frame, about: About | None = None) -> None:
        self.say(wire.pack_frame(self.head(), frame, about or About()))
        self.sequence += 1

    def stats(self) -> None:
        self.say(wire.pack_stats(StatsMessage(self.head(), 1.0, 0, {}, {})))

    def bye(self, reason: wire.Reason = "stopped") -> None:
        self.say(wire.pack_bye(ByeMessage(self.head(), reason)))

    def close(self) -> None:
        self.link.close()


@contextmanager
def listening(address: str, topic: bytes = b"") -> Iterator[Listener]:
    listener = Listener(address, topic)
    try:
        yield listener
    finally:
        listener.close()


def message_of(listener: Listener, kind: type[Message] = FrameMessage, meanwhile: Callable[[], object] = bool) -> Any:
    """The next message of a kind."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        meanwhile()
        if (parts := listener.receive(0.02)) and isinstance(message := wire.unpack(parts), kind):
            return message
    raise AssertionError("no such message came")
