"""Damages for training: what they change, how much at most, and what they leave."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models import damage

SIZE = 64


@pytest.fixture
def same_light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shots in one light, so that their pixels can be compared."""
    monkeypatch.setattr(damage, "tone", lambda plane, _: plane)


def test_the_light_of_each_shot_changes_a_little() -> None:
    grey = np.zeros((4, 4), np.float32)
    toned = np.array([damage.tone(grey, np.random.default_rng(seed)) for seed in range(50)])
    assert np.all(toned == toned[:, :1, :1])
    assert 0.05 < np.abs(toned).max() <= 0.1 + 10 * damage.GREY
    assert len(np.unique(toned)) == 50


@pytest.fixture
def plane() -> np.ndarray:
    """A picture with detail of all sizes, (64, 80) in -0.8..0.8."""
    rng = np.random.default_rng(5)
    field = sum(cv2.GaussianBlur(rng.standard_normal((SIZE, 80)), (0, 0), sigma) * sigma for sigma in (0.7, 2, 6))
    return np.asarray(0.8 * field / np.abs(field).max(), np.float32)


def ramps() -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel is, (y, x), in hundredths."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / 100
    return y, x


@pytest.mark.parametrize("kind", damage.DAMAGES)
def test_a_damaged_plane_is_one_of_its_shape_and_range(kind: str, plane: np.ndarray) -> None:
    for seed in range(10):
        before = plane.copy()
        seen = damage.DAMAGES[kind](plane, np.random.default_rng(seed))
        assert (seen.shape, seen.dtype) == (plane.shape, np.float32)
        assert np.abs(seen).max() <= 1
        assert not np.array_equal(seen, plane)
        assert np.array_equal(before, plane), "the sharp plane is still needed"


