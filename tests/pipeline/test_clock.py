"""The clock model, with simulated cameras whose true times of capture are known."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.clock import StreamClock, Unwrapped, slope_under_mean

SECOND, MS = 1_000_000_000, 1_000_000
BOOTED = 5_000 * SECOND  # the host's clock when a camera starts
LEAST = 4 * MS  # that every frame takes

Times = NDArray[np.float64]


@dataclass
class Arrivals:
    """Frames as they arrive; all times in nanoseconds."""

    stream: list[int]
    arrived: list[int]
    captured: list[int]
    """What `StreamClock` should find: the true time and the least delay, which nobody can tell from it."""

    def through(self, clock: StreamClock) -> Times:
        """Errors in milliseconds, having checked what always holds."""
        stamps = [clock.host_ns(*times) for times in zip(self.stream, self.arrived, strict=True)]
        assert all(stamp <= arrived for stamp, arrived in zip(stamps, self.arrived, strict=True))
        assert all(a < b for a, b in pairwise(stamps))
        return np.array([a - b for a, b in zip(stamps, self.captured, strict=True)]) / MS


def camera(
    seconds: float,
    *,
    fps: float = 30,
    since: float = 0,
    drift_ppm: float = 0,
    zero: int = 1_700_000_000 * SECOND,
    jitter_ms: float = 3,
    delay_ms: Callable[[Times], Times] = np.zeros_like,
    seed: int = 1,
) -> Arrivals:
    """A camera that runs from `since` on, with a clock that began at `zero` with the host's `BOOTED`.

    Args:
        jitter_ms: mean of an exponential delay.
        delay_ms: more of it, by the second; frames stay in order.
    """
    seconds_of = since + np.arange(round(seconds * fps)) / fps
    random = np.random.default_rng(seed).exponential(jitter_ms, len(seconds_of))
    arrived = np.maximum.accumulate(seconds_of * SECOND + LEAST + (random + delay_ms(seconds_of)) * MS)
    arrived += np.arange(len(arrived))
    stream = seconds_of * SECOND / (1 + drift_ppm * 1e-6)
    return Arrivals(
        [zero + int(ns) for ns in stream],
        [BOOTED + int(ns) for ns in arrived],
        [BOOTED + LEAST + int(ns) for ns in seconds_of * SECOND],
    )


def during(begin: float, end: float, height_ms: float) -> Callable[[Times], Times]:
    return lambda at: np.where((at >= begin) & (at < end), height_ms, 0.0)


def stall(begin: float, seconds: float) -> Callable[[Times], Times]:
    """Nothing comes for so long, and then all at once."""
    return lambda at: np.where((at >= begin) & (at < begin + seconds), (begin + seconds - at) * 1e3, 0.0)


@settings(max_examples=10, deadline=None)
@given(
    drift_ppm=st.floats(-200, 200),
    fps=st.sampled_from([9.0, 15.0, 30.0]),
    jitter_ms=st.floats(0, 15),
    lost=st.floats(0, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_clock_is_found_under_jitter_drift_drops_duplicates_and_disorder(
    drift_ppm: float, fps: float, jitter_ms: float, lost: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    whole = camera(35, fps=fps, drift_ppm=drift_ppm, jitter_ms=jitter_ms, seed=seed)
    order = [
        n for n in range(len(whole.stream)) for _ in range(int(random.choice([1, 1, 2]))) if random.random() > lost
    ]
    for place in random.integers(0, len(order) - 1, len(order) // 20):
        order[place], order[place + 1] = order[place + 1], order[place]
    arrived = [whole.arrived[n] for n in order]
    arrived = [int(ns) + n for n, ns in enumerate(np.maximum.accumulate(arrived))]
    met = Arrivals([whole.stream[n] for n in order], arrived, [whole.captured[n] for n in order])
    clock = StreamClock()
    error = met.through(clock)
    new = np.array(order) > np.maximum.accumulate([-1, *order[:-1]])  # the others get the next free nanosecond
    settled = np.array(met.captured) > BOOTED + 20 * SECOND
    assert clock.epoch == 0
    assert np.abs(error[new & settled]).max() < 2.0
    assert abs(clock.drift_ppm - drift_ppm) < 60


def test_over_a_day_of_drift_by_200_ppm_up_and_down_the_error_stays_below_two_milliseconds() -> None:
    day, step = 86_400.0, 10.0
    random = np.random.default_rng(2)
    true = np.arange(0, day, step)
    behind = np.cumsum(200e-6 * np.sin(2 * np.pi * true / day) * step)
    arrived = np.maximum.accumulate(true + random.exponential(0.001, len(true)))  # the least delayed few
    met = Arrivals(
        [int((at - late) * SECOND) for at, late in zip(true, behind, strict=True)],
        [BOOTED + int(at * SECOND) + n for n, at in enumerate(arrived)],
        [BOOTED + int(at * SECOND) for at in true],
    )
    clock = StreamClock(window_s=12)  # 12 frames, two minutes
    error = met.through(clock)
    assert clock.epoch == 0
    assert np.abs(error[true > 300]).max() < 2.0
    assert behind.max() > 5  # what the error would be without


@pytest.mark.parametrize("drift_ppm", [-200.0, 0.0, 200.0])
def test_drift_is_learnt_in_half_a_minute_and_costs_no_millisecond_until_then(drift_ppm: float) -> None:
    clock = StreamClock()
    error = camera(30, drift_ppm=drift_ppm).through(clock)
    assert np.abs(error[30:]).max() < 1.0
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=10)


def test_no_slope_is_made_of_the_first_second() -> None:
    clock = StreamClock()
    camera(1, jitter_ms=40).through(clock)
    assert clock.drift_ppm == 0
    camera(3, since=1, jitter_ms=40, seed=3).through(clock)
    assert abs(clock.drift_ppm) < 50


def test_the_drift_stays_within_the_limit() -> None:
    clock = StreamClock(max_drift_ppm=100)
    camera(60, drift_ppm=1000).through(clock)
    assert 90 < clock.drift_ppm <= 100


def test_a_window_of_less_than_a_second_still_holds_one() -> None:
    error = camera(10, jitter_ms=1).through(StreamClock(window_s=0.1))
    assert np.abs(error).max() < 2.0


def test_the_offset_is_from_the_stream_to_the_host() -> None:
    clock = StreamClock()
    camera(10, zero=7 * SECOND, jitter_ms=0).through(clock)
    assert clock.offset_ns == pytest.approx(BOOTED + LEAST - 7 * SECOND, abs=1000)


def test_bursts_of_half_a_second_move_no_timestamp() -> None:
    clock = StreamClock()
    camera(20).through(clock)
    bursts = camera(60, since=20, seed=3, delay_ms=lambda at: np.where(at % 3 > 2.5, (3 - at % 3) * 1e3, 0))
    error = bursts.through(clock)
    assert clock.epoch == 0
    assert np.abs(error).max() < 0.5


def test_a_stall_of_five_seconds_moves_no_timestamp() -> None:
    clock = StreamClock()
    camera(20).through(clock)
    error = camera(20, since=20, seed=3, delay_ms=stall(25, 5)).through(clock)
    assert clock.epoch == 0
    assert np.abs(error).max() < 0.5


def test_frames_held_up_at_the_start_give_way_to_the_first_that_is_not() -> None:
    error = camera(20, delay_ms=stall(0, 1), jitter_ms=1).through(clock := StreamClock())
    assert clock.epoch == 0
    assert np.abs(error[45:]).max() < 1.0


def test_a_higher_delay_is_no_other_clock_until_it_has_lasted_for_the_window() -> None:
    clock = StreamClock()
    camera(60).through(clock)
    error = camera(60, since=60, seed=3, delay_ms=during(60, 999, 20)).through(clock)
    at = np.arange(len(error)) / 30
    assert np.abs(error[at < 20]).max() < 1.0
    assert np.abs(error[at > 35] - 20).max() < 1.0
    assert clock.epoch == 0


def test_a_higher_delay_that_ends_within_the_window_leaves_no_trace() -> None:
    clock = StreamClock()
    camera(60).through(clock)
    error = camera(60, since=60, seed=3, delay_ms=during(60, 80, 20)).through(clock)
    assert np.abs(error).max() < 1.5


@pytest.mark.parametrize("by_ms", [5, 20, 400])
def test_a_lower_delay_is_followed_at_once_and_is_no_drift(by_ms: float) -> None:
    clock = StreamClock()
    error = camera(120, drift_ppm=50, delay_ms=during(0, 60, by_ms)).through(clock)
    assert np.abs(error[60 * 30 + 15 :]).max() < 1.0  # half a second later
    assert clock.epoch == 0
    assert clock.drift_ppm == pytest.approx(50, abs=10)


@pytest.mark.parametrize("jump_s", [-3600, -50, -2, 2, 3600])
def test_a_clock_that_is_set_is_anchored_anew_by_its_second_frame_and_keeps_its_drift(jump_s: int) -> None:
    clock = StreamClock()
    before = camera(60, drift_ppm=100)
    before.through(clock)
    after = camera(60, since=60, drift_ppm=100, zero=(1_700_000_000 + jump_s) * SECOND, seed=3)
    error = after.through(clock)
    assert clock.epoch == 1
    assert error[0] >= 0  # by its arrival
    assert np.abs(error[90:]).max() < 1.0
    assert clock.drift_ppm == pytest.approx(100, abs=5)


def test_a_clock_that_is_set_back_by_less_than_a_jump_is_anchored_anew_too() -> None:
    clock = StreamClock()
    camera(30).through(clock)
    error = camera(10, since=30, zero=1_700_000_000 * SECOND - 300 * MS, seed=3).through(clock)
    assert clock.epoch == 1
    assert np.abs(error[90:]).max() < 1.0


def test_a_clock_that_stood_still_while_the_camera_was_off_is_believed_after_two_seconds() -> None:
    clock = StreamClock()
    camera(30).through(clock)
    error = camera(10, since=90, zero=(1_700_000_000 - 50) * SECOND, seed=3).through(clock)
    at = np.arange(len(error)) / 30
    assert clock.epoch == 1
    assert error[at < 1.9].max() < -49_000  # it may also be the network that held them up
    assert np.abs(error[at > 2.1]).max() < 1.0


def test_a_gap_that_the_stream_clock_counted_changes_nothing() -> None:
    clock = StreamClock()
    camera(60, drift_ppm=200).through(clock)
    error = camera(10, since=600, drift_ppm=200, seed=3, delay_ms=during(600, 601, 30)).through(clock)
    assert clock.epoch == 0
    assert np.abs(error).max() < 2.0


@pytest.mark.parametrize("wrong_s", [-3600, -1, 1, 3600])
@pytest.mark.parametrize("times", [1, 2])
def test_one_frame_with_a_wrong_stamp_is_not_believed_even_if_it_comes_twice(wrong_s: int, times: int) -> None:
    clock = StreamClock()
    met = camera(40)
    for place in range(600, 600 + times):
        met.stream[place] = met.stream[600] + (wrong_s * SECOND if place == 600 else 0)
    error = met.through(clock)
    right = [n for n in range(300, len(error)) if n not in range(600, 603)]
    assert clock.epoch == 0
    assert np.abs(error[right]).max() < 1.0
    assert -1.0 < error[600] < 40.0  # its arrival


def test_a_stream_whose_stamps_all_are_the_same_is_stamped_near_its_arrivals() -> None:
    met = camera(10)
    met.stream = [5 * SECOND] * len(met.stream)
    error = met.through(clock := StreamClock())
    assert clock.epoch > 0
    assert error.min() > -300
    assert error.max() < 60


def test_a_restart_that_the_source_knows_of_costs_no_frame_and_keeps_the_drift() -> None:
    clock = StreamClock()
    clock.restart()
    assert clock.epoch == 0  # there was nothing yet
    camera(60, drift_ppm=150).through(clock)
    clock.restart()
    clock.restart()
    assert clock.epoch == 1
    error = camera(30, since=100, drift_ppm=150, zero=0, jitter_ms=1, seed=3).through(clock)
    assert clock.epoch == 1
    assert np.abs(error[30:]).max() < 1.0
    assert clock.drift_ppm == pytest.approx(150, abs=5)


def test_memory_does_not_grow() -> None:
    clock = StreamClock()
    camera(60, fps=10).through(clock)
    after_a_minute = len(pickle.dumps(clock))
    camera(1500, since=60, fps=4, seed=3).through(clock)
    assert len(pickle.dumps(clock)) <= after_a_minute + 100


@pytest.mark.parametrize("setting", ["window_s", "max_drift_ppm", "jump_ms"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_settings_are_above_zero(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{setting}={value}"):
        StreamClock(**{setting: value})


@pytest.mark.parametrize("bits", [32, 33])
def test_wrapping_stamps_go_on_and_the_clock_with_them(bits: int) -> None:
    clock, unwrapped = StreamClock(), Unwrapped(bits, 90_000)
    met = camera(60, zero=(2**bits * SECOND // 90_000) - 30 * SECOND)
    stamps = [ns * 9 // 100_000 % 2**bits for ns in met.stream]
    assert min(stamps) < 90_000 < 2**bits - 90_000 < max(stamps)
    met.stream = [unwrapped.ns(stamp) for stamp in stamps]
    error = met.through(clock)
    assert clock.epoch == 0
    assert np.abs(error[300:]).max() < 1.0


def test_a_wrap_that_nobody_unwrapped_is_a_jump() -> None:
    clock = StreamClock()
    met = camera(60, zero=(2**33 * SECOND // 90_000) - 30 * SECOND)
    met.stream = [ns % (2**33 * SECOND // 90_000) for ns in met.stream]
    error = met.through(clock)
    assert clock.epoch == 1
    assert np.abs(error[1000:]).max() < 1.0


@settings(max_examples=50, deadline=None)
@given(
    bits=st.integers(8, 33),
    first=st.integers(0, 2**33 - 1),
    steps=st.lists(st.floats(-0.49, 0.49), max_size=30),
)
def test_unwrapped_stamps_are_the_true_ones(bits: int, first: int, steps: list[float]) -> None:
    unwrapped = Unwrapped(bits, 1000)
    true = first % 2**bits
    assert unwrapped.ns(true) == true * MS
    for step in steps:
        true += int(step * 2**bits)
        assert unwrapped.ns(true % 2**bits) == true * MS


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(-1000, 1000), st.integers(-1000, 1000), min_size=2, max_size=12))
def test_the_slope_is_of_the_best_line_under_all_points(heights: dict[int, int]) -> None:
    points = sorted(heights.items())
    x, y = np.array(points, float).T

    def distance(slope: float) -> float:
        return float(np.mean(y - slope * x) - np.min(y - slope * x))

    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for n, a in enumerate(points) for b in points[n + 1 :]]
    assert distance(slope_under_mean(points)) == pytest.approx(min(map(distance, slopes)), abs=1e-9)
