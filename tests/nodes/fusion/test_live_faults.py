"""What sensors do at their worst, in simulated time: the picture goes on, says how it was made, and comes back.

Arrivals of two cameras go through the matching of live mode and into the node that fuses; only threads are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from nodes.fusion.fuse import Fuse
from nodes.fusion.moment import Moment, finished
from pipeline.frame import Frame
from pipeline.live_sync import LiveMatcher
from tests.nodes.fusion.test_fuse_live import Live

MS = 1_000_000
PERIOD_MS = 1000 / 30
FROM_MS, TO_MS, END_MS = 2000.0, 4000.0, 7000.0  # of the fault, and of the run


@dataclass(frozen=True)
class Arrival:
    at_ms: float
    name: str
    time_ms: float
    picture: int
    size: tuple[int, int] = (64, 48)
    pixel_format: str = "gray8"

    @property
    def faulty(self) -> bool:
        return FROM_MS <= self.time_ms < TO_MS


Fault = Callable[[Arrival], Arrival | None]


def healthy(name: str, phase_ms: float) -> list[Arrival]:
    times = [phase_ms + number * PERIOD_MS for number in range(round(END_MS / PERIOD_MS))]
    return [Arrival(time + 5, name, time, number) for number, time in enumerate(times)]


# Of an arrival while the fault lasts: what becomes of it. None for nothing.


def killed(arrival: Arrival) -> Arrival | None:
    return None


def frozen(arrival: Arrival) -> Arrival | None:
    return replace(arrival, picture=-1)


def ten_times_as_slow(arrival: Arrival) -> Arrival | None:
    return arrival if arrival.picture % 10 == 0 else None


def in_bursts(arrival: Arrival) -> Arrival | None:
    return replace(arrival, at_ms=500 * (arrival.time_ms // 500 + 1))


def reordered(arrival: Arrival) -> Arrival | None:
    return replace(arrival, at_ms=arrival.at_ms + 80 * (arrival.picture % 3 == 0))


def late(arrival: Arrival) -> Arrival | None:
    return replace(arrival, at_ms=arrival.at_ms + 60)


def of_another_size(arrival: Arrival) -> Arrival | None:
    return replace(arrival, size=(80, 50))


def of_another_format(arrival: Arrival) -> Arrival | None:
    return replace(arrival, pixel_format="yuv420p")


def twice(arrival: Arrival) -> Arrival | None:
    return replace(arrival, time_ms=arrival.time_ms - arrival.picture % 2 * PERIOD_MS)


def picture(arrival: Arrival) -> Frame:
    """Of noise, as every sensor has."""
    width, height = arrival.size
    noise = np.random.default_rng(arrival.picture + 1).integers(60, 200, (height, width), np.uint8)
    data = (
        noise if arrival.pixel_format == "gray8" else np.concatenate([noise.ravel(), noise.ravel()[: noise.size // 2]])
    )
    time_ns = round(arrival.time_ms * MS)
    return Frame(data, arrival.pixel_format, arrival.size, time_ns, "arrival", arrival.picture, arrival.name)  # type: ignore[arg-type]


@dataclass
class Shown:
    """A fused frame: when it came out, its state and its skew."""

    at_ms: float
    time_ms: float
    state: str
    skew_ms: float


def watch(arrivals: list[Arrival], node: Fuse) -> list[Shown]:
    """Let it all happen, in the order of arrival; and check that every frame is accounted for."""
    matcher: LiveMatcher[Frame] = LiveMatcher(["infrared", "visible"], "visible", partial=True)
    shown: list[Shown] = []
    fresh: Counter[str] = Counter()

    def ask(now_ns: int) -> int:
        while (match := matcher.pull(now_ns)) is not None:
            node.held, node.driver = match.held, match.driver
            fresh.update(match.fresh)
            made = node.process(**match.items)
            assert made.fusion is not None
            shown.append(Shown(now_ns / MS, made.timestamp_ns / MS, made.fusion.state, made.fusion.skew_ns / MS))
        return now_ns

    now_ns = 0
    for arrival in sorted(arrivals, key=lambda arrival: arrival.at_ms):
        at_ns = round(arrival.at_ms * MS)
        while (wake_ns := matcher.wake_ns(now_ns)) is not None and wake_ns < at_ns:
            now_ns = ask(wake_ns)
        matcher.push(arrival.name, round(arrival.time_ms * MS), picture(arrival), at_ns)
        now_ns = ask(at_ns)
    for name in ("infrared", "visible"):
        matcher.end(name)
    ask(now_ns)
    left = Counter(name for name, _, _ in matcher.left)
    assert fresh + left == Counter(arrival.name for arrival in arrivals)
    return shown


def too_late(arrivals: list[Arrival], name: str) -> int:
    """Frames of a stream that arrive when a newer one of it is there."""
    newest_ms, count = -1.0, 0
    for arrival in sorted(arrivals, key=lambda arrival: arrival.at_ms):
        if arrival.name == name:
            count += arrival.time_ms <= newest_ms
            newest_ms = max(newest_ms, arrival.time_ms)
    return count


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    """With a mean in the network's place: here only states and times count."""

    def mean(_: Fuse, moment: Moment) -> Any:
        return finished("infrared", moment, np.mean(moment.lumas, axis=0).astype(np.uint8))

    monkeypatch.setattr(Fuse, "_fused", mean)
    fuse = Fuse(max_shutter_ms=1000)
    fuse.name, fuse.running = "fuse", Live()  # type: ignore[assignment]
    return fuse


