"""Channels: bounded, never losing count, and never keeping anybody waiting who need not wait."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from pipeline.channel import Channel
from pipeline.frame import Frame
from pipeline.sync import Match
from tests.pipeline.fakes import PATIENCE, frame_at, times_ms


class Worker:
    """Does something in a thread of its own, and can say whether it still does."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.result: object = None
        self.thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self.thread.start()

    def _run(self, work: Callable[[], object]) -> None:
        self.result = work()

    def end(self) -> object:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "somebody waits for ever"
        return self.result


class Watched(Channel):
    """Says when somebody begins to wait."""

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)
        self.waits = threading.Semaphore(0)
        wait = self._changed.wait

        def announce(timeout: float | None = None) -> bool:
            self.waits.release()
            return wait(timeout)

        self._changed.wait = announce

    def until_waiting(self) -> None:
        assert self.waits.acquire(timeout=PATIENCE), "nobody waits"


def put_all(channel: Channel, name: str, times: list[float]) -> None:
    for time in times:
        channel.put(name, frame_at(time, name))
    channel.end(name)


def take_all(channel: Channel) -> list[dict[str, Frame]]:
    taken = []
    while (match := channel.take()) is not None:
        taken.append(match.items)
    return taken


def assert_balanced(channel: Channel, *names: str) -> None:
    assert {name: channel.balance(name) for name in names} == dict.fromkeys(names, 0)


def test_frames_come_out_in_the_order_they_were_put_in():
    channel = Channel(["frame"])
    put_all(channel, "frame", [3, 1, 2])
    assert times_ms(frames["frame"] for frames in take_all(channel)) == [3, 1, 2]


def test_a_sender_waits_while_the_channel_is_full():
    channel = Watched(["frame"], capacity=2)
    sender = Worker(lambda: put_all(channel, "frame", [0, 1, 2]))
    channel.until_waiting()
    assert channel.arrived["frame"] == 3
    assert sender.thread.is_alive()
    assert channel.take() is not None
    sender.end()
    assert len(take_all(channel)) == 2
    assert not channel.drops()
    assert_balanced(channel, "frame")


def test_a_taker_waits_for_a_frame():
    channel = Watched(["frame"])
    taker = Worker(channel.take)
    channel.until_waiting()
    frame = frame_at(0)
    channel.put("frame", frame)
    match = taker.end()
    assert isinstance(match, Match)
    assert match.items == {"frame": frame}


def test_a_taker_that_waits_learns_of_the_end():
    channel = Watched(["frame"])
    taker = Worker(channel.take)
    channel.until_waiting()
    channel.end("frame")
    assert taker.end() is None


def test_a_full_channel_drops_the_oldest_and_counts_it():
    channel = Channel(["frame"], capacity=3, when_full="drop_oldest")
    put_all(channel, "frame", [0, 1, 2, 3, 4])
    assert times_ms(frames["frame"] for frames in take_all(channel)) == [2, 3, 4]
    assert channel.drops() == {("frame", "queue_full"): 2}
    assert_balanced(channel, "frame")


def test_a_partner_that_serves_a_match_that_nobody_took_is_lost_only_if_it_serves_no_later_one():
    channel = Channel(["left", "right"], capacity=2, when_full="drop_oldest", max_skew_ns=10_000_000)
    channel.put("left", frame_at(0))
    for time in (0, 5, 10, 40):
        channel.put("right", frame_at(time))
    channel.end("left")
    channel.end("right")
    assert len(take_all(channel)) == 2
    assert channel.drops() == {("right", "queue_full"): 2}
    assert channel.delivered == {"left": 1, "right": 2}
    assert_balanced(channel, "left", "right")


def test_the_same_frame_sent_twice_counts_as_two():
    channel = Channel(["frame"])
    still = frame_at(0)
    for _ in range(3):
        channel.put("frame", still)
    channel.end("frame")
    assert len(take_all(channel)) == 3
    assert_balanced(channel, "frame")


