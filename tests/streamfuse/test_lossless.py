"""Lossless delivery over real sockets: all of it, once, in order, and no more kept than the window."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import wire
from pipeline.wire import FrameMessage
from streamfuse.lossless import Taker
from tests.streamfuse.lossless_ends import (
    LARGE,
    LOOPBACK,
    Publishing,
    Scripted,
    Taking,
    Wanting,
    closing,
    giver,
    head,
    message,
    take,
    turn,
    until,
)

__all__ = ["closing"]


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_all_frames_arrive_once_and_in_order(transport: str, tmp_path: Path, closing: Any):
    publisher = Publishing(100, address=LOOPBACK if transport == "tcp" else f"ipc://{tmp_path}/link")
    consumer = closing(Taker(publisher.address))
    assert take(consumer) == list(range(100))
    publisher.end()
    assert consumer.sequence == 100


def test_the_publisher_is_held_back_while_the_consumer_takes_nothing(closing: Any):
    publisher = closing(giver(window=3))
    consumer = closing(Taker(publisher.address))
    for number in range(3):
        publisher.offer(message(number))
    until(lambda: publisher.present, lambda: publisher.tick(0.01))
    for _ in range(10):
        publisher.tick(0.01)
        assert not publisher.room()
    with pytest.raises(RuntimeError):
        publisher.offer(message(3))
    assert take(consumer, 3) == [0, 1, 2]
    until(publisher.room, lambda: turn(publisher, consumer))


def test_no_more_than_the_window_is_kept_for_a_slow_consumer(closing: Any):
    publisher = Publishing(60, window=4)
    ahead: list[int] = []
    consumer = closing(Taker(publisher.address, room=2))
    assert take(consumer, then=lambda: ahead.append(publisher.given - consumer.sequence)) == list(range(60))
    publisher.end()
    assert publisher.most_kept == 4
    assert max(ahead) <= 4 + 2


def test_a_consumer_with_less_room_than_the_window_gets_no_more_than_fits(closing: Any):
    publisher = closing(giver(window=8))
    consumer = closing(Wanting(publisher.address))
    for number in range(8):
        publisher.offer(message(number))
    consumer.want(room=2)
    assert [consumer.came(publisher.tick).head.sequence for _ in range(2)] == [0, 1]
    for _ in range(5):
        publisher.tick(0.01)
    assert not consumer.waiting


def test_each_of_two_consumers_gets_all(closing: Any):
    publisher = Publishing(50, consumers=2, window=4)
    gate = threading.Semaphore(0)
    slow = Taking(Taker(publisher.address, room=2), then=lambda: gate.acquire(timeout=20))
    fast = closing(Taker(publisher.address))
    assert len(take(fast, 4)) == 4
    for _ in range(5):
        fast.receive(0.01)
    assert publisher.given <= 4  # the slow one has taken one at most, and not told so
    gate.release(50)
    assert take(fast) == list(range(4, 50)) or fast.sequence == 50
    assert slow.end() == list(range(50))
    publisher.end()


def test_nothing_leaves_the_window_before_all_consumers_have_come(closing: Any):
    publisher = Publishing(20, consumers=2, window=4)
    first = closing(Taker(publisher.address))
    assert take(first, 4) == [0, 1, 2, 3]
    assert first.receive(0.05) is None
    second = Taking(Taker(publisher.address))
    assert take(first) == list(range(4, 20))
    assert second.end() == list(range(20))
    publisher.end()


def test_a_stream_without_frames_ends(closing: Any):
    publisher = Publishing(0)
    assert take(closing(Taker(publisher.address))) == []
    publisher.end()


def test_a_consumer_may_come_before_the_publisher(tmp_path: Path, closing: Any):
    consumer = closing(Taker(f"ipc://{tmp_path}/link"))
    assert consumer.receive(0.01) is None
    publisher = Publishing(5, address=f"ipc://{tmp_path}/link")
    assert take(consumer) == [0, 1, 2, 3, 4]
    publisher.end()


def test_a_frame_is_let_go_when_all_have_it(closing: Any):
    publisher = closing(giver())
    consumer = closing(Taker(publisher.address))
    parts = message(0, size=LARGE)
    pixels = weakref.ref(parts[2].obj)  # type: ignore[union-attr]
    publisher.offer(parts)
    del parts
    until(lambda: publisher.kept == 0, lambda: turn(publisher, consumer))
    until(lambda: gc.collect() is None or pixels() is None)


def test_what_was_received_stays_as_it_is(closing: Any):
    publisher = Publishing(40)
    consumer = closing(Taker(publisher.address))
    kept: list[Any] = []
    while len(kept) < 40:
        parts = consumer.receive(1)
        if isinstance(came := wire.unpack(parts), FrameMessage):
            kept.append(came.frame.data)
    assert take(consumer) == []
    publisher.end()
    consumer.close()
    for number, data in enumerate(kept):
        assert np.array_equal(data, wire.unpack(message(number)).frame.data)  # type: ignore[union-attr]


def test_stats_are_handed_on_but_not_ahead_of_the_frames_they_know_of(closing: Any):
    publisher = closing(Scripted())
    consumer = closing(Taker(publisher.address))
    publisher.want(lambda _: True, lambda: consumer.receive(0))
    for sequence in (0, 5):
        stats = wire.StatsMessage(head(sequence), 1.0, 0, {}, {})
        publisher.say(wire.pack_stats(stats))
    publisher.say(message(0))
    came = [wire.unpack(consumer.receive(5)) for _ in range(2)]
    assert isinstance(came[0], wire.StatsMessage)
    assert isinstance(came[1], FrameMessage)


@pytest.mark.parametrize("options", [{"consumers": 0}, {"window": 0}, {"timeout_s": 0}])
def test_a_publisher_s_settings_out_of_range_are_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match="at least 1"):
        giver(**options)


@pytest.mark.parametrize("options", [{"room": 0}, {"room": 1025}, {"timeout_s": 0}])
def test_a_consumer_s_settings_out_of_range_are_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match="1 to 1024"):
        Taker("tcp://127.0.0.1:1", **options)
