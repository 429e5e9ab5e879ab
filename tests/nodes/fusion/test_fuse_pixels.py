"""The node's pixels: what it makes of every kind of frame, and of one after another."""

from __future__ import annotations

import logging
from itertools import count, pairwise
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from nodes.fusion.chroma import DARK, LIT
from nodes.fusion.network import Network
from nodes.fusion.thermal import Agc
from pipeline.frame import ColorRange, half
from tests import media
from tests.nodes.fusion.frames import Making, frame, heat, yuv

# Pixels:


@pytest.mark.parametrize("size", [media.SIZE, (65, 47), (1, 9), (9, 1)])
@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_luma_goes_through_the_network_and_chroma_stays_where_there_is_light(
    make: Making, network: Network, size: tuple[int, int], color_range: ColorRange
) -> None:
    infrared, visible = heat(size=size), yuv(size=size, color_range=color_range)
    fused = make(size).process(infrared=infrared, visible=visible)
    assert (fused.size, fused.pixel_format, fused.color_range) == (size, "yuv420p", color_range)
    luma, *chroma = fused.planes
    seen, *colour = visible.planes
    expected, _ = network.fuse((infrared.data, seen), ("full", color_range), color_range)
    assert np.abs(luma.astype(int) - expected).max() <= 1
    if color_range == "limited":
        assert luma.min() >= 16
        assert luma.max() <= 235
    # In the light it is that of the visible frame to the bit, in the dark none, and in between less of it.
    cells = cv2.resize(seen, (half(size[0]), half(size[1])), interpolation=cv2.INTER_AREA).astype(int)
    cells -= 16 if color_range == "limited" else 0
    square = np.ones((3, 3), np.uint8)  # what counts as one place
    lit = cv2.erode(cells.astype(np.int16), square) >= LIT
    dark = cv2.dilate(cells.astype(np.int16), square) <= DARK
    assert lit.mean() > 0.3
    assert dark.any() or min(size) == 1
    for made, before in zip(chroma, colour, strict=True):
        assert np.array_equal(made[lit], before[lit])
        assert (made[dark] == 128).all()
        assert (np.abs(made.astype(int) - 128) <= np.abs(before.astype(int) - 128)).all()


def test_infrared_of_limited_range_is_the_same_picture_on_another_scale(make: Making) -> None:
    levels = np.arange(0, 220, dtype=np.uint8).repeat(8).reshape(20, 88)
    limited = frame(levels + 16, color_range="limited")
    full = frame(np.rint(levels.astype(float) * 255 / 219).astype(np.uint8))
    visible = yuv(size=(88, 20))
    a, b = (make().process(infrared=infrared, visible=visible).planes[0].astype(int) for infrared in (limited, full))
    assert np.abs(a - b).max() <= 1


def test_a_colour_image_keeps_its_colour(make: Making, network: Network) -> None:
    image = media.scene()
    fused = make().process(infrared=heat(), visible=frame(image, "bgr24", color_matrix="bt709"))
    assert (fused.pixel_format, fused.color_range, fused.color_matrix) == ("bgr24", "full", "bt709")
    seen, made = (cv2.cvtColor(x, cv2.COLOR_BGR2YCrCb).astype(int) for x in (image, fused.data))
    expected, _ = network.fuse((media.heat(), seen[:, :, 0].astype(np.uint8)), ("full", "full"), "full")
    # Where a channel would go beyond 0..255 it is clipped; elsewhere only rounding is left.
    inside = np.all((fused.data > 0) & (fused.data < 255), axis=2)
    assert inside.mean() > 0.5
    assert np.abs(made[:, :, 0] - expected)[inside].max() <= 2
    assert np.abs(made[:, :, 1:] - seen[:, :, 1:])[inside].max() <= 2


@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_a_gray_visible_image_gives_a_gray_one_of_full_range(
    make: Making, network: Network, color_range: ColorRange
) -> None:
    visible = frame(yuv(color_range=color_range).planes[0], color_range=color_range)
    fused = make().process(infrared=heat(), visible=visible)
    assert (fused.pixel_format, fused.color_range) == ("gray8", "full")
    expected, _ = network.fuse((media.heat(), visible.data), ("full", color_range), "full")
    assert np.abs(fused.data.astype(int) - expected).max() <= 1


