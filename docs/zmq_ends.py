"""What `docs/zmq_figures.py` has at work in processes: those that send, those that receive, and whole pipelines."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import nodes
from docs.zmq_links import Receiver, Route, open_receiver, open_sender
from pipeline import config
from pipeline.frame import Frame, layout
from pipeline.pipeline import Pipeline
from streamfuse.lossless import Ended

PICTURES = 4  # different ones, in turns, so that no cache has the next one
PAUSE_S = 0.003  # before a hop, so that the receiver waits for it

Size = tuple[int, int]


class Camera:
    """Noise in yuv420p that takes no time to make.

    Args:
        size: (width, height).
    """

    def __init__(self, size: Size) -> None:
        rng, (shape, dtype) = np.random.default_rng(0), layout("yuv420p", size)
        self._pictures = [
            Frame(rng.integers(0, 256, shape, dtype), "yuv420p", size, 0, "device", 0, "camera")
            for _ in range(PICTURES)
        ]
        self.count = 0

    def capture(self) -> Frame:
        """A frame of now."""
        picture = self._pictures[self.count % PICTURES]
        self.count += 1
        return replace(picture, timestamp_ns=time.monotonic_ns(), sequence=self.count - 1)


# What runs in a process; each begins with the line to whom measures. "go" and "stop" are said by that.


def publish(link: Connection, route: Route, size: Size, rate: float) -> None:
    """A camera of so many frames a second; when told to stop, says what it did from "go" on."""
    sender, camera = open_sender(route), Camera(size)
    link.send(sender.address)
    sending_ms: list[float] = []
    first = began = time.monotonic()
    count = beat = 0
    while True:
        if link.poll(0):
            if link.recv() == "stop":
                break
            began, count, sending_ms = time.monotonic(), 0, []
        beat = max(beat + 1, math.ceil((time.monotonic() - first) * rate))  # a camera does not wait for who is late
        time.sleep(max(0.0, first + beat / rate - time.monotonic()))
        frame = camera.capture()
        sender.send(frame)
        sending_ms.append((time.monotonic_ns() - frame.timestamp_ns) / 1e6)
        count += 1
    link.send({"rate": count / (time.monotonic() - began), "sending_ms": sending_ms})
    sender.close()


def read(link: Connection, route: Route, pause_s: float, seconds: float) -> None:
    """A reader that takes so long for a frame; says that it is there, and from "go" on the frames' ages."""
    receiver = open_receiver(route)
    receiver.take()
    link.send("here")
    ages_ms: list[float] = []
    end_at = math.inf
    while time.monotonic() < end_at:
        if end_at == math.inf and link.poll(0):
            link.recv()
            end_at, ages_ms = time.monotonic() + seconds, []
        captured_ns = receiver.take()
        ages_ms.append((time.monotonic_ns() - captured_ns) / 1e6)
        time.sleep(pause_s)
    link.send({"rate": len(ages_ms) / seconds, "ages_ms": ages_ms})
    receiver.close()


def send_in_turns(link: Connection, turn: Connection, routes: Sequence[Route], size: Size, turns: int) -> None:
    """One frame at a time, by each route in turn, when the other end is ready for it."""
    senders, camera = [open_sender(route) for route in routes], Camera(size)
    turn.send([sender.address for sender in senders])
    for sender in senders:
        sender.wait()
    for _ in range(turns):
        for sender in senders:
            turn.recv()
            time.sleep(PAUSE_S)
            sender.send(camera.capture())
    link.recv()
    for sender in senders:
        sender.close()


def receive_in_turns(link: Connection, turn: Connection, routes: Sequence[Route], turns: int) -> None:
    """The other end; says how long each frame took, by route."""
    addresses = turn.recv()
    receivers = [open_receiver(replace(route, address=a)) for route, a in zip(routes, addresses, strict=True)]
    hops_ms: list[list[float]] = [[] for _ in routes]
    for _ in range(turns):
        for receiver, hops in zip(receivers, hops_ms, strict=True):
            turn.send("next")
            captured_ns = receiver.take()
            hops.append((time.monotonic_ns() - captured_ns) / 1e6)
    link.send(hops_ms)
    for receiver in receivers:
        receiver.close()


def pour(link: Connection, turn: Connection, routes: Sequence[Route], size: Size, frames: int) -> None:
    """So many frames as fast as they are taken, by one route after the other."""
    camera = Camera(size)
    for route in routes:
        sender = open_sender(route)
        turn.send(sender.address)
        camera.count = 0  # a session begins with frame 0
        for _ in range(frames):
            sender.send(camera.capture())
        if route.kind == "push":
            turn.recv()
        sender.close()
    link.recv()


def drain(link: Connection, turn: Connection, routes: Sequence[Route], frames: int) -> None:
    """The other end; says how many frames a second came, by route."""
    rates = []
    for route in routes:
        receiver = open_receiver(replace(route, address=turn.recv()))
        receiver.take()
        began = time.monotonic()
        for _ in range(frames - 1):
            receiver.take()
        rates.append((frames - 1) / (time.monotonic() - began))
        finish(receiver, turn, route)
    link.send(rates)


def finish(receiver: Receiver, turn: Connection, route: Route) -> None:
    """Of lossless delivery the end is a message, too."""
    if route.kind == "push":
        turn.send("all here")
    else:
        with suppress(Ended):
            receiver.take()
    receiver.close()


def run(link: Connection, tree: dict[str, dict[str, Any]]) -> None:
    """A pipeline, until told to stop; says where it publishes once it is open, and its summary."""
    said = False

    def tick(pipeline: Pipeline) -> None:
        nonlocal said
        if not said and all(step.ready.is_set() for step in pipeline.steps.values()):
            publisher: Any = pipeline.steps["publish"].node if "publish" in pipeline.steps else None
            link.send(publisher.address if publisher else "")
            said = True
        if link.poll(0):
            link.recv()
            pipeline.stop()

    link.send(config.build(tree, nodes.TYPES).run(tick).nodes)
