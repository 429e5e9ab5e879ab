"""Tiny nodes, and what runs them so that a fault of the engine fails a test instead of hanging it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Node
from pipeline.pipeline import Pipeline
from pipeline.stats import Summary

PATIENCE = 20.0  # seconds until a test gives up waiting for what should come at once


def frame_at(time_ms: float, stream: str = "camera", number: int = 0) -> Frame:
    """A frame of 2x2 pixels."""
    return Frame(np.zeros((2, 2), np.uint8), "gray8", (2, 2), round(time_ms * 1e6), "pts", number, stream)


def times_ms(frames: Iterable[Frame]) -> list[float]:
    return [frame.timestamp_ns / 1e6 for frame in frames]


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE), "what was waited for did not happen"


def run(pipeline: Pipeline, tick: Callable[[Pipeline], None] | None = None) -> Summary:
    """Run to the end, raising what `run` raises."""
    return Running(pipeline, tick).end()


class Running:
    """A pipeline that runs beside the test."""

    def __init__(self, pipeline: Pipeline, tick: Callable[[Pipeline], None] | None = None) -> None:
        self.pipeline, self.summary, self.error = pipeline, None, None
        self.thread = threading.Thread(target=self._run, args=(tick,), daemon=True)
        self.thread.start()

    def _run(self, tick: Any) -> None:
        try:
            self.summary = self.pipeline.run(tick)
        except BaseException as error:
            self.error = error

    def end(self) -> Summary:
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            stuck = [name for name, step in self.pipeline.steps.items() if step.alive]
            self.pipeline.stop()
            pytest.fail(f"the pipeline does not end; still alive: {stuck}")
        if self.error:
            raise self.error
        assert self.summary is not None
        return self.summary


class Logging(Node):
    """Keeps the order in which its methods are called, in a list that several nodes may share."""

    def __init__(self, log: list[tuple[str, str]] | None = None) -> None:
        self.log = [] if log is None else log
        self.called = {name: threading.Event() for name in ("open", "process", "close", "abort")}
        self.fails: dict[str, BaseException] = {}
        """Method -> what it raises."""
        self.before: dict[str, Callable[[], object]] = {}
        """Method -> what to do first."""

    def note(self, method: str) -> None:
        self.log.append((self.name, method))
        self.called[method].set()
        self.before.get(method, bool)()
        if method in self.fails:
            raise self.fails[method]

    def did(self) -> list[str]:
        """Methods of this node as they were called, many calls of `process` as one."""
        calls = [method for name, method in self.log if name == self.name]
        return [method for number, method in enumerate(calls) if method != "process" or "process" not in calls[:number]]

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        self.sizes = sizes
        self.note("open")

    def close(self) -> None:
        self.note("close")

    def abort(self) -> None:
        self.note("abort")


class Source(Logging):
    """Gives frames at the times, then raises `end`."""

    def __init__(
        self,
        times: Iterable[float] = (),
        *,
        live: bool = False,
        end: Exception | None = None,
        log: list[tuple[str, str]] | None = None,
    ) -> None:
        super().__init__(log)
        self.times, self.live, self.end_with = list(times), live, end or EndOfStream()
        self.given = 0

    def process(self) -> Frame | None:
        self.note("process")
        if self.given == len(self.times):
            raise self.end_with
        self.given += 1
        return frame_at(self.times[self.given - 1], self.name, self.given - 1)


class Endless(Logging):
    """A camera: gives frames as fast as it can, until stopped."""

    live = True

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def process(self) -> Frame | None:
        self.note("process")
        self.given += 1
        return frame_at(self.given, self.name, self.given)


class Pass(Logging):
    """Hands each frame on; those with a number in `bad` raise, those in `lost` come to nothing."""

    def __init__(
        self, *, bad: Iterable[int] = (), lost: Iterable[int] = (), error: type[Exception] = ValueError
    ) -> None:
        super().__init__()
        self.bad, self.lost, self.error = set(bad), set(lost), error

    def process(self, frame: Frame) -> Frame | None:
        self.note("process")
        if frame.sequence in self.bad:
            raise self.error(f"frame {frame.sequence} is bad")
        return None if frame.sequence in self.lost else frame


class Pair(Logging):
    """Two frames to one, with the time of `right`, the reference."""

    def __init__(self, max_skew_ms: float | None = None, reference: str | None = None) -> None:
        super().__init__()
        self.max_skew_ms, self.reference = max_skew_ms, reference
        self.pairs: list[tuple[float, float]] = []

    def process(self, left: Frame, right: Frame) -> Frame:
        self.note("process")
        self.pairs.append((left.timestamp_ns / 1e6, right.timestamp_ns / 1e6))
        return left if self.reference == "left" else right


class Sink(Logging):
    """Keeps what comes."""

    def __init__(self, log: list[tuple[str, str]] | None = None) -> None:
        super().__init__(log)
        self.frames: list[Frame] = []

    def process(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.note("process")

    def report(self) -> dict[str, Any]:
        return {"path": f"{self.name}.out"}


def cut_short(count: int) -> SourceError:
    return SourceError(f"cut short: {count} frames could be read")


def line(*nodes: Node) -> Pipeline:
    """Nodes one after the other: source, n1, n2, ... sink."""
    names = ["source", *(f"n{number}" for number in range(1, len(nodes) - 1)), "sink"]
    inputs: dict[str, Mapping[str, str]] = {
        name: {node.inputs()[0]: before} for before, name, node in zip(names, names[1:], nodes[1:], strict=False)
    }
    return Pipeline(dict(zip(names, nodes, strict=True)), inputs)


def pairing(left: Node, right: Node, pair: Node, sink: Node, queue_size: int | None = None) -> Pipeline:
    """Two sources into `pair`, and that into `sink`; `queue_size` is that of `pair`."""
    nodes = {"left": left, "right": right, "pair": pair, "sink": sink}
    sizes = {} if queue_size is None else {"pair": queue_size}
    return Pipeline(nodes, {"pair": {"left": "left", "right": "right"}, "sink": {"frame": "pair"}}, sizes)
