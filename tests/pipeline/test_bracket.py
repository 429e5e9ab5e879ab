"""Bracketed exposures: a lost frame never swaps under and over, and what is not clear is not guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from pipeline.beat import Beat
from pipeline.bracket import Cycle, Groups, View
from tests.pipeline.alternating import BEGAN_NS, INTERVAL_NS, Seen, camera

CAMERAS = [(count, metadata, gaps) for count in (2, 3) for metadata in (False, True) for gaps in (False, True)]


def outcome(frames: Iterable[Seen], count: int = 2) -> Counter[str]:
    """How many frames were told right, told wrong and left out."""
    cycle, told = Cycle(count, 0.5), Counter({"right": 0, "wrong": 0, "unclear": 0})
    for view, truth in frames:
        rank = cycle.rank(view)
        told["unclear" if rank is None else "right" if rank == truth else "wrong"] += 1
    assert told["unclear"] == cycle.unclear
    return told


def steady(count: int = 2, frames: int = 100, levels: tuple[float, ...] = (40, 120, 200)) -> list[Seen]:
    """A camera that loses nothing, before a scene that stands still."""
    return [
        (View(BEGAN_NS + number * INTERVAL_NS, number, levels[number % count]), number % count)
        for number in range(frames)
    ]


# A million frames:


@pytest.mark.parametrize(("count", "metadata", "gaps"), CAMERAS)
def test_no_exposure_is_taken_for_another_whatever_is_lost(count: int, metadata: bool, gaps: bool) -> None:
    told = outcome(camera(1, 10_000, count, metadata=metadata, gaps=gaps), count)
    assert told["wrong"] == 0
    assert told["right"] > (0.95 if metadata else 0.6) * told.total()


@pytest.mark.slow
def test_no_under_is_taken_for_over_in_a_million_frames() -> None:
    total = right = 0
    for count, metadata, gaps in CAMERAS:
        for seed in range(100, 110):  # the lost ones come on top of the million
            told = outcome(camera(seed, 15_000, count, metadata=metadata, gaps=gaps), count)
            assert told["wrong"] == 0, (count, metadata, gaps, seed)
            total, right = total + told.total(), right + told["right"]
    assert total >= 1_000_000
    assert right > 0.8 * total


@pytest.mark.parametrize(
    ("how", "share"),
    [
        ({"loss": 0.02, "bursts": 0.001}, 0.6),
        ({"loss": 0.3, "bursts": 0.03}, 0.4),
        ({"loss": 0.5, "gaps": True}, 0.5),
        ({"loss": 0.02, "jitter": 0.28}, 0.4),
        ({"exactly": True}, 0.6),
        ({"exactly": True, "switches": 1 / 30}, 0.4),
        ({"ratio": 1.3}, 0.2),
        ({"burst_frames": 60.0}, 0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [2, 3])
def test_hard_times_cost_frames_and_never_swap_them(count: int, how: dict[str, float], share: float) -> None:
    told = outcome(camera(2, 8_000, count, **how), count)  # type: ignore[arg-type]
    assert told["wrong"] == 0
    assert told["right"] > share * told.total()


# What a frame is told by:


@pytest.mark.parametrize("count", [2, 3])
def test_a_steady_camera_is_understood_after_four_cycles_and_for_good(count: int) -> None:
    cycle = Cycle(count)
    ranks = [cycle.rank(view) for view, _ in steady(count)]
    assert ranks[: 4 * count - 1] == [None] * (4 * count - 1)
    assert ranks[4 * count - 1 :] == [truth for _, truth in steady(count)][4 * count - 1 :]


def test_the_cycle_may_begin_anywhere_and_go_in_any_order() -> None:
    order = (120.0, 200.0, 40.0)
    cycle = Cycle(3)
    ranks = [cycle.rank(view) for view, _ in steady(3, levels=order)]
    assert ranks[90:93] == [1, 2, 0]


def test_a_frame_that_is_as_bright_as_the_other_exposure_is_left_out() -> None:
    frames = steady()
    view, _ = frames[50]
    cycle = Cycle(2)
    ranks = [cycle.rank(replace(v, brightness=120.0) if v is view else v) for v, _ in frames]
    assert ranks[50] is None
    assert ranks[49] == 1
    assert ranks[51] == 1


@pytest.mark.parametrize("level", [0.0, 255.0])
def test_a_picture_that_is_black_or_white_whatever_the_exposure_is_left_out(level: float) -> None:
    assert outcome(steady(levels=(level, level)))["unclear"] == 100


def test_a_light_that_is_switched_costs_a_few_frames() -> None:
    before, after = steady(frames=60), steady(frames=120, levels=(120, 250))[60:]
    told = outcome(before + after)
    assert told["wrong"] == 0
    assert told["unclear"] < 20


def test_a_camera_that_becomes_slower_as_it_gets_dark_is_not_swapped() -> None:
    frames = steady(frames=61)
    last = frames[-1][0]  # an under; at half the rate the next one, an over, comes when another under would
    for number in range(1, 62):
        truth, level = number % 2, (10.0, 40.0)[number % 2]  # and looks just like one
        frames.append((View(last.time_ns + 2 * number * INTERVAL_NS, last.sequence + number, level), truth))
    told = outcome(frames)
    assert told["wrong"] == 0
    assert told["right"] > 90


def test_frames_that_are_not_alternated_are_all_left_out() -> None:
    level = iter(np.linspace(100, 140, 100).tolist())
    assert outcome([(replace(view, brightness=next(level)), 0) for view, _ in steady()])["unclear"] == 100


@pytest.mark.parametrize(("configured", "has"), [(2, 3), (3, 2)])
def test_a_cycle_of_another_length_is_left_out(configured: int, has: int) -> None:
    assert outcome(steady(has), configured)["unclear"] == 100


def test_reported_exposures_tell_where_pictures_and_times_do_not() -> None:
    dice = np.random.default_rng(0)
    time_ns, frames = BEGAN_NS, []
    for number in range(200):
        time_ns += int(dice.integers(5_000_000, 90_000_000))
        frames.append((View(time_ns, number, 0.0, (1_000.0, 16_000.0)[number % 2]), number % 2))
    told = outcome(frames)
    assert told["wrong"] == 0
    assert told["right"] > 180


def test_a_reported_exposure_that_is_always_the_same_does_not_count() -> None:
    told = outcome([(replace(view, exposure_us=10_000.0), truth) for view, truth in steady()])
    assert told["wrong"] == 0
    assert told["right"] == 93


def test_exposures_reported_with_the_wrong_frame_are_no_longer_listened_to() -> None:
    frames = [(replace(v, exposure_us=(16_000.0, 1_000.0)[truth]), truth) for v, truth in steady(frames=300)]
    cycle = Cycle(2)
    ranks = [cycle.rank(view) for view, _ in frames]
    assert ranks[100:] == [truth for _, truth in frames][100:]


def test_an_automatic_exposure_that_makes_one_look_like_the_other_is_caught_by_the_cycle() -> None:
    frames = []
    for view, truth in steady():
        stops = 2 if view.sequence >= 50 else 0
        frames.append((replace(view, exposure_us=1_000.0 * 4 ** (truth + stops / 2)), truth))
    told = outcome(frames)
    assert told["wrong"] == 0
    assert told["right"] > 80


@pytest.mark.parametrize(("back_ns", "sequence"), [(-(10**9), 100), (10**9, 0)])
def test_a_source_that_begins_anew_is_learned_anew(back_ns: int, sequence: int) -> None:
    cycle, frames = Cycle(2), steady(frames=51)
    for view, _ in frames:
        cycle.rank(view)
    last = frames[-1][0]
    again = [
        replace(view, time_ns=last.time_ns + back_ns + n * INTERVAL_NS, sequence=sequence + n if back_ns > 0 else n)
        for n, (view, _) in enumerate(frames)
    ]
    ranks = [cycle.rank(view) for view in again]
    assert ranks[:7] == [None] * 7
    assert ranks[7:] == [truth for _, truth in frames][7:]
    assert cycle.beginnings == 2


def test_lost_frames_are_counted() -> None:
    frames = [seen for number, seen in enumerate(steady(frames=100)) if number not in (20, 40, 41, 42, 70)]
    cycle = Cycle(2)
    for view, _ in frames:
        cycle.rank(view)
    assert cycle.lost == 5


# The beat:


def test_the_beat_counts_lost_frames_and_follows_a_drift() -> None:
    beat, drifting_ns = Beat(), INTERVAL_NS * 1.0005
    numbers = [beat.number(round(number * drifting_ns), number) for number in range(0, 30_000, 1) if number % 7]
    begun = [number for number in range(30_000) if number % 7][8:]
    assert [number - numbers[8] for number in numbers[8:] if number is not None and numbers[8] is not None] == [
        number - begun[0] for number in begun
    ]
    assert beat.interval_ns == pytest.approx(drifting_ns, rel=1e-4)


def test_a_frame_between_two_beats_has_no_number() -> None:
    beat = Beat()
    for number in range(20):
        beat.number(number * INTERVAL_NS, number)
    assert beat.number(round(20.5 * INTERVAL_NS), 20) is None
    assert beat.number(21 * INTERVAL_NS, 21) == 21


def test_a_frame_that_came_sooner_than_its_sequence_allows_has_no_number() -> None:
    beat = Beat()
    for number in range(20):
        beat.number(number * INTERVAL_NS, number)
    assert beat.number(20 * INTERVAL_NS, 25) is None


def test_a_new_rate_is_learned() -> None:
    beat = Beat()
    for number in range(20):
        beat.number(number * INTERVAL_NS, number)
    for number in range(30):
        beat.number(20 * INTERVAL_NS + number * INTERVAL_NS * 3 // 2, 20 + number)
    assert beat.interval_ns == pytest.approx(1.5 * INTERVAL_NS, rel=1e-3)


# Groups:


def test_blocks_use_each_frame_once() -> None:
    groups: Groups[str] = Groups(2, "block")
    got = [groups.add(rank, time * 10, f"{'uo'[rank]}{time}", 10.0) for time, rank in enumerate([0, 1, 0, 1, 1, 0])]
    assert got == [None, ("u0", "o1"), None, ("u2", "o3"), None, ("u5", "o4")]


def test_a_sliding_group_is_completed_by_every_frame() -> None:
    groups: Groups[str] = Groups(3, "sliding")
    got = [groups.add(rank, time * 10, f"{'umo'[rank]}{time}", 10.0) for time, rank in enumerate([0, 1, 2, 0, 1])]
    assert got == [None, None, ("u0", "m1", "o2"), ("u3", "m1", "o2"), ("u3", "m4", "o2")]


@pytest.mark.parametrize("grouping", ["block", "sliding"])
def test_a_group_holds_no_frame_that_is_two_cycles_old(grouping: str) -> None:
    groups: Groups[str] = Groups(2, grouping)  # type: ignore[arg-type]
    assert groups.add(0, 0, "u", 10.0) is None
    assert groups.add(1, 40, "late", 10.0) is None
    assert groups.add(0, 50, "u5", 10.0) == ("u5", "late")
