"""Which sensors count as there: frozen pictures are found, held for a while, and then left out."""

from __future__ import annotations

import numpy as np
import pytest

from nodes.fusion.presence import Presence
from pipeline.frame import Frame

BOTH = ("infrared", "visible")
PERIOD_MS = 1000 / 30


def frame(time_ms: float, picture: int) -> Frame:
    """Each number of a picture has pixels of its own."""
    data = np.random.default_rng(picture).integers(0, 256, (48, 64), np.uint8)
    return Frame(data, "gray8", (64, 48), round(time_ms * 1e6), "arrival", 0, "camera")


def states(infrared: list[int], visible: list[int], max_shutter_ms: float | None = 1000) -> list[str]:
    """Of frames at 30 Hz, by the numbers of their pictures."""
    presence = Presence(BOTH, max_shutter_ms)
    found = []
    for number, pictures in enumerate(zip(infrared, visible, strict=True)):
        both = {name: frame(number * PERIOD_MS, picture) for name, picture in zip(BOTH, pictures, strict=True)}
        found.append(presence.judge(both, ())[1])
    return found


def moving(count: int, start: int = 0) -> list[int]:
    return list(range(start, start + count))


def test_pictures_that_change_are_fused():
    assert set(states(moving(90), moving(90, 1000))) == {"fused"}


def test_a_partner_that_is_older_makes_the_picture_held():
    presence = Presence(BOTH, None)
    used, state = presence.judge({"infrared": frame(0, 1), "visible": frame(100, 2)}, ("infrared",))
    assert (list(used), state) == (["infrared", "visible"], "held")


def test_a_missing_source_gives_its_name_to_none_and_the_other_all():
    presence = Presence(BOTH, None)
    for name in BOTH:
        one = frame(0, 1)
        used, state = presence.judge({name: one}, ())
        assert used == {name: one}
        assert state == f"{name}_only"


def test_the_sources_left_of_three_are_named_in_order():
    used, state = Presence(("under", "middle", "over"), None).judge({"over": frame(0, 1), "under": frame(0, 2)}, ())
    assert (list(used), state) == (["under", "over"], "under_over_only")


def test_a_shutter_is_held_within_200_ms_and_fused_again_with_the_first_new_picture():
    frozen = moving(10) + [9] * 20 + moving(10, 100)
    found = states(frozen, moving(40, 1000))
    assert "held" in found[10 : 10 + 6]
    assert set(found[15:30]) == {"held"}
    assert set(found[30:]) == {"fused"}


@pytest.mark.parametrize(("frozen", "alone"), [("infrared", "visible_only"), ("visible", "infrared_only")])
def test_a_source_frozen_for_longer_than_a_shutter_takes_is_lost_and_comes_back(frozen: str, alone: str):
    still, live = moving(5) + [4] * 60 + moving(5, 100), moving(70, 1000)
    found = states(still, live) if frozen == "infrared" else states(live, still)
    assert found[40] == found[64] == alone
    assert found[65:] == ["fused"] * 5
    assert {"fused", "held", alone} == set(found)


def test_when_all_pictures_stand_still_none_is_lost():
    assert states([1] * 90, [2] * 90)[-1] == "held"


def test_without_a_limit_a_frozen_picture_is_held_for_ever():
    assert set(states([1] * 200, moving(200, 1000), None)[10:]) == {"held"}


def test_a_slow_camera_read_fast_is_not_taken_for_frozen():
    nine_hertz = [number // 3 for number in range(90)]
    assert set(states(nine_hertz, moving(90, 1000))) == {"fused"}


def test_one_pixel_that_changes_is_enough():
    presence = Presence(BOTH, 500)
    for number in range(40):
        data = np.zeros((48, 64), np.uint8)
        data[5, 7] = number
        infrared = Frame(data, "gray8", (64, 48), round(number * PERIOD_MS * 1e6), "arrival", 0, "camera")
        assert presence.judge({"infrared": infrared, "visible": frame(number * PERIOD_MS, number)}, ())[1] == "fused"
