"""The links that `docs/zmq_figures.py` measures: ours, and bare pyzmq beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zmq

from pipeline import wire
from pipeline.frame import Frame
from streamfuse import keys as curve
from streamfuse import sockets
from streamfuse.broadcast import Broadcaster
from streamfuse.clocks import clock
from streamfuse.lossless import Giver
from streamfuse.subscription import Subscription

STREAM, SESSION = "fused", "0123456789abcdef"
PATIENCE_S = 60.0
WINDOW = 8  # of lossless delivery, on both sides


@dataclass(frozen=True)
class Route:
    """A way for frames, by its two ends."""

    kind: str
    """"ours", "bare", "lossless" or "push"."""
    address: str
    """To bind; port 0 takes a free one."""
    keys: Path | None = None


class Sender(Protocol):
    address: str

    def wait(self) -> None:
        """Until somebody listens."""

    def send(self, frame: Frame) -> None: ...

    def close(self) -> None: ...


class Receiver(Protocol):
    def take(self) -> int:
        """When the next frame was captured."""

    def close(self) -> None: ...


def message(frame: Frame) -> Sequence[wire.Buffer]:
    head = wire.Head(STREAM, SESSION, frame.sequence, clock(), time.monotonic_ns(), time.time_ns())
    return wire.pack_frame(head, frame, wire.About())


class Ours:
    """As in output.zmq with delivery: latest."""

    def __init__(self, route: Route) -> None:
        self._link = Broadcaster(route.address, keys=route.keys)
        self.address, self.close = self._link.address, self._link.close

    def wait(self) -> None:
        until(lambda: self._link.heard(wire.topic(STREAM, "frame")))

    def send(self, frame: Frame) -> None:
        self._link.send(message(frame))
        self._link.heard(wire.topic(STREAM, "frame"))  # as the node does, for the next one


class Lossless:
    """As in output.zmq with delivery: lossless."""

    def __init__(self, route: Route) -> None:
        self._link = Giver(
            route.address, stream=STREAM, session=SESSION, clock=wire.PRESENTATION, window=WINDOW, keys=route.keys
        )
        self.address = self._link.address

    def wait(self) -> None:
        """Its first frames wait for who wants them."""

    def send(self, frame: Frame) -> None:
        self._link.give(message(frame))

    def close(self) -> None:
        self._link.end("end")
        self._link.close()


class Bare:
    """XPUB, or PUSH, and what everybody would write; with HWM=1, or as many frames as lossless delivery has."""

    def __init__(self, route: Route) -> None:
        self._pushing = route.kind == "push"
        self._socket = sockets.context().socket(zmq.PUSH if self._pushing else zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, WINDOW if self._pushing else 1)
        if route.keys is not None:
            curve.serve(self._socket, route.keys)
        self._socket.bind(route.address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def wait(self) -> None:
        if not self._pushing and not self._socket.poll(round(PATIENCE_S * 1e3)):
            raise TimeoutError("nobody has subscribed")

    def send(self, frame: Frame) -> None:
        header = json.dumps({"timestamp_ns": frame.timestamp_ns}).encode()
        self._socket.send_multipart([b"fused/frame", header, frame.data.data], copy=False)

    def close(self) -> None:
        self._socket.close(0)


class OurReceiver:
    """The client."""

    def __init__(self, route: Route) -> None:
        self._stream = Subscription(route.address, lossless=route.kind == "lossless", keys=route.keys)
        self.close = self._stream.close

    def take(self) -> int:
        received = self._stream.take(PATIENCE_S)
        if received is None:
            raise TimeoutError("no frame came")
        return received.frame.timestamp_ns


class BareReceiver:
    """SUB, or PULL, and what everybody would write."""

    def __init__(self, route: Route) -> None:
        pulling = route.kind == "push"
        self._socket = sockets.context().socket(zmq.PULL if pulling else zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, WINDOW if pulling else 1)
        if not pulling:
            self._socket.subscribe(b"")
        if route.keys is not None:
            curve.use(self._socket, route.keys)
        self._socket.connect(route.address)

    def take(self) -> int:
        if not self._socket.poll(round(PATIENCE_S * 1e3)):
            raise TimeoutError("no frame came")
        _, header, pixels = self._socket.recv_multipart(copy=False)
        np.frombuffer(pixels.buffer, np.uint8)
        return int(json.loads(header.bytes)["timestamp_ns"])

    def close(self) -> None:
        self._socket.close(0)


SENDERS: dict[str, type[Sender]] = {"ours": Ours, "lossless": Lossless, "bare": Bare, "push": Bare}
RECEIVERS: dict[str, type[Receiver]] = {
    "ours": OurReceiver,
    "lossless": OurReceiver,
    "bare": BareReceiver,
    "push": BareReceiver,
}


def open_sender(route: Route) -> Any:
    return SENDERS[route.kind](route)  # type: ignore[call-arg]


def open_receiver(route: Route) -> Any:
    return RECEIVERS[route.kind](route)  # type: ignore[call-arg]


def until(condition: Callable[[], object]) -> None:
    """Wait for what comes from another process."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the other end did not come")
        time.sleep(0.005)
