"""What a publisher knows of its lossless consumers: pure, without a socket or a clock."""

from __future__ import annotations

import pytest

from pipeline.wire import WantMessage
from streamfuse.consumers import GONE_S, Consumer, Consumers

NAME, SESSION = "00000000000000aa", "0123456789abcdef"


def want(sequence: int, room: int = 8) -> WantMessage:
    return WantMessage(NAME, SESSION, sequence, room)


def test_what_a_consumer_has_only_grows():
    consumer = Consumer(b"one", 0)
    for sequence, expected in ((3, 3), (2, 3), (5, 5)):
        consumer.hear(b"one", want(sequence))
        assert consumer.sequence == expected


def test_what_it_has_is_not_sent_to_it():
    consumer = Consumer(b"one", 0, sent=2)
    consumer.hear(b"one", want(4))
    assert consumer.sent == 4


def test_a_new_connection_begins_with_what_it_has_and_knows_of_no_bye():
    consumer = Consumer(b"one", 0, sent=6, told=True, away=True)
    assert consumer.hear(b"two", want(2))
    assert (consumer.peer, consumer.sent, consumer.told, consumer.away) == (b"two", 2, False, False)


def test_a_late_word_over_an_old_connection_tells_what_it_had_and_no_more():
    consumer = Consumer(b"one", 0)
    consumer.hear(b"two", want(2, room=4))
    consumer.sent = 6
    assert not consumer.hear(b"one", want(3, room=8))
    assert (consumer.peer, consumer.sequence, consumer.room, consumer.sent) == (b"two", 3, 4, 6)


def test_old_connections_are_not_remembered_for_ever():
    consumer = Consumer(b"0", 0)
    for number in range(1000):
        consumer.hear(str(number).encode(), want(0))
    assert len(consumer.former) < 20


def test_nobody_has_all_before_all_have_come():
    consumers = Consumers(2, 60.0)
    consumers.admit("a", Consumer(b"a", 5))
    assert consumers.least == 0
    consumers.admit("b", Consumer(b"b", 3))
    assert consumers.least == 3


def test_a_place_is_taken_over_only_from_one_that_is_away_and_not_done():
    consumers = Consumers(2, 60.0)
    first, second = Consumer(b"a", 0), Consumer(b"b", 0)
    consumers.admit("a", first)
    consumers.admit("b", second)
    assert not consumers.admit("c", Consumer(b"c", 0))
    first.away = first.done = True
    assert not consumers.admit("c", Consumer(b"c", 0))
    second.away = True
    assert consumers.admit("c", Consumer(b"c", 0))
    assert [each.peer for each in consumers] == [b"a", b"c"]


def test_only_time_in_which_somebody_waits_counts():
    consumers = Consumers(1, 10.0)
    consumer = Consumer(b"a", 0)
    consumers.admit("a", consumer)
    consumers.pass_time(9.0, waiting=True)
    consumers.pass_time(9.0, waiting=False)
    consumers.pass_time(9.0, waiting=True)
    assert consumers.complaint(4) is None
    consumers.pass_time(2.0, waiting=True)
    assert consumers.complaint(4) == (
        "a lossless consumer says nothing for 10 s, at frame 0 of 4; its own messages say why, or raise timeout_s"
    )
    consumer.hear(b"a", want(0))
    assert consumers.complaint(4) is None


def test_those_that_have_not_come_are_complained_about_with_their_number():
    consumers = Consumers(3, 10.0)
    consumers.admit("a", Consumer(b"a", 0))
    consumers.pass_time(11.0, waiting=True)
    assert (consumers.complaint(4) or "").startswith("1 of 3 lossless consumers came within 10 s; start them")


@pytest.mark.parametrize(
    ("sequence", "away", "done", "ended"),
    [(4, True, False, True), (3, True, False, False), (4, False, False, False), (4, False, True, True)],
)
def test_who_needs_nothing_more(sequence: int, away: bool, done: bool, ended: bool):
    consumer = Consumer(b"a", sequence, away=away, done=done, silent_s=GONE_S + 1)
    assert consumer.has_ended(4) is ended


def test_who_was_away_for_a_moment_may_come_again():
    assert not Consumer(b"a", 4, away=True, silent_s=GONE_S / 2).has_ended(4)
