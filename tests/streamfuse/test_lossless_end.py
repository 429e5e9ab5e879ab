"""How lossless delivery ends: with all of it, or with a reason in one line."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import wire
from pipeline.errors import OutputError, SourceError
from pipeline.wire import ByeMessage, StatsMessage
from streamfuse.lossless import Taker
from tests.streamfuse.lossless_ends import (
    ANOTHER,
    Publishing,
    Scripted,
    Taking,
    Wanting,
    bye,
    closing,
    giver,
    head,
    message,
    take,
    turn,
    until,
)

__all__ = ["closing"]


@pytest.mark.parametrize("reason", ["failed", "stopped"])
def test_a_publisher_that_does_not_come_to_the_end_says_so(reason: Any, closing: Any):
    publisher = Publishing(3, reason=reason)
    consumer = closing(Taker(publisher.address))
    seen: list[int] = []
    with pytest.raises(SourceError, match=f"the publisher (was )?{reason} after"):
        take(consumer, then=lambda: seen.append(1))
    publisher.end()
    with pytest.raises(SourceError):  # and again
        consumer.receive(0)


def test_who_says_it_failed_does_not_wait_for_frames_to_be_taken(closing: Any):
    publisher = closing(giver(window=4))
    consumer = closing(Taker(publisher.address))
    for number in range(4):
        publisher.offer(message(number))
    until(lambda: publisher.present, lambda: publisher.tick(0.01))
    publisher.end("failed")  # of a consumer that is busy with something else
    publisher.close()
    with pytest.raises(SourceError, match="failed after 4 frames"):
        take(consumer)


def test_an_end_that_comes_too_early_is_an_error(closing: Any):
    publisher = closing(Scripted())
    consumer = closing(Taker(publisher.address))
    publisher.want(lambda _: True, lambda: consumer.receive(0))
    publisher.say(message(0))
    publisher.say(message(1))
    publisher.say(bye("end", 1))
    with pytest.raises(SourceError, match="ended after 1 frames, and 2 came"):
        take(consumer)


def test_an_end_of_more_frames_than_came_is_no_end(closing: Any):
    publisher = closing(Scripted())
    consumer = closing(Taker(publisher.address))
    publisher.want(lambda _: True, lambda: consumer.receive(0))
    first = publisher.peer
    publisher.say(message(0))
    publisher.say(bye("end", 2))
    want = publisher.want(lambda want: publisher.peer != first, lambda: consumer.receive(0))
    assert (want.sequence, want.done) == (1, False)


def test_a_publisher_that_was_started_anew_does_not_go_on_with_another_stream(closing: Any, tmp_path: Path):
    publisher = giver(f"ipc://{tmp_path}/link")  # of tcp ZeroMQ lets the port go some time after it is closed
    consumer = closing(Taker(publisher.address))
    publisher.offer(message(0))
    until(lambda: consumer.sequence == 1, lambda: turn(publisher, consumer))
    publisher.close()
    again = closing(giver(publisher.address, ANOTHER))
    going_on = Taking(consumer)
    until(lambda: again.refused, lambda: again.tick(0.01))
    with pytest.raises(SourceError, match="started anew after 1 frames"):
        going_on.end()
    assert again.present == 0  # the place is for one that begins


def test_a_publisher_that_was_started_anew_before_its_first_frame_is_the_publisher(closing: Any, tmp_path: Path):
    publisher = giver(f"ipc://{tmp_path}/link")
    consumer = closing(Taker(publisher.address))
    until(lambda: publisher.present, lambda: turn(publisher, consumer))
    publisher.close()
    again = Publishing(3, address=publisher.address, session=ANOTHER)
    assert len(take(consumer)) == 3
    again.end()


def test_a_publisher_that_never_comes_is_an_error(closing: Any, tmp_path: Path):
    with pytest.raises(SourceError, match=r"no lossless publisher for 0\.2 s; start it, with delivery: lossless"):
        take(closing(Taker(f"ipc://{tmp_path}/nobody", timeout_s=0.2)))


def test_a_consumer_that_never_comes_is_an_error():
    with pytest.raises(OutputError, match=r"0 of 1 lossless consumers came within 0\.2 s; start them"):
        Publishing(1, timeout_s=0.2).end()


def test_a_consumer_that_takes_nothing_any_more_is_an_error(closing: Any):
    publisher = Publishing(20, timeout_s=0.3, window=4)
    consumer = closing(Taker(publisher.address, room=2))
    assert take(consumer, 2) == [0, 1]
    with pytest.raises(OutputError, match=r"a lossless consumer says nothing for 0\.3 s, at frame \d of \d"):
        publisher.end()


def test_stopping_ends_every_wait(closing: Any):
    stop = threading.Event()
    waits_for_room = Publishing(100, timeout_s=3600, stopping=stop.is_set)
    waits_for_the_end = Publishing(1, timeout_s=3600, stopping=stop.is_set)
    consumer = closing(Wanting(waits_for_the_end.address))
    until(lambda: waits_for_room.given == 8 and waits_for_the_end.given == 1)
    consumer.want()
    consumer.came(bool)  # all but the last word
    stop.set()
    for each in (waits_for_room, waits_for_the_end):
        each.end()
    assert waits_for_room.given == 8


def test_a_stop_while_the_end_is_waited_for_is_told(closing: Any):
    stop = threading.Event()
    publisher = Publishing(1, timeout_s=3600, stopping=stop.is_set)
    consumer = closing(Wanting(publisher.address))
    consumer.want(room=0)  # it takes none
    until(lambda: publisher.given == 1 and publisher.giver.present)
    stop.set()
    came = consumer.came(bool)
    assert isinstance(came, ByeMessage)
    assert came.reason == "stopped"
    publisher.end()


def test_closing_ends_the_wait_of_another_thread(tmp_path: Path):
    consumer = Taker(f"ipc://{tmp_path}/nobody")
    results: list[object] = []
    waiting = threading.Thread(target=lambda: results.append(consumer.receive(3600)), daemon=True)
    waiting.start()
    consumer.close()
    waiting.join(20)
    assert results == [None]
    consumer.close()
    assert consumer.receive(3600) is None


def test_a_message_that_is_none_is_an_error_at_the_consumer(closing: Any):
    publisher = closing(Scripted())
    consumer = closing(Taker(publisher.address))
    publisher.want(lambda _: True, lambda: consumer.receive(0))
    publisher.say([b"x", b"y"])
    with pytest.raises(SourceError, match="not of a lossless publisher: a message has 3 parts"):
        take(consumer)


def test_two_ends_that_both_consume_say_so(closing: Any):
    publisher = closing(Scripted())
    consumer = closing(Taker(publisher.address))
    publisher.want(lambda _: True, lambda: consumer.receive(0))
    publisher.say(wire.pack_want(wire.WantMessage("0" * 16, "", 0, 1)))
    with pytest.raises(SourceError, match="a consumer at this address"):
        take(consumer)


def test_messages_without_an_end_do_not_keep_a_consumer_from_being_stopped(closing: Any, monkeypatch: Any):
    consumer = closing(Taker("tcp://127.0.0.1:1"))
    known = [memoryview(part) for part in wire.pack_stats(StatsMessage(head(5), 1.0, 0, {}, {}))]
    looks = iter(range(100_000))
    monkeypatch.setattr(consumer, "_read", lambda: known if next(looks, None) is not None else pytest.fail("for ever"))
    assert consumer.receive(0.01) is None
