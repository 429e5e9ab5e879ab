"""The lines that tell of a live run while it runs."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from nodes.console import STATUS_SECONDS, LiveStatus


class Pipeline:
    """What the status asks of one: a node that pairs, and one that does not."""

    mode = "live"

    def __init__(self) -> None:
        self.steps = {
            "fuse": SimpleNamespace(sources={"infrared": "thermal", "visible": "rgb"}),
            "save": SimpleNamespace(sources={"frame": "fuse"}),
        }
        self.fuse: dict[str, Any] = {"emitted": 0, "gauges": {}, "dropped": {}, "age_p50_ms": 21.4, "age_p99_ms": 40.0}

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return {"fuse": self.fuse, "save": {"emitted": 7, "gauges": {}, "dropped": {}}}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """Shows a pipeline at a moment; the lines it gives."""
    caplog.set_level(logging.INFO, logger="streamfuse")
    status, now = LiveStatus(), [0.0]
    status._now = lambda: now[0]

    def show(pipeline: Any, at: float) -> list[str]:
        caplog.clear()
        now[0] = at
        status.show(pipeline)
        return [record.message for record in caplog.records]

    return show


def test_each_line_tells_what_is_new_since_the_last(lines: Any) -> None:
    pipeline = Pipeline()
    assert lines(pipeline, 0) == []
    pipeline.fuse |= {"emitted": 300, "gauges": {"fused_frames": 290, "held_frames": 10}}
    assert lines(pipeline, STATUS_SECONDS) == ["fuse: 30.0 frames/s, 21 ms after capture (p99 40), 290 fused, 10 held"]
    pipeline.fuse |= {
        "emitted": 400,
        "gauges": {"fused_frames": 290, "held_frames": 10, "visible_only_frames": 100},
        "dropped": {"visible surplus": 3},
    }
    assert lines(pipeline, 2 * STATUS_SECONDS) == [
        "fuse: 10.0 frames/s, 21 ms after capture (p99 40), 100 visible_only, 3 dropped: visible surplus"
    ]


def test_between_two_lines_there_is_time(lines: Any) -> None:
    pipeline = Pipeline()
    lines(pipeline, 0)
    pipeline.fuse["emitted"] = 5
    assert lines(pipeline, STATUS_SECONDS - 0.1) == []


def test_a_picture_that_stands_still_is_told_and_recordings_are_left_to_their_bar(lines: Any) -> None:
    pipeline = Pipeline()
    lines(pipeline, 0)
    assert lines(pipeline, STATUS_SECONDS) == ["fuse: 0.0 frames/s"]
    pipeline.fuse["emitted"], pipeline.mode = 9, "recorded"
    assert lines(pipeline, 2 * STATUS_SECONDS) == []
