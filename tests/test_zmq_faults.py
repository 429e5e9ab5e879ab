"""What others may do to a stream: they are stopped, killed, started again, talk nonsense. What it costs the rest."""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq

import nodes
import streamfuse
from nodes.capture.zmq import KEPT
from nodes.output.zmq import ZmqOutput
from pipeline.config import build
from pipeline.pipeline import Pipeline
from pipeline.wire import FrameMessage, WantMessage, WireError, unpack
from streamfuse.decoding import decoded
from streamfuse.subscription import Subscription
from tests.conftest import Command
from tests.nodes.zmq_ends import publishing, wait_until
from tests.nursery import Nursery, checksum, opened, picture
from tests.pipeline.fakes import PATIENCE, Running
from tests.pipeline.messages import MADE, WANT
from tests.pipeline.test_wire_fuzz import MAKERS
from tests.programs import ROOT, frames_that_play, write_tree
from tests.several import started

TEN_SECONDS = 300  # frames at 30 Hz
HELD = 10  # frames that are in sockets and in the kernel at both ends, at most
KILLS, RESTARTS = 50, 10
PUBLISHERS, EACH_CHECKED = 30, 4
FUZZED, TOGETHER = 10_000, 100
MOST_GROWTH = 20 << 20  # bytes


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with opened() as nursery:
        yield nursery


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Pair:
    """A publisher of full HD, and a reader of whom nothing that happens to others may be noticed."""

    def __init__(self, node: ZmqOutput, reader: Subscription) -> None:
        self.node, self.reader, self.next = node, reader, 0
        self._pictures = [picture(number) for number in range(4)]

    def publish(self) -> int:
        """One more, which the reader gets; its number."""
        number, self.next = self.next, self.next + 1
        self.node.process(self._pictures[number % 4])
        received = self.reader.take(PATIENCE)
        assert received is not None
        assert received.message.head.sequence == number
        return number


@pytest.fixture
def pair() -> Iterator[Pair]:
    with publishing() as node, streamfuse.subscribe(node.address) as reader:
        wait_until(lambda: node.gauges()["heard"])
        yield Pair(node, reader)
        counts = reader.counts()
    assert (counts["lost_in_transit"], counts["skipped"], counts["malformed"], counts["silences"]) == (0, 0, 0, 0)


def soon(true: Callable[[int], bool], number: int) -> bool:
    """Whether it becomes so; one frame of many may be dropped on a busy machine."""
    return any(true(number) or time.sleep(0.002) for _ in range(250))


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def numbers(nursery: Nursery, reader: int) -> list[int]:
    """Of the frames that a reader has got."""
    return [int(number) for number, _ in nursery.said(reader)]


@pytest.mark.slow
def test_a_reader_that_is_stopped_for_ten_seconds_costs_nobody_anything_and_comes_back_to_what_is_now(
    pair: Pair, nursery: Nursery
) -> None:
    stopped = nursery.start("read", pair.node.address)
    wait_until(lambda: pair.publish() and numbers(nursery, stopped))
    os.kill(stopped, signal.SIGSTOP)
    wait_until(lambda: "\nState:\tT" in Path(f"/proc/{stopped}/status").read_text())
    before = resident()
    for _ in range(TEN_SECONDS):
        newest = pair.publish()
    assert resident() - before < HELD * picture(0).data.nbytes, "what it does not take is not kept for it"
    assert numbers(nursery, stopped)[-1] <= newest - TEN_SECONDS
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: pair.publish() and numbers(nursery, stopped)[-1] > newest)
    old = [number for number in numbers(nursery, stopped) if newest - TEN_SECONDS < number <= newest]
    assert len(old) <= HELD

    def has_got(now: int) -> bool:
        return numbers(nursery, stopped)[-1] == now

    for _ in range(3):  # what is published is what it gets, and nothing else is still on its way
        wait_until(lambda: soon(has_got, pair.publish()))
    for (before_it, _), (number, missed) in itertools.pairwise(nursery.said(stopped)):
        assert int(number) == int(before_it) + int(missed) + 1


