"""The lane over a device that is not there: order, overlap, back-pressure, changes of shape, and faults."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nodes.fusion.cuda import SLOTS, Lane, LaneFault
from tests.nodes.fusion.fake_device import FakeDevice

PATIENCE = 20.0
UPLOAD, COMPUTE, DOWNLOAD = range(3)


def add(arrays: Mapping[str, Tensor], out: Tensor, options: dict[str, Any]) -> None:
    out.copy_(arrays["a"] + arrays["b"] + options.get("more", 0))


def pair(number: int, shape: tuple[int, ...] = (4, 6)) -> dict[str, np.ndarray]:
    return {"a": np.full(shape, number, np.uint8), "b": np.full(shape, 100, np.uint8)}


def expected(number: int, shape: tuple[int, ...] = (4, 6)) -> np.ndarray:
    return np.full(shape, 100 + number, np.uint8)


def wait_until(condition: Any) -> None:
    """Of something that other threads do."""
    changed = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        changed.wait(0.005)
    pytest.fail("what was waited for did not happen")


def test_each_ticket_gives_the_result_of_its_own_frame() -> None:
    lane = Lane(FakeDevice(), add)
    for first in range(0, 30, SLOTS):
        tickets = [lane.submit(pair(first + n), (4, 6), more=1) for n in range(SLOTS)]
        for n, ticket in reversed(list(enumerate(tickets))):
            assert (ticket.wait() == expected(first + n + 1)).all()


def test_what_was_given_may_be_written_over_at_once_and_what_came_out_is_its_own() -> None:
    lane, given = Lane(FakeDevice(), add), pair(1)
    ticket = lane.submit(given, (4, 6))
    given["a"][:] = 77
    result = ticket.wait()
    for number in range(2 * SLOTS):
        lane.submit(pair(number), (4, 6)).wait()
    assert (result == expected(1)).all()


def test_uploads_work_and_downloads_overlap() -> None:
    device = FakeDevice()
    lane = Lane(device, add)
    device.streams[DOWNLOAD].gate.clear()
    first = lane.submit(pair(1), (4, 6))
    wait_until(lambda: (COMPUTE, "end", 0) in device.log)
    device.streams[COMPUTE].gate.clear()
    second = lane.submit(pair(2), (4, 6))
    third = lane.submit(pair(3), (4, 6))
    wait_until(lambda: (UPLOAD, "end", 2) in device.log)  # while the first is not down and the second not computed
    assert (COMPUTE, "begin", 1) not in device.log
    assert (DOWNLOAD, "begin", 0) not in device.log
    for stream in device.streams:
        stream.gate.set()
    for number, ticket in enumerate((first, second, third), 1):
        assert (ticket.wait() == expected(number)).all()


def test_no_stage_of_a_frame_begins_before_the_one_before_has_ended() -> None:
    device = FakeDevice()
    lane = Lane(device, add)
    for number in range(20):
        lane.submit(pair(number), (4, 6)).wait()
    for number in range(20):
        places = [device.log.index((stream, what, number)) for stream in range(3) for what in ("begin", "end")]
        assert places == sorted(places)


def test_whoever_submits_waits_for_a_slot_and_for_nothing_else() -> None:
    device = FakeDevice()
    lane = Lane(device, add)
    device.streams[UPLOAD].gate.clear()
    tickets = [lane.submit(pair(n), (4, 6)) for n in range(SLOTS)]  # returns though nothing moves
    submitted = threading.Event()

    def one_more() -> None:
        tickets.append(lane.submit(pair(SLOTS), (4, 6)))
        submitted.set()

    threading.Thread(target=one_more, daemon=True).start()
    assert not submitted.wait(0.05)
    device.streams[UPLOAD].gate.set()
    assert (tickets[0].wait() == expected(0)).all()
    assert submitted.wait(PATIENCE)
    assert [int(ticket.wait()[0, 0]) for ticket in tickets[1:]] == [101, 102, 103]


def test_memory_is_made_for_as_many_frames_as_there_are_slots_and_no_more() -> None:
    device = FakeDevice()
    lane = Lane(device, add)
    for number in range(50):
        tickets = [lane.submit(pair(number), (4, 6)) for _ in range(SLOTS)]
        for ticket in tickets:
            ticket.wait()
    assert device.bytes == SLOTS * 3 * 4 * 6


def test_frames_of_another_shape_get_slots_of_their_own_while_the_old_ones_are_on_their_way() -> None:
    device = FakeDevice()
    lane = Lane(device, add)
    device.streams[COMPUTE].gate.clear()
    shapes = [(4, 6), (8, 2), (4, 6)]
    tickets = [lane.submit(pair(n, shape), shape) for n, shape in enumerate(shapes)]
    device.streams[COMPUTE].gate.set()
    for number, (ticket, shape) in enumerate(zip(tickets, shapes, strict=True)):
        assert (ticket.wait() == expected(number, shape)).all()
    tickets = [lane.submit(pair(number), (4, 6)) for number in range(SLOTS)]  # of all slots that came back
    for number, ticket in enumerate(tickets):
        assert (ticket.wait() == expected(number)).all()
    for number in range(10):
        shape = shapes[number % 2]
        assert (lane.submit(pair(number, shape), shape).wait() == expected(number, shape)).all()


def test_a_result_may_have_another_shape_and_arrays_any_strides_and_sixteen_bits() -> None:
    def total(arrays: Mapping[str, Tensor], out: Tensor, _: dict[str, Any]) -> None:
        out[0] = arrays["a"].to(torch.int32).sum() // 1000

    lane = Lane(FakeDevice(), total)
    counts = np.arange(48, dtype=np.uint16).reshape(6, 8)[::2, ::2] * 100
    assert lane.submit({"a": counts}, (1,)).wait().tolist() == [int(counts.sum()) // 1000]


@pytest.mark.parametrize("stream", range(3))
def test_a_fault_is_told_to_all_who_wait_and_to_who_comes_later(stream: int) -> None:
    device = FakeDevice()
    lane = Lane(device, add)
    lane.submit(pair(0), (4, 6)).wait()

    def fail(number: int) -> None:
        if number == stream:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")

    device.fails = fail
    tickets = [lane.submit(pair(n), (4, 6)) for n in range(2)]
    for ticket in tickets:
        with pytest.raises(LaneFault, match="illegal memory access"):
            ticket.wait()
    with pytest.raises(LaneFault, match="illegal memory access"):
        lane.submit(pair(3), (4, 6))


def test_too_little_memory_is_told_as_such() -> None:
    lane = Lane(FakeDevice(most_bytes=100), add)
    lane.submit(pair(0), (4, 6))
    with pytest.raises(LaneFault, match="out of memory") as raised:
        lane.submit(pair(1), (4, 6))
    assert raised.value.memory


def test_a_device_that_does_not_answer_is_no_hang() -> None:
    device = FakeDevice()
    lane = Lane(device, add, patience_s=0.05)
    device.streams[COMPUTE].gate.clear()
    tickets = [lane.submit(pair(n), (4, 6)) for n in range(SLOTS)]
    with pytest.raises(LaneFault, match="no frame has come back"):
        lane.submit(pair(9), (4, 6))
    with pytest.raises(LaneFault):
        tickets[0].wait()
    device.streams[COMPUTE].gate.set()


def test_one_that_waits_for_a_device_that_does_not_answer_is_told() -> None:
    device = FakeDevice()
    lane = Lane(device, add, patience_s=0.05)
    device.streams[DOWNLOAD].gate.clear()
    with pytest.raises(LaneFault, match="not answered"):
        lane.submit(pair(0), (4, 6)).wait()
    device.streams[DOWNLOAD].gate.set()


def test_many_frames_from_one_thread_waited_for_in_another_come_out_right() -> None:
    lane, tickets = Lane(FakeDevice(), add), []
    there, count = threading.Semaphore(0), 200
    wrong: list[int] = []

    def collect() -> None:
        for number in range(count):
            assert there.acquire(timeout=PATIENCE)
            if not (tickets[number].wait() == expected(number % 100)).all():
                wrong.append(number)

    collector = threading.Thread(target=collect, daemon=True)
    collector.start()
    for number in range(count):
        tickets.append(lane.submit(pair(number % 100), (4, 6)))
        there.release()
    collector.join(PATIENCE)
    assert not collector.is_alive()
    assert wrong == []