def test_16_bits_go_through_a_gain_of_their_own_input(make: Making, caplog: pytest.LogCaptureFixture) -> None:
    counts = media.heat().astype(np.uint16) * 20 + 15_000
    node, visible = make(), yuv()
    with caplog.at_level(logging.INFO):
        deep = [node.process(infrared=frame(counts, "gray16"), visible=visible) for _ in range(2)]
    shallow = node.process(infrared=frame(Agc()(counts, 0)), visible=visible)
    assert all(np.array_equal(each.data, shallow.data) for each in deep)
    assert [record.getMessage() for record in caplog.records if "16 bits" in record.getMessage()] == [
        "fuse: infrared has 16 bits; an automatic gain that follows slowly brings it to 8"
    ]


def test_two_16_bit_inputs_have_a_gain_each(make: Making) -> None:
    cold, hot = (frame(media.heat().astype(np.uint16) * 20 + base, "gray16") for base in (0, 40_000))
    fused = make().process(infrared=hot, visible=cold)
    gray = frame(Agc()(hot.data, 0))
    assert fused.pixel_format == "gray8"
    assert np.array_equal(fused.data, make().process(infrared=gray, visible=gray).data)


@pytest.mark.parametrize(
    ("size", "how"), [((32, 24), cv2.INTER_LINEAR), ((160, 120), cv2.INTER_AREA), ((1, 1), cv2.INTER_LINEAR)]
)
def test_infrared_of_another_size_is_brought_to_the_visible_frame(
    make: Making, size: tuple[int, int], how: int
) -> None:
    infrared, visible = media.heat(size=size), yuv()
    fused = make().process(infrared=frame(infrared), visible=visible)
    resized = frame(cv2.resize(infrared, media.SIZE, interpolation=how))
    assert fused.size == media.SIZE
    assert np.array_equal(fused.data, make().process(infrared=resized, visible=visible).data)


def test_another_shape_is_warned_of_once(make: Making, caplog: pytest.LogCaptureFixture) -> None:
    node = make()
    for number in range(3):
        node.process(infrared=heat(number, (40, 40)), visible=yuv())
    assert len([record for record in caplog.records if "stretched" in record.getMessage()]) == 1
    caplog.clear()
    make().process(infrared=heat(size=(32, 24)), visible=yuv())
    assert not caplog.records


@pytest.mark.parametrize("steady", [False, True])
def test_still_input_gives_still_output(make: Making, steady: bool) -> None:
    node = make(steady=steady)
    infrared, visible = frame(media.heat().astype(np.uint16) * 100, "gray16"), yuv()
    frames = [node.process(infrared=infrared, visible=visible).data for _ in range(4)]
    assert all(np.array_equal(data, frames[0]) for data in frames)


def test_a_bright_object_does_not_change_the_picture_far_from_it(make: Making) -> None:
    # Of full range and not stretched per frame: what the network does not see together stays as it was. Nothing is held
    # back, which would hide it.
    node, visible = make((256, 32), steady=False), yuv(size=(256, 32), color_range="full")
    dark = np.full((32, 256), 60, np.uint8)
    bright = dark.copy()
    bright[8:24, :16] = 255
    before, after = (node.process(infrared=frame(x), visible=visible).planes[0].astype(int) for x in (dark, bright))
    assert np.abs(after - before)[:, :40].max() > 10
    assert np.abs(after - before)[:, 128:].max() <= 10


@pytest.mark.parametrize(("task", "first_gives_colour"), [("exposure", True), ("focus", True), ("medical", False)])
def test_the_task_says_which_sources_give_colour(make: Making, task: str, first_gives_colour: bool) -> None:
    names = dict(media.TASK_INPUTS)[task]
    coloured, grey = frame(media.scene(), "bgr24"), frame(media.scene()[:, :, 1], color_range="limited")
    fused = make(task=task).process(**dict(zip(names, (coloured, grey), strict=True)))
    assert (fused.pixel_format, fused.color_range) == ("bgr24" if first_gives_colour else "gray8", "full")
    assert (np.ptp(fused.data, axis=-1).max() > 20) or not first_gives_colour
    planar = yuv(size=media.SIZE, color_range="limited")
    fused = make(task=task).process(**dict(zip(names, (planar, grey), strict=True)))
    assert (fused.pixel_format, fused.color_range) == ("yuv420p" if first_gives_colour else "gray8", "full")
    fused = make(task=task).process(**dict(zip(names, (grey, planar), strict=True)))
    assert (fused.pixel_format, fused.color_range) == ("yuv420p", "limited")