@pytest.mark.slow
def test_a_reader_that_is_killed_fifty_times_leaves_nothing_behind(pair: Pair, nursery: Nursery) -> None:
    files, memory = 0, 0
    for kill in range(KILLS):
        reader = nursery.start("read", pair.node.address)
        wait_until(lambda reader=reader: pair.publish() and nursery.said(reader))  # type: ignore[misc]
        pair.node.process(picture(pair.next))  # which is on its way to it
        os.kill(reader, signal.SIGKILL)
        received = pair.reader.take(PATIENCE)
        assert received is not None
        assert received.message.head.sequence == pair.next
        pair.next += 1
        if kill == KILLS // 5:
            files, memory = open_files(), resident()
    wait_until(lambda: pair.publish() and open_files() <= files)
    assert resident() - memory < MOST_GROWTH


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_publisher_that_is_killed_ten_times_and_started_again_goes_on_in_one_pipeline(
    nursery: Nursery, tmp_path: Path, transport: str
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}" if transport == "tcp" else f"ipc://{tmp_path}/fused.ipc"
    pipeline = pipeline_of(address, keep=100_000)
    running, last, gauges = Running(pipeline), pipeline.steps["kept"], pipeline.steps["fused"].gauges
    for start in range(RESTARTS + 1):
        publisher = nursery.start("publish", address, 320, 240)
        wait_until(lambda start=start: gauges().get("sessions") == start + 1)  # type: ignore[misc]
        taken = last.stats.emitted
        wait_until(lambda taken=taken: last.stats.emitted >= taken + 5)  # type: ignore[misc]
        nursery.kill(publisher)
    pipeline.stop()
    summary = running.end()
    assert summary.broken == []
    assert summary.nodes["fused"]["notes"]["restarts"] == RESTARTS
    sequences = [frame.sequence for frame in last.node.frames]  # type: ignore[attr-defined]
    steps = [after - before for before, after in itertools.pairwise(sequences)]
    assert min(steps) >= 1, "it goes on"
    assert sum(step > 1 for step in steps) >= RESTARTS, "with a gap"
    assert all(frame.name == checksum(frame.data) for frame in last.node.frames)  # type: ignore[attr-defined]


def pipeline_of(address: str, keep: int) -> Pipeline:
    taken = {"type": "capture.zmq", "address": address}
    return build({"fused": taken, "kept": {"type": "output.memory", "inputs": "fused", "keep": keep}}, nodes.TYPES)


def free_port() -> int:
    with zmq.Context.instance().socket(zmq.PUB) as socket:
        return socket.bind_to_random_port("tcp://127.0.0.1")


@pytest.mark.slow
def test_the_process_that_fuses_is_killed_and_started_again_and_the_stream_goes_on(
    tmp_path: Path, weights_of: Callable[..., Path]
) -> None:
    configs = [ROOT / "configs" / "split_live" / f"{name}.yaml" for name in ("capture", "fuse", "record")]
    links = {"send_visible": "v", "visible": "v", "send_thermal": "t", "thermal": "t", "send_fused": "f", "fused": "f"}
    words = [f"{node}.address=ipc://{tmp_path}/{name}.ipc" for node, name in links.items()]
    words += [f"camera_{name}.size=[64, 48]" for name in ("visible", "thermal")]
    words += [f"fuse.weights={weights_of('realtime')}", "page.port=0", f"record.path={tmp_path / 'lookout.mkv'}"]
    with started(tmp_path, *configs, *words, "--json", "run.json") as program:
        video = program.until(lambda: next(tmp_path.glob("lookout-*.mkv"), None), "a recording")
        program.until(lambda: frames_that_play(video) > 5, "a recording that plays")
        killed = program.pid("fuse")
        os.kill(killed, signal.SIGKILL)
        assert program.pid("fuse", 2) != killed
        assert not Path(f"/proc/{killed}").exists(), "no zombie"
        until_then = frames_that_play(video)
        program.until(lambda: frames_that_play(video) > until_then + 10, "the stream goes on")
        outcome = program.interrupt()
    assert outcome.code == 130
    assert "fuse: was killed by SIGKILL; starting it again in 0.5 s" in outcome.err
    assert "fuse    | restarted 1 time" in outcome.err
    assert outcome.err.count("once more to force") == 1, "it is said by one for all"
    figures = json.loads((tmp_path / "run.json").read_text())
    assert figures["restarts"] == {"capture": 0, "fuse": 1, "record": 0}
    assert {summary["mode"] for summary in figures["processes"].values()} == {"live"}
    assert all(summary["broken"] == [] for summary in figures["processes"].values())
    assert figures["processes"]["record"]["nodes"]["fused"]["notes"]["restarts"] == 1
    assert figures["processes"]["record"]["nodes"]["record"]["emitted"] == frames_that_play(video)
    assert not list(tmp_path.glob("*.ipc"))


class Expected:
    """What a reader of stream `fused` should count, as far as it was sent."""

    def __init__(self) -> None:
        self.counts = {"received": 0, "malformed": 0, "foreign": 0}

    def add(self, parts: list[Any]) -> bool:
        """Whether there is a frame in it."""
        try:
            message = unpack(parts)
        except WireError:
            message = WANT  # which is for others, and as malformed as what is none
        foreign = not isinstance(message, WantMessage) and message.head.stream != "fused"
        is_frame = isinstance(message, FrameMessage) and not foreign
        self.counts["received"] += is_frame
        self.counts["foreign"] += foreign
        self.counts["malformed"] += isinstance(message, WantMessage) or (is_frame and not is_whole(message))
        return is_frame

    def came(self, gauges: dict[str, float]) -> bool:
        return all(gauges[name] == count for name, count in self.counts.items())


def is_whole(message: FrameMessage) -> bool:
    try:
        decoded(message.frame, message)
    except WireError:
        return False
    return True


