"""capture.video with pace realtime: a recording as if it came from a camera."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nodes.capture import video
from nodes.capture.recording import Recording
from nodes.capture.video import VideoCapture
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream
from pipeline.pipeline import Pipeline
from tests.nodes.capture.clock import Clock
from tests.nodes.capture.media import make_picture, make_video, open_files, read_whole, times_ms
from tests.pipeline import fakes

MS = 1_000_000
Live = Callable[..., VideoCapture]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(500)
    monkeypatch.setattr(video, "time", clock)
    return clock


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Six frames, four a second."""
    make_video(tmp_path / "a.mkv", 6, codec="ffv1", rate=4)
    return tmp_path / "a.mkv"


@pytest.fixture
def live(clock: Clock) -> Iterator[Live]:
    """Opened as part of a pipeline, and closed at the end."""
    nodes = []

    def do(path: Path, running: Any = None, **settings: Any) -> VideoCapture:
        node = VideoCapture(path, pace="realtime", **settings)
        node.name, node.running = "camera", running
        nodes.append(node)
        node.open({})
        return node

    yield do
    for node in nodes:
        node.close()


def given(node: VideoCapture, count: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        if (frame := node.process()) is not None:
            frames.append(frame)
    return frames


def test_realtime_makes_the_pipeline_live_and_gives_frames_when_they_are_due(
    recording: Path, clock: Clock, live: Live
) -> None:
    node = live(recording)
    assert node.live
    assert not VideoCapture(recording).live
    clock.now_ns = 1000_000 * MS  # opening the others takes its time
    came: dict[int, int] = {}
    while len(came) < 6:
        before_ns = clock.now_ns
        if (frame := node.process()) is not None:
            came[frame.timestamp_ns] = clock.now_ns
            assert frame.timestamp_source == "pts"
        assert clock.now_ns - before_ns <= 100 * MS  # so that it can be stopped
    assert list(came) == list(came.values()) == [(1000_000 + 250 * number) * MS for number in range(6)]
    with pytest.raises(EndOfStream):
        node.process()


def begun_late(path: Path, number: int) -> Path:
    """Three frames, 25 a second, the first as if there had been others before it."""
    pictures = [make_picture(each, "gray", (64, 48)) for each in range(3)]
    for each, picture in enumerate(pictures, number):
        picture.pts, picture.time_base = each, Fraction(1, 25)
    make_video(path, pictures, "gray", codec="ffv1")
    return path


def test_a_recording_whose_times_begin_late_starts_at_once(tmp_path: Path, live: Live) -> None:
    path = begun_late(tmp_path / "a.mkv", 50)
    assert times_ms(read_whole(path)) == [2000, 2040, 2080]
    assert times_ms(given(live(path), 3)) == [500_000, 500_040, 500_080]


class Running:
    """Stands for a pipeline."""


def test_recordings_of_one_pipeline_keep_their_times_to_each_other(tmp_path: Path, live: Live) -> None:
    pipeline = Running()
    late, early = live(begun_late(tmp_path / "a.mkv", 9), pipeline), live(begun_late(tmp_path / "b.mkv", 4), pipeline)
    assert late.process() is None  # it is called first, and yet the start is that of the other
    assert times_ms(given(early, 3)) == [500_000, 500_040, 500_080]
    assert times_ms(given(late, 3)) == [500_200, 500_240, 500_280]
    assert times_ms(given(live(tmp_path / "a.mkv", Running()), 1)) == [500_280]  # of another pipeline


def test_a_recording_that_begins_long_after_the_others_is_told(
    recording: Path, caplog: pytest.LogCaptureFixture, live: Live
) -> None:
    node = live(recording, offset_ms=0)
    node._start.join(-60_000 * MS)
    assert [node.process() for _ in range(20)] == [None] * 20
    assert [record.message for record in caplog.records] == ["camera: its times begin 60.0 s after the start: it waits"]


def test_recordings_run_by_the_engine_have_times_on_one_beat_to_the_nanosecond(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", 4, codec="ffv1", rate=50)
    path, names = tmp_path / "a.mkv", ("a", "b")
    sources = {name: VideoCapture(path, pace="realtime") for name in names}
    sinks = {f"of_{name}": fakes.Sink() for name in names}
    fakes.run(Pipeline({**sources, **sinks}, {f"of_{name}": {"frame": name} for name in names}))
    a, b = ([frame.timestamp_ns for frame in sink.frames] for sink in sinks.values())
    assert a
    assert b
    assert {(time_ns - a[0]) % (20 * MS) for time_ns in a + b} == {0}


# Loops


def test_a_loop_goes_on_as_if_it_had_no_end(recording: Path, live: Live) -> None:
    whole = read_whole(recording)
    node = live(recording, loop=True)
    frames = given(node, 20)
    assert times_ms(frames) == [500_000 + 250 * number for number in range(20)]
    assert [frame.sequence for frame in frames] == list(range(20))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(frames, itertools.cycle(whole), strict=False))
    assert node.expected_frames is None
    assert node.report()["notes"] == {}


def test_a_loop_of_a_still_image_is_a_camera_that_looks_at_one(tmp_path: Path, live: Live) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((6, 8), 7, np.uint8))
    node = live(tmp_path / "a.png", loop=True, fps=10)
    frames = given(node, 4)
    assert times_ms(frames) == [500_000, 500_100, 500_200, 500_300]
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3]


