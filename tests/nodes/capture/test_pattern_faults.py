"""capture.pattern: the faults of real cameras, by the config and by hand."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from nodes.capture.pattern import SHUTTER_STEP, Beat
from pipeline.node import EndOfStream
from tests.nodes.capture.cameras import MS, given, live, recorded, run_until, same
from tests.nodes.capture.clock import Clock


def test_lost_frames_are_gaps_in_the_sequence_and_the_same_for_the_same_seed() -> None:
    how: dict[str, Any] = {"size": (16, 16), "drop": 0.3, "frames": 60}
    frames = recorded(**how)
    assert 25 < len(frames) < 55
    assert all(frame.timestamp_ns == round(frame.sequence * 1e9 / 30) for frame in frames)
    numbers = [[frame.sequence for frame in recorded(**how, **more)] for more in ({}, {"seed": 1}, {"view": "over"})]
    assert numbers[0] == [frame.sequence for frame in frames]
    assert numbers[1] != numbers[0] != numbers[2]


def test_as_many_frames_are_lost_as_asked_for() -> None:
    beat = Beat(Fraction(30), drop=0.1)
    assert sum(beat.chance(frame)[1] for frame in range(5000)) == pytest.approx(500, abs=80)
    assert not any(Beat(Fraction(30)).chance(frame)[1] for frame in range(1000))


def test_a_silent_camera_gives_nothing_for_so_long_and_comes_back() -> None:
    node = live(clock := Clock(), fps=10, silent=((0.5, 1.0), (2, 2.05)))
    frames = run_until(node, clock, 2.5)
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4, *range(10, 20), *range(21, 26)]
    assert node.gauges() == {"sent": 20, "dropped": 6}
    assert node.report() == {"notes": {"silent": 6}}


def test_a_frozen_camera_goes_on_with_one_picture() -> None:
    frames = recorded(fps=10, frozen=((0.5, 1.0),), frames=20)
    assert len({frame.timestamp_ns for frame in frames}) == 20
    moves = [not same(a, b) for a, b in itertools.pairwise(frames)]
    assert moves == [True] * 4 + [False] * 5 + [True] * 10  # the picture is the last one before it


@pytest.mark.parametrize(("view", "step"), [("infrared", SHUTTER_STEP), ("visible", 0)])
def test_after_a_shutter_the_levels_of_infrared_have_made_a_step_until_the_next(view: str, step: float) -> None:
    how = {"view": view, "fps": 10, "frames": 40, "noise": 0}
    faulty, plain = recorded(frozen=((0.5, 1), (2, 2.5)), **how), recorded(**how)
    above = [np.median(a.planes[0].astype(int) - b.planes[0]) for a, b in zip(faulty, plain, strict=True)]
    assert above[:5] == [0] * 5
    assert above[10:20] == [step] * 10
    assert above[25:] == [0] * 15


def test_each_exposure_of_a_frozen_bracket_stands_still() -> None:
    frames = recorded(view=None, bracket=("under", "over"), fps=10, frozen=((0, 9),), frames=8)
    assert all(same(a, b) for a, b in zip(frames, frames[2:], strict=False))
    assert not same(frames[0], frames[1])


def test_switches_act_at_once() -> None:
    node = live(clock := Clock(), fps=10)
    assert {name: control.kind for name, control in node.controls().items()} == {
        "offset_ms": "number",
        "silent": "switch",
        "frozen": "switch",
    }
    given(node, 1)
    node.change("silent", True)
    assert node.controls()["silent"].value is True
    assert run_until(node, clock, 1.0) == []
    node.change("silent", False)
    before = given(node, 1)[0]
    node.change("frozen", True)
    assert all(same(frame, before) for frame in given(node, 5))
    node.change("frozen", False)
    after = given(node, 1)[0]
    assert np.median(after.data.astype(int) - before.data) == pytest.approx(SHUTTER_STEP, abs=2)


def test_frames_that_nobody_took_in_time_are_lost_and_counted() -> None:
    node = live(clock := Clock(20), fps=10)
    given(node, 3)
    clock.now_ns += 5000 * MS
    frame = given(node, 1)[0]
    assert clock.now_ns - frame.timestamp_ns < 200 * MS
    assert frame.sequence == node.report()["notes"]["late"] + 3
    assert node.gauges() == {"sent": 4, "dropped": node.report()["notes"]["late"]}
    assert [frame.sequence for frame in given(node, 5)] == list(range(frame.sequence + 1, frame.sequence + 6))


def test_frames_that_are_a_little_late_all_come() -> None:
    node = live(clock := Clock(20), fps=10)
    given(node, 3)
    clock.now_ns += 700 * MS
    assert [frame.sequence for frame in given(node, 10)] == list(range(3, 13))
    assert node.report() == {"notes": {}}


def test_a_live_camera_with_few_frames_ends_however_late_it_is_called() -> None:
    node = live(clock := Clock(20), fps=10, frames=5)
    given(node, 2)
    clock.now_ns += 60_000 * MS
    with pytest.raises(EndOfStream):
        given(node, 1)
    assert node.gauges() == {"sent": 2, "dropped": 3}
