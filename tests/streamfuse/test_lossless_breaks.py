"""Lossless delivery over lines that break, and between processes that stop or die."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import wire
from pipeline.errors import SourceError
from streamfuse import consumers, taker
from streamfuse.lossless import Taker
from tests.streamfuse.broken_line import Line, after_bytes, anywhere, once_before
from tests.streamfuse.lossless_ends import (
    LARGE,
    SESSION,
    Publishing,
    Scripted,
    Taking,
    Wanting,
    bye,
    closing,
    giver,
    message,
    take,
    until,
)

__all__ = ["closing"]
ROOT = Path(__file__).parents[2]


def test_a_line_that_breaks_in_the_middle_of_frames_loses_nothing(closing: Any):
    publisher = Publishing(30, size=LARGE)
    line = closing(Line(publisher.address, after_bytes(400_000, 900_000, cuts=10)))
    consumer = closing(Taker(line.address))
    assert take(consumer) == list(range(30))
    publisher.end()
    assert line.cuts == 10
    assert consumer.rewinds == 0


@pytest.mark.parametrize("seed", range(4))
def test_lines_that_break_anywhere_lose_nothing(seed: int, closing: Any, monkeypatch: Any):
    monkeypatch.setattr(taker, "FAREWELL_S", 0.8)  # where the very last word is lost
    publisher = Publishing(20, consumers=2, window=2)
    lines = [closing(Line(publisher.address, anywhere(10 * seed + each, cuts=3))) for each in range(2)]
    for each in [Taking(Taker(line.address)) for line in lines]:
        assert each.end() == list(range(20))
    publisher.end()


def test_a_bye_that_is_lost_is_said_again(closing: Any):
    publisher = Publishing(5)
    line = closing(Line(publisher.address, once_before(b'"kind":"bye"', towards_consumer=True)))
    assert take(closing(Taker(line.address))) == [0, 1, 2, 3, 4]
    publisher.end()
    assert line.cuts == 1


def test_a_done_that_is_lost_is_said_again(closing: Any):
    publisher = Publishing(5)
    line = closing(Line(publisher.address, once_before(b'"done":true', towards_consumer=False)))
    assert take(closing(Taker(line.address))) == [0, 1, 2, 3, 4]
    publisher.end()
    assert line.cuts == 1


def test_a_publisher_that_does_not_answer_done_is_not_waited_for_for_long(closing: Any, monkeypatch: Any):
    monkeypatch.setattr(taker, "FAREWELL_S", 0.3)
    publisher = closing(Scripted())
    consumer = closing(Taker(publisher.address))
    publisher.want(lambda _: True, lambda: consumer.receive(0))
    publisher.say(message(0))
    publisher.say(bye("end", 1))
    assert take(consumer) == [0]


def test_a_consumer_that_has_all_and_is_gone_has_ended(closing: Any, monkeypatch: Any):
    monkeypatch.setattr(consumers, "GONE_S", 0.2)
    monkeypatch.setattr("streamfuse.giver.STATS_S", 0.1)
    publisher = closing(giver())
    consumer = Wanting(publisher.address)
    publisher.offer(message(0))
    consumer.want()
    consumer.came(publisher.tick)
    consumer.want(session=SESSION, sequence=1)
    until(lambda: publisher.kept == 0, publisher.tick)
    consumer.close()
    publisher.end("end")


def test_a_gap_is_asked_for_again_over_a_new_connection(closing: Any):
    publisher = closing(Scripted())
    consumer = closing(Taker(publisher.address))
    publisher.want(lambda _: True, lambda: consumer.receive(0))
    first, got = publisher.peer, []
    for number in (0, 2, 3):
        publisher.say(message(number))

    def receive() -> None:
        if (parts := consumer.receive(0)) is not None:
            got.append(wire.unpack(parts).head.sequence)  # type: ignore[union-attr]

    want = publisher.want(lambda want: publisher.peer != first, receive)
    assert (want.session, want.sequence) == (SESSION, 1)
    for number in (1, 2, 2, 3):  # one comes twice
        publisher.say(message(number))
    until(lambda: len(got) == 4, receive)
    assert got == [0, 1, 2, 3]
    assert consumer.rewinds == 1


def test_a_gap_that_stays_is_an_error(closing: Any):
    publisher = closing(Scripted())
    consumer = closing(Taker(publisher.address))
    peers: set[bytes] = set()

    def meets(_: object) -> bool:
        return publisher.peer not in peers

    def go_on_at_7() -> None:
        publisher.want(meets, lambda: consumer.receive(0))
        peers.add(publisher.peer)
        publisher.say(message(7))

    with pytest.raises(SourceError, match=r"frame 0 is lost: the publisher goes on at 7$"):
        until(lambda: False, go_on_at_7)
    assert len(peers) == 1 + taker.MOST_REWINDS


def test_an_old_connection_s_late_want_does_not_send_anything_there(closing: Any):
    """The ROUTER takes turns, so what came last over a broken connection may be read after the first of the new one."""
    publisher = closing(giver())
    old, new = (closing(Wanting(publisher.address)) for _ in range(2))
    for number in range(4):
        publisher.offer(message(number))
    old.want(room=1)
    assert old.came(publisher.tick).head.sequence == 0
    new.want(room=2)
    assert [new.came(publisher.tick).head.sequence for _ in range(2)] == [0, 1]
    old.want(session=SESSION, sequence=1, room=8)
    until(lambda: publisher.kept == 3, publisher.tick)  # it is believed what it has
    assert not old.waiting
    new.want(session=SESSION, sequence=2, room=2)
    assert [new.came(publisher.tick).head.sequence for _ in range(2)] == [2, 3]


PUBLISH = """
import sys
from tests.streamfuse.lossless_ends import giver, message
publisher = giver()
print(publisher.address, flush=True)
for number in range(1_000_000):
    publisher.give(message(number))
"""

CONSUME = """
import sys
from streamfuse.lossless import Taker
from tests.streamfuse.lossless_ends import take
consumer = Taker(sys.argv[1])
assert take(consumer, 20) == list(range(20))
print("some", flush=True)
assert take(consumer) == list(range(20, 400))
consumer.close()
print("all", flush=True)
"""


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`child(script, *arguments)` runs it, and its lines can be read."""
    children: list[subprocess.Popen[str]] = []

    def do(script: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *arguments]
        children.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return children[-1]

    yield do
    for each in children:
        each.kill()
        each.communicate()


def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_publisher_that_is_killed_is_an_error(child: Any, closing: Any):
    publisher = child(PUBLISH)
    consumer = closing(Taker(line_of(publisher), timeout_s=1.5))
    assert take(consumer, 20) == list(range(20))
    publisher.kill()
    with pytest.raises(SourceError, match=r"the publisher is gone: silent for 1\.5 s after \d+ frames"):
        take(consumer)


def test_a_consumer_that_is_stopped_for_a_while_still_gets_all(child: Any):
    publisher = Publishing(400)
    consumer = child(CONSUME, publisher.address)
    assert line_of(consumer) == "some"
    consumer.send_signal(signal.SIGSTOP)
    given = [-1]
    until(lambda: given[-1] == publisher.given, lambda: (given.append(publisher.given), threading.Event().wait(0.2)))
    assert publisher.most_kept <= 8
    consumer.send_signal(signal.SIGCONT)
    assert line_of(consumer) == "all"
    publisher.end()
