"""Beat: the number of each frame of a camera with a steady rate, those that were lost counted in. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

WINDOW = 8  # frames from which the interval is learned: a quarter of a second at 30 frames a second
SURE = 5  # of the seven steps between those: as many must be what the sequence says, or it is no steady rate
CLEAR = 0.25  # of an interval: a frame further from its beat has no number; to be wrong by a whole beat it takes 0.75
LONGEST_GAP = 8  # intervals: after a longer one the beat may have slipped
ASTRAY = 8  # frames without a number, or more frames than not late by whole beats that the sequence does not know of
POSITION_GAIN, INTERVAL_GAIN = 0.25, 0.02  # of the alpha-beta filter: smooths jitter, follows 1000 ppm


class Beat:
    """The number of a frame, those that are lost counted in, by its timestamp; None where that is not clear.

    The interval is a straight line through the first frames; after that an alpha-beta filter follows it.
    """

    def __init__(self) -> None:
        self.interval_ns: float | None = None
        self.epoch = 0
        """Counts up when numbers begin anew: those of different epochs say nothing of each other."""
        self.before: list[int] = []
        """When the interval has just been learned: the numbers of the frames before this one."""
        self.sure = True
        """Of the last frame: that as many were lost before it as the sequence says. If not, the source may not count
        what it loses, or has become slower: it is not told from one moment to the next which."""
        self.lost = 0
        """Frames that are missing between those that have a number."""
        self._first: deque[tuple[int, int]] = deque(maxlen=WINDOW)  # time, sequence
        self._number, self._sequence = 0, 0
        self._astray, self._without = 0, 0
        self._at_ns = 0.0

    def number(self, time_ns: int, sequence: int) -> int | None:
        """That of the next frame."""
        self.before, self.sure = [], True
        if self.interval_ns is None:
            return self._learn(time_ns, sequence)
        beats = (time_ns - self._at_ns) / self.interval_ns
        steps, counted = round(beats), sequence - self._sequence
        if steps > LONGEST_GAP:
            self._count(steps)
            self._begin(time_ns, sequence, self._number + steps)
            return self._number
        placed = steps >= max(1, counted) and abs(beats - steps) <= CLEAR
        self.sure = not placed or steps == counted
        self._astray = max(0, self._astray - 1) if placed and self.sure else self._astray + 1
        if not placed:
            self._without += 1
            number = None
        else:
            self._count(steps)
            off_ns = (beats - steps) * self.interval_ns
            self._at_ns = time_ns - (1 - POSITION_GAIN) * off_ns
            self.interval_ns += INTERVAL_GAIN * off_ns / steps
            self._number, self._sequence, self._without = self._number + steps, sequence, 0
            number = self._number
        if max(self._astray, self._without) >= ASTRAY:
            self._forget(time_ns, sequence)
            return None
        return number

    def _learn(self, time_ns: int, sequence: int) -> int | None:
        self._first.append((time_ns, sequence))
        if len(self._first) < WINDOW:
            return None
        line = straight_line(self._first)
        if line is None:
            return None
        numbers, self.interval_ns, at_ns = line
        self._begin(at_ns, sequence, numbers[-1])
        self.before = numbers[:-1]
        self.lost += numbers[-1] - len(self.before)
        self._first.clear()
        return self._number

    def _begin(self, at_ns: float, sequence: int, number: int) -> None:
        self.epoch += 1
        self._at_ns, self._sequence, self._number = at_ns, sequence, number
        self._astray, self._without = 0, 0

    def _forget(self, time_ns: int, sequence: int) -> None:
        self.interval_ns = None
        self.epoch += 1
        self._first.append((time_ns, sequence))

    def _count(self, steps: int) -> None:
        self.lost += max(0, steps - 1 - self._without)


def straight_line(frames: Sequence[tuple[int, int]]) -> tuple[list[int], float, float] | None:
    """Numbers of frames, their interval and the time of the last on the line through all, by least squares.

    None if they lie on no line, or if the sequence contradicts. Times and interval are in nanoseconds.
    """
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(frames)]  # of time, of sequence
    interval = sorted(time / gap for time, gap in steps)[len(steps) // 3]  # not the median: many may be lost
    whole = sum(round(time / interval) for time, _ in steps)
    interval = sum(time for time, _ in steps) / whole
    numbers, sure = [0], 0
    for time, gap in steps:
        count = round(time / interval)
        if not gap <= count <= LONGEST_GAP:
            return None
        numbers.append(numbers[-1] + count)
        sure += gap == count
    if sure < SURE:
        return None
    times = [time - frames[0][0] for time, _ in frames]
    middle, mean = sum(numbers) / len(numbers), sum(times) / len(times)
    moment = sum((number - middle) ** 2 for number in numbers)
    interval = sum((n - middle) * (t - mean) for n, t in zip(numbers, times, strict=True)) / moment
    line = [mean + (number - middle) * interval for number in numbers]
    if any(abs(time - there) > CLEAR * interval for time, there in zip(times, line, strict=True)):
        return None
    return numbers, interval, frames[0][0] + line[-1]
