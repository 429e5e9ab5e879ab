"""A pipeline that runs live: what may be changed and seen of it, several outputs, and doing with fewer inputs."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from pipeline import control
from pipeline.control import Control
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.graph import MOST_CHANGES
from pipeline.node import EndOfStream
from pipeline.pipeline import Pipeline
from tests.pipeline.fakes import Logging, Pass, Running, Sink, Source, frame_at, run, wait_for


class Bracket(Logging):
    """Every second frame is `under`, the others are `over`: pairs of them."""

    def __init__(self) -> None:
        super().__init__()
        self.under: Frame | None = None

    def outputs(self) -> tuple[str, ...]:
        return ("under", "over")

    def process(self, frame: Frame) -> dict[str, Frame] | None:
        if frame.sequence % 2 == 0:
            self.under = frame
            return None
        assert self.under is not None
        return {"under": self.under, "over": frame}


class Adjustable(Pass):
    """Notes what is changed, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.level, self.changes, self.changed = 1.0, [], threading.Event()

    def controls(self) -> dict[str, Control]:
        return {
            "level": control.number("Level", self.level, 0, 2, step=0.1, unit="ms"),
            "mode": control.choice("Mode", "slow", ("slow", "fast")),
            "on": control.switch("On", True),
            "reset": control.action("Reset"),
        }

    def change(self, control: str, value: Any) -> None:
        self.changes.append((control, value, threading.current_thread().name))
        if len(self.changes) == 4:
            self.changed.set()

    def gauges(self) -> dict[str, float]:
        return {"level": self.level}


class Clocked(Logging):
    """A camera on the host's clock, until it is told to end."""

    live = True

    def __init__(self, ends: threading.Event) -> None:
        super().__init__()
        self.ends, self.given = ends, 0

    def process(self) -> Frame:
        if self.ends.wait(0.005):
            raise EndOfStream
        self.given += 1
        return frame_at(time.monotonic_ns() / 1e6, self.name, self.given)


class Either(Logging):
    """Works with one of its inputs missing."""

    partial = True

    def __init__(self, alone: threading.Event) -> None:
        super().__init__()
        self.kinds: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.alone = alone

    def process(self, **frames: Frame) -> Frame:
        self.kinds.append((tuple(frames), self.held))
        if tuple(frames) == ("left",):
            self.alone.set()
        return next(iter(frames.values()))

    def inputs(self) -> tuple[str, ...]:
        return ("left", "right")


def test_a_node_with_several_outputs_feeds_each_to_whom_it_goes():
    under, over = Sink(), Sink()
    nodes = {"raw": Source(range(0, 60, 10)), "cam": Bracket(), "dark": under, "bright": over}
    run(Pipeline(nodes, {"cam": {"frame": "raw"}, "dark": {"frame": "cam.under"}, "bright": {"frame": "cam.over"}}))
    assert [frame.sequence for frame in under.frames] == [0, 2, 4]
    assert [frame.sequence for frame in over.frames] == [1, 3, 5]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("cam", "write cam.under or cam.over"),
        ("cam.middle", "write cam.under or cam.over"),
        ("raw.under", "has one output: write raw"),
        ("com.under", "which is no node. Did you mean 'cam'?"),
    ],
)
def test_an_output_that_is_not_there_is_refused_before_anything_opens(source: str, says: str):
    with pytest.raises(ConfigError, match=says):
        Pipeline(
            {"raw": Source(), "cam": Bracket(), "end": Sink()}, {"cam": {"frame": "raw"}, "end": {"frame": source}}
        )


def test_changes_are_checked_at_once_and_taken_over_in_the_thread_of_the_node():
    ends, node = threading.Event(), Adjustable()
    pipeline = Pipeline(
        {"camera": Clocked(ends), "node": node, "end": Sink()}, {"node": {"frame": "camera"}, "end": {"frame": "node"}}
    )
    running = Running(pipeline)
    for name, value in (("level", 1.5), ("mode", "fast"), ("on", False), ("reset", None)):
        pipeline.change("node", name, value)
    for name, value, says in (
        ("level", 3, "Level is 3; legal is 0 to 2 ms"),
        ("level", float("nan"), "legal is 0 to 2 ms"),
        ("level", True, "legal is 0 to 2 ms"),
        ("mode", "quick", "Mode is 'quick'"),
        ("on", "yes", "legal is true or false"),
        ("levle", 1, "no control 'levle'. Did you mean 'level'?"),
    ):
        with pytest.raises(ConfigError, match=says):
            pipeline.change("node", name, value)
    with pytest.raises(ConfigError, match="'camera' is no node that can be changed"):
        pipeline.change("camera", "level", 1)
    wait_for(node.changed)
    ends.set()
    running.end()
    names = {"level": 1.5, "mode": "fast", "on": False, "reset": None}
    assert [change[:2] for change in node.changes] == list(names.items())
    assert {change[2] for change in node.changes} == {"node"}


