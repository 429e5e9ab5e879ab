"""Synthetic cameras on a clock of the test's, and all that comes of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nodes.capture.pattern import PatternCapture
from pipeline.frame import Frame
from pipeline.node import EndOfStream
from tests.nodes.capture.clock import Clock

MS = 1_000_000
SMALL = (64, 48)


def recorded(**settings: Any) -> list[Frame]:
    """All frames of a camera with pace full."""
    node = PatternCapture(**({"view": "infrared", "size": SMALL, "pace": "full", "frames": 30} | settings))
    node.name = "camera"
    node.open({})
    frames = []
    try:
        while True:
            if (frame := node.process()) is not None:
                frames.append(frame)
    except EndOfStream:
        return frames


def live(clock: Clock, **settings: Any) -> PatternCapture:
    """A camera with pace realtime on a clock that sleeping makes go."""
    node = PatternCapture(**({"view": "infrared", "size": SMALL} | settings))
    node.name = "camera"
    node._now_ns, node._sleep = clock.monotonic_ns, clock.sleep
    node.open({})
    return node


def given(node: PatternCapture, count: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        if (frame := node.process()) is not None:
            frames.append(frame)
    return frames


def run_until(node: PatternCapture, clock: Clock, now_s: float) -> list[Frame]:
    frames = []
    while clock.now_ns < now_s * 1e9:
        if (frame := node.process()) is not None:
            frames.append(frame)
    return frames


def same(a: Frame, b: Frame) -> bool:
    return np.array_equal(a.data, b.data)