def with_fault(fault: Fault, *broken: str) -> list[Arrival]:
    arrivals = [*healthy("infrared", 3), *healthy("visible", 0)]
    touched = [fault(each) if each.name in broken and each.faulty else each for each in arrivals]
    return [arrival for arrival in touched if arrival is not None]


def during(shown: list[Shown], begin_ms: float, end_ms: float) -> set[str]:
    """States of what came out in a span of time."""
    return {each.state for each in shown if begin_ms <= each.at_ms < end_ms}


SENSORS = pytest.mark.parametrize(("broken", "alone"), [("infrared", "visible_only"), ("visible", "infrared_only")])


@SENSORS
@pytest.mark.parametrize(
    ("fault", "states"),
    [
        (killed, {"alone"}),
        (frozen, {"held", "alone"}),
        (ten_times_as_slow, {"held", "alone", "fused"}),
        (in_bursts, {"held", "alone", "fused"}),
        (reordered, {"held", "fused"}),
        (late, {"fused", "held"}),
        (of_another_size, {"fused"}),
        (of_another_format, {"fused"}),
        (twice, {"fused", "held"}),
    ],
)
def test_one_sensor_at_its_worst(node: Fuse, fault: Fault, states: set[str], broken: str, alone: str) -> None:
    arrivals = with_fault(fault, broken)
    shown = watch(arrivals, node)
    allowed = {alone if state == "alone" else state for state in states}
    assert during(shown, 0, FROM_MS) == {"fused"}
    assert during(shown, FROM_MS + 200 + 2 * PERIOD_MS, TO_MS) <= allowed, "flagged within 200 ms"
    assert during(shown, TO_MS + 1000, END_MS) == {"fused"}, "back within a second"
    # Nearly each frame of the reference, or of the sensor that is left, gives a picture; none that comes too late.
    wanted = END_MS / PERIOD_MS - too_late(arrivals, "visible")
    assert len(shown) >= 0.95 * wanted - 200 / PERIOD_MS
    assert all(each.skew_ms >= 0 for each in shown)
    assert all(later.time_ms > each.time_ms for each, later in pairwise(shown))


@SENSORS
def test_what_is_lost_is_told_within_200_ms(node: Fuse, broken: str, alone: str) -> None:
    shown = watch(with_fault(killed, broken), node)
    first = next(each for each in shown if each.state == alone)
    assert first.at_ms <= FROM_MS + 200 + PERIOD_MS
    back = next(each for each in shown if each.at_ms > TO_MS and each.state == "fused")
    assert back.at_ms <= TO_MS + 3 * PERIOD_MS


@SENSORS
def test_a_shutter_is_held_and_not_lost(node: Fuse, broken: str, alone: str) -> None:
    arrivals = [*healthy("infrared", 3), *healthy("visible", 0)]
    shutter = [frozen(each) if each.name == broken and 2000 <= each.time_ms < 2900 else each for each in arrivals]
    shown = watch([each for each in shutter if each], node)
    assert during(shown, 2250, 2900) == {"held"}
    assert during(shown, 2950, END_MS) == {"fused"}


@pytest.mark.parametrize("fault", [killed, in_bursts, reordered, late, of_another_size])
def test_both_sensors_at_their_worst(node: Fuse, fault: Fault) -> None:
    shown = watch(with_fault(fault, "infrared", "visible"), node)
    assert during(shown, 0, FROM_MS) == during(shown, TO_MS + 1000, END_MS) == {"fused"}


def test_both_frozen_is_told_and_none_is_thrown_away(node: Fuse) -> None:
    shown = watch(with_fault(frozen, "infrared", "visible"), node)
    assert during(shown, FROM_MS + 250, TO_MS) == {"held"}


@SENSORS
def test_a_sensor_that_is_never_there_is_done_without(node: Fuse, broken: str, alone: str) -> None:
    arrivals = [each for each in with_fault(late) if each.name != broken]
    shown = watch(arrivals, node)
    assert {each.state for each in shown} == {alone}
    assert len(shown) == len(arrivals)
    assert shown[0].at_ms <= 250