def test_a_snapshot_shows_counts_ages_and_gauges_while_it_runs():
    ends, node, sink = threading.Event(), Adjustable(), Sink()
    pipeline = Pipeline(
        {"camera": Clocked(ends), "node": node, "end": sink}, {"node": {"frame": "camera"}, "end": {"frame": "node"}}
    )
    running = Running(pipeline)
    wait_for(sink.called["process"])
    snapshot = pipeline.snapshot()
    assert snapshot["node"]["gauges"] == {"level": 1.0}
    assert snapshot["camera"]["source"]
    assert snapshot["camera"]["taken"] >= 1
    ends.set()
    summary = running.end()
    assert 0 <= summary.nodes["end"]["age_p50_ms"] <= summary.nodes["end"]["age_p99_ms"] < 20_000
    assert "after capture" in "\n".join(summary.lines())


def test_a_node_that_cannot_say_how_it_does_is_told_of_once_and_ends_nothing(caplog: pytest.LogCaptureFixture):
    ends, node, sink = threading.Event(), Adjustable(), Sink()
    node.gauges = node.controls = lambda: 1 // 0  # type: ignore[method-assign, assignment, return-value]
    pipeline = Pipeline(
        {"camera": Clocked(ends), "node": node, "end": sink}, {"node": {"frame": "camera"}, "end": {"frame": "node"}}
    )
    running = Running(pipeline, lambda pipeline: pipeline.snapshot() and None)
    wait_for(sink.called["process"])
    for _ in range(3):
        assert pipeline.snapshot()["node"]["gauges"] == {}
        assert "node" not in pipeline.controls()
    ends.set()
    running.end()
    told = [record.message for record in caplog.records]
    assert told.count("node: cannot tell its gauges: ZeroDivisionError: integer division or modulo by zero") == 1
    assert told.count("node: cannot tell its controls: ZeroDivisionError: integer division or modulo by zero") == 1


def test_changes_for_a_node_without_frames_do_not_pile_up_and_the_newest_counts():
    node = Adjustable()
    pipeline = Pipeline({"camera": Clocked(threading.Event()), "node": node}, {"node": {"frame": "camera"}})
    for number in range(1001):
        pipeline.change("node", "level", number / 1000)
    waiting = pipeline.steps["node"].changes
    assert len(waiting) == MOST_CHANGES
    assert waiting[-1] == ("level", 1.0)


def test_recorded_frames_have_no_age():
    summary = run(Pipeline({"file": Source([0, 10]), "end": Sink()}, {"end": {"frame": "file"}}))
    assert "age_p50_ms" not in summary.nodes["end"]


def test_a_node_that_can_goes_on_with_the_input_that_is_left():
    ends, last, alone = threading.Event(), threading.Event(), threading.Event()
    node, sink = Either(alone), Sink()
    pipeline = Pipeline(
        {"left": Clocked(last), "right": Clocked(ends), "node": node, "end": sink},
        {"node": {"left": "left", "right": "right"}, "end": {"frame": "node"}},
    )
    running = Running(pipeline)
    wait_for(sink.called["process"])
    ends.set()
    wait_for(alone)
    last.set()
    summary = running.end()
    assert (("left", "right"), ()) in node.kinds
    assert node.kinds[-1][0] == ("left",)
    assert not summary.broken


def test_a_change_that_a_node_cannot_make_costs_no_frame(caplog: pytest.LogCaptureFixture):
    ends, node, sink = threading.Event(), Adjustable(), Sink()
    failed = threading.Event()

    def fail(control: str, value: Any) -> None:
        failed.set()
        raise ValueError("the disk is full")

    node.change = fail  # type: ignore[method-assign]
    pipeline = Pipeline(
        {"camera": Clocked(ends), "node": node, "end": sink}, {"node": {"frame": "camera"}, "end": {"frame": "node"}}
    )
    running = Running(pipeline)
    pipeline.change("node", "reset")
    wait_for(failed)
    ends.set()
    assert "error" not in running.end().nodes["node"]["dropped"]
    assert "node: reset: the disk is full" in caplog.text


class Stumbling(Clocked):
    """A camera that fails at each second frame."""

    def process(self) -> Frame:
        frame = super().process()
        if self.given % 2:
            raise ValueError("a frame that nobody can read")
        return frame


def test_a_live_source_that_fails_now_and_then_goes_on(caplog: pytest.LogCaptureFixture):
    ends, sink = threading.Event(), Sink()
    running = Running(Pipeline({"camera": Stumbling(ends), "end": sink}, {"end": {"frame": "camera"}}))
    for _ in range(3):
        sink.called["process"].clear()
        wait_for(sink.called["process"])
    ends.set()
    summary = running.end()
    assert not summary.broken
    assert summary.nodes["camera"]["taken"] == summary.nodes["camera"]["emitted"] >= 3
    assert caplog.text.count("camera: frame dropped") == 1
