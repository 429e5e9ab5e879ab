"""Bracketed exposures: which frame of an alternating camera is under- and which overexposed. Pure: numbers in and out.

A camera that alternates its exposure in a fixed cycle says of none of its frames which one it is, and a frame that is
lost must never swap the rest. So every frame needs two witnesses that agree: its place in the cycle, which the
timestamps tell (and the gaps in the sequence bound), and its level, which is the exposure that the device reports, or
else the brightness of the picture. Where they contradict each other, or one of them is not clear, the frame is unclear:
it is left out, never guessed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Literal, TypeVar

from pipeline.beat import WINDOW, Beat

T = TypeVar("T")
Grouping = Literal["block", "sliding"]

APART = 0.04  # of the higher level: levels nearer to each other are not told apart
NEAR = 0.25  # of the distance to the next level: how far a frame may be from the last one of its exposure
LEARNING_CYCLES = 4  # from which brightness levels are learned
CONTRADICTIONS = 8  # then what the device reports is not of the frame it comes with, and no longer listened to
ALTERNATIONS = 4  # in those, between two exposures: a scene that gets brighter or darker makes but one


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a frame."""

    time_ns: int
    """Start of exposure."""
    sequence: int
    """Counts up at the source; where it skips, so many frames or more were lost."""
    brightness: float
    """Mean of the luma over black, any scale."""
    exposure_us: float | None = None
    """As the device reports it, where it does."""


class Levels:
    """The rank of a frame among the exposures by its level: 0 is the darkest. None where that is not clear.

    Args:
        count: exposures in the cycle.
        window: latest frames from which the levels are learned.
        doubts: misfits, each made good by a cycle that fits, until the levels are learned anew.
        least: levels nearer to each other than this are not told apart.
    """

    def __init__(self, count: int, window: int, doubts: int, least: float = 0.0) -> None:
        self.count, self.most_doubts, self.least = count, doubts, least
        self._levels: list[float] = []  # of the last frame of each rank; empty while learning
        self._ranks: dict[int, int] = {}  # by place in the cycle
        self._window: deque[tuple[int | None, float]] = deque(maxlen=window)  # place, level
        self._doubts = 0.0

    def rank(self, level: float, number: int | None) -> int | None:
        """Of the next frame, whose number in the cycle may not be known."""
        place = None if number is None else number % self.count
        self._window.append((place, level))
        if not self._levels:
            return self._learn() if len(self._window) == self._window.maxlen else None
        rank = self._nearest(level)
        if rank is None or not self._fits(place, rank):
            self._doubts += 1
            if self._doubts >= self.most_doubts:
                self._levels, self._ranks, self._doubts = [], {}, 0.0
            return None
        self._levels[rank] = level
        if place is not None:
            self._ranks[place] = rank
        self._doubts = max(0.0, self._doubts - 1 / self.count)
        return rank

    def forget(self) -> None:
        """Learn anew: numbers begin anew, after a gap."""
        self._levels, self._ranks, self._doubts = [], {}, 0.0
        self._window.clear()

    def lose_places(self) -> None:
        """What comes next may be anywhere in the cycle; the levels stay."""
        self._ranks.clear()
        self._window.extend([(None, level) for _, level in self._window])

    def _nearest(self, level: float) -> int | None:
        """The rank whose last level is near, if no other is."""
        levels = self._levels
        for rank, known in enumerate(levels):
            room = min(abs(known - other) for place, other in enumerate(levels) if place != rank)
            if abs(level - known) < NEAR * room:
                return rank if all(self._apart(low, high) for low, high in pairwise(levels)) else None
        return None

    def _apart(self, low: float, high: float) -> bool:
        return high - low > max(self.least, APART * high)

    def _between(self, low: list[float], high: list[float]) -> bool:
        """Whether two groups of levels are apart, and by half of what each spans."""
        gap, span = min(high) - max(low), max(max(low) - min(low), max(high) - min(high))
        return self._apart(max(low), min(high)) and gap > span / 2

    def _fits(self, place: int | None, rank: int) -> bool:
        """Each place of the cycle has one rank, and each rank one place."""
        if place is None:
            return True
        return self._ranks[place] == rank if place in self._ranks else rank not in self._ranks.values()

    def _learn(self) -> int | None:
        """Levels from the window; the rank of its last frame."""
        raise NotImplementedError


class Brightness(Levels):
    """By the brightness of pictures: places first, for a scene may become as bright as another exposure of it was."""

    def _learn(self) -> int | None:
        by_place: dict[int | None, list[float]] = {place: [] for place in range(self.count)}
        for place, level in self._window:
            by_place[place].append(level)
        if not all(by_place.values()):
            return None
        order = sorted(range(self.count), key=lambda place: sum(by_place[place]) / len(by_place[place]))
        for low, high in pairwise(order):
            if not self._between(by_place[low], by_place[high]) or self._alternations(low, high) < ALTERNATIONS:
                return None
        self._levels = [by_place[place][-1] for place in order]
        self._ranks = {place: rank for rank, place in enumerate(order)}
        return self._ranks[self._window[-1][0] or 0]

    def _alternations(self, *places: int) -> int:
        """How often frames of two places follow each other, others left out."""
        seen = [place for place, _ in self._window if place in places]
        return sum(a != b for a, b in pairwise(seen))


