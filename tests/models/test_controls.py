"""The classical fusions: what any of them must do, and what each is for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.controls import Fusing, controls_for, guided_filter_fusion, pyramid

NAMES = ["average", "maximum", "Laplacian pyramid", "GFF"]
SIZES = [(1, 1), (1, 9), (7, 3), (33, 47), (64, 80)]  # (H, W)


@pytest.fixture(params=NAMES)
def control(request: pytest.FixtureRequest) -> Fusing:
    return controls_for("focus")[request.param]


def texture(shape: tuple[int, int] = (64, 80), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def half_sharp() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A scene, and two pictures of it, the left one sharp on the left and the right one on the right."""
    scene = cv2.GaussianBlur(texture((96, 128)), (0, 0), 1)
    blurred = cv2.GaussianBlur(scene, (0, 0), 3)
    left, right = blurred.copy(), blurred.copy()
    left[:, :64], right[:, 64:] = scene[:, :64], scene[:, 64:]
    return scene, left, right


@pytest.mark.parametrize("task", ["infrared", "exposure", "focus", "medical"])
def test_every_task_has_all_four_in_one_order(task: str) -> None:
    assert list(controls_for(task)) == NAMES


@pytest.mark.parametrize("shape", SIZES)
def test_two_equal_sources_give_the_source_at_any_size(control: Fusing, shape: tuple[int, int]) -> None:
    picture = texture(shape)
    fused = control("", picture, picture.copy())
    assert fused.dtype == np.uint8
    assert fused.shape == shape
    assert np.abs(fused.astype(int) - picture).max() <= 1


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("levels", [(0, 0), (0, 255), (255, 0), (255, 255), (17, 90)])
def test_flat_sources_give_a_flat_picture_between_them(
    control: Fusing, shape: tuple[int, int], levels: tuple[int, int]
) -> None:
    first, second = (np.full(shape, level, np.uint8) for level in levels)
    with np.errstate(all="raise"):
        fused = control("", first, second)
    assert fused.min() == fused.max()
    assert min(levels) <= fused.min() <= max(levels)


def test_neither_overshoot_nor_undershoot_wraps_around(control: Fusing) -> None:
    first = np.where(np.indices((64, 64)).sum(0) % 16 < 8, 255, 0).astype(np.uint8)
    fused = control("", first, 255 - first).astype(int)
    wide = control("", cv2.dilate(first, np.ones((3, 3))), first).astype(int)
    assert np.abs(fused - 127.5).max() <= 127.5
    assert np.abs(wide - first)[5:-5, 5:-5].mean() < 64  # wrapped around, white would be black


@pytest.mark.parametrize("name", ["Laplacian pyramid", "GFF"])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_sharper_source_wins_at_each_place(name: str, swapped: bool) -> None:
    scene, left, right = half_sharp()
    fused = controls_for("focus")[name]("", *((right, left) if swapped else (left, right)))

    def error(picture: np.ndarray) -> float:
        return float(np.abs(picture.astype(float) - scene).mean())

    assert error(fused) < 0.35 * min(error(left), error(right))


def test_average_rounds_a_half_up_and_maximum_takes_the_brighter() -> None:
    first, second = np.array([[0, 1, 254, 255]], np.uint8), np.array([[1, 1, 255, 255]], np.uint8)
    controls = controls_for("infrared")
    assert controls["average"]("", first, second).tolist() == [[1, 1, 255, 255]]
    assert controls["maximum"]("", second, first).tolist() == [[1, 1, 255, 255]]


@pytest.mark.parametrize(("task", "level"), [("infrared", 200), ("exposure", 120), ("focus", 120), ("medical", 120)])
def test_the_base_of_the_pyramid_is_the_brighter_for_infrared_and_the_mean_for_others(task: str, level: int) -> None:
    first, second = np.full((64, 64), 40, np.uint8), np.full((64, 64), 200, np.uint8)
    assert np.unique(controls_for(task)["Laplacian pyramid"]("", first, second)) == [level]


def test_the_pyramid_has_four_levels_of_detail_and_a_base() -> None:
    assert [plane.shape for plane in pyramid(texture((33, 48)))] == [(33, 48), (17, 24), (9, 12), (5, 6), (3, 3)]


def test_guided_weights_follow_an_edge_and_do_not_ring_over_it() -> None:
    first = np.zeros((64, 64), np.uint8)
    first[:, 32:] = 200
    fused = guided_filter_fusion("", first, np.zeros_like(first)).astype(int)
    assert np.all(np.diff(fused[32, 28:36]) >= 0)
    assert fused[32, 34] - fused[32, 29] > 90
