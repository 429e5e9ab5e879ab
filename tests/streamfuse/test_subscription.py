"""The client: frames that are now, gaps, restarts, silence, and its end."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

import streamfuse
from pipeline import wire
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame, Fusion
from pipeline.wire import About
from streamfuse import subscription as module
from streamfuse.lossless import Ended
from streamfuse.subscription import Received, Subscription
from tests.pipeline.fakes import PATIENCE
from tests.streamfuse.publisher import ANY_PORT, Publisher, picture, started_again, wait_until


@pytest.fixture(autouse=True)
def closes_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.02)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as publisher:
        yield publisher


@pytest.fixture
def stream(publisher: Publisher) -> Iterator[Subscription]:
    with streamfuse.subscribe(publisher.address) as stream:
        publisher.wait_for_listener()
        yield stream


def took(stream: Subscription) -> Received:
    received = stream.take(PATIENCE)
    assert received is not None, stream.counts()
    return received


def received_by(stream: Subscription, count: int) -> None:
    wait_until(lambda: stream.counts()["received"] >= count, "the frames did not come")


def publish(publisher: Publisher, stream: Subscription, count: int) -> None:
    """So many frames, each when the one before is there: then ZeroMQ drops none."""
    for _ in range(count):
        before = stream.counts()["received"]
        publisher.frame()
        received_by(stream, before + 1)


def test_a_frame_is_handed_over_with_its_age_and_state(publisher: Publisher, stream: Subscription) -> None:
    fusion = Fusion("held", 5, {"infrared": 7}, "realtime")
    sent = picture(3, value=200, fusion=fusion)
    publisher.frame(sent, About(drops={"queue full": 2}, stages_ms={"fuse": 12.5}))
    received = took(stream)
    assert received.frame.data.tolist() == sent.data.tolist()
    assert (received.frame.timestamp_ns, received.frame.sequence, received.state) == (sent.timestamp_ns, 3, "held")
    assert received.message.stages_ms == {"fuse": 12.5}
    assert stream.dropped_upstream == {"queue full": 2}
    assert received.age_ms is not None
    assert 0 <= received.age_ms < PATIENCE * 1e3
    assert received.lost == 0
    assert (stream.stream, stream.connected) == ("fused", True)


def test_a_slow_reader_gets_the_frame_that_is_now_and_the_others_are_counted(
    publisher: Publisher, stream: Subscription
) -> None:
    publish(publisher, stream, 1)
    assert took(stream).frame.sequence == 0
    publish(publisher, stream, 20)
    received = took(stream)
    assert (received.frame.sequence, received.lost) == (20, 19)
    assert stream.take(0) is None
    counts = stream.counts()
    assert (counts["received"], counts["skipped"], counts["lost_in_transit"]) == (21, 19, 0)


def test_who_keeps_more_gets_the_newest_ones_in_order(publisher: Publisher) -> None:
    with streamfuse.subscribe(publisher.address, keep=3) as stream:
        publisher.wait_for_listener()
        publish(publisher, stream, 10)
        found = [took(stream) for _ in range(3)]
    assert [received.frame.sequence for received in found] == [7, 8, 9]
    assert stream.counts()["skipped"] == 7


def test_iterating_ends_when_no_frame_comes_for_as_long_as_was_said(publisher: Publisher) -> None:
    with streamfuse.subscribe(publisher.address, timeout_s=0.2, keep=8) as stream:
        publisher.wait_for_listener()
        publish(publisher, stream, 3)
        assert [received.frame.sequence for received in stream] == [0, 1, 2]


def test_a_reader_that_waits_is_woken_by_a_frame_and_by_the_end(publisher: Publisher, stream: Subscription) -> None:
    found: list[Received | None] = []
    both = threading.Thread(target=lambda: found.extend((stream.take(), stream.take())))
    both.start()
    publisher.frame()
    wait_until(lambda: stream.counts()["received"])
    stream.close()
    both.join(PATIENCE)
    assert not both.is_alive()
    assert found[-1] is None


def test_it_goes_on_when_the_publisher_is_restarted_ten_times() -> None:
    with Publisher() as first:
        address = first.address
        stream = streamfuse.subscribe(address, keep=100)
        first.wait_for_listener()
        publish(first, stream, 2)
    for session in range(1, 11):
        with started_again(address) as again:
            again.wait_for_listener()
            publish(again, stream, 2)
            assert stream.connected
        assert stream.counts()["sessions"] == session + 1
    numbers = [took(stream).frame.sequence for _ in range(22)]
    assert numbers == [3 * session + n for session in range(11) for n in range(2)]
    assert stream.counts()["lost_in_transit"] == stream.counts()["malformed"] == 0
    stream.close()


class Clock:
    """One that a test turns."""

    def __init__(self) -> None:
        self.ns = time.monotonic_ns()

    def __call__(self) -> int:
        return self.ns


def test_a_publisher_that_falls_silent_is_noticed_told_once_and_back_when_it_is(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    now = Clock()
    with caplog.at_level(logging.INFO, "streamfuse"), Subscription(publisher.address, now=now) as stream:
        publisher.wait_for_listener()
        assert not stream.connected
        publisher.stats()
        wait_until(lambda: stream.connected)
        now.ns += 3_100_000_000
        wait_until(lambda: stream.silences == 1)
        assert not stream.connected
        publisher.stats()
        wait_until(lambda: stream.connected)
        now.ns += 3_100_000_000
        wait_until(lambda: stream.silences == 2)
    assert caplog.text.count("is silent") == 2
    assert caplog.text.count("is back") == 1


def test_a_publisher_that_said_goodbye_is_gone_and_not_silent(publisher: Publisher) -> None:
    now = Clock()
    with Subscription(publisher.address, now=now) as stream:
        publisher.wait_for_listener()
        publisher.bye("failed")
        wait_until(lambda: stream.bye)
        assert stream.bye is not None
        assert stream.bye.reason == "failed"
        assert not stream.connected
        now.ns += 5_000_000_000
        publisher.frame(picture(1))
        assert took(stream).frame.sequence == 1
        assert stream.bye is None
        assert stream.silences == 0


def test_after_a_long_silence_it_connects_anew(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    now, anew = Clock(), threading.Event()
    reconnect = module.Listener.reconnect
    monkeypatch.setattr(module.Listener, "reconnect", lambda listener: (reconnect(listener), anew.set()))
    with Subscription(publisher.address, now=now) as stream:
        publisher.wait_for_listener()
        now.ns += 11_000_000_000
        assert anew.wait(PATIENCE)
        wait_until(lambda: publisher.frame() or stream.take(0.01))


def test_malformed_messages_are_counted_told_once_and_survived(
    publisher: Publisher, stream: Subscription, caplog: pytest.LogCaptureFixture
) -> None:
    topic = wire.topic("fused", "frame")
    bad = [[topic], [topic, b"{}", b""], [topic, b"\xff" * 100, b""], [topic, b"[" * 5000, b""], [topic] * 7]
    for number, parts in enumerate(bad, 1):
        publisher.say(parts)
        wait_until(lambda number=number: stream.counts()["malformed"] == number)  # type: ignore[misc]
    publisher.frame()
    assert took(stream).frame.sequence == 0
    assert caplog.text.count("a message was no message") == 1


def test_a_frame_that_cannot_be_decoded_is_passed_over(publisher: Publisher, stream: Subscription) -> None:
    publisher.frame(picture(0), About("png", b"no png at all"))
    publisher.frame(picture(1))
    assert took(stream).frame.sequence == 1
    wait_until(lambda: stream.counts()["received"] == 2)


def test_another_stream_at_the_address_is_not_mixed_in(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    with streamfuse.subscribe(publisher.address) as any_stream:
        with streamfuse.subscribe(publisher.address, stream="visible") as visible:
            wait_until(lambda: publisher.link.heard(b"visible/") and publisher.link.heard(b"fused/"))
            publish(publisher, any_stream, 1)
            publisher.stream = "visible"
            publisher.frame()
            assert took(visible).frame.stream == "visible"
            assert visible.counts()["foreign"] == 0
        wait_until(lambda: any_stream.counts()["foreign"] == 1)
        assert (any_stream.stream, took(any_stream).frame.stream) == ("fused", "fused")
    assert "give `stream` to choose" in caplog.text


def test_times_of_another_host_come_out_on_this_ones_clock() -> None:
    ahead_ns = 3_600_000_000_000
    with Publisher() as publisher, streamfuse.subscribe(publisher.address) as stream:
        publisher.wait_for_listener()
        here_ns = time.monotonic_ns()
        frame = picture(timestamp_ns=here_ns + ahead_ns - 50_000_000)
        head = wire.Head("fused", "1" * 16, 0, "another host", here_ns + ahead_ns, time.time_ns())
        publisher.say(wire.pack_frame(head, frame, About()))
        received = took(stream)
    after_ns = time.monotonic_ns()
    assert here_ns - 50_000_000 <= received.frame.timestamp_ns <= after_ns - 50_000_000
    assert received.message.frame.timestamp_ns == frame.timestamp_ns
    assert received.age_ms is not None
    assert received.age_ms >= 50


def test_frames_of_a_recording_have_their_times_and_no_age(publisher: Publisher, stream: Subscription) -> None:
    head = wire.Head("fused", "1" * 16, 0, wire.PRESENTATION, 5, 5)
    publisher.say(wire.pack_frame(head, picture(timestamp_ns=40_000_000), About()))
    received = took(stream)
    assert (received.frame.timestamp_ns, received.age_ms) == (40_000_000, None)


@pytest.mark.parametrize(
    "wrong",
    [{"keep": 0}, {"keep": 5000}, {"stream": "a/b"}, {"timeout_s": 0}, {"silent_s": -1}, {"keys": "/nowhere"}],
    ids=str,
)
def test_what_is_not_legal_is_told_before_anything_is_opened(wrong: dict[str, Any]) -> None:
    threads = threading.active_count()
    with pytest.raises(ConfigError):
        streamfuse.subscribe("tcp://127.0.0.1:5555", **wrong)
    assert threading.active_count() == threads


def test_subscribing_again_and_again_leaves_nothing_behind(publisher: Publisher) -> None:
    def resources() -> tuple[int, int, int]:
        gc.collect()
        frames = sum(type(thing) is Frame for thing in gc.get_objects())
        return frames, threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    def once() -> None:
        with streamfuse.subscribe(publisher.address) as stream:
            wait_until(lambda: publisher.frame() or stream.take(0.01))

    if not Path("/proc/self/fd").exists():
        pytest.skip("/proc is Linux's")
    for _ in range(3):
        once()
    before = resources()
    for _ in range(10):
        once()
    wait_until(lambda: all(now <= was for now, was in zip(resources(), before, strict=True)))


def test_a_frame_that_was_skipped_is_let_go_at_once(publisher: Publisher, stream: Subscription) -> None:
    publish(publisher, stream, 5)
    gc.collect()
    arrivals = [thing for thing in gc.get_objects() if type(thing).__name__ == "Arrival"]
    assert [arrival.message.head.sequence for arrival in arrivals] == [4]
    del arrivals


def test_it_closes_at_once_without_a_publisher_and_twice() -> None:
    stream = streamfuse.subscribe("tcp://127.0.0.1:9")
    stream.close()
    stream.close()
    assert stream.take() is None
    assert list(stream) == []
    assert not stream.connected
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("subscription tcp://127.0.0.1:9")]


def test_a_fault_of_ours_in_the_thread_is_raised_where_frames_are_taken(
    publisher: Publisher, stream: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(stream._arrivals, "take", fail)
    publisher.frame()
    with pytest.raises(RuntimeError, match="a fault"):
        stream.take(PATIENCE)


def test_it_ends_quietly_when_zeromq_is_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    own = zmq.Context()
    monkeypatch.setattr("streamfuse.sockets.context", lambda: own)
    stream = streamfuse.subscribe("tcp://127.0.0.1:9")
    own.term()
    assert stream.take(PATIENCE) is None


# Lossless, over a taker that plays its part:


class Played:
    """A `Taker` that gives what it was told to."""

    def __init__(self, address: str, **given: Any) -> None:
        self.given, self.closed = given, False
        self.script: list[Any] = []

    def receive(self, timeout_s: float) -> list[Any] | None:
        if not self.script:
            return None
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def lossless(monkeypatch: pytest.MonkeyPatch) -> Subscription:
    monkeypatch.setattr(module, "Taker", Played)
    return streamfuse.subscribe(ANY_PORT, lossless=True, timeout_s=7, keep=5, name="me")


def script(stream: Subscription) -> list[Any]:
    taker = stream._taker
    assert isinstance(taker, Played)
    assert taker.given == {"keys": None, "room": 5, "timeout_s": 7, "name": "me"}
    return taker.script


def raw(sequence: int) -> list[Any]:
    head = wire.Head("fused", "1" * 16, sequence, wire.PRESENTATION, 1, 1)
    return wire.pack_frame(head, picture(sequence, timestamp_ns=sequence), About())


def test_lossless_iterating_gives_all_and_ends_with_the_stream(lossless: Subscription) -> None:
    stats = wire.pack_stats(wire.StatsMessage(wire.Head("fused", "1" * 16, 1, "presentation", 1, 1), 1.0, 0, {}, {}))
    script(lossless).extend([raw(0), stats, raw(1), raw(2), Ended("end"), Ended("end")])
    assert [received.frame.sequence for received in lossless] == [0, 1, 2]
    assert lossless.stats is not None
    with pytest.raises(Ended):
        lossless.take(1)
    lossless.close()
    assert lossless.take(1) is None


def test_lossless_what_breaks_off_is_an_error_and_so_is_a_frame_that_cannot_be_decoded(lossless: Subscription) -> None:
    head = wire.Head("fused", "1" * 16, 1, wire.PRESENTATION, 1, 1)
    damaged = wire.pack_frame(head, picture(1, timestamp_ns=1), About("png", b"no png"))
    script(lossless).extend([raw(0), damaged, SourceError("gone")])
    assert lossless.take(1) is not None
    with pytest.raises(SourceError, match="frame 1 is damaged"):
        lossless.take(1)
    with pytest.raises(SourceError, match="gone"):
        lossless.take(1)


def test_lossless_nothing_in_time_is_none(lossless: Subscription) -> None:
    assert lossless.take(0.01) is None


def test_pixels_are_those_of_zeromq_and_not_a_copy(publisher: Publisher, stream: Subscription) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8)
    publisher.frame(Frame(noise, "gray8", (640, 480), time.monotonic_ns(), "device", 0, "fused"))
    received = took(stream)
    assert np.shares_memory(received.frame.data, np.frombuffer(received.message.payload, np.uint8))
    assert not received.frame.data.flags.writeable
    assert np.array_equal(received.frame.data, noise)
