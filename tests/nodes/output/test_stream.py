"""output.stream: what is pushed arrives, whatever becomes of who receives it."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from nodes import nvidia
from nodes.output import stream
from nodes.output.pushing import srt_library
from nodes.output.stream import StreamOutput
from pipeline.errors import ConfigError, DeviceError, OutputError
from pipeline.frame import Frame
from tests.nodes.capture.media import make_frame, open_files
from tests.nodes.output.receivers import Receiver, Silent, SrtReceiver, address, free_port, wait_until

WITHOUT_SRT = "libsrt is not installed (Debian: libsrt1.5-gnutls)"


@pytest.fixture
def pushing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StreamOutput]]:
    """`pushing(url, **settings)` is an open node that connects again soon, closed after the test."""
    monkeypatch.setattr(stream, "FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(stream, "LONGEST_WAIT_S", 0.2)
    nodes: list[StreamOutput] = []

    def do(url: str, **settings: Any) -> StreamOutput:
        node = StreamOutput(url, **{"codec": "libx264", **settings})
        node.name = "publish"
        node.open({})
        nodes.append(node)
        return node

    yield do
    for node in nodes:
        node.close()


def now_frame(data: np.ndarray | None = None, size: tuple[int, int] = (64, 48)) -> Frame:
    """A frame of now."""
    grey = np.full(size[0] * size[1] * 3 // 2, 90, np.uint8)
    return make_frame(0, "yuv420p", size, time.monotonic_ns(), data=grey if data is None else data)


def push_until(node: StreamOutput, true: Callable[[], object], what: str) -> None:
    wait_until(true, what, lambda: node.process(now_frame()))


def receiver_of(scheme: str, port: int) -> Receiver | SrtReceiver:
    if scheme != "srt":
        return Receiver(scheme, port)
    if srt_library() is None:
        pytest.skip(WITHOUT_SRT)
    return SrtReceiver(port)


# What arrives


@pytest.mark.parametrize("scheme", ["udp", "rtmp", "rtsp", "srt"])
def test_pictures_arrive_as_they_were(scheme: str, pushing: Callable[..., StreamOutput]) -> None:
    port = free_port()
    receiver = receiver_of(scheme, port)
    url = address(scheme, port) + ("?streamid=night&latency=20" if scheme == "srt" else "")
    node = pushing(url)
    push_until(node, lambda: len(receiver.pictures) >= 5, "pictures arrive")
    node.close()
    picture = receiver.pictures[-1]
    assert (picture.width, picture.height) == (64, 48)
    assert abs(picture.to_ndarray(format="gray")[:40].astype(int) - 90).max() <= 2
    if isinstance(receiver, SrtReceiver):
        assert receiver.stream_id == "night"
    receiver.stop()


def test_a_key_frame_comes_as_often_as_is_said_and_times_go_forward(pushing: Callable[..., StreamOutput]) -> None:
    port = free_port()
    receiver = Receiver("rtsp", port)
    node = pushing(address("rtsp", port), gop_s=0.2)
    push_until(node, lambda: sum(key for _, key in receiver.packets) >= 4, "key frames arrive")
    receiver.stop()
    times = [pts for pts, _ in receiver.packets]
    assert times == sorted(set(times))
    keys = [pts for pts, key in receiver.packets if key][1:]
    spaces = np.diff(keys) / 90_000
    assert min(spaces) >= 0.2
    between = [pts for pts, key in receiver.packets if not key]
    assert len(between) > len(keys)  # and not each one is


def test_a_change_of_size_makes_a_new_connection_with_the_new_size(pushing: Callable[..., StreamOutput]) -> None:
    port = free_port()
    receiver = Receiver("udp", port)
    node = pushing(address("udp", port))
    push_until(node, lambda: receiver.pictures, "pictures arrive")
    sizes = lambda: {(p.width, p.height) for p in list(receiver.pictures)}  # noqa: E731
    wait_until(lambda: (96, 80) in sizes(), "the new size", lambda: node.process(now_frame(size=(96, 80))))
    receiver.stop()
    assert node.gauges()["connections"] == 2
    assert sizes() == {(64, 48), (96, 80)}


def test_gray_and_colour_share_a_connection(pushing: Callable[..., StreamOutput]) -> None:
    port = free_port()
    receiver = Receiver("udp", port)
    node = pushing(address("udp", port))
    push_until(node, lambda: receiver.pictures, "pictures arrive")
    gray = np.full((48, 64), 200, np.uint8)
    seen = lambda: max((p.to_ndarray(format="gray").mean() for p in receiver.pictures[-1:]), default=0)  # noqa: E731
    lost = lambda: node.process(make_frame(0, "gray8", (64, 48), time.monotonic_ns(), data=gray))  # noqa: E731
    wait_until(lambda: seen() > 195, "the gray frames", lost)
    receiver.stop()
    assert node.gauges()["connections"] == 1


def test_every_frame_is_sent_or_counted(pushing: Callable[..., StreamOutput]) -> None:
    port, offered = free_port(), 0
    node = pushing(address("rtsp", port))

    def offer() -> None:
        nonlocal offered
        node.process(now_frame())
        offered += 1

    wait_until(lambda: node.gauges()["not_connected"] > 3, "nobody there", offer)
    receiver = Receiver("rtsp", port)
    wait_until(lambda: len(receiver.packets) >= 5, "pictures arrive", offer)
    node.close()
    receiver.stop()
    gauges, notes = node.gauges(), node.report()["notes"]
    assert gauges["sent"] + sum(n for why, n in notes.items() if why.startswith("not sent")) == offered
    assert notes["sent"] == gauges["sent"] >= 5
    assert gauges["connected"] == 0


# What goes wrong


def test_a_receiver_that_is_killed_and_restarted_gets_the_stream_again_and_nothing_grows(
    pushing: Callable[..., StreamOutput],
) -> None:
    port = free_port()
    node = pushing(address("rtsp", port))
    files, threads = [], []
    for turn in range(3):
        receiver = Receiver("rtsp", port)
        push_until(node, lambda: len(receiver.packets) >= 3, f"pictures arrive for the {turn}. time")  # noqa: B023
        assert node.gauges()["connected"] == 1
        receiver.stop()
        push_until(node, lambda: not receiver.thread.is_alive(), "the receiver is gone")  # noqa: B023
        push_until(node, lambda: node._push is None, "the node sees it")
        files.append(open_files())
        threads.append(threading.active_count())
    assert files[-1] <= files[0]
    assert threads[-1] <= threads[0]
    assert node.gauges()["connections"] == 3


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
def test_a_server_that_never_answers_stalls_nobody(
    scheme: str, pushing: Callable[..., StreamOutput], caplog: pytest.LogCaptureFixture
) -> None:
    server = Silent()
    node = pushing(address(scheme, server.port), timeout_s=0.5)
    pushed = 0

    def one_more() -> None:
        nonlocal pushed
        node.process(now_frame())
        pushed += 1

    wait_until(lambda: "no answer within 0.5 s" in caplog.text, "the time-out", one_more)
    assert pushed > 20  # in a row, while the connection was stuck
    assert node.gauges()["connected"] == 0
    wait_until(lambda: node._push is not None, "the next try", one_more)
    node.close()  # in the middle of it
    server.close()
    assert caplog.text.count("not sending to") == 1


def test_a_receiver_that_takes_nothing_any_more_makes_frames_drop_and_stalls_nobody(
    pushing: Callable[..., StreamOutput],
) -> None:
    port = free_port()
    receiver = Receiver("rtsp", port, most=1)
    node = pushing(address("rtsp", port), timeout_s=20, bitrate_kbps=200_000)
    noise = np.random.default_rng(0).integers(0, 256, (3, 320 * 240 * 3 // 2), np.uint8)
    numbers = itertools.count()
    one_more = lambda: node.process(now_frame(noise[next(numbers) % 3].copy(), (320, 240)))  # noqa: E731
    wait_until(lambda: node.gauges()["slow"] > 3, "frames are left out", one_more)
    assert node.gauges()["connected"] == 1
    node.close()  # with its process stuck in the middle of a packet
    receiver.stop()


def test_closing_leaves_no_process_behind(pushing: Callable[..., StreamOutput]) -> None:
    server = Silent()
    for url in (address("rtsp", server.port), address("udp", free_port())):
        node = pushing(url)
        wait_until(lambda: node._push is not None, "a try", lambda: node.process(now_frame()))  # noqa: B023
        assert node._push is not None
        process = node._push._process
        node.close()
        assert process.returncode is not None
        node.close()
    server.close()


def test_secrets_are_shown_nowhere(pushing: Callable[..., StreamOutput], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    node = pushing(f"rtsp://operator:hunter2@127.0.0.1:{free_port()}/night?token=hunter2")
    push_until(node, lambda: node._push is not None, "a try")
    assert node._push is not None
    command = Path(f"/proc/{node._push._process.pid}/cmdline")
    if command.exists():
        assert b"hunter2" not in command.read_bytes()
    push_until(node, lambda: "not sending to" in caplog.text, "a failure")
    assert "Connection refused" in caplog.text
    assert "hunter2" not in caplog.text + str(node.report())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:pass@cam.local:554/night", "rtsp://cam.local:554/night"),
        ("rtmp://host/live/secret-key", "rtmp://host/live/..."),
        ("rtmps://user:pass@host/app/inst/secret-key?a=b", "rtmps://host/app/inst/..."),
        ("srt://host:9000?passphrase=0123456789", "srt://host:9000?..."),
    ],
)
def test_an_address_is_reported_without_its_secrets(url: str, shown: str) -> None:
    assert StreamOutput(url).report()["path"] == shown


def test_a_bad_address_is_told_without_the_key_of_the_stream() -> None:
    with pytest.raises(ConfigError) as caught:
        StreamOutput("rtmp://host:99999/live/secret-key")
    assert "secret-key" not in str(caught.value)


def test_it_tries_again_after_ever_longer_waits_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        connected, failure, sent, in_flight = False, "refused", 0, 1

        def __init__(self, *_: object) -> None:
            tries.append(clock[0])

        give = turn = finish = lambda *_: None

    tries: list[float] = []
    clock = [0.0]
    monkeypatch.setattr(stream, "Push", Refused)
    node = StreamOutput("udp://127.0.0.1:9", codec="libx264")
    node.now = lambda: clock[0]  # type: ignore[method-assign]
    node.open({})
    for number in range(700):
        clock[0] = number / 5
        node.process(make_frame(number))
    waits = np.diff(tries)
    assert 0.25 <= waits[0] <= 0.8
    assert waits[2] > 1
    assert all(5 <= wait <= 10.3 for wait in waits[5:])
    assert len(set(np.round(waits[5:], 1))) > 1
    node.close()
    assert sum(n for why, n in node.report()["notes"].items() if why.startswith("not sent")) == 700


# Settings


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host/a", "cannot work with 'http'"),
        ("night.mp4", "not an address"),
        ("udp://:5000", "there is no host in it; write udp://HOST:PORT"),
        ("rtsp:///night", "there is no host in it"),
        ("udp://host", "there is no port in it"),
        ("rtsp://host:99999/a", "a port is 1 to 65535"),
        ("srt://host:1?passphrase=short", "10 to 79 characters"),
        ("srt://host:1?latencyy=1", "Did you mean 'latency'"),
        ("srt://host:1?latency=soon", "latency is a whole number"),
        ("srt://host:1?pbkeylen=8", "16, 24 or 32"),
    ],
)
def test_an_address_that_cannot_be_sent_to_is_one_line(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        StreamOutput(url)
    assert "\n" not in str(caught.value)


def test_recordings_are_refused_with_what_to_do() -> None:
    node = StreamOutput("udp://127.0.0.1:9")
    node.running = SimpleNamespace(mode="recorded")  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="set pace: realtime"):
        node.open({})


@pytest.mark.parametrize("why", [nvidia.NO_DRIVER, "the GPU does not encode (no such device)"])
def test_without_an_nvidia_encoder_auto_takes_libx264_and_asking_for_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    caplog.set_level(logging.INFO, "streamfuse")
    monkeypatch.setattr(nvidia, "why_no_encoding", lambda _: why)
    node = StreamOutput("udp://127.0.0.1:9", codec="h264_nvenc")
    with pytest.raises(DeviceError, match="set codec: auto") as caught:
        node.open({})
    assert why in str(caught.value)
    other = StreamOutput("udp://127.0.0.1:9")
    other.open({})
    assert other.codec == "libx264"
    assert [record.getMessage() for record in caplog.records] == (
        [] if why == nvidia.NO_DRIVER else [f": encodes with libx264: {why}"]
    )


def test_an_encoder_of_the_gpu_that_fails_makes_room_for_the_cpus_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pushing: Callable[..., StreamOutput]
) -> None:
    monkeypatch.setattr(nvidia, "why_no_encoding", lambda _: None)
    open_encoder = StreamOutput._new_encoder

    def fails(self: StreamOutput, codec: str, *more: Any) -> Any:
        if codec == "h264_nvenc":
            raise av.error.ExternalError(1, "no capable device")
        return open_encoder(self, codec, *more)

    monkeypatch.setattr(StreamOutput, "_new_encoder", fails)
    port = free_port()
    receiver = receiver_of("udp", port)
    node = pushing(address("udp", port), codec="auto")
    assert node.codec == "h264_nvenc"
    push_until(node, lambda: receiver.pictures, "pictures arrive")
    assert node.codec == "libx264"
    assert "publish: h264_nvenc fails (no capable device): going on with libx264" in caplog.text
    assert node.report()["notes"]["not sent: error"] == 1


def test_an_encoder_of_the_gpu_that_was_asked_for_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, pushing: Callable[..., StreamOutput]
) -> None:
    def fails(*_: Any) -> Any:
        raise av.error.ExternalError(1, "no capable device")

    monkeypatch.setattr(nvidia, "why_no_encoding", lambda _: None)
    monkeypatch.setattr(StreamOutput, "_new_encoder", fails)
    node = pushing(address("udp", free_port()), codec="h264_nvenc")
    push_until(node, lambda: node.report()["notes"].get("not sent: error", 0) >= 2, "it is tried again")
    assert node.codec == "h264_nvenc"


def test_srt_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "srt_library", lambda: None)
    with pytest.raises(OutputError, match="apt install libsrt"):
        StreamOutput("srt://127.0.0.1:9").open({})


def test_counts_of_16_bits_are_refused_at_once_and_later_left_out(pushing: Callable[..., StreamOutput]) -> None:
    node = pushing(address("udp", free_port()))
    with pytest.raises(OutputError, match="h264 cannot hold gray16"):
        node.process(make_frame(0, "gray16"))
    node.process(make_frame(0))
    node.process(make_frame(1, "gray16"))
    assert node.report()["notes"]["not sent: format"] == 1


def test_what_the_source_does_not_say_is_taken_from_the_settings() -> None:
    frame = make_frame(0, frame_rate=None)
    assert StreamOutput("udp://h:1")._rate(frame) == 30
    assert StreamOutput("udp://h:1", fps=9)._rate(make_frame(0)) == 9
    assert StreamOutput("udp://h:1")._rate(make_frame(0, frame_rate=Fraction(60))) == 60
