"""capture.bracket: one camera that alternates exposures becomes under, (middle) and over."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import nodes
from nodes.capture.bracket import PUZZLED, Bracket, brightness
from pipeline import config
from pipeline.errors import ConfigError
from pipeline.frame import Frame, PixelFormat, layout
from tests.pipeline.fakes import run

SIZE = (32, 24)
LEVELS = (40, 120, 200)
INTERVAL_NS = 33_333_333


def shot(
    number: int,
    exposures: int = 2,
    pixel_format: PixelFormat = "gray8",
    exposure_us: float | None = None,
    size: tuple[int, int] = SIZE,
) -> Frame:
    """A frame of a camera that alternates."""
    shape, dtype = layout(pixel_format, size)
    level = LEVELS[number % exposures] * (16 if pixel_format == "gray16" else 1)
    return Frame(
        np.full(shape, level, dtype),
        pixel_format,
        size,
        timestamp_ns=10**9 + number * INTERVAL_NS,
        timestamp_source="device",
        sequence=number,
        stream="cam",
        frame_rate=Fraction(30),
        exposure_us=exposure_us,
    )


def bracket(exposures: int = 2, group: str = "block") -> Bracket:
    node = Bracket(exposures, group)  # type: ignore[arg-type]
    node.name = "cam"
    node.open({"frame": SIZE})
    return node


def level_of(frame: Frame) -> int:
    return int(frame.data.reshape(-1)[0])


@pytest.mark.parametrize("pixel_format", ["gray8", "gray16", "yuv420p", "bgr24"])
@pytest.mark.parametrize("exposures", [2, 3])
def test_every_format_is_told_apart_by_its_brightness(exposures: int, pixel_format: PixelFormat) -> None:
    node = bracket(exposures)
    given = [node.process(shot(number, exposures, pixel_format)) for number in range(60)]
    groups = [group for group in given if group]
    assert len(groups) >= (60 - 4 * exposures) // exposures
    scale = 16 if pixel_format == "gray16" else 1
    for group in groups:
        assert tuple(group) == node.outputs() == (("under", "over"), ("under", "middle", "over"))[exposures - 2]
        assert [level_of(frame) // scale for frame in group.values()] == list(LEVELS[:exposures])


def test_the_frames_of_a_group_have_one_time_one_number_and_their_own_names() -> None:
    node = bracket()
    groups = [group for number in range(40) if (group := node.process(shot(number)))]
    for number, group in enumerate(groups):
        assert {frame.sequence for frame in group.values()} == {number}
        assert [frame.stream for frame in group.values()] == ["cam.under", "cam.over"]
        assert len({frame.timestamp_ns for frame in group.values()}) == 1
    times = [group["over"].timestamp_ns for group in groups]
    assert {b - a for a, b in pairwise(times)} == {2 * INTERVAL_NS}
    assert groups[0]["under"].frame_rate == 15


def test_sliding_groups_come_at_the_rate_of_the_camera() -> None:
    node = bracket(group="sliding")
    given = [node.process(shot(number)) for number in range(40)]
    assert all(given[10:])
    group = given[20]
    assert group is not None
    assert group["over"].timestamp_ns == shot(20).timestamp_ns
    assert group["over"].frame_rate == 30


def test_reported_exposures_tell_a_black_picture_apart() -> None:
    node, groups = bracket(), []
    for number in range(40):
        frame = replace(shot(number, exposure_us=(1000.0, 16_000.0)[number % 2]), data=np.zeros(SIZE[::-1], np.uint8))
        groups.append(node.process(frame))
    told = [group for group in groups if group]
    assert len(told) > 15
    assert all((g["under"].exposure_us, g["over"].exposure_us) == (1000.0, 16_000.0) for g in told)


def test_lost_frames_never_swap_the_outputs() -> None:
    node, dice, delivered = bracket(group="sliding"), np.random.default_rng(3), 0
    for number in range(2000):
        if dice.random() < 0.15:
            continue
        if group := node.process(shot(number)):
            delivered += 1
            assert [level_of(frame) for frame in group.values()] == [40, 120]
    assert delivered > 1000
    assert node.gauges()["lost"] > 200
    assert node.report()["notes"]["groups"] == node.gauges()["groups"] == delivered


def test_a_camera_that_comes_back_with_another_size_gives_no_group_of_both() -> None:
    node = bracket(group="sliding")
    for number in range(40):
        node.process(shot(number))
    for number in range(40, 80):
        group = node.process(shot(number, size=(64, 48)))
        assert not group or {frame.size for frame in group.values()} == {(64, 48)}
    assert group


def test_a_camera_that_does_not_alternate_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    node = bracket()
    with caplog.at_level(logging.WARNING):
        for number in range(3 * PUZZLED):
            assert node.process(replace(shot(0), timestamp_ns=number * INTERVAL_NS, sequence=number)) is None
    assert [record.message for record in caplog.records if "no cycle of 2 exposures" in record.message] == [
        caplog.records[0].message
    ]
    assert node.gauges() == {"groups": 0, "unclear": 3 * PUZZLED, "lost": 0}


def test_brightness_is_over_black_in_limited_range() -> None:
    assert brightness(shot(0)) == 40
    assert brightness(replace(shot(0, pixel_format="yuv420p"), color_range="limited")) == 24
    assert brightness(shot(0, pixel_format="gray16")) == 40
    assert brightness(replace(shot(0), data=np.zeros(SIZE[::-1], np.uint8), color_range="limited")) == 0


def test_a_config_feeds_each_exposure_from_one_camera() -> None:
    tree = {
        "raw": {
            "type": "capture.pattern",
            "bracket": ["under", "over"],
            "pace": "full",
            "frames": 40,
            "size": [64, 48],
            "drop": 0.05,
        },
        "cam": {"type": "capture.bracket", "inputs": "raw", "group": "sliding"},
        "under": {"type": "output.memory", "inputs": "cam.under"},
        "over": {"type": "output.memory", "inputs": "cam.over"},
    }
    pipeline = config.build(tree, nodes.TYPES)
    summary = run(pipeline)
    under, over = (list(getattr(pipeline.steps[name].node, "frames")) for name in ("under", "over"))  # noqa: B009
    assert summary.broken == []
    assert [frame.timestamp_ns for frame in under] == [frame.timestamp_ns for frame in over]
    assert len(under) > 20
    assert {frame.exposure_us for frame in under} == {1000}
    assert {frame.exposure_us for frame in over} == {16_000}


@pytest.mark.parametrize("settings", [{"exposures": 4}, {"group": "pairs"}])
def test_what_is_not_legal_is_refused(settings: dict[str, object]) -> None:
    tree = {"cam": {"type": "capture.bracket", "inputs": "raw", **settings}}
    with pytest.raises(ConfigError, match=next(iter(settings))):
        config.make_node("cam", tree["cam"], nodes.TYPES)
