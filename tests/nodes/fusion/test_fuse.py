"""The node: what it makes of every kind of frame, and what it passes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nodes.fusion.fuse import Fuse
from nodes.fusion.network import Network
from nodes.fusion.thermal import LinearGain
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import ColorRange, Frame, PixelFormat, half
from tests import media

Making = Callable[..., Fuse]


@pytest.fixture
def make(weights: Path) -> Making:
    """An open node, on the CPU in fp32."""

    def do(size: tuple[int, int] | None = media.SIZE, **settings: Any) -> Fuse:
        node = Fuse(weights=weights, device="cpu", precision="fp32", **settings)
        node.name = "fuse"
        node.open({node.first: None, node.second: size})
        return node

    return do


@pytest.fixture
def network(weights: Path) -> Network:
    return Network("cadnif", "infrared", weights, "cpu", "fp32")


def frame(data: np.ndarray, pixel_format: PixelFormat = "gray8", time_ms: float = 40, **settings: Any) -> Frame:
    size = settings.pop("size", data.shape[1::-1])
    return Frame(data.copy(), pixel_format, size, round(time_ms * 1e6), "pts", 1, "camera", **settings)


def yuv(number: int = 0, size: tuple[int, int] = media.SIZE, color_range: ColorRange = "limited", **how: Any) -> Frame:
    """Luma a slope within the range, chroma of all values."""
    width, height = size
    low, high = (16, 235) if color_range == "limited" else (0, 255)
    luma = np.linspace(low, high, width * height).astype(np.uint8)
    chroma = np.random.default_rng(number).integers(0, 256, 2 * half(width) * half(height), dtype=np.uint8)
    return frame(np.concatenate([luma, chroma]), "yuv420p", size=size, color_range=color_range, **how)


def heat(number: int = 0, size: tuple[int, int] = media.SIZE, **how: Any) -> Frame:
    return frame(media.heat(number, size), **how)


# Pixels:


@pytest.mark.parametrize("size", [media.SIZE, (65, 47), (1, 9), (9, 1)])
@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_luma_goes_through_the_network_and_chroma_stays(
    make: Making, network: Network, size: tuple[int, int], color_range: ColorRange
) -> None:
    infrared, visible = heat(size=size), yuv(size=size, color_range=color_range)
    fused = make(size).process(infrared=infrared, visible=visible)
    assert (fused.size, fused.pixel_format, fused.color_range) == (size, "yuv420p", color_range)
    luma, *chroma = fused.planes
    expected = network.fuse(infrared.data, visible.planes[0], ("full", color_range), color_range)
    assert np.abs(luma.astype(int) - expected).max() <= 1
    assert all(np.array_equal(a, b) for a, b in zip(chroma, visible.planes[1:], strict=True))
    if color_range == "limited":
        assert luma.min() >= 16
        assert luma.max() <= 235


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
    expected = network.fuse(media.heat(), seen[:, :, 0].astype(np.uint8), ("full", "full"), "full")
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
    expected = network.fuse(media.heat(), visible.data, ("full", color_range), "full")
    assert np.abs(fused.data.astype(int) - expected).max() <= 1


def test_16_bits_go_through_a_gain_of_their_own_input(make: Making, caplog: pytest.LogCaptureFixture) -> None:
    counts = media.heat().astype(np.uint16) * 20 + 15_000
    node, visible = make(), yuv()
    with caplog.at_level(logging.INFO):
        deep = [node.process(infrared=frame(counts, "gray16"), visible=visible) for _ in range(2)]
    shallow = node.process(infrared=frame(LinearGain()(counts)), visible=visible)
    assert all(np.array_equal(each.data, shallow.data) for each in deep)
    assert [record.getMessage() for record in caplog.records if "16 bits" in record.getMessage()] == [
        "fuse: infrared has 16 bits; an automatic gain that follows slowly brings it to 8"
    ]


def test_two_16_bit_inputs_have_a_gain_each(make: Making) -> None:
    cold, hot = (frame(media.heat().astype(np.uint16) * 20 + base, "gray16") for base in (0, 40_000))
    fused = make().process(infrared=hot, visible=cold)
    gray = frame(LinearGain()(hot.data))
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


def test_still_input_gives_still_output(make: Making) -> None:
    node = make()
    infrared, visible = frame(media.heat().astype(np.uint16) * 100, "gray16"), yuv()
    frames = [node.process(infrared=infrared, visible=visible).data for _ in range(4)]
    assert all(np.array_equal(data, frames[0]) for data in frames)


def test_a_bright_object_does_not_change_the_picture_far_from_it(make: Making) -> None:
    # Of full range and not stretched per frame: what the network does not see together stays as it was.
    node, visible = make((256, 32)), yuv(size=(256, 32), color_range="full")
    dark = np.full((32, 256), 60, np.uint8)
    bright = dark.copy()
    bright[8:24, :16] = 255
    before, after = (node.process(infrared=frame(x), visible=visible).planes[0].astype(int) for x in (dark, bright))
    assert np.abs(after - before)[:, :40].max() > 10
    assert np.abs(after - before)[:, 128:].max() <= 10


# What is passed on:


def test_a_fused_frame_says_where_it_comes_from(make: Making) -> None:
    node = make()
    visible = yuv(time_ms=40, color_matrix="bt709", frame_rate=Fraction(30))
    fused = [node.process(infrared=heat(time_ms=43), visible=visible) for _ in range(2)][1]
    assert (fused.timestamp_ns, fused.timestamp_source, fused.stream, fused.sequence) == (40_000_000, "pts", "fuse", 1)
    assert (fused.color_matrix, fused.frame_rate) == ("bt709", 30)
    assert fused.fusion is not None
    assert (fused.fusion.state, fused.fusion.skew_ns) == ("fused", 3_000_000)
    assert fused.fusion.timestamps_ns == {"infrared": 43_000_000, "visible": 40_000_000}
    assert not fused.data.flags.writeable


def test_the_reference_gives_the_time_and_the_second_input_size_and_colour(make: Making) -> None:
    node = make(reference="infrared")
    assert (node.reference, make().reference) == ("infrared", "visible")
    infrared = heat(size=(32, 24), time_ms=43, frame_rate=Fraction(9))
    fused = node.process(infrared=infrared, visible=yuv(time_ms=40, frame_rate=Fraction(30)))
    assert (fused.timestamp_ns, fused.frame_rate) == (43_000_000, 9)
    assert (fused.size, fused.pixel_format) == (media.SIZE, "yuv420p")


def test_frames_of_one_name_are_fused_under_it(make: Making) -> None:
    assert make().process(infrared=heat(name="7"), visible=yuv(name="7")).name == "7"
    assert make().process(infrared=heat(name="7"), visible=yuv()).name is None


def test_frames_of_different_names_are_refused(make: Making) -> None:
    with pytest.raises(SourceError, match="fuse: the folders do not pair: image 2 is '7' for infrared and '8' for vis"):
        make().process(infrared=heat(name="7"), visible=yuv(name="8"))


@pytest.mark.parametrize(("task", "names"), media.TASK_INPUTS)
def test_the_task_names_the_inputs(make: Making, task: str, names: tuple[str, str]) -> None:
    node = make(task=task)
    assert node.inputs() == names
    fused = node.process(**dict(zip(names, (heat(), yuv()), strict=True)))
    assert fused.fusion is not None
    assert set(fused.fusion.timestamps_ns) == set(names)


def test_the_size_to_come_is_told_to_those_further_down(make: Making) -> None:
    assert make((48, 32)).size == (48, 32)


def test_a_size_that_is_not_known_yet_is_no_matter(
    weights: Path, make: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[tuple[int, int]] = []
    monkeypatch.setattr(Network, "warm_up", lambda _, size: warmed.append(size))
    node = make(None)
    assert node.size is None
    assert warmed == [(640, 480)]
    assert node.process(infrared=heat(), visible=yuv()).size == media.SIZE


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "cadnife"}, "setting 'model' is 'cadnife'. Did you mean 'cadnif'?"),
        ({"reference": "visable"}, "setting 'reference' is 'visable'. Did you mean 'visible'?"),
        ({"task": "focus", "reference": "visible"}, "setting 'reference' is 'visible'. There is: far, near."),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_opens(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Fuse(**settings)
    assert says in str(refused.value)
