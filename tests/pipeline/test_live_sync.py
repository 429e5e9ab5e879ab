"""Live matching: the nearest partner, in time, and a match for every frame of a sensor that lives."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.live_sync import LiveMatcher
from pipeline.sync import Match

MS = 1_000_000
HOLD_MS = 200

Item = tuple[str, int]
"""Stream and capture time."""


@dataclass
class Camera:
    """Frames of one stream: capture times and how long after them they arrive, in milliseconds."""

    rate: float
    seconds: float = 4.0
    phase_ms: float = 0.0
    jitter_ms: float = 0.0
    delay_ms: tuple[float, float] = (5.0, 5.0)
    drift_ppm: float = 0.0
    lost: float = 0.0
    silent_ms: tuple[float, float] = (math.inf, math.inf)
    seed: int = 0

    def arrivals(self, name: str) -> list[tuple[int, str, int]]:
        """(arrival, stream, capture time) in nanoseconds, arrivals in order as a connection keeps them."""
        chance, last, found = random.Random(f"{self.seed} {name}"), 0, []
        period_ms = 1000 / self.rate * (1 + self.drift_ppm * 1e-6)
        for number in range(round(self.seconds * self.rate)):
            time_ms = self.phase_ms + number * period_ms + chance.uniform(0, self.jitter_ms)
            arrival = max(last, round((time_ms + chance.uniform(*self.delay_ms)) * MS))
            if chance.random() < self.lost or self.silent_ms[0] <= time_ms < self.silent_ms[1]:
                continue
            last = arrival
            found.append((arrival, name, round(time_ms * MS)))
        return found


@dataclass
class Run:
    """A matcher fed in the order of arrivals, asked again whenever it wants to be."""

    matcher: LiveMatcher[Item]
    matches: list[tuple[int, Match[Item]]] = field(default_factory=list)
    """With the moment of each."""
    now: int = 0
    pushed: Counter[str] = field(default_factory=Counter)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)

    def feed(self, arrivals: Iterable[tuple[int, str, int]]) -> Run:
        arrivals = sorted(arrivals)
        self.now = arrivals[0][0]
        for arrival, name, time in arrivals:
            self.ask_until(arrival)
            self.matcher.push(name, time, (name, time), arrival)
            self.pushed[name] += 1
            self.ask(arrival)
        self.ask_until(arrival + 10_000 * MS)
        for name in ("infrared", "visible", "under", "middle", "over"):
            with suppress(KeyError):
                self.matcher.end(name)
        self.ask(arrival + 10_000 * MS)
        return self

    def ask(self, now: int) -> None:
        self.now = now
        while (match := self.matcher.pull(now)) is not None:
            self.matches.append((now, match))
        while self.matcher.left:
            name, reason, _ = self.matcher.left.popleft()
            self.left[name, reason] += 1

    def ask_until(self, end: int) -> None:
        while (wake := self.matcher.wake_ns(self.now)) is not None and wake < end:
            assert wake > self.now, "asked to be asked again at once, for ever"
            self.ask(wake)

    def check_count(self) -> None:
        fresh = Counter(name for _, match in self.matches for name in match.fresh)
        for name, count in self.pushed.items():
            left = sum(n for (stream, _), n in self.left.items() if stream == name)
            assert fresh[name] + left == count, name


def run(cameras: dict[str, Camera], reference: str = "visible", partial: bool = True, **settings: int | None) -> Run:
    matcher: LiveMatcher[Item] = LiveMatcher(list(cameras), reference, partial=partial, **settings)
    done = Run(matcher).feed([arrival for name, camera in cameras.items() for arrival in camera.arrivals(name)])
    done.check_count()
    times = [next(iter(match.items.values()))[1] for _, match in done.matches]
    assert len(times) == len(set(times)) or len(cameras) > 1
    return done


def of_reference(done: Run, after_ms: float = 0, name: str = "visible") -> list[tuple[int, Match[Item]]]:
    """Matches in which a stream is fresh, from a time on."""
    return [
        (now, match) for now, match in done.matches if name in match.fresh and match.items[name][1] >= after_ms * MS
    ]


@settings(max_examples=60, deadline=None)
@given(
    rates=st.sampled_from([(30, 30), (9, 30), (29.97, 30), (60, 25), (25, 60), (30, 9), (15, 30)]),
    phase=st.floats(0, 40),
    jitter=st.floats(0, 3),
    spread=st.floats(0, 40),
    drift=st.floats(-200, 200),
    lost=st.sampled_from([0, 0.05, 0.3]),
    seed=st.integers(0, 10_000),
)
def test_each_frame_of_the_reference_gets_the_nearest_partner(rates, phase, jitter, spread, drift, lost, seed):
    infrared = Camera(rates[0], 4, phase, jitter, (3, 3 + spread), drift, lost, seed=seed)
    visible = Camera(rates[1], 4, 0, jitter, (2, 2 + spread), seed=seed)
    done = run({"infrared": infrared, "visible": visible}, max_hold_ns=1000 * MS)
    came = {time: arrival for arrival, _, time in infrared.arrivals("infrared")}
    skew = 0.5e9 / rates[1] - 2 * jitter * MS
    matched = of_reference(done, 1500)
    assert len(matched) == sum(time >= 1500 * MS for _, _, time in visible.arrivals("visible"))
    missed = 0
    for now, match in matched:
        time = match.items["visible"][1]
        nearest = min(came, key=lambda other: abs(time - other))
        best = abs(time - nearest)
        if best > skew:
            continue
        # Jitter may bring the next frame a little nearer than any before it has come.
        if match.held or match.skew_ns > best + 2 * jitter * MS + 1:
            assert came[nearest] > now
            missed += 1
    assert missed <= len(matched) / 20  # whose partners came later than any before them, which nobody could know


def test_a_match_waits_no_longer_than_a_partner_needs():
    late = Camera(30, phase_ms=1, delay_ms=(5, 45), seed=3)
    done = run({"infrared": late, "visible": Camera(30)})
    for now, match in of_reference(done, 500):
        assert now - match.items["visible"][1] <= (17 + 45 + 2) * MS


@pytest.mark.parametrize("late_ms", [150, 250, 450])
def test_a_partner_that_is_always_late_is_waited_for(late_ms: float):
    done = run({"infrared": Camera(30, delay_ms=(late_ms, late_ms)), "visible": Camera(30)})
    matched = of_reference(done, 1500)
    assert {match.held for _, match in matched} == {()}
    assert all(now - match.items["visible"][1] <= (late_ms + 3) * MS for now, match in matched)
    assert done.matcher.behind_ms() == {"infrared": pytest.approx(late_ms - 5, abs=0.1), "visible": 0}


def test_a_partner_that_is_later_than_any_picture_may_be_is_done_without():
    done = run({"infrared": Camera(30, delay_ms=(900, 900)), "visible": Camera(30)})
    matched = of_reference(done, 1500)
    assert {tuple(match.items) for _, match in matched} == {("visible",)}
    assert all(now - match.items["visible"][1] <= 7 * MS for now, match in matched)


def test_a_partner_just_before_is_taken_at_once():
    done = run({"infrared": Camera(30, phase_ms=-4), "visible": Camera(30)})
    for now, match in of_reference(done, 500):
        assert now == match.items["visible"][1] + 5 * MS
        assert match.skew_ns == 4 * MS


def test_a_slow_partner_is_held_between_its_frames_and_nobody_waits_for_it():
    done = run({"infrared": Camera(9), "visible": Camera(30)})
    matched = of_reference(done, 1000)
    held = [match for _, match in matched if match.held == ("infrared",)]
    assert 0.6 < len(held) / len(matched) < 0.75
    assert all(now - match.items["visible"][1] <= 25 * MS for now, match in matched)
    assert all(match.skew_ns <= 1e9 / 9 for match in held)


@pytest.mark.parametrize(("lost", "alone"), [("infrared", "visible"), ("visible", "infrared")])
def test_a_silent_stream_is_held_then_lost_within_200_ms_and_back_at_once(lost: str, alone: str):
    cameras = {"infrared": Camera(30, phase_ms=3), "visible": Camera(30)}
    cameras[lost].silent_ms = (1000, 2500)
    done = run(cameras)
    states = {match.items[alone][1] / MS: set(match.items) for _, match in done.matches if alone in match.items}
    assert all(seen == {"infrared", "visible"} for time, seen in states.items() if time < 1000 or time > 2540)
    assert all(seen == {alone} for time, seen in states.items() if 1000 + HOLD_MS + 34 < time < 2490)
    moments = [now for now, _ in done.matches]
    gaps = [later - now for now, later in itertools.pairwise(moments)]
    # While the reference is not yet lost nobody drives: that is the longest that the picture stands still.
    assert max(gaps) <= (HOLD_MS + 34 if lost == "visible" else 55) * MS
    assert len(done.matches) >= 0.94 * 4 * 30


def test_frames_that_waited_for_a_lost_reference_are_shown_late_rather_than_never():
    done = run({"infrared": Camera(30, phase_ms=3), "visible": Camera(30, silent_ms=(1000, 9000))})
    shown = [match.items["infrared"][1] for _, match in done.matches if "infrared" in match.fresh]
    assert len(shown) == 4 * 30
    assert shown == sorted(shown)


def test_a_stream_that_never_comes_keeps_nobody_waiting_longer_than_it_may_be_silent():
    done = run({"infrared": Camera(30, seconds=0), "visible": Camera(30)})
    assert [set(match.items) for _, match in done.matches] == [{"visible"}] * 120
    assert done.matches[0][0] <= (HOLD_MS + 5) * MS


def test_a_setting_says_how_long_a_partner_is_held():
    infrared = Camera(30, silent_ms=(1000, 2500))
    done = run({"infrared": infrared, "visible": Camera(30)}, max_hold_ns=1000 * MS)
    held = [match for _, match in done.matches if match.held]
    assert 950 <= max(match.skew_ns for match in held) / MS <= 1000
    assert len(held) == pytest.approx(30, abs=2)


def test_a_camera_ten_times_as_slow_is_lost_and_then_known_to_be_slow():
    fast, slow = Camera(30, seconds=1), Camera(3, seconds=6, phase_ms=1000)
    arrivals = [*fast.arrivals("infrared"), *slow.arrivals("infrared"), *Camera(30, seconds=7).arrivals("visible")]
    done = Run(LiveMatcher(["infrared", "visible"], "visible", partial=True)).feed(arrivals)
    done.check_count()
    kinds = [len(match.items) for _, match in of_reference(done)]
    assert len(kinds) == 210
    assert 1 in kinds[30:60]
    assert set(kinds[-30:]) == {2}


def test_a_burst_after_a_stall_of_500_ms_gives_all_frames_their_own_partners_again():
    cameras = {"infrared": Camera(30, phase_ms=3), "visible": Camera(30)}
    stalled = [
        (max(arrival, 1500 * MS) if 1000 * MS <= time < 1500 * MS else arrival, name, time)
        for name, camera in cameras.items()
        for arrival, name, time in camera.arrivals(name)
    ]
    done = Run(LiveMatcher(list(cameras), "visible", partial=True)).feed(stalled)
    done.check_count()
    before, after = (lambda time: time < 990 * MS), (lambda time: time > 1510 * MS)
    for when in (before, after):
        matched = [match for _, match in of_reference(done) if when(match.items["visible"][1])]
        assert len(matched) == sum(when(time) for _, _, time in cameras["visible"].arrivals("visible"))
        assert all(match.skew_ns == 3 * MS for match in matched)


def test_frames_out_of_order_and_twice_the_same_are_left():
    matcher: LiveMatcher[Item] = LiveMatcher(["visible"], "visible", partial=True)
    done = Run(matcher)
    for now, time in enumerate([0, 33, 66, 66, 50, 100]):
        matcher.push("visible", time * MS, ("visible", time), now * MS)
        done.ask(now * MS)
    assert [match.items["visible"][1] for _, match in done.matches] == [0, 33, 66, 100]
    assert done.left == {("visible", "out_of_order"): 2}


@pytest.mark.parametrize("name", ["infrared", "visible"])
def test_a_clock_set_back_by_an_hour_is_followed(name: str):
    cameras = {"infrared": Camera(30), "visible": Camera(30)}
    hour = 3_600_000 * MS
    arrivals = [
        (arrival + hour, stream, time + (0 if stream == name and time > 2000 * MS else hour))
        for key, camera in cameras.items()
        for arrival, stream, time in camera.arrivals(key)
    ]
    done = Run(LiveMatcher(list(cameras), "visible", partial=True)).feed(arrivals)
    done.check_count()
    after = [match for now, match in done.matches if now > hour + 2600 * MS]
    assert len(after) >= 40, "the picture goes on"


@pytest.mark.parametrize("ahead_ms", [300, 1500, 10_000])
def test_a_reference_with_stamps_of_the_future_does_not_stop_the_picture(ahead_ms: int):
    arrivals = [
        (arrival, name, time + (ahead_ms * MS if name == "visible" and time > 2000 * MS else 0))
        for name in ("infrared", "visible")
        for arrival, _, time in Camera(30).arrivals(name)
    ]
    done = Run(LiveMatcher(["infrared", "visible"], "visible", partial=True)).feed(arrivals)
    done.check_count()
    during = [now for now, _ in done.matches if 2000 * MS < now < 4000 * MS]
    wait_ms = ahead_ms if ahead_ms <= 500 else HOLD_MS
    assert len(during) >= 60 - (wait_ms + 50) * 30 / 1000
    assert all(later - now <= 40 * MS for now, later in itertools.pairwise(during[1:]))


def test_a_stream_that_shows_alone_and_whose_clock_jumps_ahead_and_back_stops_the_picture_for_no_moment():
    jumped = [
        (arrival, "infrared", time + (10_000 * MS if 1000 * MS < time < 1500 * MS else 0))
        for arrival, _, time in Camera(30).arrivals("infrared")
    ]
    back = Camera(30, seconds=1, phase_ms=3000).arrivals("visible")
    done = Run(LiveMatcher(["infrared", "visible"], "visible", partial=True)).feed([*jumped, *back])
    done.check_count()
    assert sum("infrared" in match.fresh for _, match in done.matches) == 120
    assert {len(match.items) for now, match in done.matches if now > 3100 * MS} == {2}


def test_without_leave_to_do_without_a_frame_with_no_partner_is_left():
    done = run(
        {"infrared": Camera(30, silent_ms=(1000, 2000)), "visible": Camera(30)}, partial=False, max_hold_ns=50 * MS
    )
    assert all(len(match.items) == 2 for _, match in done.matches)
    assert done.left["visible", "no_partner"] == pytest.approx(29, abs=2)


def test_three_exposures_are_matched_and_two_when_one_is_lost():
    cameras = {
        "under": Camera(30),
        "middle": Camera(30, phase_ms=4, silent_ms=(1000, 2000)),
        "over": Camera(30, phase_ms=8),
    }
    done = run(cameras, "over")
    kinds = Counter(tuple(match.items) for _, match in done.matches)
    assert kinds["under", "middle", "over"] > 80
    assert kinds["under", "over"] > 20
    assert set(kinds) == {("under", "middle", "over"), ("under", "over")}


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_nothing_is_lost_uncounted_and_time_never_goes_back(seed: int):
    chance = random.Random(seed)
    cameras = {
        name: Camera(
            chance.choice([3, 9, 25, 30, 60]),
            seconds=chance.choice([0.1, 1, 4]),
            phase_ms=chance.uniform(-100, 500),
            jitter_ms=chance.choice([0, 5, 30]),
            delay_ms=(0, chance.choice([0, 20, 600])),
            drift_ppm=chance.choice([0, 200, -50_000]),
            lost=chance.choice([0, 0.5]),
            silent_ms=chance.choice([(9e9, 9e9), (500, 900), (1000, 3000)]),
            seed=seed,
        )
        for name in ("infrared", "middle", "visible")[: chance.choice([1, 2, 3])]
    }
    if not any(camera.arrivals(name) for name, camera in cameras.items()):
        return
    done = run(cameras, chance.choice(list(cameras)), partial=chance.random() < 0.8)
    newest = [max(time for _, time in match.items.values()) for _, match in done.matches]
    moments = [now for now, _ in done.matches]
    assert moments == sorted(moments)
    assert all(match.skew_ns >= 0 for _, match in done.matches)
    assert all(later - before > -600 * MS for before, later in itertools.pairwise(newest))


def test_the_reference_must_be_one_of_the_streams():
    with pytest.raises(ValueError, match="none of the streams"):
        LiveMatcher(["infrared", "visible"], "thermal")
