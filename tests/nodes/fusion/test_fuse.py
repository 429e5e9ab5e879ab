"""The node: what it takes, what it passes on and what it refuses."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nodes.fusion.fuse import Fuse
from nodes.fusion.network import Network
from nodes.fusion.thermal import Agc
from pipeline.errors import ConfigError, SourceError
from tests import media
from tests.conftest import WeightsOf
from tests.nodes.fusion.frames import Making, frame, heat, yuv


@pytest.fixture
def for_exposures(model: str, weights_of: WeightsOf) -> Path:
    """Weights of a network that takes three planes."""
    return weights_of(model, **({"symmetric": True} if model == "realtime" else {}))


# Three exposures:


def test_three_exposures_are_under_middle_and_over(make: Making, for_exposures: Path) -> None:
    node = make(task="exposure", exposures=3, weights=for_exposures)
    assert node.inputs() == ("under", "middle", "over")
    assert node.reference == "over"
    network = Network(None, "exposure", for_exposures, "cpu", "fp32")
    # Each of a size and range of its own, so that a mistake in the order shows.
    under, middle = heat(size=(32, 24), time_ms=30), yuv(1, size=(70, 50), color_range="full", time_ms=45)
    over = yuv(2, time_ms=40, frame_rate=Fraction(30))
    fused = node.process(over=over, under=under, middle=middle)
    small = cv2.resize(under.data, media.SIZE, interpolation=cv2.INTER_LINEAR)
    large = cv2.resize(middle.planes[0], media.SIZE, interpolation=cv2.INTER_AREA)
    expected, _ = network.fuse((small, large, over.planes[0]), ("full", "full", "limited"), "limited")
    assert np.array_equal(fused.planes[0], expected)
    assert (fused.size, fused.pixel_format, fused.color_range) == (media.SIZE, "yuv420p", "limited")
    assert (fused.timestamp_ns, fused.frame_rate) == (40_000_000, 30)
    assert fused.fusion is not None
    assert fused.fusion.skew_ns == 10_000_000
    assert fused.fusion.timestamps_ns == {"under": 30_000_000, "middle": 45_000_000, "over": 40_000_000}


def test_any_of_three_exposures_may_give_the_time(make: Making, for_exposures: Path) -> None:
    node = make(task="exposure", exposures=3, reference="middle", weights=for_exposures)
    fused = node.process(under=heat(time_ms=30), middle=heat(time_ms=45), over=heat(time_ms=41))
    assert fused.timestamp_ns == 45_000_000
    assert fused.fusion is not None
    assert fused.fusion.skew_ns == 15_000_000


def test_each_of_three_exposures_has_a_gain_of_its_own(make: Making, for_exposures: Path) -> None:
    deep = [frame(media.heat().astype(np.uint16) * 20 + base, "gray16") for base in (0, 20_000, 40_000)]
    names = ("under", "middle", "over")
    settings: dict[str, Any] = {"task": "exposure", "exposures": 3, "weights": for_exposures}
    fused = make(**settings).process(**dict(zip(names, deep, strict=True)))
    gray = frame(Agc()(deep[0].data, deep[0].timestamp_ns))
    assert np.array_equal(fused.data, make(**settings).process(**dict.fromkeys(names, gray)).data)


@pytest.mark.parametrize("odd", ["under", "middle"])
def test_the_exposure_of_another_name_is_told(make: Making, for_exposures: Path, odd: str) -> None:
    frames = {name: heat(name="8" if name == odd else "7") for name in ("under", "middle", "over")}
    with pytest.raises(SourceError, match=f"do not pair: image 2 is '8' for {odd} and '7' for over"):
        make(task="exposure", exposures=3, weights=for_exposures).process(**frames)


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


def test_a_fused_frame_names_the_network_that_made_it(make: Making, model: str) -> None:
    for node in (make(model=model), make()):  # asked for, and told by the weights
        fused = node.process(infrared=heat(), visible=yuv())
        assert fused.fusion is not None
        assert fused.fusion.model == model


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


def test_the_summary_names_the_network_that_was_used(make: Making, model: str) -> None:
    assert make().report() == {"model": model, "task": "infrared"}
    assert make(model=model, task="focus").report() == {"model": model, "task": "focus"}


def test_the_log_names_the_network_that_is_used(make: Making, model: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make()
    assert f"fuse: {model} for infrared in fp32 on CPU" in caplog.messages


def test_weights_of_another_network_than_the_one_named_are_refused(make: Making, model: str) -> None:
    (other,) = {*media.NETWORKS} - {model}
    with pytest.raises(ConfigError, match=f"weights of '{model}', but '{other}' is asked for"):
        make(model=other)


def test_the_size_to_come_is_told_to_those_further_down(make: Making) -> None:
    assert make((48, 32)).size == (48, 32)


def test_a_size_that_is_not_known_yet_is_no_matter(make: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    warmed: list[tuple[tuple[int, int], int]] = []
    monkeypatch.setattr(Network, "warm_up", lambda _, size, inputs: warmed.append((size, inputs)))
    node = make(None)
    assert node.size is None
    make(task="exposure", exposures=3)
    assert warmed == [((640, 480), 2), (media.SIZE, 3)]
    assert node.process(infrared=heat(), visible=yuv()).size == media.SIZE


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "cadnife"}, "setting 'model' is 'cadnife'. Did you mean 'cadnif'?"),
        ({"model": "yolo"}, "setting 'model' is 'yolo'. There is: cadnif, realtime."),
        ({"reference": "visable"}, "setting 'reference' is 'visable'. Did you mean 'visible'?"),
        ({"task": "focus", "reference": "visible"}, "setting 'reference' is 'visible'. There is: far, near."),
        ({"task": "exposure", "reference": "middle"}, "setting 'reference' is 'middle'. There is: over, under."),
        ({"exposures": 3}, "setting 'exposures' is 3 with task 'infrared': it is for task 'exposure' alone"),
        ({"task": "focus", "exposures": 3}, "setting 'exposures' is 3 with task 'focus'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_opens(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Fuse(**settings)
    assert says in str(refused.value)


def test_medical_sources_that_seem_exchanged_are_told_once(make: Making, caplog: pytest.LogCaptureFixture) -> None:
    node = make(task="medical")
    for _ in range(2):
        node.process(mri=frame(media.scene(), "bgr24"), other=heat())
    node.process(mri=heat(), other=frame(media.scene(), "bgr24"))
    told = [record.getMessage() for record in caplog.records if "exchanged" in record.getMessage()]
    assert told == ["fuse: mri has colour and other has none: are they exchanged? Colour is taken of other"]
