"""The synthetic street: the same for every camera, at every size and in every format."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import numpy as np
import pytest

from nodes.capture.scene import FREEZING_COUNTS, Scene, View
from nodes.capture.street import Body
from nodes.pictures import image_of
from pipeline.frame import Frame, PixelFormat, layout

VIEWS: tuple[View, ...] = get_args(View)
FORMATS: tuple[PixelFormat, ...] = get_args(PixelFormat)
SMALL = (160, 120)
NOON = 40_000 * 1_000_000_000  # some moment, in nanoseconds


@cache
def scene_of(view: View, *how: Any, **more: Any) -> Scene:
    """Drawn once: a scene keeps nothing of the pictures it gave."""
    return Scene(view, *how, **more)


def frame_of(scene: Scene, time_ns: int = NOON, number: int = 0, **how: Any) -> Frame:
    limited = scene.pixel_format == "yuv420p"
    data = scene.draw(time_ns, number, **how)
    range_of = "limited" if limited else "full"
    return Frame(data, scene.pixel_format, scene.size, time_ns, "device", number, "camera", range_of)  # type: ignore[arg-type]


def gray(frame: Frame) -> np.ndarray:
    """(H, W) levels of 255."""
    image = image_of(frame)
    if frame.pixel_format == "gray16":
        infrared = image.min() > 20_000  # never freezing
        return (image - float(FREEZING_COUNTS)) / 20 if infrared else image / 257
    return image.mean(axis=2) if image.ndim == 3 else image.astype(float)


def clock_of(frame: Frame) -> float:
    """Where the hand of the clock at the foot is, in thousandths of a second."""
    foot = gray(frame)[round(0.92 * frame.size[1]) :]
    return 1000 * (np.flatnonzero((foot > 190).any(axis=0)).mean()) / frame.size[0]


def inside(body: Body, size: tuple[int, int]) -> bool:
    return body.x >= 0 and body.x + body.width <= size[0]


def box_of(body: Body) -> tuple[slice, slice]:
    x, y = round(body.x), round(body.y)
    return slice(y, y + body.height), slice(max(x, 0), max(x + body.width, 0))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [SMALL, (41, 29), (16, 16)])
def test_every_view_comes_in_every_format_and_size(view: View, size: tuple[int, int]) -> None:
    for pixel_format in FORMATS:
        data = Scene(view, size, pixel_format).draw(NOON, 1)
        assert (data.shape, data.dtype) == layout(pixel_format, size)
        assert data.std() > 0


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_looks_the_same_in_every_format(view: View) -> None:
    pictures = [gray(frame_of(scene_of(view, SMALL, pixel_format, noise=0))) for pixel_format in ("gray8", "gray16")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 0.6
    colours = [image_of(frame_of(scene_of(view, SMALL, kind, noise=0))).astype(float) for kind in ("bgr24", "yuv420p")]
    assert np.abs(colours[0] - colours[1]).mean() < 3  # chroma is of half the size


@pytest.mark.parametrize("view", VIEWS)
def test_all_views_show_the_time_to_a_few_milliseconds(view: View) -> None:
    for time_ms in (12, 345, 678, 987):
        frame = frame_of(scene_of(view, (320, 240)), NOON + time_ms * 1_000_000)
        assert clock_of(frame) == pytest.approx(time_ms, abs=5)


def test_the_hands_of_two_views_are_below_one_another() -> None:
    top, bottom = (gray(frame_of(scene_of(view, (320, 240)), NOON)) > 190 for view in ("infrared", "visible"))
    foot = np.s_[round(0.92 * 240) :]
    assert not (top[foot] & bottom[foot]).any()
    assert np.array_equal(top[foot].any(axis=0), bottom[foot].any(axis=0))


def test_warm_bodies_are_where_the_truth_says() -> None:
    scene = scene_of("infrared", (320, 240), noise=0)
    seen = 0
    for time_ns in range(NOON, NOON + 30_000_000_000, 1_000_000_000):
        picture = gray(frame_of(scene, time_ns))
        street = picture[60 : round(0.92 * 240)]
        warm = np.zeros_like(picture, bool)
        for body in scene.truth(time_ns):
            warm[box_of(body)] = True
            if inside(body, scene.size):
                seen += 1
                assert picture[box_of(body)].max() > 120  # skin or an engine
        assert street[~warm[60 : round(0.92 * 240)]].max() < 110
    assert seen > 30


def test_what_moves_in_one_view_moves_at_the_same_place_in_the_others() -> None:
    for view in ("visible", "over"):
        scene = scene_of(view, (320, 240), noise=0)
        before, after = (gray(frame_of(scene, NOON + ms * 1_000_000)) for ms in (0, 5000))  # the clock shows the same
        changed = np.abs(before - after) > 3
        changed[:30] = False  # the digits
        explained = np.zeros_like(changed)
        for time_ns in (NOON, NOON + 5_000_000_000):
            for body in scene.truth(time_ns):
                rows, columns = box_of(body)
                explained[rows, max(columns.start - 1, 0) : columns.stop + 1] = True
        assert changed.sum() > 200
        assert not (changed & ~explained).any()


def test_bodies_move_evenly_and_are_the_same_for_all_sizes() -> None:
    large, small = scene_of("infrared", (640, 480)), scene_of("visible", SMALL)
    positions = np.array([[body.x for body in large.truth(NOON + ms * 1_000_000)] for ms in range(0, 100, 10)])
    steps = np.diff(positions, axis=0)
    steady = np.abs(steps).max(axis=0) < 10  # who comes in again from the other side leaps
    assert steady.sum() >= 3
    assert np.ptp(steps[:, steady], axis=0) == pytest.approx(0, abs=1e-3)
    assert (np.abs(steps[:, steady]) > 0.1).all()
    for a, b in zip(large.truth(NOON), small.truth(NOON), strict=True):
        assert a.x / 640 == pytest.approx(b.x / 160, abs=0.02)
        assert a.y / 480 == pytest.approx(b.y / 120, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_longer_exposures_are_brighter_whoever_walks_by(seed: int) -> None:
    exposures = [scene_of(view, SMALL, seed=seed) for view in ("under", "middle", "over")]
    for second in range(0, 60, 7):
        under, middle, over = (gray(frame_of(scene, NOON + second * 10**9, second)).mean() for scene in exposures)
        assert under * 1.2 < middle
        assert middle * 1.2 < over


def test_lamps_glare_in_visible_light_alone() -> None:
    visible, infrared = (
        gray(frame_of(scene_of(view, (320, 240), noise=0)))[15:120] for view in ("visible", "infrared")
    )
    lamps = visible > 240
    assert lamps.sum() > 30
    assert infrared[lamps].max() < 110
    assert np.median(visible) < 60  # it is night


def test_infrared_in_sixteen_bits_is_hundredths_of_a_kelvin() -> None:
    scene = scene_of("infrared", (320, 240), "gray16", noise=0)
    kelvin = frame_of(scene).data[: round(0.9 * 240)] / 100 - 273.15
    assert 0 < kelvin.min() < 15
    assert np.median(kelvin) == pytest.approx(9, abs=5)
    time_ns = next(t for t in range(NOON, NOON + 10**11, 10**9) if inside(scene.truth(t)[-1], scene.size))
    body = frame_of(scene, time_ns).data[box_of(scene.truth(time_ns)[-1])] / 100 - 273.15
    assert 30 < np.percentile(body, 95) < 41


def test_noise_is_new_in_each_frame_as_strong_as_asked_and_can_be_left_out() -> None:
    clean, noisy = scene_of("infrared", SMALL, noise=0), scene_of("infrared", SMALL, noise=4)
    pictures = [clean.draw(NOON, 0), *(noisy.draw(NOON, number) for number in range(3))]
    street = [picture[20:100].astype(float) for picture in pictures]
    differences = [street[number] - street[0] for number in (1, 2, 3)]
    assert [difference.std() for difference in differences] == pytest.approx([4] * 3, rel=0.15)
    assert [difference.mean() for difference in differences] == pytest.approx([0] * 3, abs=0.3)
    assert abs(np.corrcoef(differences[0].ravel(), differences[1].ravel())[0, 1]) < 0.1
    assert np.array_equal(clean.draw(NOON, 0), clean.draw(NOON, 1))


def test_the_same_seed_shows_the_same_street_and_another_one_another() -> None:
    first, again, other = (scene_of("visible", SMALL, seed=seed).draw(NOON, 5) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert (first != other).mean() > 0.3


def test_a_step_raises_the_whole_picture() -> None:
    for pixel_format, step in (("gray8", 6), ("gray16", 120), ("bgr24", 6)):
        scene = scene_of("infrared", SMALL, pixel_format, noise=0)  # type: ignore[arg-type]
        low, high = (scene.draw(NOON, 0, step)[20:110].astype(int) for step in (0.0, 6.0))
        assert np.unique(high - low).tolist() == [step]


def test_a_picture_is_not_written_to_again() -> None:
    scene = scene_of("visible", SMALL, "yuv420p")
    first = scene.draw(NOON, 0)
    kept = first.copy()
    for number in range(1, 20):
        assert not np.shares_memory(first, scene.draw(NOON + number * 33_000_000, number))
    assert np.array_equal(first, kept)