def test_close_wakes_every_sender_and_the_taker():
    channel = Watched(["under", "middle", "over"], capacity=2, max_skew_ns=0)
    for name in ("under", "middle"):
        for time in (0, 1):
            channel.put(name, frame_at(time))
    workers = []
    for work in (channel.take, lambda: channel.put("under", frame_at(2)), lambda: channel.put("middle", frame_at(2))):
        workers.append(Worker(work))  # the taker first, for it wakes senders to look for room
        channel.until_waiting()
    channel.close("interrupted")
    assert [worker.end() for worker in workers] == [None, None, None]
    assert channel.drops() == {("under", "interrupted"): 3, ("middle", "interrupted"): 3}
    assert_balanced(channel, "under", "middle", "over")


def test_what_is_sent_to_a_closed_channel_is_counted_under_the_first_reason():
    channel = Channel(["frame"], capacity=2)
    channel.close("interrupted")
    channel.close("ended")
    put_all(channel, "frame", [0, 1, 2])
    assert channel.take() is None
    assert channel.drops() == {("frame", "interrupted"): 3}


def test_a_sender_that_waits_is_let_go_when_the_reference_has_ended():
    # The last take finds nothing more to match: it must wake the sender that still waits for room.
    channel = Watched(["left", "right"], capacity=2, max_skew_ns=5_000_000)
    put_all(channel, "right", [0])
    sender = Worker(lambda: put_all(channel, "left", [0, 10, 20, 30]))
    channel.until_waiting()
    assert [times_ms(frames.values()) for frames in take_all(channel)] == [[0, 0]]
    sender.end()
    assert channel.drops() == {("left", "no_partner"): 3}
    assert_balanced(channel, "left", "right")


def test_what_comes_after_the_end_of_the_reference_is_counted_with_its_reason():
    channel = Channel(["left", "right"], capacity=2)
    put_all(channel, "right", [])
    assert channel.take() is None
    put_all(channel, "left", [0, 1, 2, 3])
    assert channel.done
    assert channel.drops() == {("left", "no_partner"): 4}


def test_growing_makes_room_for_a_sender_that_waits_and_only_then():
    channel = Watched(["frame"], capacity=2)
    assert channel.grow() == 0
    sender = Worker(lambda: put_all(channel, "frame", [0, 1, 2, 3]))
    channel.until_waiting()
    assert channel.grow() == 4
    sender.end()
    assert channel.grow() == 0
    assert len(take_all(channel)) == 4


def test_the_largest_distance_between_partners_is_kept():
    channel = Channel(["left", "right"], max_skew_ns=10_000_000)
    put_all(channel, "left", [1, 47, 81])
    put_all(channel, "right", [0, 40, 80])
    assert len(take_all(channel)) == 3
    assert channel.max_skew_seen_ns == 7_000_000


def test_room_for_fewer_than_two_frames_is_refused():
    with pytest.raises(ValueError, match="at least 2 frames of each input, got 1"):
        Channel(["frame"], capacity=1)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("when_full", ["wait", "drop_oldest"])
def test_nothing_is_lost_without_being_counted(seed, when_full):
    chance = random.Random(seed)
    names = ["under", "middle", "over"][: chance.randint(1, 3)]
    skew = chance.choice([None, 0, 5_000_000, 50_000_000])
    channel = Channel(names, capacity=chance.randint(2, 4), when_full=when_full, max_skew_ns=skew)
    times = {name: sorted(chance.sample(range(1000), chance.randint(0, 120))) for name in names}
    senders = [Worker(lambda name=name: put_all(channel, name, times[name])) for name in names]
    taker = Worker(lambda: take_all(channel))
    for sender in senders:
        sender.end()
    taken = taker.end()
    assert isinstance(taken, list)
    assert channel.arrived == Counter({name: len(times[name]) for name in names if times[name]})
    assert_balanced(channel, *names)
    for name in names:
        seen = times_ms(frames[name] for frames in taken)
        assert seen == sorted(seen)
        assert channel.delivered[name] == len(set(seen))
    if when_full == "wait":
        assert not [reason for _, reason in channel.drops() if reason == "queue_full"]