@pytest.mark.parametrize("kind", damage.DAMAGES)
def test_the_same_chance_does_the_same_damage(kind: str, plane: np.ndarray) -> None:
    one, again, other = (damage.DAMAGES[kind](plane, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_noise_is_white_and_of_at_most_14_grey_levels(plane: np.ndarray) -> None:
    strengths = []
    for seed in range(20):
        grain = 127.5 * damage.noise(np.zeros_like(plane), np.random.default_rng(seed))
        strengths.append(grain.std())
        assert abs(grain.mean()) < 1
        assert abs((grain[:, 1:] * grain[:, :-1]).mean()) < 0.1 * grain.var()
    assert 1.9 < min(strengths) < 5
    assert 10 < max(strengths) < 14.5


def test_a_blur_keeps_the_mean_and_takes_detail(plane: np.ndarray) -> None:
    for seed in range(10):
        seen = damage.blur(plane, np.random.default_rng(seed))
        assert seen.mean() == pytest.approx(plane.mean(), abs=0.01)
        assert np.abs(np.diff(seen)).mean() < np.abs(np.diff(plane)).mean()


def test_a_shift_moves_by_one_to_four_pixels_in_any_direction() -> None:
    angles = []
    for seed in range(20):
        moved = [damage.shift(ramp, np.random.default_rng(seed)) for ramp in ramps()]
        inner = np.s_[5:-5, 5:-5]
        by = [100 * (ramp - seen)[inner] for ramp, seen in zip(ramps(), moved, strict=True)]
        assert max(np.ptp(part) for part in by) < 0.1, "all of it moves alike"
        assert 0.95 < np.hypot(by[0].mean(), by[1].mean()) < 4.05
        angles.append(np.arctan2(by[0].mean(), by[1].mean()))
    assert len({int(angle // (np.pi / 2)) for angle in angles}) == 4


def test_a_shift_repeats_the_border() -> None:
    assert damage.shift(np.full((SIZE, SIZE), 0.5, np.float32), np.random.default_rng(0)).min() == 0.5


def test_a_saturated_plane_is_brighter_and_keeps_its_order(plane: np.ndarray) -> None:
    white = []
    order = np.argsort(plane, axis=None)
    for seed in range(10):
        seen = damage.saturated(plane, np.random.default_rng(seed))
        white.append((seen == 1).mean())
        assert seen.mean() > plane.mean() + 0.2
        assert (np.diff(seen.ravel()[order]) >= 0).all()
    assert max(white) > 0.5


def test_an_empty_plane_is_flat_whatever_was_in_it(plane: np.ndarray) -> None:
    levels = []
    for seed in range(20):
        seen = damage.empty(plane, np.random.default_rng(seed))
        assert np.array_equal(seen, damage.empty(-plane, np.random.default_rng(seed)))
        assert 127.5 * seen.std() < 3.1
        levels.append(np.median(seen))
    assert min(levels) < -0.9
    assert max(levels) > 0.9
    assert any(-0.9 < level < 0 for level in levels)


def damaged(plane: np.ndarray, kinds: str | tuple[str, ...]) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Some of what `first_source` makes of a plane and a darker other one that are of these kinds."""
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    found = []
    for seed in range(40):
        seen, wanted = damage.first_source([plane, plane / 2 - 0.4], np.random.default_rng(seed))
        # The kind is the first thing drawn; what follows is the damage itself.
        rng = np.random.default_rng(seed)
        kind = rng.choice(["noise", "blur", "shift", "saturated", "empty"], p=[0.35, 0.15, 0.3, 0.1, 0.1])
        assert np.array_equal(seen[0], damage.DAMAGES[kind](plane, rng))
        if kind in kinds:
            found.append((seen, wanted))
    assert len(found) >= 2
    return found


def test_only_the_first_source_is_damaged(plane: np.ndarray) -> None:
    for seen, wanted in damaged(plane, tuple(damage.DAMAGES)):
        assert not np.array_equal(seen[0], plane)
        assert np.array_equal(seen[1], plane / 2 - 0.4)
        assert np.array_equal(wanted[1], plane / 2 - 0.4)


@pytest.mark.parametrize("kind", ["noise", "blur", "shift"])
def test_what_can_be_seen_through_is_wanted_clean(kind: str, plane: np.ndarray) -> None:
    for _, wanted in damaged(plane, kind):
        assert np.array_equal(wanted[0], plane)


def test_what_is_white_of_a_saturated_source_is_not_wanted(plane: np.ndarray) -> None:
    for seen, wanted in damaged(plane, "saturated"):
        lost = seen[0] == 1
        assert 0 < lost.mean() < 1
        assert wanted[0].dtype == np.float32
        assert np.array_equal(wanted[0][~lost], seen[0][~lost])
        assert (np.maximum(*wanted)[lost] == wanted[1][lost]).all()


def test_nothing_of_an_empty_source_is_wanted(plane: np.ndarray) -> None:
    for _, wanted in damaged(plane, "empty"):
        assert np.array_equal(np.maximum(*wanted), wanted[1])


def test_a_lens_spreads_light_evenly_and_loses_none() -> None:
    sides = []
    for seed in range(20):
        kernel = damage.lens(np.random.default_rng(seed))
        assert kernel.dtype == np.float32
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert kernel.min() >= 0
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        for turned in (kernel.T, kernel[::-1], kernel[:, ::-1]):
            np.testing.assert_allclose(turned, kernel, atol=1e-7)
        sides.append(len(kernel))
    assert min(sides) <= 9
    assert max(sides) >= 19


def test_a_mask_is_a_share_and_mostly_nothing_or_all() -> None:
    shares = []
    for seed in range(20):
        mask = damage.random_mask((48, 70), np.random.default_rng(seed))
        assert (mask.shape, mask.dtype) == ((48, 70), np.float32)
        assert mask.min() >= -1e-6
        assert mask.max() <= 1 + 1e-6
        assert ((mask > 0.01) & (mask < 0.99)).mean() < 0.5
        shares.append(mask.mean())
    assert min(shares) < 0.35
    assert max(shares) > 0.65


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The mask of two focal planes: the left half is near; seen without noise through an even 5x5 lens."""
    mask = np.zeros((SIZE, 80), np.float32)
    mask[:, :40] = 1
    monkeypatch.setattr(damage, "random_mask", lambda shape, rng: mask)
    monkeypatch.setattr(damage, "lens", lambda rng: np.full((5, 5), 1 / 25, np.float32))
    monkeypatch.setattr(damage, "GREY", 0)
    return mask


def in_order(planes: list[np.ndarray], sharp: np.ndarray) -> list[np.ndarray]:
    """The one that is sharp on the right, where it is far, last."""
    return sorted(planes, key=lambda plane: -float(np.abs(plane - sharp)[:, 42:].sum()))


@pytest.mark.usefixtures("same_light")
def test_each_focal_plane_is_sharp_in_its_part_and_blurred_in_the_other(halves: np.ndarray, plane: np.ndarray) -> None:
    planes, _ = damage.two_focal_planes(plane, np.random.default_rng(0))
    near, far = in_order(planes, plane)
    blurred = cv2.blur(plane, (5, 5))
    np.testing.assert_allclose(near[:, :40], plane[:, :40], atol=1e-6)
    np.testing.assert_allclose(near[:, 40:], blurred[:, 40:], atol=1e-6)
    np.testing.assert_allclose(far[:, 42:], plane[:, 42:], atol=1e-6)
    np.testing.assert_allclose(far[:, :38], blurred[:, :38], atol=1e-6)


@pytest.mark.usefixtures("same_light")
def test_out_of_focus_the_near_part_spreads_over_what_lies_behind(halves: np.ndarray, plane: np.ndarray) -> None:
    white_and_near = np.where(halves == 1, np.float32(1), plane)
    planes, _ = damage.two_focal_planes(white_and_near, np.random.default_rng(0))
    _, far = in_order(planes, white_and_near)
    spread = np.array([0.4, 0.2])  # of the five columns that the lens sees, those that are near
    np.testing.assert_allclose(far[:, 40:42], spread + (1 - spread) * plane[:, 40:42], atol=1e-6)


@pytest.mark.usefixtures("same_light")
def test_the_focal_planes_come_in_either_order_and_the_right_choice_with_them(
    halves: np.ndarray, plane: np.ndarray
) -> None:
    orders = set()
    for seed in range(10):
        planes, choice = damage.two_focal_planes(plane, np.random.default_rng(seed))
        near_is_first = bool(np.array_equal(planes[0][:, :40], plane[:, :40]))
        assert np.array_equal(choice, halves if near_is_first else 1 - halves)
        orders.add(near_is_first)
    assert orders == {True, False}


@pytest.mark.usefixtures("same_light")
def test_by_the_right_choice_two_focal_planes_are_the_sharp_picture(plane: np.ndarray) -> None:
    for seed in range(10):
        (one, other), choice = damage.two_focal_planes(plane, np.random.default_rng(seed))
        for made in (one, other, choice):
            assert (made.shape, made.dtype) == (plane.shape, np.float32)
            assert np.abs(made).max() <= 1 + 1e-6
        assert choice.min() >= -1e-6
        together = choice * one + (1 - choice) * other
        errors = [np.abs(picture - plane).mean() for picture in (together, one, other)]
        assert errors[0] <= min(errors[1:]) + 1e-6


def test_the_same_chance_makes_the_same_focal_planes(plane: np.ndarray) -> None:
    first, again, another = (damage.two_focal_planes(plane, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for one, other in zip((*first[0], first[1]), (*again[0], again[1]), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(first[1], another[1])
