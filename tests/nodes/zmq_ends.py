"""Both ends of a ZeroMQ link for the tests of output.zmq and capture.zmq: the nodes, and plain sockets beside them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nodes.capture.zmq import ZmqCapture
from nodes.output.zmq import ZmqOutput
from pipeline import wire
from pipeline.frame import Frame
from pipeline.wire import FrameMessage, Message
from streamfuse.broadcast import Listener
from tests.nodes.capture.media import make_frame
from tests.pipeline.fakes import PATIENCE
from tests.streamfuse.publisher import ANY_PORT, Publisher, wait_until

__all__ = ["ANY_PORT", "FakeRun", "Publisher", "join", "listening", "message_of", "publishing", "take", "wait_until"]
__all__ += ["watching"]


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