class Exposure(Levels):
    """By the exposure that the device reports: as many values as exposures, wherever they stand."""

    def _learn(self) -> int | None:
        levels = sorted(level for _, level in self._window)
        widest = sorted(range(1, len(levels)), key=lambda end: levels[end] / levels[end - 1])[1 - self.count :]
        edges = [0, *sorted(widest), len(levels)]
        clusters = [levels[begin:end] for begin, end in pairwise(edges)]
        for low, high in pairwise(clusters):
            if not self._between(low, high):
                return None
        ranks: dict[int, int] = {}
        latest = [math.nan] * self.count
        for place, level in self._window:
            rank = next(rank for rank, cluster in enumerate(clusters) if level <= cluster[-1])
            latest[rank] = level
            if place is not None and ranks.setdefault(place, rank) != rank:
                return None
        if len(set(ranks.values())) < len(ranks):
            return None
        self._levels, self._ranks = latest, ranks
        return rank


class Cycle:
    """Tell the frames of a camera that alternates `count` exposures.

    Args:
        count: exposures in the cycle, 2 or 3.
        least_brightness: pictures that differ by less are not told apart.
    """

    def __init__(self, count: int, least_brightness: float = 0.0) -> None:
        self.count, self.least_brightness = count, least_brightness
        self.unclear = 0
        """Frames of which it was not clear which exposure they are."""
        self.beginnings = 0
        """How often it began anew: what came before goes with nothing that comes after."""
        self._lost, self._beat = 0, Beat()
        self.begin()

    def begin(self) -> None:
        """Forget everything but the counts: the source has begun anew."""
        self.beginnings += 1
        self._lost += self._beat.lost
        self._last: View | None = None
        self._beat = Beat()
        self._recent: deque[View] = deque(maxlen=WINDOW)
        self._exposure = Exposure(self.count, 2 * self.count, doubts=1)  # exact: one that is off has changed
        self._brightness = Brightness(self.count, LEARNING_CYCLES * self.count, 2, self.least_brightness)
        self._contradictions = 0.0  # of the picture against the device

    @property
    def lost(self) -> int:
        """Frames that never came, as far as the others' times tell."""
        return self._lost + self._beat.lost

    @property
    def interval_ns(self) -> float | None:
        """From frame to frame, once known."""
        return self._beat.interval_ns

    def rank(self, view: View) -> int | None:
        """Which exposure the next frame is, 0 the shortest; None if that is not clear."""
        if self._last and (view.time_ns <= self._last.time_ns or view.sequence <= self._last.sequence):
            self.begin()
        self._last = view
        epoch = self._beat.epoch
        number = self._beat.number(view.time_ns, view.sequence)
        if self._beat.epoch != epoch:
            self._exposure.forget()
            self._brightness.forget()
            for earlier, its_number in zip(self._replayed(), self._beat.before, strict=True):
                self._judge(earlier, its_number)
        elif not self._beat.sure:
            self._exposure.lose_places()
        self._recent.append(view)
        rank = self._judge(view, number)
        self.unclear += rank is None
        return rank

    def _replayed(self) -> list[View]:
        """The frames whose numbers have just become known."""
        return list(self._recent)[len(self._recent) - len(self._beat.before) :]

    def _judge(self, view: View, number: int | None) -> int | None:
        """By both witnesses where there are two; they must agree."""
        told = seen = None
        if view.exposure_us is not None and view.exposure_us > 0 and self._contradictions < CONTRADICTIONS:
            told = self._exposure.rank(view.exposure_us, number)
        if number is not None:
            seen = self._brightness.rank(view.brightness, number)
        if told is not None and seen is not None and told != seen:
            self._contradictions += 1
            return None
        if told is not None and seen is not None:
            self._contradictions = max(0.0, self._contradictions - 1 / self.count)
        if told is not None:
            return told
        return seen if self._beat.sure else None  # else it may be slower now because it is dark now


class Groups(Generic[T]):
    """Put the exposures of one cycle together.

    Args:
        count: exposures in a group.
        grouping: "block" uses each frame once, "sliding" completes a group with every frame.
    """

    def __init__(self, count: int, grouping: Grouping) -> None:
        self.count, self.grouping = count, grouping
        self._newest: dict[int, tuple[int, T]] = {}  # by rank: time, frame

    def add(self, rank: int, time_ns: int, item: T, interval_ns: float | None) -> tuple[T, ...] | None:
        """The group that a frame completes, by rank, or None. Its frames are less than two cycles apart."""
        self._newest[rank] = (time_ns, item)
        if interval_ns is not None:
            oldest_ns = time_ns - (2 * self.count - 0.5) * interval_ns
            self._newest = {key: value for key, value in self._newest.items() if value[0] > oldest_ns}
        if len(self._newest) < self.count:
            return None
        group = tuple(self._newest[rank][1] for rank in range(self.count))
        if self.grouping == "block":
            self._newest.clear()
        return group

    def clear(self) -> None:
        """Let go of what waits."""
        self._newest.clear()
