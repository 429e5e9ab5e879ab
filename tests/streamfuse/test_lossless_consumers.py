"""Who may consume of a lossless publisher, and what those can do to it who may not."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from pipeline import wire
from pipeline.errors import OutputError, SourceError
from pipeline.wire import FrameMessage
from streamfuse import keys
from streamfuse.lossless import Giver, Taker
from tests.streamfuse.lossless_ends import (
    ANOTHER,
    SESSION,
    Publishing,
    Taking,
    Wanting,
    bye,
    closing,
    giver,
    message,
    take,
    turn,
    until,
)

__all__ = ["closing"]


def test_another_consumer_takes_the_place_of_one_that_went(closing: Any):
    publisher = closing(giver())
    first = Taker(publisher.address)
    publisher.offer(message(0))
    until(lambda: publisher.present, publisher.tick)
    first.close()
    second = Taking(Taker(publisher.address))
    until(lambda: publisher.kept == 0, lambda: publisher.tick(0.01))
    publisher.end("end")
    assert second.end() == [0]


def test_a_consumer_that_comes_too_late_is_told_so(closing: Any):
    publisher = closing(giver())
    first = Taker(publisher.address)
    publisher.offer(message(0))
    until(lambda: first.sequence == 1 and not publisher.kept, lambda: turn(publisher, first))
    first.close()
    second = Taking(Taker(publisher.address))
    until(lambda: publisher.refused, lambda: publisher.tick(0.01))
    with pytest.raises(SourceError, match="comes too late for its first frames; set consumers there") as error:
        second.end()
    assert "\n" not in str(error.value)


def test_one_consumer_too_many_is_refused_and_disturbs_nobody(closing: Any):
    publisher = closing(giver())
    first = closing(Taker(publisher.address))
    publisher.offer(message(0))
    until(lambda: publisher.present, lambda: publisher.tick(0.01))
    second = Taking(Taker(publisher.address))
    until(lambda: publisher.refused, lambda: publisher.tick(0.01))
    with pytest.raises(SourceError, match="has its consumers"):
        second.end()
    assert take(first, 1) == [0]
    assert publisher.present == 1


def test_a_consumer_with_the_wrong_key_gets_nothing(tmp_path: Path, closing: Any):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    keys.make(right)
    keys.make(wrong)
    publisher = Publishing(10, keys=right)
    stranger = closing(Taker(publisher.address, timeout_s=0.3))
    forger = closing(Taker(publisher.address, keys=wrong, timeout_s=0.3))
    for each in (stranger, forger):
        with pytest.raises(SourceError, match="no lossless publisher"):
            take(each)
    assert take(closing(Taker(publisher.address, keys=right))) == list(range(10))
    publisher.end()


def flood(publisher: Giver, parts: list[Any], closing: Any, enough: Callable[[], bool]) -> None:
    stranger = closing(Wanting(publisher.address))
    for each in parts:
        until(lambda each=each: sent(stranger, each), publisher.tick)  # type: ignore[misc]
    until(enough, publisher.tick)


def sent(stranger: Wanting, parts: list[Any]) -> bool:
    try:
        stranger.send(parts)
    except zmq.Again:
        return False
    return True


def want(**fields: Any) -> list[bytes]:
    fields = {"consumer": secrets.token_hex(8), "session": "", "sequence": 0, "room": 8, "done": False} | fields
    return [b"want", json.dumps({"version": 1, "kind": "want", **fields}).encode(), b""]


NONSENSE = [
    [b""],
    [secrets.token_bytes(100)] * 3,
    [b"want"] * 50,
    want(room=1 << 40),
    want(room=-1),
    want(sequence=-1),
    want(sequence="0"),
    want(consumer="x" * 10_000),
    want(session="../../etc"),
    want(done=1),
    [b"want", b"[" * 60_000, b""],
    [*want()[:2], b"payload"],
]


def test_nonsense_is_counted_and_changes_nothing(closing: Any):
    publisher = closing(giver())
    publisher.offer(message(0))
    nonsense = [*NONSENSE, message(0), bye("end", 0)]
    flood(publisher, nonsense, closing, lambda: publisher.malformed == len(nonsense))
    assert (publisher.present, publisher.kept) == (0, 1)
    assert take_beside(publisher, closing(Taker(publisher.address))) == [0]


def take_beside(publisher: Giver, consumer: Taker) -> list[int]:
    """What one gets in this thread, in which the publisher runs, too."""
    numbers: list[int] = []

    def step() -> None:
        publisher.tick()
        if (parts := consumer.receive(0)) is not None and isinstance(came := wire.unpack(parts), FrameMessage):
            numbers.append(came.head.sequence)

    until(lambda: publisher.kept == 0, step)
    return numbers


def test_thousands_of_strangers_take_no_more_than_the_places_there_are(closing: Any):
    publisher = closing(giver(consumers=2, window=4))
    for number in range(4):
        publisher.offer(message(number))
    strangers = [want(room=1024) for _ in range(2000)]
    flood(publisher, [*strangers, [b"the last"]], closing, lambda: publisher.malformed)
    assert publisher.present == 2
    assert publisher.kept == 4
    assert not publisher.room()


def test_who_wants_what_there_never_was_is_refused(closing: Any):
    publisher = closing(giver())
    publisher.offer(message(0))
    impossible = [
        want(session=SESSION, sequence=2),
        want(session=SESSION, sequence=1 << 50),
        want(session=ANOTHER, sequence=0),
        want(sequence=1),
    ]
    flood(publisher, impossible, closing, lambda: publisher.refused == 4)
    assert (publisher.present, publisher.kept) == (0, 1)


def test_done_before_the_end_is_not_believed(closing: Any):
    publisher = closing(giver(timeout_s=0.2))
    consumer = closing(Wanting(publisher.address))
    publisher.offer(message(0))
    consumer.want(done=True)
    until(lambda: publisher.present, publisher.tick)
    with pytest.raises(OutputError, match="says nothing"):
        publisher.end("end")
