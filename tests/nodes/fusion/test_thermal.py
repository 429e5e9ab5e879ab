"""The gain of a radiometric sensor: all pixels the same way, slowly from frame to frame."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from nodes.fusion.thermal import MIN_SPAN, LinearGain


def scene(low: int = 20_000, high: int = 21_000) -> np.ndarray:
    """(60, 80) uint16: a slope."""
    return np.linspace(low, high, 60 * 80).reshape(60, 80).astype(np.uint16)


@pytest.mark.parametrize("counts", [0, 1, 20_000, 65_535])
def test_a_flat_scene_is_mid_gray(counts: int) -> None:
    out = LinearGain()(np.full((60, 80), counts, np.uint16))
    assert out.dtype == np.uint8
    assert set(np.unique(out)) <= {127, 128}


def test_the_noise_of_a_flat_scene_is_not_blown_up() -> None:
    noise = np.random.default_rng(0).integers(20_000, 20_004, (60, 80), dtype=np.uint16)
    assert np.ptp(LinearGain()(noise).astype(int)) <= 4 * 255 / MIN_SPAN


def test_a_scene_fills_the_range() -> None:
    out = LinearGain()(scene())
    assert (out.min(), out.max()) == (0, 255)
    assert np.all(np.diff(out.reshape(-1).astype(int)) >= 0)


def test_the_extremes_of_16_bits_do_not_wrap_round() -> None:
    counts = scene(0, 65_535)
    out = LinearGain()(counts)
    assert (out[0, 0], out[-1, -1]) == (0, 255)


def test_a_small_hot_object_is_white_and_leaves_the_rest_as_it_was() -> None:
    gain, still = LinearGain(), scene()
    before = gain(still)
    hot = still.copy()
    hot[30:33, 40:43] = 40_000  # 9 of 4800 pixels: fewer than are left out at either end
    after = gain(hot)
    assert np.all(after[30:33, 40:43] == 255)
    after[30:33, 40:43] = before[30:33, 40:43]
    assert np.abs(after.astype(int) - before).max() <= 1


def test_the_limits_follow_a_change_slowly() -> None:
    gain, still = LinearGain(follow=0.1), scene()
    before = int(gain(still)[30, 40])
    warmer = still + 500
    steps = [int(gain(warmer)[30, 40]) for _ in range(60)]
    assert steps[0] - before == pytest.approx(0.9 * 127, abs=3)  # a tenth of the way back at once
    assert all(later <= earlier for earlier, later in pairwise(steps))
    assert abs(steps[-1] - before) <= 1


def test_a_still_scene_gives_a_still_picture() -> None:
    gain, still = LinearGain(), scene()
    first = gain(still)
    assert all(np.array_equal(gain(still), first) for _ in range(5))


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (513, 1025)])
def test_any_size_is_taken(shape: tuple[int, int]) -> None:
    counts = np.random.default_rng(0).integers(0, 65_536, shape, dtype=np.uint16)
    assert LinearGain()(counts).shape == shape
