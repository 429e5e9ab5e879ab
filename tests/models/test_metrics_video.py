"""This project's own measures: hot objects kept, and change in a clip that its sources do not explain."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from models.metrics import Grey, UnexplainedChange, hot_contrast, hot_parts, unexplained_change
from tests.models.greys import ABSENT, FUSIONS, SHARED, flat, noise

# Hot objects


def hot_scene(*objects: tuple[int, int, int, int], background: int = 40) -> Grey:
    """Squares of (top, left, side, level) on an even background of 200x200: within its hottest 2 %."""
    scene = flat(background, (200, 200))
    for top, left, side, level in objects:
        scene[top : top + side, left : left + side] = level
    return scene


def test_the_infrared_image_itself_keeps_all_contrast_of_its_hot_parts() -> None:
    infrared = hot_scene((20, 20, 10, 200), (100, 100, 6, 120))
    assert hot_parts(infrared, infrared) == [(100, 1.0), (36, 1.0)]
    assert hot_contrast(hot_parts(infrared, infrared)) == 1


def test_kept_contrast_is_weighted_by_area_over_all_parts() -> None:
    infrared = hot_scene((20, 20, 10, 200), (100, 100, 6, 120))
    fused = hot_scene((20, 20, 10, 120), (100, 100, 6, 120))
    assert hot_parts(infrared, fused) == [(100, 0.5), (36, 1.0)]
    assert hot_contrast(hot_parts(infrared, fused)) == pytest.approx((100 * 0.5 + 36) / 136)


def test_kept_contrast_is_clipped_on_both_sides() -> None:
    infrared = hot_scene((20, 20, 10, 100))
    assert hot_parts(infrared, hot_scene((20, 20, 10, 250))) == [(100, 1.5)]
    assert hot_parts(infrared, hot_scene((20, 20, 10, 0), background=255)) == [(100, -1.0)]


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (hot_scene((20, 20, 5, 200)), "25 px, fewer than 30"),
        (hot_scene((20, 20, 10, 59), background=10), "below 60"),
        (hot_scene((20, 20, 10, 100), background=76), "24 levels above its ring"),
        (hot_scene(background=255), "no ring: all of it is hot"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_small_cool_or_faint_is_no_hot_part(scene: Grey, reason: str) -> None:
    assert hot_parts(scene, scene) == [], reason
    assert math.isnan(hot_contrast([]))


def test_a_hot_neighbour_is_not_counted_as_background() -> None:
    infrared = hot_scene((50, 50, 10, 200), (50, 62, 10, 200))
    fused = hot_scene((50, 50, 10, 120), (50, 62, 10, 120))
    assert hot_parts(infrared, fused) == [(100, 0.5), (100, 0.5)]


def test_a_part_at_the_border_is_measured_like_any_other() -> None:
    infrared, fused = hot_scene((0, 0, 10, 200)), hot_scene((0, 0, 10, 120))
    assert hot_parts(infrared, fused) == [(100, 0.5)]


# Clips


def test_flicker_that_no_source_shows_is_measured_in_grey_levels() -> None:
    still = [flat(100, (20, 24))] * 4
    flicker = [flat(level, (20, 24)) for level in (100, 103, 100, 103)]
    assert unexplained_change(flicker, still, still) == pytest.approx(3)


def test_change_that_a_source_shows_is_explained() -> None:
    still = [flat(100, (20, 24))] * 4
    moving = [noise(seed, (20, 24)) for seed in range(4)]
    assert unexplained_change(moving, moving, still) == 0
    assert unexplained_change(moving, still, moving) == 0
    assert unexplained_change(still, moving, moving) == 0


def test_a_clip_is_read_one_frame_at_a_time() -> None:
    read: list[str] = []

    def clip(name: str) -> Iterator[Grey]:
        for _ in range(3):
            read.append(name)
            yield flat(100, (20, 24))

    assert unexplained_change(clip("fused"), clip("a"), clip("b")) == 0
    assert read == ["fused", "a", "b"] * 3


def test_several_fused_clips_are_measured_against_the_same_sources_at_once() -> None:
    sources = [[noise(seed + source, (20, 24)) for seed in range(4)] for source in (0, 10)]
    clips = [[noise(seed + clip, (20, 24)) for seed in range(4)] for clip in (20, 30)]
    change = UnexplainedChange()
    for frames in zip(*sources, *clips, strict=True):
        change.add(*frames)
    assert change.frames == 4
    assert change.means() == [unexplained_change(clip, *sources) for clip in clips]
    assert change.means(3) == [unexplained_change(clip[:3], *(source[:3] for source in sources)) for clip in clips]
    assert all(math.isnan(mean) for mean in change.means(1))


@pytest.mark.parametrize("frames", [0, 1])
def test_a_clip_without_two_frames_has_no_change_to_measure(frames: int) -> None:
    clip = [flat(100, (20, 24))] * frames
    assert math.isnan(unexplained_change(clip, clip, clip))


def test_clips_of_unequal_length_say_which_ended_and_where() -> None:
    frame = flat(100, (20, 24))
    with pytest.raises(ValueError, match="clip a and b ended at frame 2, before the others"):
        unexplained_change([frame] * 3, [frame] * 2, [frame] * 2)


def test_a_frame_that_is_not_8_bit_grey_is_named() -> None:
    frame = flat(100, (20, 24))
    with pytest.raises(ValueError, match=r"fused is \(20, 24\) float64; legal is"):
        unexplained_change([frame / 255], [frame], [frame])  # type: ignore[list-item]


def test_a_clip_that_changes_its_shape_is_an_error() -> None:
    clip = [flat(100, (20, 24)), flat(100, (24, 20))]
    with pytest.raises(ValueError, match=r"frame is \(24, 20\) after \(20, 24\)"):
        unexplained_change(clip, clip, clip)


@pytest.mark.skipif(not (SHARED / "video").exists(), reason=ABSENT)
@pytest.mark.parametrize(("fusion", "published"), [("average", 0.002), ("maximum", 0.011)])
def test_unexplained_change_of_the_stairs_clip_meets_the_published_figure(fusion: str, published: float) -> None:
    def frames(kind: str) -> list[Grey]:
        video = cv2.VideoCapture(str(SHARED / "video" / "stairs" / f"{kind}.mp4"))
        return [np.asarray(cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2GRAY), np.uint8) for _ in range(16)]

    infrared, visible = frames("infrared"), frames("visible")
    fused = (FUSIONS[fusion](a, b) for a, b in zip(infrared, visible, strict=True))
    assert unexplained_change(fused, infrared, visible) == pytest.approx(published, abs=0.0005)
