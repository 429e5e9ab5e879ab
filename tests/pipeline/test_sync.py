"""Time matching, against an oracle that looks at everything at once."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sync import Matcher

Item = tuple[str, int]  # stream and index
Result = tuple[
    list[tuple[int, ...]], set[tuple[str, str, int]]
]  # matches by index; (stream, reason, index) of the rest

times = st.lists(st.integers(0, 400), max_size=14, unique=True).map(sorted)
times_with_repeats = st.lists(st.integers(0, 60), max_size=14).map(sorted)
tolerances = st.one_of(st.none(), st.integers(0, 60))


def oracle(streams: dict[str, list[int]], max_skew: int | None) -> Result:
    """What should come out, for the last stream as reference."""
    *partners, reference = streams
    matches, left, used = [], set(), set()
    wanted = streams[reference]
    for index, now in enumerate(wanted):
        limit = usual_interval(wanted, index) / 2 if max_skew is None else max_skew
        nearest = [
            min(range(len(streams[name])), key=lambda i: (abs(streams[name][i] - now), i), default=None)
            for name in partners
        ]
        if any(i is None or abs(streams[name][i] - now) > limit for name, i in zip(partners, nearest, strict=True)):
            left.add((reference, "no_partner", index))
            continue
        matches.append((*nearest, index))
        used |= set(zip(partners, nearest, strict=True))
    for name in partners:
        for index, time in enumerate(streams[name]):
            if (name, index) not in used:
                left.add((name, "surplus" if is_near(time, wanted) else "no_partner", index))
    return matches, left


def usual_interval(wanted: list[int], index: int) -> float:
    if len(wanted) < 2:
        return math.inf
    intervals = [later - earlier for earlier, later in pairwise(wanted)]
    return statistics.median(intervals[max(0, index - 9) : max(1, index)])


def is_near(time: int, wanted: list[int]) -> bool:
    """The reference spans the time, or would with one usual interval more before it or after it."""
    if len(wanted) < 2:
        return False
    return wanted[0] - usual_interval(wanted, 0) < time < wanted[-1] + usual_interval(wanted, len(wanted) - 1)


class Feed:
    """Pushes streams into a matcher in a given order, and keeps what comes out."""

    def __init__(self, streams: dict[str, list[int]], max_skew: int | None = None) -> None:
        self.streams = streams
        self.matcher: Matcher[Item] = Matcher(list(streams), list(streams)[-1], max_skew)
        self.next = dict.fromkeys(streams, 0)
        self.matches: list[tuple[int, ...]] = []
        self.skews: list[int] = []
        self.fresh: Counter[str] = Counter()
        self.left: list[tuple[str, str, int]] = []

    def push(self, name: str) -> None:
        """The next item of a stream, or its end."""
        index = self.next[name]
        self.next[name] += 1
        if index < len(self.streams[name]):
            self.matcher.push(name, self.streams[name][index], (name, index))
        elif index == len(self.streams[name]):
            self.matcher.end(name)

    def pull(self) -> None:
        while match := self.matcher.pull():
            assert all(item[0] == name for name, item in match.items.items())
            self.matches.append(tuple(index for _, index in match.items.values()))
            self.skews.append(match.skew_ns)
            self.fresh.update(match.fresh)
        while self.matcher.left:
            name, reason, (stream, index) = self.matcher.left.popleft()
            assert name == stream
            self.left.append((name, reason, index))

    def all(self, order: Sequence[str] = (), *, pull_between: bool = True) -> Result:
        for name in [*order, *(key for key, times in self.streams.items() for _ in range(len(times) + 1))]:
            self.push(name)
            if pull_between:
                self.pull()
        self.pull()
        assert self.matcher.finished
        assert len(self.left) == len(set(self.left)), "counted twice"
        return self.matches, set(self.left)


def match(left: list[int], right: list[int], max_skew: int | None = None) -> Result:
    return Feed({"left": left, "right": right}, max_skew).all()


@settings(deadline=None, max_examples=400)
@given(times, times, tolerances)
def test_two_streams_are_matched_as_the_oracle_does(left, right, max_skew):
    assert match(left, right, max_skew) == oracle({"left": left, "right": right}, max_skew)


@settings(deadline=None, max_examples=150)
@given(times, times, times, tolerances)
def test_three_streams_are_matched_as_the_oracle_does(under, middle, over, max_skew):
    streams = {"under": under, "middle": middle, "over": over}
    assert Feed(streams, max_skew).all() == oracle(streams, max_skew)


@settings(deadline=None, max_examples=400)
@given(times_with_repeats, times_with_repeats, tolerances, st.lists(st.sampled_from(["left", "right"])), st.booleans())
def test_the_order_of_arrival_changes_nothing(left, right, max_skew, order, pull_between):
    streams = {"left": left, "right": right}
    plain = Feed(streams, max_skew).all()
    assert Feed(streams, max_skew).all(order, pull_between=pull_between) == plain


@settings(deadline=None, max_examples=200)
@given(times_with_repeats, times_with_repeats, tolerances, st.lists(st.sampled_from(["left", "right"])))
def test_every_item_is_matched_or_left_exactly_once(left, right, max_skew, order):
    feed = Feed({"left": left, "right": right}, max_skew)
    feed.all(order)
    for name in feed.streams:
        rest = sum(stream == name for stream, _, _ in feed.left)
        assert feed.fresh[name] + rest == len(feed.streams[name])


@settings(deadline=None, max_examples=300)
@given(times_with_repeats, times_with_repeats, times_with_repeats, tolerances, st.randoms(use_true_random=False))
def test_room_for_two_items_of_each_stream_is_enough_to_go_on(left, middle, right, max_skew, random):
    streams = {"left": left, "middle": middle, "right": right}
    feed = Feed(streams, max_skew)
    while not all(feed.next[name] > len(streams[name]) for name in streams):
        able = [n for n in streams if feed.next[n] <= len(streams[n]) and feed.matcher.waiting(n) < 2]
        assert able or feed.matcher.finished, "all wait for each other"
        feed.push(random.choice(able))
        feed.pull()
    assert (feed.matches, set(feed.left)) == Feed(streams, max_skew).all()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["left", "right"]), st.integers(0, 50)), max_size=40), tolerances)
def test_times_that_go_back_neither_stop_it_nor_lose_count(pushes, max_skew):
    matcher: Matcher[int] = Matcher(["left", "right"], "right", max_skew)
    arrived, done = Counter(), Counter()
    for number, (name, time) in enumerate([*pushes, ("left", None), ("right", None)]):
        matcher.end(name) if time is None else matcher.push(name, time, number)
        arrived[name] += time is not None
        while found := matcher.pull():
            done.update(found.fresh)
        while matcher.left:
            done[matcher.left.popleft()[0]] += 1
        assert not (matcher.waiting("left") > 2 and matcher.waiting("right") > 2), "both would be full"
    assert arrived == done


def test_the_nearest_partner_is_taken():
    assert match([0, 12, 31, 40], [10, 30], 10)[0] == [(1, 0), (2, 1)]


def test_of_two_equally_near_partners_the_earlier_is_taken():
    assert match([90, 110], [100], 20)[0] == [(0, 0)]


def test_a_partner_at_the_tolerance_is_near_enough_and_one_beyond_is_not():
    assert match([0], [17], 17)[0] == [(0, 0)]
    assert match([0], [18], 17) == ([], {("right", "no_partner", 0), ("left", "no_partner", 0)})


def test_without_a_tolerance_it_is_half_the_usual_interval_of_the_reference():
    assert match([20, 60, 100], [0, 40, 80])[0] == [(0, 0), (0, 1), (1, 2)]
    assert match([21, 61, 101], [0, 40, 80])[1] == {("right", "no_partner", 0), ("left", "surplus", 2)}


def test_two_stills_belong_together_whatever_their_times():
    assert match([1_000_000], [0]) == ([(0, 0)], set())


def test_a_partner_of_a_slower_stream_serves_several_items():
    feed = Feed({"left": [0, 100], "right": [0, 30, 60, 90]}, 50)
    feed.all()
    assert feed.matches == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert feed.fresh == {"left": 2, "right": 4}
    assert feed.skews == [0, 30, 40, 10]


@pytest.mark.parametrize("max_skew", [None, 20])
@pytest.mark.parametrize("shift", [-15, -5, 0, 5, 15])
def test_a_faster_partner_leaves_only_surplus(max_skew, shift):
    left, right = [shift + 10 * n for n in range(-1, 42)], [40 * n for n in range(10)]
    left = [time for time in left if -40 < time < 400]
    matches, rest = match(left, right, max_skew)
    assert len(matches) == 10
    assert {reason for _, reason, _ in rest} == {"surplus"}


@pytest.mark.parametrize("max_skew", [None, 20])
def test_partners_beyond_the_ends_of_the_reference_have_no_partner(max_skew):
    left, right = [40 * n for n in range(20)], [40 * n for n in range(5, 15)]
    matches, rest = match(left, right, max_skew)
    assert matches == [(n, n - 5) for n in range(5, 15)]
    assert rest == {("left", "no_partner", n) for n in (0, 1, 2, 3, 4, 15, 16, 17, 18, 19)}


def test_a_match_is_decided_as_soon_as_no_nearer_partner_can_come():
    matcher: Matcher[str] = Matcher(["left", "right"], "right", 20)
    matcher.push("right", 100, "a")
    matcher.push("right", 140, "b")
    matcher.push("left", 90, "x")
    assert matcher.pull() is None
    matcher.push("left", 111, "y")
    found = matcher.pull()
    assert found is not None
    assert found.items == {"left": "x", "right": "a"}
    assert matcher.pull() is None


def test_an_item_older_than_the_one_before_it_is_left():
    assert match([0, 40, 30, 80], [0, 40, 80], 5) == ([(0, 0), (1, 1), (3, 2)], {("left", "out_of_order", 2)})


def test_one_stream_alone_is_handed_on_as_it_is_in_any_order():
    feed = Feed({"only": [5, 3, 3, 9]})
    feed.push("only")
    feed.pull()
    assert feed.matches == [(0,)], "nothing to wait for"
    assert feed.all()[0] == [(0,), (1,), (2,), (3,)]


def test_dropping_the_oldest_counts_it_unless_it_was_used():
    matcher: Matcher[str] = Matcher(["left", "right"], "right", 20)
    for name, time in (("left", 0), ("right", 0), ("right", 40), ("left", 50)):
        matcher.push(name, time, f"{name} {time}")
    assert matcher.pull() is not None
    matcher.drop_oldest("left")
    assert not matcher.left
    matcher.drop_oldest("left")
    assert list(matcher.left) == [("left", "queue_full", "left 50")]


def test_giving_up_hands_back_what_was_not_used():
    matcher: Matcher[str] = Matcher(["left", "right"], "right", 20)
    for name, time in (("left", 0), ("right", 0), ("right", 40), ("left", 50)):
        matcher.push(name, time, f"{name} {time}")
    assert matcher.pull() is not None
    assert sorted(matcher.clear()) == [("left", "left 50"), ("right", "right 40")]
    assert matcher.waiting("left") == matcher.waiting("right") == 0


def test_a_reference_that_is_no_stream_is_refused():
    with pytest.raises(ValueError, match="'middle' is none of the streams: left, right"):
        Matcher(["left", "right"], "middle")
