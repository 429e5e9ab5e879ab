"""What a subscriber makes of what comes, and what it counts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline import wire
from pipeline.frame import Fusion
from pipeline.wire import MOST_NS, About, Buffer, ByeMessage, StatsMessage, WantMessage
from streamfuse.arrivals import TELL_EVERY_NS, Arrival, Arrivals, missed
from streamfuse.clocks import clock
from tests.streamfuse.publisher import head, packed, picture

ONE, TWO = "1" * 16, "2" * 16
SECOND_NS = 1_000_000_000


class Told(Arrivals):
    """Arrivals whose lines are kept."""

    def __init__(self, stream: str = "") -> None:
        self.told: list[str] = []
        super().__init__(stream, clock(), self.told.append)
        self.now_ns = time.monotonic_ns()

    def get(self, parts: Sequence[Buffer]) -> Arrival | None:
        self.now_ns += 1
        return self.take(parts, self.now_ns)

    def frame(self, sequence: int, session: str = ONE, number: int | None = None, **changes: Any) -> Arrival:
        frame = picture(sequence if number is None else number)
        arrival = self.get(packed(frame, sequence=sequence, session=session, **changes))
        assert arrival is not None
        return arrival


def stats(sequence: int, session: str = ONE, drops: dict[str, int] | None = None) -> list[Buffer]:
    return wire.pack_stats(StatsMessage(head(sequence, session), 1.0, 0, drops or {}, {}))


def test_a_frame_comes_out_as_it_went_in() -> None:
    arrivals, frame = Told(), picture(5, value=77)
    arrival = arrivals.get(packed(frame))
    assert arrival is not None
    assert (arrival.frame.sequence, arrival.frame.timestamp_ns) == (5, frame.timestamp_ns)
    assert arrival.frame.data.tolist() == frame.data.tolist()
    assert arrivals.received == arrivals.sessions == 1


def test_frames_before_we_came_are_no_loss_and_a_gap_is() -> None:
    arrivals = Told()
    for sequence in (100, 101, 104, 105, 107):
        arrivals.frame(sequence)
    assert (arrivals.received, arrivals.lost_in_transit) == (5, 3)


def test_stats_tell_of_frames_that_were_lost_at_the_end_and_each_is_counted_once() -> None:
    arrivals = Told()
    arrivals.frame(0)
    arrivals.get(stats(1))
    assert arrivals.lost_in_transit == 0
    arrivals.get(stats(4))
    arrivals.get(stats(4))
    arrivals.frame(5)
    assert arrivals.lost_in_transit == 4


def test_the_sequence_goes_on_with_a_gap_when_the_publisher_restarts() -> None:
    arrivals = Told()
    numbers = [arrivals.frame(n, ONE, number).frame.sequence for n, number in ((0, 50), (1, 51))]
    numbers += [arrivals.frame(n, TWO, number).frame.sequence for n, number in ((0, 0), (1, 1), (2, 9))]
    numbers += [arrivals.frame(0, "3" * 16, 500).frame.sequence, arrivals.frame(1, "3" * 16, 501).frame.sequence]
    assert numbers == [50, 51, 53, 54, 62, 64, 65]
    assert arrivals.sessions == 3
    assert arrivals.lost_in_transit == 0


def test_frames_of_a_new_session_that_came_too_early_for_us_are_lost() -> None:
    arrivals = Told()
    arrivals.frame(7, ONE)
    arrivals.frame(3, TWO)
    assert arrivals.lost_in_transit == 3


def test_drops_before_the_publisher_are_added_up_by_reason_and_a_liar_fills_no_memory() -> None:
    arrivals = Told()
    for sequence, drops in enumerate(({"queue full": 2}, {}, {"queue full": 1, "no partner": 4})):
        arrivals.get(packed(picture(sequence), About(drops=drops)))
    assert arrivals.dropped_upstream == {"queue full": 3, "no partner": 4}
    for sequence in range(200):
        arrivals.get(packed(picture(sequence), About(drops={f"reason {sequence}": 1})))
    assert len(arrivals.dropped_upstream) <= 65
    assert sum(arrivals.dropped_upstream.values()) == 207


def test_what_is_no_message_is_counted_and_told_once_a_minute() -> None:
    arrivals = Told()
    good = packed(picture())
    for bad in ([], [b""], [b"fused/frame", b"{", b""], good[:2], [*good, b""], [good[0], good[1], b"short"]):
        assert arrivals.get(bad) is None
    assert arrivals.get(wire.pack_want(WantMessage(ONE, "", 0, 1))) is None
    assert (arrivals.malformed, arrivals.received, len(arrivals.told)) == (7, 0, 1)
    arrivals.now_ns += TELL_EVERY_NS
    arrivals.get([b"?"])
    assert len(arrivals.told) == 2
    assert arrivals.heard_ns is None
    assert arrivals.frame(0).frame.sequence == 0


def test_the_first_stream_is_kept_to_and_another_one_there_is_told() -> None:
    arrivals = Told()
    arrivals.frame(0)
    assert arrivals.get(packed(picture(0, "visible"))) is None
    assert arrivals.get(packed(picture(1, "visible"))) is None
    assert (arrivals.stream, arrivals.foreign, arrivals.received) == ("fused", 2, 1)
    assert len(arrivals.told) == 1
    assert "'visible'" in arrivals.told[0]


def test_a_stream_that_was_asked_for_is_waited_for() -> None:
    arrivals = Told("visible")
    assert arrivals.get(packed(picture())) is None
    assert arrivals.get(packed(picture(0, "visible"))) is not None


def test_a_goodbye_lasts_until_something_comes_again() -> None:
    arrivals = Told()
    arrivals.frame(0)
    arrivals.get(wire.pack_bye(ByeMessage(head(1, ONE), "stopped")))
    assert arrivals.bye is not None
    assert arrivals.bye.reason == "stopped"
    arrivals.get(stats(0, TWO))
    assert arrivals.bye is None
    assert arrivals.stats is not None
    assert arrivals.sessions == 2


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [(None, (9, ONE), 0), ((3, ONE), (4, ONE), 0), ((3, ONE), (9, ONE), 5), ((3, ONE), (2, TWO), 2)],
)
def test_frames_between_two_are_known_from_their_numbers(before: Any, now: Any, lost: int) -> None:
    assert missed(before and head(*before), head(*now)) == lost


@pytest.mark.parametrize("off_ns", [MOST_NS, 157_000_000 * SECOND_NS, 2 * SECOND_NS, -601 * SECOND_NS, -MOST_NS])
@pytest.mark.parametrize("name", [clock(), "another host"])
def test_a_time_that_no_live_frame_can_have_becomes_that_of_its_arrival(off_ns: int, name: str) -> None:
    arrivals = Told()
    arrivals.frame(0, clock=name)
    time_ns = max(-MOST_NS, min(MOST_NS, time.monotonic_ns() + off_ns))
    sources = Fusion("held", 5, {"infrared": time_ns, "visible": time.monotonic_ns()}, "")
    for number in (1, 2):
        arrival = arrivals.get(packed(picture(number, timestamp_ns=time_ns, fusion=sources), clock=name))
        assert arrival is not None
        assert arrival.frame.fusion is not None
        assert (arrival.frame.timestamp_ns, arrival.frame.timestamp_source) == (arrivals.now_ns, "arrival")
        assert arrival.frame.fusion.timestamps_ns["infrared"] == arrivals.now_ns
        wire.pack_frame(head(), arrival.frame, About())  # can be sent on
    assert arrivals.frame(3, clock=name).frame.timestamp_source == "device"  # and those after it are none the worse
    assert arrivals.mistimed == 2
    assert len([line for line in arrivals.told if "times of a frame cannot be" in line]) == 1


def test_of_a_frame_with_an_impossible_source_the_others_keep_their_times() -> None:
    arrivals, now_ns = Told(), time.monotonic_ns()
    sources = Fusion("held", 5, {"infrared": MOST_NS, "visible": now_ns - SECOND_NS}, "")
    arrival = arrivals.get(packed(picture(0, timestamp_ns=now_ns, fusion=sources)))
    assert arrival is not None
    assert arrival.frame.fusion is not None
    assert (arrival.frame.timestamp_ns, arrival.frame.timestamp_source) == (now_ns, "device")
    assert arrival.frame.fusion.timestamps_ns == {"infrared": now_ns, "visible": now_ns - SECOND_NS}
    assert arrivals.mistimed == 1


def test_times_of_recordings_are_not_doubted() -> None:
    arrivals = Told()
    arrival = arrivals.get(packed(picture(timestamp_ns=MOST_NS), clock=wire.PRESENTATION))
    assert arrival is not None
    assert (arrival.frame.timestamp_ns, arrivals.mistimed) == (MOST_NS, 0)
    delivered_lossless = Arrivals("", clock(), live=False).take(packed(picture(timestamp_ns=5)), time.monotonic_ns())
    assert delivered_lossless is not None
    assert delivered_lossless.frame.timestamp_ns == 5


def test_a_sequence_that_nobody_can_have_counted_to_does_not_grow_beyond_what_can_be_sent_on() -> None:
    arrivals = Told()
    for session in "123456":
        for sequence in (MOST_NS - 1, MOST_NS):
            frame = arrivals.frame(sequence, session * 16, sequence).frame
            wire.pack_frame(head(), frame, About())
    assert arrivals.frame(0, "7" * 16, 3).frame.sequence <= MOST_NS
