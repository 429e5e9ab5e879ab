"""capture.pattern: cameras that are not there, with the beat of real ones."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import nodes
from nodes.capture.pattern import PatternCapture
from pipeline import config
from pipeline.errors import ConfigError
from pipeline.node import EndOfStream
from pipeline.pipeline import Pipeline
from tests.nodes.capture.cameras import MS, SMALL, given, live, recorded, same
from tests.nodes.capture.clock import Clock
from tests.nodes.capture.media import times_ms
from tests.pipeline import fakes

# What comes


def test_each_view_has_the_format_range_and_exposure_of_its_kind() -> None:
    kinds = {}
    for view in ("infrared", "visible", "under", "over"):
        frame = recorded(view=view, frames=1)[0]
        kinds[view] = (frame.pixel_format, frame.color_range, frame.exposure_us)
    assert kinds == {
        "infrared": ("gray8", "full", None),
        "visible": ("yuv420p", "limited", 16_000),
        "under": ("yuv420p", "limited", 1_000),
        "over": ("yuv420p", "limited", 16_000),
    }
    assert recorded(view="infrared", frames=1, pixel_format="gray16")[0].pixel_format == "gray16"


def test_pace_full_gives_so_many_frames_from_time_zero() -> None:
    frames = recorded(frames=5, fps=25)
    assert times_ms(frames) == [0, 40, 80, 120, 160]
    assert [frame.sequence for frame in frames] == list(range(5))
    assert {(frame.timestamp_source, frame.frame_rate, frame.stream) for frame in frames} == {("pts", 25, "camera")}
    assert not PatternCapture("infrared", pace="full", frames=5).live
    assert all(np.array_equal(a.data, b.data) for a, b in zip(frames, recorded(frames=5, fps=25), strict=True))


def test_realtime_gives_frames_on_the_beat_and_never_before_their_moment() -> None:
    clock = Clock(1000.01)
    node = live(clock, fps=4, latency_ms=150)
    assert node.live
    assert node.size == SMALL
    came = []
    while len(came) < 5:
        before_ns = clock.now_ns
        if (frame := node.process()) is not None:
            came.append((frame.timestamp_ns / MS, clock.now_ns / MS))
            assert frame.timestamp_source == "device"
        assert clock.now_ns - before_ns <= 100 * MS  # so that it can be stopped
    assert came == [(1000_250 + 250 * number, 1000_400 + 250 * number) for number in range(5)]


def test_cameras_of_one_rate_capture_at_the_same_moments_whenever_they_are_started() -> None:
    times = []
    for began_s in (77.0001, 77.0123, 77.031):
        frames = given(live(Clock(began_s), fps=29.97), 40)
        times.append({frame.timestamp_ns for frame in frames})
    assert len(times[0] & times[1] & times[2]) >= 39


def test_a_live_camera_ends_after_so_many_frames_if_asked_to() -> None:
    node = live(Clock(), frames=3)
    assert len(given(node, 3)) == 3
    with pytest.raises(EndOfStream):
        node.process()


def test_two_cameras_in_a_config_are_a_pair() -> None:
    tree = {
        "thermal": {"type": "capture.pattern", "view": "infrared", "size": [64, 48], "pace": "full", "frames": 4},
        "rgb": {"type": "capture.pattern", "view": "visible", "size": [64, 48], "pace": "full", "frames": 4},
    }
    cameras = config.build(tree, nodes.TYPES)
    pair, sink = fakes.Pair(), fakes.Sink()
    everything = {name: step.node for name, step in cameras.steps.items()} | {"pair": pair, "sink": sink}
    fakes.run(Pipeline(everything, {"pair": {"left": "thermal", "right": "rgb"}, "sink": {"frame": "pair"}}))
    assert len(sink.frames) == 4
    assert all(left == right for left, right in pair.pairs)


# Brackets


@pytest.mark.parametrize("bracket", [("under", "over"), ("under", "middle", "over")])
def test_a_bracket_takes_its_exposures_in_turns_whatever_is_lost(bracket: tuple[str, ...]) -> None:
    exposures = {"under": 1_000, "middle": 4_000, "over": 16_000}
    frames = recorded(view=None, bracket=bracket, frames=300, drop=0.3, noise=0)
    assert len(frames) < 250
    brightness = {name: float(recorded(view=name, frames=1, noise=0)[0].data.mean()) for name in bracket}
    for frame in frames:
        exposure = bracket[frame.sequence % len(bracket)]
        assert frame.exposure_us == exposures[exposure]
        assert min(brightness, key=lambda name: abs(brightness[name] - frame.data.mean())) == exposure


def test_exposures_are_not_told_if_the_camera_cannot() -> None:
    frames = recorded(view=None, bracket=("under", "over"), exposure_metadata=False, frames=4)
    assert {frame.exposure_us for frame in frames} == {None}


# Clocks


def test_an_offset_is_an_error_of_the_timestamps_alone() -> None:
    clock = Clock(50)
    node = live(clock, fps=10, offset_ms=-30, noise=0)
    frame = given(node, 1)[0]
    assert (frame.timestamp_ns, clock.now_ns) == (49_970 * MS, 50_000 * MS)
    assert same(frame, given(live(Clock(50), fps=10, noise=0), 1)[0])
    node.change("offset_ms", node.controls()["offset_ms"].checked(5))
    assert times_ms(given(node, 1)) == [50_105]
    assert node.controls()["offset_ms"].value == 5


def test_drift_makes_the_beat_slower_from_the_first_frame_on() -> None:
    clock = Clock(50)
    frames = given(live(clock, fps=1, drift_ppm=200), 101)
    assert frames[0].timestamp_ns == 50_000 * MS
    assert frames[-1].timestamp_ns - frames[0].timestamp_ns == 100_020 * MS
    assert clock.now_ns == frames[-1].timestamp_ns


def test_jitter_moves_the_moments_and_not_the_beat() -> None:
    frames = recorded(fps=25, jitter_ms=20, frames=400)
    late_ms = np.array(times_ms(frames)) - 40 * np.arange(400)
    assert 15 < np.abs(late_ms).max() <= 20
    assert late_ms.std() == pytest.approx(20 / 3**0.5, rel=0.2)
    assert all(a.timestamp_ns < b.timestamp_ns for a, b in itertools.pairwise(frames))


# Mistakes

Settings = dict[str, Any]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs one of the settings 'view' and 'bracket'"),
        ({"view": "over", "bracket": ["under", "over"]}, "needs one of the settings 'view' and 'bracket'"),
        ({"view": "thermal"}, "setting 'view' is 'thermal'"),
        ({"bracket": ["over", "under"]}, r"\['over', 'under'\]: legal is \[under, over\] or \[under, middle, over\]"),
        ({"view": "over", "pace": "full"}, "pace 'full' needs the setting 'frames'"),
        ({"view": "over", "jitter_ms": 20}, "'jitter_ms' is 20: legal is up to half an interval, 16.7"),
        ({"view": "over", "silent": [[2, 1]]}, r"'silent' has \[2, 1\]: a span is \[from_s, to_s\]"),
        ({"view": "over", "frozen": [[-1, 1]]}, r"'frozen' has \[-1, 1\]"),
        ({"view": "over", "frozen": [3]}, "setting 'frozen' is"),
        ({"view": "over", "size": [8, 8]}, "setting 'size' is"),
        ({"view": "over", "drop": 1.5}, "setting 'drop' is 1.5"),
    ],
)
def test_mistakes_are_told_before_anything_opens(settings: Settings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.make_node("camera", {"type": "capture.pattern", **settings}, nodes.TYPES)


def test_every_setting_is_legal_in_yaml() -> None:
    settings = {
        "bracket": ["under", "middle", "over"],
        **{"exposure_metadata": False, "size": [64, 48], "fps": 29.97, "pixel_format": "bgr24", "pace": "full"},
        **{"frames": 9, "seed": 3, "noise": 1, "offset_ms": -5, "jitter_ms": 2, "drift_ppm": -30, "latency_ms": 5},
        **{"drop": 0.1, "silent": [[0.1, 0.2]], "frozen": [[1, 2.5], [4, 5]]},
    }
    node = config.make_node("camera", {"type": "capture.pattern", **settings}, nodes.TYPES)
    node.open({})
    for _ in range(9):
        node.process()
    assert node.gauges()["sent"] + node.gauges()["dropped"] == 9
    with pytest.raises(EndOfStream):
        node.process()
