"""output.zmq: what goes out, to whom, and what is refused before."""

from __future__ import annotations

import logging
import re
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nodes
from nodes.output import zmq as module
from nodes.output.zmq import ZmqOutput
from pipeline import wire
from pipeline.config import make_node
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame, Fusion
from pipeline.wire import ByeMessage, StatsMessage
from streamfuse.clocks import clock
from streamfuse.lossless import Taker
from tests.nodes.capture.media import make_frame, open_files
from tests.nodes.zmq_ends import FakeRun, listening, message_of, publishing, wait_until
from tests.pipeline.fakes import PATIENCE, Running, Source, line, wait_for

ADDRESS = "tcp://127.0.0.1:5555"


def small(number: int = 0, **more: Any) -> Frame:
    return make_frame(number, "gray8", (4, 3), **more)


def made(**settings: Any) -> ZmqOutput:
    """From YAML."""
    node = make_node("publish", {"type": "output.zmq", "inputs": "fuse", **settings}, nodes.TYPES)
    assert isinstance(node, ZmqOutput)
    return node


# Settings:


@pytest.mark.parametrize(
    "address", ["5555", "udp://127.0.0.1:5555", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "ipc://"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^Node 'publish' \(output.zmq\): .*address") as caught:
        made(address=address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://192.168.1.5:5555", "tcp://[::]:5555"])
def test_an_address_for_others_needs_keys_or_a_clear_word(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"others can reach: set 'keys' .* or 'insecure: true'"):
        made(address=address)
    assert made(address=address, insecure=True).insecure
    assert made(address=address, keys=str(tmp_path)).keys == tmp_path


def test_a_clear_word_is_repeated_loudly(caplog: pytest.LogCaptureFixture) -> None:
    with publishing("tcp://0.0.0.0:0", insecure=True):
        pass
    assert any("INSECURE" in record.message for record in caplog.records if record.levelno == logging.WARNING)


@pytest.mark.parametrize("stream", ["", "fused picture", "fused/frame", "grün", "f" * 65])
def test_a_stream_has_a_name_that_can_be_subscribed_to(stream: str) -> None:
    with pytest.raises(ConfigError, match=r"setting 'stream' is .* letters, digits"):
        made(address=ADDRESS, stream=stream)
    node = ZmqOutput("tcp://127.0.0.1:0")
    node.name = stream
    with pytest.raises(ConfigError, match=r"its name is .*: set 'stream'"):
        node.open({})


def test_consumers_are_of_lossless_delivery_alone() -> None:
    with pytest.raises(ConfigError, match=r"'consumers' is 2: .*lossless"):
        made(address=ADDRESS, consumers=2)


@pytest.mark.parametrize(("mode", "delivery", "hint"), [
    ("live", "lossless", "slowest consumer; set delivery: latest"),
    ("recorded", "latest", "set delivery: lossless, or pace: realtime"),
])  # fmt: skip
def test_what_would_stall_or_lose_frames_is_refused(mode: str, delivery: Any, hint: str) -> None:
    node = ZmqOutput("tcp://127.0.0.1:0", delivery=delivery)
    node.name, node.running = "publish", FakeRun(mode)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=f"^Node 'publish': setting 'delivery' is '{delivery}': .*{hint}"):
        node.open({})


# Opening:


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        node = ZmqOutput(f"tcp://127.0.0.1:{other.getsockname()[1]}")
        node.name = "publish"
        with pytest.raises(OutputError, match=r"cannot listen there: another program does") as caught:
            node.open({})
    node.abort()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("delivery", ["latest", "lossless"])
def test_a_folder_that_is_missing_is_one_line(tmp_path: Path, delivery: Any) -> None:
    node = ZmqOutput(f"ipc://{tmp_path}/missing/link", delivery=delivery)
    node.name = "publish"
    with pytest.raises(OutputError, match=r"there is no folder .*missing; make it first"):
        node.open({})
    node.abort()


def test_keys_that_are_missing_are_one_line(tmp_path: Path) -> None:
    node = ZmqOutput("tcp://127.0.0.1:0", keys=tmp_path)
    node.name = "publish"
    with pytest.raises(ConfigError, match="server") as caught:
        node.open({})
    node.abort()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("delivery", ["latest", "lossless"])
def test_closing_gives_everything_back(tmp_path: Path, delivery: Any) -> None:
    path = tmp_path / "link"
    with publishing(f"ipc://{path}", delivery=delivery):
        assert path.is_socket()
    threads = threading.active_count()
    wait_until(lambda: not path.exists())
    files = open_files()
    for _ in range(5):
        with publishing(f"ipc://{path}", delivery=delivery):
            pass
    assert threading.active_count() == threads
    wait_until(lambda: open_files() <= files + 2)  # ZeroMQ closes in a thread of its own


# Frames, live:


def test_frames_go_on_while_nobody_listens_and_are_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("encoded for nobody")

    monkeypatch.setattr(module, "encoded", fail)
    with publishing(encoding="jpeg") as node:
        for number in range(5):
            node.process(small(number))
        assert (node.gauges()["unheard"], node.gauges()["published"], node.gauges()["heard"]) == (5, 0, 0)
        assert node.report()["notes"] == {"unheard": 5}


def test_a_frame_says_all_that_is_known_of_it() -> None:
    fusion = Fusion("held", 12_000_000, {"infrared": 5, "visible": 7}, "realtime")
    frame = make_frame(3, "yuv420p", (33, 17), 7, "limited", "bt2020", name="street", exposure_us=80.5, fusion=fusion)
    with publishing(stream="cellar.2") as node, listening(node.address, b"cellar.2/") as listener:
        message = message_of(listener, meanwhile=lambda: node.process(frame))
        assert re.fullmatch("[0-9a-f]{16}", message.head.session)
        assert (message.head.stream, message.head.sequence, message.head.clock) == ("cellar.2", 0, clock())
        assert np.array_equal(message.frame.data, frame.data)
        told = ("size", "timestamp_ns", "timestamp_source", "sequence", "color_range", "color_matrix", "frame_rate")
        for key in (*told, "name", "exposure_us", "fusion"):
            assert getattr(message.frame, key) == getattr(frame, key), key


def test_messages_are_numbered_from_when_somebody_listens() -> None:
    with publishing() as node:
        node.process(small())
        with listening(node.address) as listener:
            first = message_of(listener, meanwhile=lambda: node.process(small(1)))
            second = message_of(listener, meanwhile=lambda: node.process(small(2)))
            assert (first.head.sequence, second.head.sequence) == (0, 1)
        wait_until(lambda: node.process(small(3)) or not node.gauges()["heard"])
        published = node.gauges()["published"]
        node.process(small(4))
        assert node.gauges()["published"] == published


class Heard:
    """A link to somebody who gets everything."""

    def __init__(self, address: str, keys: Path | None) -> None:
        self.address = address
        self.messages: list[Any] = []

    def heard(self, topic: bytes) -> bool:
        return True

    def send(self, parts: list[wire.Buffer]) -> None:
        self.messages.append(wire.unpack(parts))

    send_last = send

    def close(self) -> None:
        pass


def test_what_was_dropped_before_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Broadcaster", Heard)
    run = FakeRun()
    run.dropped["no_partner"] = 2
    with publishing(run=run) as node:
        node.process(small())
        node.process(small(1))
        run.dropped.update(no_partner=1, queue_full=4)
        node.process(small(2))
        link: Any = node._link
        assert [message.drops for message in link.messages] == [
            {"no_partner": 2},
            {},
            {"no_partner": 1, "queue_full": 4},
        ]


def test_each_start_is_another_session() -> None:
    sessions = set()
    for _ in range(3):
        with publishing() as node, listening(node.address) as listener:
            sessions.add(message_of(listener, meanwhile=lambda: node.process(small())).head.session)
    assert len(sessions) == 3


def test_encoding_for_nobody_can_be_asked_for() -> None:
    with publishing(encoding="png", encode_for_nobody=True) as node:
        node.process(small())
        assert (node.gauges()["published"], node.gauges()["unheard"]) == (1, 0)
        assert node.gauges()["megabytes"] > 0


def test_a_frame_that_cannot_go_out_ends_a_run_only_if_it_is_the_first(caplog: pytest.LogCaptureFixture) -> None:
    with publishing(encoding="jpeg") as node:
        with pytest.raises(OutputError, match="16 bits"):
            node.process(make_frame(0, "gray16"))
        node.process(small())
        for _ in range(3):
            node.process(make_frame(0, "gray16"))
        assert node.report()["notes"] == {"unheard": 1, "not sent: format": 3}
    assert sum("not sent" in record.message for record in caplog.records) == 1


# Beside the frames:


def test_once_a_second_it_says_how_it_does_whether_frames_come_or_not() -> None:
    run, now_s = FakeRun(), [100.0]
    run.dropped["queue_full"] = 3
    run.nodes = {"fuse": {"p50_ms": 12.5, "source": False, "sink": False}}
    node = ZmqOutput("tcp://127.0.0.1:0", stream="a")
    node.name, node.running, node.now = "publish", run, lambda: now_s[0]  # type: ignore[assignment, method-assign]
    node.open({})
    node.process(small())
    try:
        with listening(node.address, b"a/stats") as listener:
            for second in (1, 2):
                wait_until(lambda: node._link and node._link.heard(b"a/stats"))
                now_s[0] += 1
                stats = message_of(listener, StatsMessage)
                assert stats.uptime_s == pytest.approx(second)
                assert (stats.unheard, stats.drops, stats.stages_ms) == (1, {"queue_full": 3}, {"fuse": 12.5})
                assert stats.head.sequence == 0
    finally:
        node.close()


@pytest.mark.parametrize(("stopping", "method", "reason"), [
    (False, "close", "end"),
    (True, "close", "stopped"),
    (True, "abort", "failed"),
])  # fmt: skip
def test_it_says_goodbye_and_why(stopping: bool, method: str, reason: str) -> None:
    run = FakeRun()
    with publishing(run=run) as node, listening(node.address) as listener:
        sequence = message_of(listener, meanwhile=lambda: node.process(small())).head.sequence
        published = int(node.gauges()["published"])
        assert sequence < published
        run.stopping = stopping
        getattr(node, method)()
        bye = message_of(listener, ByeMessage)
        assert (bye.reason, bye.head.sequence) == (reason, published)


def test_a_check_of_the_config_tells_nobody_anything() -> None:
    """It opens what a config names and gives it up again, without a frame and without being stopped."""
    with publishing() as node, listening(node.address) as listener:
        wait_until(lambda: node.gauges()["heard"])
        node.abort()
        assert listener.receive(0.2) is None


def test_a_fault_in_what_it_tells_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    monkeypatch.setattr(module, "STATS_S", 0.01)
    run = FakeRun()
    run.nodes = {"fuse": {}}  # of which there should be more
    with publishing(run=run) as node, listening(node.address) as listener:
        wait_until(lambda: "cannot say how it does: KeyError" in caplog.text)
        assert message_of(listener, meanwhile=lambda: node.process(small()))
    assert caplog.text.count("cannot say how it does") == 1


# Lossless:


def taken(address: str, count: int) -> list[wire.FrameMessage]:
    taker = Taker(address)
    try:
        messages = []
        while len(messages) < count:
            if (parts := taker.receive(PATIENCE)) is None:
                raise AssertionError(f"only {len(messages)} of {count} came")
            messages.append(wire.unpack(parts))
        return messages  # type: ignore[return-value]
    finally:
        taker.close()


def test_a_lossless_output_waits_for_its_consumer_and_drops_nothing() -> None:
    with publishing(delivery="lossless") as node:
        done = threading.Event()

        def give() -> None:
            for number in range(30):
                node.process(small(number))
            done.set()

        threading.Thread(target=give, daemon=True).start()
        wait_until(lambda: node.gauges()["published"] == 8)  # its window: no more before somebody takes some
        assert not done.is_set()
        assert (node.gauges()["heard"], node.gauges()["consumers"]) == (0, 0)
        messages = taken(node.address, 30)
        assert (node.gauges()["heard"], node.gauges()["consumers"]) == (1, 1)
        wait_for(done)
    assert [message.frame.sequence for message in messages] == list(range(30))
    assert {message.head.clock for message in messages} == {wire.PRESENTATION}
    assert all(np.array_equal(message.frame.data, small(n).data) for n, message in enumerate(messages))


def test_a_lossless_output_that_waits_can_be_stopped() -> None:
    node = ZmqOutput("tcp://127.0.0.1:0", delivery="lossless")
    running = Running(line(Source(range(0, 1000, 40)), node))
    wait_until(lambda: running.pipeline.steps[node.name].stats.taken == 9)
    running.pipeline.stop()
    summary = running.end()
    assert summary.broken == []
    entry = summary.nodes[node.name]
    assert (entry["taken"], entry["emitted"], entry["dropped"]["ended"]) == (9, 8, 1)  # the ninth waited for room


def test_a_consumer_that_never_comes_ends_the_run_in_one_line() -> None:
    node = ZmqOutput("tcp://127.0.0.1:0", delivery="lossless", timeout_s=0.3)
    with pytest.raises(OutputError, match=r"0 of 1 lossless consumers came within 0\.3 s") as caught:
        Running(line(Source(range(0, 1000, 40)), node)).end()
    assert "\n" not in str(caught.value)


def test_a_consumer_that_never_comes_is_waited_for_at_the_end_of_a_short_recording_too() -> None:
    node = ZmqOutput("tcp://127.0.0.1:0", delivery="lossless", timeout_s=0.3)
    with pytest.raises(OutputError, match="0 of 1 lossless consumers came"):
        Running(line(Source([0, 40]), node)).end()
