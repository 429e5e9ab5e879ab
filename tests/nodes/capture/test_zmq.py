"""capture.zmq: what it hands on, and what it does without when the publisher is late, silent, restarted or wrong."""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nodes
from nodes.capture import zmq as module
from nodes.capture.zmq import KEPT, ZmqCapture
from nodes.output.web import WebOutput
from pipeline import wire
from pipeline.config import make_node
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame, Fusion, PixelFormat
from pipeline.node import EndOfStream
from pipeline.wire import About
from streamfuse import clocks, keys
from tests.nodes.capture.media import make_frame
from tests.nodes.output.web_fakes import get, served
from tests.nodes.zmq_ends import ANY_PORT, Publisher, join, publishing, take, wait_until, watching

FUSION = Fusion("held", 12_000_000, {"infrared": 5, "visible": 7}, "realtime")
HANDED_ON = (
    *("pixel_format", "size", "timestamp_ns", "timestamp_source", "sequence", "color_range", "color_matrix"),
    *("frame_rate", "name", "exposure_us", "fusion"),
)
FORMATS: list[tuple[PixelFormat, tuple[int, int]]] = [
    ("gray8", (64, 48)),
    ("gray16", (33, 17)),
    ("bgr24", (33, 17)),
    ("yuv420p", (33, 17)),
    ("yuv420p", (1, 1)),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks more often, so that a test needs not wait; and frames may be of the time when this machine started."""
    monkeypatch.setattr(module, "WAIT_S", 0.02)
    monkeypatch.setattr(clocks, "OLDEST_NS", wire.MOST_NS)


def small(number: int = 0, **more: Any) -> Frame:
    return make_frame(number, "gray8", (4, 3), **more)


def told(caplog: pytest.LogCaptureFixture, what: str) -> int:
    """In how many lines."""
    return sum(what in record.getMessage() for record in caplog.records if record.name == "streamfuse")


def say_goodbye(publisher: Publisher, capture: ZmqCapture, reason: wire.Reason = "stopped") -> None:
    """Until it is heard: to whom nothing more fits in, ZeroMQ does not send it."""
    wait_until(lambda: publisher.bye(reason) or not capture.gauges()["connected"])


# Settings:


@pytest.mark.parametrize(("settings", "said"), [
    ({"address": "5555"}, "address '5555'"),
    ({"address": "rtsp://camera/1"}, "legal is tcp://HOST:PORT"),
    ({"address": "tcp://a:1", "stream": "a/b"}, "setting 'stream' is 'a/b'"),
    ({"address": "tcp://a:1", "silent_ms": 5}, "setting 'silent_ms'"),
    ({"address": "tcp://a:1", "client": "gate"}, "setting 'client' is 'gate', and there are no keys; set 'keys'"),
])  # fmt: skip
def test_a_mistake_is_told_before_anything_opens(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^Node 'in' \(capture.zmq\): .*{said}") as caught:
        make_node("in", {"type": "capture.zmq", **settings}, nodes.TYPES)
    assert "\n" not in str(caught.value)


def test_who_takes_the_latest_is_live_and_who_takes_all_is_not() -> None:
    assert ZmqCapture("tcp://a:1").live
    assert not ZmqCapture("tcp://a:1", delivery="lossless").live


# What is handed on:


@pytest.mark.parametrize(("pixel_format", "size"), FORMATS)
def test_live_frames_come_as_they_were_published(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    frame = make_frame(
        *(3, pixel_format, size, 7_000_000_000, "limited", "bt2020"), name="street", exposure_us=80.5, fusion=FUSION
    )
    with publishing() as publisher, watching(publisher.address) as capture:
        join(publisher, capture)
        publisher.process(frame)
        (came,) = take(capture)
    assert came.data.dtype == frame.data.dtype
    assert np.array_equal(came.data, frame.data)
    assert not came.data.flags.writeable
    assert {key: getattr(came, key) for key in HANDED_ON} == {key: getattr(frame, key) for key in HANDED_ON}
    assert came.stream == "seen"


@pytest.mark.parametrize(("pixel_format", "size"), FORMATS)
@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_recorded_frames_come_as_they_were_published_and_then_the_end(
    pixel_format: PixelFormat, size: tuple[int, int], kind: str, tmp_path: Path
) -> None:
    frames = [make_frame(number, pixel_format, size, name=f"{number}") for number in range(12)]
    address = ANY_PORT if kind == "tcp" else f"ipc://{tmp_path}/link"
    with publishing(address, delivery="lossless") as publisher:

        def publish() -> None:
            for frame in frames:
                publisher.process(frame)
            publisher.close()

        thread = threading.Thread(target=publish)
        thread.start()
        with watching(publisher.address, delivery="lossless") as capture:
            came = take(capture, len(frames))
            with pytest.raises(EndOfStream):
                take(capture)
        thread.join()
    for one, other in zip(came, frames, strict=True):
        assert np.array_equal(one.data, other.data)
        assert {key: getattr(one, key) for key in HANDED_ON} == {key: getattr(other, key) for key in HANDED_ON}


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_encoded_frames_come_decoded(encoding: Any) -> None:
    slope = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (48, 64))
    frame = make_frame(0, "gray8", data=slope.copy())
    with publishing(encoding=encoding) as publisher, watching(publisher.address) as capture:
        join(publisher, capture)
        publisher.process(frame)
        (came,) = take(capture)
    assert np.abs(came.data.astype(int) - slope).max() <= (0 if encoding == "png" else 4)


def test_drops_before_the_publisher_are_handed_on() -> None:
    publisher = Publisher()
    with watching(publisher.address) as capture:
        publisher.wait_for_listener()
        publisher.frame(small(), About(drops={"no_partner": 2}))
        publisher.frame(small(1), About(drops={"no_partner": 1, "queue_full": 4}))
        take(capture, 2)
        assert capture.gauges()["dropped_upstream"] == 7
        assert capture.report()["notes"] == {"upstream: no_partner": 3, "upstream: queue_full": 4}
    publisher.close()


def test_losses_on_the_way_are_counted_and_leave_a_gap() -> None:
    publisher = Publisher()
    with watching(publisher.address) as capture:
        publisher.wait_for_listener()
        publisher.frame(small(0))
        publisher.sequence += 2
        publisher.frame(small(3))
        assert [frame.sequence for frame in take(capture, 2)] == [0, 3]
        assert capture.gauges()["lost_in_transit"] == 2
    publisher.close()


def test_a_slow_pipeline_gets_the_newest_frames_in_order() -> None:
    publisher = Publisher()
    with watching(publisher.address) as capture:
        publisher.wait_for_listener()
        for number in range(10):
            publisher.frame(small(number))
            wait_until(lambda: capture.gauges()["received"] > number)  # noqa: B023
        assert [frame.sequence for frame in take(capture, KEPT)] == list(range(10 - KEPT, 10))
        assert capture.gauges()["skipped"] == 10 - KEPT
    publisher.close()


def test_the_offset_is_added_to_all_times_and_can_be_turned() -> None:
    publisher = Publisher()
    with watching(publisher.address, offset_ms=-2) as capture:
        publisher.wait_for_listener()
        publisher.frame(small(timestamp_ns=50_000_000, fusion=FUSION))
        (came,) = take(capture)
        assert came.timestamp_ns == 48_000_000
        assert came.fusion == replace(FUSION, timestamps_ns={"infrared": 5 - 2_000_000, "visible": 7 - 2_000_000})
        capture.change("offset_ms", capture.controls()["offset_ms"].checked(3))
        publisher.frame(small(timestamp_ns=50_000_000))
        assert take(capture)[0].timestamp_ns == 53_000_000
    publisher.close()


def test_times_of_a_recording_are_no_times_of_a_live_pipeline(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher(clock_name=wire.PRESENTATION)
    with watching(publisher.address) as capture:
        publisher.wait_for_listener()
        before_ns = module.time.monotonic_ns()
        for number in range(2):
            publisher.frame(small(number))
        frames = take(capture, 2)
    publisher.close()
    assert before_ns < frames[0].timestamp_ns < frames[1].timestamp_ns <= module.time.monotonic_ns()
    assert {frame.timestamp_source for frame in frames} == {"arrival"}
    assert told(caplog, "sends times of a recording") == 1


# What it does without:


def test_a_capture_waits_for_a_publisher_that_is_not_there_yet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now_s = [0.0]
    with watching(f"ipc://{tmp_path}/link") as capture:
        capture.now = lambda: now_s[0]  # type: ignore[method-assign]
        capture._frame_at = 0.0
        for now_s[0] in (1, 4, 5, 60):
            assert capture.process() is None
        assert told(caplog, "no frames from ipc:") == told(caplog, "there is no publisher of this stream") == 1
        assert capture.gauges()["connected"] == 0
        with publishing(f"ipc://{tmp_path}/link") as publisher:
            join(publisher, capture)
            assert capture.gauges()["connected"] == 1
    assert told(caplog, "seen: frames from ipc:") == 1


def test_a_restarted_publisher_is_heard_again_and_the_sequence_goes_on(tmp_path: Path) -> None:
    frames: list[Frame] = []
    with watching(f"ipc://{tmp_path}/link") as capture:
        for start in range(1, 4):
            publisher = Publisher(f"ipc://{tmp_path}/link")
            publisher.wait_for_listener()
            for number in range(2):
                publisher.frame(small(number))
            frames += take(capture, 2)
            assert capture.gauges()["sessions"] == start
            say_goodbye(publisher, capture)
            publisher.close()
        assert capture.report()["notes"] == {"restarts": 2}
    numbers = [frame.sequence for frame in frames]
    assert all(before < after for before, after in itertools.pairwise(numbers))
    assert [after - before > 1 for before, after in itertools.pairwise(numbers)] == [False, True, False, True, False]


def test_silence_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    publisher = Publisher()
    with watching(publisher.address, silent_ms=100) as capture:
        publisher.wait_for_listener()
        publisher.frame(small())
        take(capture)
        wait_until(lambda: capture.process() or capture.gauges()["silences"])
        for _ in range(10):
            assert capture.process() is None
        assert capture.gauges()["connected"] == 0
        assert told(caplog, "the publisher is silent") == 1
        publisher.frame(small(1))
        take(capture)
        wait_until(lambda: told(caplog, "the publisher is back"))
    publisher.close()
    assert told(caplog, "the publisher is back") == 1


def test_a_publisher_without_frames_is_told_from_one_that_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    publisher, now_s = Publisher(), [0.0]
    with watching(publisher.address) as capture:
        capture.now = lambda: now_s[0]  # type: ignore[method-assign]
        publisher.wait_for_listener()
        publisher.frame(small())
        take(capture)
        publisher.stats()
        wait_until(lambda: capture._subscription and capture._subscription.stats)
        for now_s[0] in (2.0, 3.5, 9.0):
            assert capture.process() is None
        assert told(caplog, "the publisher is there, and has none") == told(caplog, "no frames from") == 1
        publisher.frame(small(1))
        take(capture)
        assert told(caplog, "come again") == 1
        say_goodbye(publisher, capture, "failed")
        now_s[0] = 20
        assert capture.process() is None
        assert told(caplog, "the publisher has left (failed)") == 1
    publisher.close()


def test_messages_of_another_program_are_told_from_no_publisher(caplog: pytest.LogCaptureFixture) -> None:
    publisher, now_s = Publisher(), [0.0]
    with watching(publisher.address) as capture:
        capture.now = lambda: now_s[0]  # type: ignore[method-assign]
        publisher.wait_for_listener()
        publisher.link.send([b'{"msg": "cam"}', b"\0" * 100])
        wait_until(lambda: capture.gauges()["malformed"])
        now_s[0] = 1e9
        assert capture.process() is None
    publisher.close()
    assert told(caplog, "what is published there is none of our messages") == 1


def test_a_message_that_is_none_is_counted_and_does_no_harm() -> None:
    publisher = Publisher()
    with watching(publisher.address) as capture:
        publisher.wait_for_listener()
        publisher.link.send([b"fused/frame", b"{", b"\0" * 100])
        publisher.frame(small())
        take(capture)
        assert capture.gauges()["malformed"] == 1
        assert capture.report()["notes"] == {"malformed": 1}
    publisher.close()


def test_of_several_streams_at_one_address_the_named_one_is_taken() -> None:
    publisher = Publisher(stream="infrared")
    with watching(publisher.address, stream="fused") as capture:
        for name in ("infrared", "fused"):
            publisher.stream = name
            wait_until(lambda: publisher.link.heard(b"fused/frame"))
            publisher.frame(small(fusion=FUSION if name == "fused" else None))
        assert take(capture)[0].fusion == FUSION
    publisher.close()


def test_closing_ends_its_thread_and_the_counts_can_still_be_asked() -> None:
    threads = threading.active_count()
    with publishing() as publisher, watching(publisher.address) as capture:
        join(publisher, capture)
        capture.close()
        capture.abort()
        assert capture.report()["path"] == publisher.address
        assert capture.gauges()["received"] > 0
    assert threading.active_count() == threads
    unopened = ZmqCapture("tcp://a:1")
    unopened.close()
    assert (unopened.gauges()["connected"], unopened.report()["notes"]) == (0, {})


# Lossless:


def test_without_a_publisher_a_lossless_capture_gives_nothing_and_then_up() -> None:
    with watching("tcp://127.0.0.1:1", delivery="lossless", timeout_s=0.2) as capture:
        assert capture.process() is None
        with pytest.raises(SourceError, match=r"no lossless publisher for 0\.2 s") as caught:
            take(capture)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("stopping", "reason"), [(True, "stopped"), (False, "failed")])
def test_a_recording_that_breaks_off_is_no_end(stopping: bool, reason: str) -> None:
    with publishing(delivery="lossless") as publisher, watching(publisher.address, delivery="lossless") as capture:
        publisher.process(small())
        take(capture)
        assert publisher.running is not None
        publisher.running.stopping = stopping  # type: ignore[misc]
        thread = threading.Thread(target=publisher.close if stopping else publisher.abort)
        thread.start()
        with pytest.raises(SourceError, match=reason):
            take(capture)
        thread.join()


def test_a_recording_of_another_name_is_not_taken_for_an_empty_one() -> None:
    settings: dict[str, Any] = {"delivery": "lossless"}
    with (
        publishing(**settings) as publisher,
        watching(publisher.address, stream="infrared", **settings) as capture,
    ):
        publisher.process(small())
        thread = threading.Thread(target=publisher.close)
        thread.start()
        with pytest.raises(SourceError, match="there is no stream 'infrared'"):
            take(capture)
        thread.join()


# Keys:


@pytest.mark.parametrize("delivery", ["latest", "lossless"])
def test_with_keys_who_has_one_gets_frames_and_others_nothing(tmp_path: Path, delivery: Any) -> None:
    keys.make(tmp_path / "keys", "camera2")
    keys.make(tmp_path / "wrong")
    shutil.copy(tmp_path / "keys" / "server.key", tmp_path / "wrong" / "server.key")
    settings: dict[str, Any] = {"delivery": delivery}
    with (
        publishing(keys=tmp_path / "keys", **settings) as publisher,
        watching(publisher.address, **settings) as plain,
        watching(publisher.address, keys=tmp_path / "wrong", **settings) as stranger,
        watching(publisher.address, keys=tmp_path / "keys", **settings) as friend,
    ):
        if delivery == "latest":
            take(friend, 3, lambda: publisher.process(small()))
        else:
            publisher.process(small())
            take(friend)
        for other in (plain, stranger):
            assert other.process() is None
            assert other.gauges()["received"] == 0


# The page:


def test_the_page_shows_state_and_age_of_what_comes_from_elsewhere() -> None:
    page: WebOutput
    with served(views=("fused",)) as page, publishing() as publisher, watching(publisher.address) as capture:
        join(publisher, capture)
        publisher.process(small(timestamp_ns=module.time.monotonic_ns() - 5_000_000, fusion=FUSION))
        page.process(fused=take(capture)[0])
        state = get(page, "/api/state").json
        assert (state["state"], state["skew_ms"]) == ("held", 12)
        assert state["latency_ms"]["p50"] >= 5
        assert get(page, "/snapshot/fused.png").status == 200
