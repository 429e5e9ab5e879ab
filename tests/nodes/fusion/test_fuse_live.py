"""Fusing live: with a sensor held, frozen or gone the picture goes on, in the same form, and says how it was made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nodes.fusion.fuse import Fuse
from nodes.fusion.palettes import coloured
from pipeline.errors import ConfigError
from pipeline.frame import Frame, Fusion
from tests import media
from tests.nodes.fusion.frames import Making, frame, heat, yuv

pytestmark = pytest.mark.parametrize("model", ["realtime"], indirect=True)


class Live:
    """The pipeline, as far as the node asks."""

    mode = "live"

    def snapshot(self) -> dict[str, Any]:
        return {}

    controls = change = snapshot


@pytest.fixture
def live(make: Making) -> Making:
    def do(**settings: Any) -> Fuse:
        node = make(**settings)
        node.running = Live()  # type: ignore[assignment]
        return node

    return do


def how(made: Frame) -> Fusion:
    assert made.fusion is not None
    return made.fusion


def form(made: Frame) -> tuple[Any, ...]:
    return made.pixel_format, made.size, made.color_range, made.color_matrix


def test_a_held_partner_is_told(live: Making) -> None:
    node = live()
    node.held = ("infrared",)
    made = how(node.process(infrared=heat(time_ms=10), visible=yuv(time_ms=110)))
    assert (made.state, made.skew_ns) == ("held", 100_000_000)
    assert made.timestamps_ns == {"infrared": 10_000_000, "visible": 110_000_000}
    assert node.report()["states"] == {"held": 1}
    assert node.gauges() == {"held_frames": 1}


def test_visible_alone_is_passed_through_as_it_is(live: Making) -> None:
    node, visible = live(), yuv(time_ms=70)
    node.process(infrared=heat(), visible=yuv())
    made = node.process(visible=visible)
    assert how(made).state == "visible_only"
    assert np.array_equal(made.data, visible.data)
    assert (made.timestamp_ns, made.sequence, made.stream) == (70_000_000, 1, "fuse")


@pytest.mark.parametrize("visible", [yuv(), yuv(color_range="full"), frame(media.scene(), "bgr24"), heat(3)])
def test_infrared_alone_has_the_form_that_the_fused_frames_had(live: Making, visible: Frame) -> None:
    node = live()
    before = node.process(infrared=heat(size=(32, 24)), visible=visible)
    made = node.process(infrared=heat(1, size=(32, 24), time_ms=70))
    assert how(made).state == "infrared_only"
    assert form(made) == form(before)
    luma = made.data[:, :, 0] if made.pixel_format == "bgr24" else made.planes[0]
    assert np.ptp(luma.astype(int)) > 120, "the warm body is to be seen"


def test_infrared_alone_from_the_start_has_a_form_of_its_own(live: Making) -> None:
    made = live().process(infrared=heat(size=(32, 24)))
    assert (made.pixel_format, made.size) == ("gray8", (32, 24))
    assert np.array_equal(made.data, heat(size=(32, 24)).data)


def test_a_sensor_that_is_back_is_fused_with_at_once(live: Making, caplog: pytest.LogCaptureFixture) -> None:
    node = live()
    pair = {"infrared": heat(), "visible": yuv()}
    states = [how(node.process(**frames)).state for frames in (pair, {"visible": yuv()}, {"visible": yuv()}, pair)]
    assert states == ["fused", "visible_only", "visible_only", "fused"]
    told = [record.message for record in caplog.records if "from now on" in record.message]
    assert told == ["fuse: visible only from now on", "fuse: fused from now on"]


def test_a_sensor_that_flaps_does_not_fill_the_log(live: Making, caplog: pytest.LogCaptureFixture) -> None:
    node = live()
    for _ in range(20):
        node.process(infrared=heat(), visible=yuv())
        node.process(visible=yuv())
    told = [record.message for record in caplog.records if "from now on" in record.message]
    assert len(told) == 9, "the first state, which is as it should be, is not told and counts"
    assert node.report()["states"] == {"fused": 20, "visible_only": 20}, "counted it is all the same"


def test_a_frozen_picture_makes_the_state_held_and_then_lost(live: Making) -> None:
    node, still = live(max_shutter_ms=500), heat()
    states = []
    for time_ms in range(0, 1000, 50):
        infrared = frame(still.data, time_ms=time_ms)
        states.append(how(node.process(infrared=infrared, visible=yuv(time_ms, time_ms=time_ms))).state)
    assert states == ["fused"] * 4 + ["held"] * 7 + ["visible_only"] * 9


def test_recordings_may_stand_still(make: Making) -> None:
    node = make()
    states = {how(node.process(infrared=heat(time_ms=t), visible=yuv(time_ms=t))).state for t in range(0, 2000, 100)}
    assert states == {"fused"}
    assert "states" not in node.report()


def test_two_of_three_exposures_are_fused_without_the_third(live: Making) -> None:
    node = live(task="exposure", exposures=3, weights=None)
    made = node.process(under=yuv(1), over=yuv(2))
    assert how(made).state == "under_over_only"
    other = live(task="exposure", weights=None).process(under=yuv(1), over=yuv(2))
    assert np.array_equal(made.data, other.data)


def test_the_blend_goes_from_visible_through_fused_to_infrared(live: Making) -> None:
    node, pair = live(), {"infrared": heat(2), "visible": heat(9)}
    fused = node.process(**pair).data.astype(int)
    node.change("blend", 100.0)
    assert np.array_equal(node.process(**pair).data, pair["infrared"].data)
    node.change("blend", -100.0)
    assert np.array_equal(node.process(**pair).data, pair["visible"].data)
    node.change("blend", -50.0)
    half = (fused + pair["visible"].data) / 2
    assert np.abs(node.process(**pair).data - half).max() <= 7, "half way, but for what steadiness holds back"


def test_infrared_is_moved_by_pixels_of_the_fused_picture(live: Making) -> None:
    node = live(blend=100, shift_px=[5, 3])
    still = heat()
    moved = node.process(infrared=still, visible=heat(9)).data
    assert np.array_equal(moved[3:, 5:], still.data[:-3, :-5])
    assert np.array_equal(moved[0, 5:], still.data[0, :-5]), "the border is repeated"


def test_a_palette_colours_infrared_alone_and_what_is_hot_in_the_overlay(live: Making) -> None:
    node = live(palette="ironbow", overlay=True)
    pair = {"infrared": heat(4), "visible": heat(9)}
    painted = node.process(**pair)
    assert painted.pixel_format == "yuv420p"
    u, v = painted.planes[1:]
    assert np.abs(u.astype(int) - 128).max() > 20
    assert u[-1, -1] == v[-1, -1] == 128, "what is cold has no paint"
    alone = node.process(infrared=heat(4))
    assert np.array_equal(alone.data, coloured(heat(4).data, "ironbow", alone.color_range, alone.color_matrix, "full"))


def test_8_bits_go_through_the_gain_only_if_asked_to(live: Making) -> None:
    dim = frame(media.heat() // 4)
    pair = {"infrared": dim, "visible": heat(9)}
    assert np.array_equal(live(blend=100).process(**pair).data, dim.data)
    assert np.ptp(live(blend=100, agc="linear").process(**pair).data) > np.ptp(dim.data)


def test_all_controls_can_be_set_to_what_they_are(live: Making) -> None:
    node = live()
    for name, control in node.controls().items():
        node.change(name, control.checked(control.value))
    assert set(node.controls()) == {"blend", "shift_x", "shift_y", "palette", "overlay", "agc"}


def test_a_fixed_gain_needs_its_range(live: Making) -> None:
    with pytest.raises(ConfigError, match="has no range"):
        Fuse(agc="fixed")