# Steady in time:


@pytest.fixture
def flickering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose picture jumps from frame to frame by 5 levels, whatever its sources."""
    numbers = count()

    def compute(_: Network, *planes: torch.Tensor) -> torch.Tensor:
        return torch.full_like(planes[0], (next(numbers) % 2) * 10 / 255)

    monkeypatch.setattr(Network, "warm_up", lambda *_: None)
    monkeypatch.setattr(Network, "compute", compute)


@pytest.mark.usefixtures("flickering")
@pytest.mark.parametrize(
    ("settings", "name", "steps"),
    [({}, None, (0, 1)), ({"steady": True}, None, (0, 1)), ({"steady": False}, None, (4, 5)), ({}, "7", (4, 5))],
    ids=["video", "steady video", "video as it comes", "stills"],
)
def test_flicker_of_a_still_video_is_held_back_and_that_of_stills_is_not(
    make: Making, settings: dict[str, Any], name: str | None, steps: tuple[int, int]
) -> None:
    node, infrared, visible = make(**settings), heat(name=name), yuv(color_range="full", name=name)
    lumas = [node.process(infrared=infrared, visible=visible).planes[0].astype(int) for _ in range(6)]
    assert (lumas[0] == 128).all()
    least, most = steps
    for before, after in pairwise(lumas):
        assert least <= np.abs(after - before).min() <= np.abs(after - before).max() <= most


@pytest.mark.usefixtures("flickering")
def test_where_an_input_changes_the_video_may_change_by_as_much_at_once(make: Making) -> None:
    node, visible = make(), frame(np.full((48, 64), 90, np.uint8))
    cold, hot = np.full((48, 64), 50, np.uint8), np.full((48, 64), 50, np.uint8)
    hot[:, :32] = 90
    before, after = (node.process(infrared=frame(x), visible=visible).data.astype(int) for x in (cold, hot))
    moved = after - before
    assert moved[:, :32] == pytest.approx(5, abs=1)
    assert moved[:, 32:] == pytest.approx(0, abs=1)


@pytest.mark.usefixtures("flickering")
def test_a_video_that_changes_its_size_begins_anew(make: Making) -> None:
    node = make()
    for size, level in ((media.SIZE, 128), ((32, 24), 132), (media.SIZE, 128)):
        fused = node.process(infrared=heat(size=size), visible=yuv(size=size, color_range="full"))
        assert (fused.planes[0] == level).all()


@pytest.mark.usefixtures("flickering")
def test_each_node_has_a_video_of_its_own(make: Making) -> None:
    first, second = make(), make()
    for node, level in ((first, 128), (second, 132), (first, 128), (second, 132)):
        fused = node.process(infrared=heat(), visible=yuv(color_range="full"))
        assert (fused.planes[0] == level).all()


def test_a_video_is_fused_as_its_frames_are_with_what_came_before_them(make: Making, network: Network) -> None:
    node, state = make(), None
    for number in range(4):
        infrared, visible = heat(3 * number), yuv(number)
        pair = infrared.data, visible.planes[0]
        expected, state = network.fuse(pair, ("full", "limited"), "limited", state, steadily=True)
        assert np.array_equal(node.process(infrared=infrared, visible=visible).planes[0], expected)


@pytest.mark.usefixtures("flickering")
@pytest.mark.parametrize(("steady", "least"), [(True, 0), (False, 4)])
def test_images_are_held_steady_where_it_is_asked_for(make: Making, steady: bool, least: int) -> None:
    node, infrared, visible = make(steady=steady), heat(name="7"), yuv(color_range="full", name="7")
    first, second = (node.process(infrared=infrared, visible=visible).planes[0].astype(int) for _ in range(2))
    assert least <= np.abs(second - first).max() <= least + 1