def test_a_loop_leaves_no_file_open(recording: Path, live: Live) -> None:
    node = live(recording, loop=True)
    given(node, 8)
    before = open_files()
    given(node, 60)
    assert open_files() == before


def test_a_loop_of_a_damaged_recording_goes_on_and_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, live: Live
) -> None:
    path = tmp_path / "a.mkv"
    make_video(path, 40)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SourceError):
        given(live(path), 40)
    node = live(path, loop=True)
    frames = given(node, 60)
    assert np.diff(times_ms(frames)) == pytest.approx([40] * 59)
    assert node.report()["notes"]["damaged_rounds"] >= 2
    assert caplog.text.count("the loop goes on") == 1


def test_a_loop_needs_realtime(recording: Path) -> None:
    with pytest.raises(ConfigError, match="setting 'loop' is true: that needs pace: realtime"):
        VideoCapture(recording, loop=True)


# Offset


def test_an_offset_is_added_to_the_times_and_not_to_when_frames_come(recording: Path, clock: Clock, live: Live) -> None:
    node = live(recording, offset_ms=-20)
    assert times_ms(given(node, 1)) == [499_980]
    assert clock.now_ns == 500_000 * MS
    assert node.controls()["offset_ms"].value == -20
    node.change("offset_ms", node.controls()["offset_ms"].checked(30))
    assert times_ms(given(node, 1)) == [500_280]
    assert clock.now_ns == 500_250 * MS
    assert node.controls()["offset_ms"].value == 30


def test_an_offset_moves_a_recording_as_well(recording: Path) -> None:
    assert times_ms(read_whole(recording, offset_ms=40)) == [40, 290, 540, 790, 1040, 1290]


# Late


def test_frames_that_are_more_than_a_second_late_are_left_out_and_counted(
    recording: Path, clock: Clock, caplog: pytest.LogCaptureFixture, live: Live
) -> None:
    node = live(recording, loop=True)
    given(node, 2)
    clock.now_ns += 3000 * MS  # nobody asked for frames for so long
    frames = given(node, 8)
    assert frames[0].timestamp_ns == 502_250 * MS  # a second old
    assert [frame.sequence for frame in frames] == list(range(9, 17))
    assert np.diff(times_ms(frames)).tolist() == [250] * 7
    assert frames[-1].timestamp_ns == clock.now_ns  # it has caught up
    assert node.report()["notes"] == {"late_frames_left_out": 7}
    assert node.gauges() == {"late_frames_left_out": 7}
    assert len(caplog.records) == 1


def test_a_recording_that_is_slower_to_read_than_to_play_stalls_and_goes_on(
    recording: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, live: Live
) -> None:
    real = Recording.open

    def slow(self: Recording) -> Iterator[Frame]:
        for frame in real(self):
            clock.sleep(0.4)
            yield frame

    monkeypatch.setattr(Recording, "open", slow)
    pipeline = Running()
    node, other = live(recording, pipeline, loop=True), live(recording, pipeline, loop=True)
    frames = given(node, 60)
    assert min(np.diff(times_ms(frames))) >= 250
    assert clock.now_ns - frames[-1].timestamp_ns < 2000 * MS
    assert node.report()["notes"]["stalls"] > 1
    assert "cannot be read as fast as it is to be shown" in caplog.text
    shift = node._start.clock_ns(0, 0)
    assert other._start.clock_ns(0, 0) == shift  # both are put off, and stay together