@pytest.mark.slow
def test_ten_thousand_messages_of_nonsense_are_counted_and_take_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    expected, memory, waiting = Expected(), 0, 0
    with closing(zmq.Context.instance().socket(zmq.PUB)) as rogue:
        rogue.linger = 0
        address = f"tcp://127.0.0.1:{rogue.bind_to_random_port('tcp://127.0.0.1')}"
        pipeline = pipeline_of(address, keep=1)
        running, gauges = Running(pipeline), pipeline.steps["fused"].gauges
        wait_until(lambda: rogue.send_multipart(MADE["stats"]) or gauges().get("connected"))
        for number, message in enumerate(messages(random.Random(5))):
            rogue.send_multipart(message)
            waiting += expected.add(message)
            if (
                waiting == KEPT - 1 or number % TOGETHER == 0
            ):  # no more frames than are kept, no more than ZeroMQ queues
                wait_until(lambda: expected.came(gauges()))
                waiting = 0
            if number == FUZZED // 10:
                memory = resident()
        wait_until(lambda: expected.came(gauges()))
        assert resident() - memory < MOST_GROWTH
        wait_until(lambda: rogue.send_multipart(MADE["frame"]) or gauges()["received"] > expected.counts["received"])
        pipeline.stop()
        assert running.end().broken == []
    assert expected.counts["malformed"] > 0.8 * FUZZED
    assert expected.counts["received"] > 0, "and among them are some that are right by chance"
    assert gauges()["skipped"] == 0
    assert len(caplog.records) < 10, "nobody fills the log from outside"


def messages(dice: random.Random) -> Iterator[list[Any]]:
    """Made one after the other, for ten thousand of them are larger than what is to be found."""
    made = (dice.choice(MAKERS)(dice) for _ in itertools.count())
    return itertools.islice((message for message in made if message), FUZZED)  # one without parts cannot be sent


@pytest.mark.slow
def test_no_pixel_of_thirty_publishers_of_full_hd_changes_under_load(nursery: Nursery, tmp_path: Path) -> None:
    addresses = [f"ipc://{tmp_path}/{number}.ipc" for number in range(PUBLISHERS)]
    processes = [nursery.start("publish-many", *addresses[start::3]) for start in range(3)]
    wait_until(lambda: all(nursery.said(pid) for pid in processes))
    readers = [streamfuse.subscribe(address) for address in addresses]
    checked, wrong = 0, []
    try:
        for _ in range(EACH_CHECKED):
            for reader in readers:
                received = reader.take(PATIENCE)
                assert received is not None
                checked += 1
                if received.frame.name != checksum(received.frame.data):
                    wrong.append(received.message.head)
        assert not any(reader.counts()["malformed"] for reader in readers)
    finally:
        for pid in processes:
            nursery.kill(pid)
        for reader in readers:
            reader.close()
    assert checked == PUBLISHERS * EACH_CHECKED
    assert wrong == []


def config_at(folder: Path, address: str, delivery: str = "latest") -> Path:
    camera: dict[str, Any] = {"type": "capture.pattern", "view": "visible", "size": [64, 48], "frames": 3}
    camera["pace"] = "realtime" if delivery == "latest" else "full"
    send = {"type": "output.zmq", "inputs": "camera", "address": address, "delivery": delivery}
    return write_tree(folder / "pair.yaml", {"camera": camera, "send": send})


@pytest.mark.parametrize("delivery", ["latest", "lossless"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_an_address_in_use_is_one_line_and_exit_code_5(
    command: Command, tmp_path: Path, transport: str, delivery: str
) -> None:
    with publishing("tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/used.ipc") as node:
        outcome = command(config_at(tmp_path, node.address, delivery))
    assert outcome.code == 5
    assert outcome.error.startswith(f"error: {node.address}: cannot listen there: another program does; end it, or ")


@pytest.mark.parametrize("delivery", ["latest", "lossless"])
def test_an_ipc_folder_that_cannot_be_written_is_one_line_and_exit_code_5(
    command: Command, tmp_path: Path, delivery: str
) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(0o500)
    if os.access(folder, os.W_OK):  # of who may write everywhere but there
        folder = Path("/sys")
    if not folder.is_dir():
        pytest.skip("this user may write everywhere")
    outcome = command(config_at(tmp_path, f"ipc://{folder}/fused.ipc", delivery))
    assert outcome.code == 5
    assert outcome.error == (
        f"error: ipc://{folder}/fused.ipc: cannot listen there: not allowed; take a folder that you may write to, "
        f"not {folder}"
    )


def test_an_ipc_folder_that_is_missing_is_one_line_and_exit_code_5(command: Command, tmp_path: Path) -> None:
    outcome = command(config_at(tmp_path, f"ipc://{tmp_path}/nowhere/fused.ipc"))
    assert outcome.code == 5
    assert outcome.error.endswith(f"cannot listen there: there is no folder {tmp_path}/nowhere; make it first")
