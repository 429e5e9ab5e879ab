"""What is left behind when a device has failed: nothing that grows, and no memory that another try needs."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from nodes.fusion import work
from nodes.fusion.cuda import Lane
from nodes.fusion.fuse import Fuse
from nodes.fusion.work import Work
from pipeline.errors import DeviceError
from tests.nodes.fusion.fake_device import FakeDevice
from tests.nodes.fusion.frames import heat, yuv
from tests.nodes.fusion.test_lane import COMPUTE, add, expected, pair
from tests.nodes.fusion.test_on_device import SIZE, all_of, fail_at

BROKEN = RuntimeError("CUDA error: an illegal memory access was encountered")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def open_node(weights: Path, device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> Fuse:
    monkeypatch.setattr(work, "device_for", lambda _: device)
    node = Fuse(weights=weights, device="cpu", precision="fp32")
    node.name = "fuse"
    node.open({"infrared": None, "visible": SIZE})
    return node


@pytest.mark.parametrize("model", ["realtime"])
@pytest.mark.parametrize("error", [BROKEN, FULL], ids=["broken", "full"])
def test_of_frames_that_came_after_a_fault_nothing_is_kept(
    weights: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    device = FakeDevice()
    node = open_node(weights, device, monkeypatch)
    all_of(node, [{"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)} for n in range(3)])

    def fail(stream: int) -> None:
        raise type(error)(str(error))

    device.fails = fail
    watched = []
    for _ in range(4):
        frames = {"infrared": heat(1, SIZE), "visible": yuv(1, SIZE)}
        watched += [weakref.ref(frame.data) for frame in frames.values()]
        all_of(node, [frames])
        del frames
    last = {"infrared": heat(2, SIZE), "visible": yuv(2, SIZE)}  # a node may look back at one
    all_of(node, [last])
    device.broken = None
    gc.collect()
    assert [each for each in watched if each() is not None] == []
    assert node.gauges()["device_failed"] == 1


def test_what_was_on_its_way_before_a_lack_of_memory_still_comes() -> None:
    device = FakeDevice()
    lane = Lane(device, add)
    device.streams[COMPUTE].gate.clear()
    tickets = [lane.submit(pair(n), (4, 6)) for n in range(2)]
    device.most_bytes = device.bytes
    with pytest.raises(Exception, match="out of memory"):
        lane.submit(pair(2), (4, 6))
    device.streams[COMPUTE].gate.set()
    for number, ticket in enumerate(tickets):
        assert (ticket.wait() == expected(number)).all()
    lane.drain()


def test_draining_waits_for_all_that_was_submitted() -> None:
    device = FakeDevice()
    lane = Lane(device, add)
    lane.submit(pair(1), (4, 6))
    lane.drain()
    assert device.log[-1] == (2, "end", 0)


@pytest.mark.parametrize("model", ["realtime"])
def test_warming_up_takes_the_way_of_real_frames(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice()
    monkeypatch.setattr(work, "device_for", lambda _: device)
    made = Work("infrared", None, weights, "cpu", "fp32", insist=False)
    made.warm_up((65, 47), ("infrared", "visible"))
    assert device.log.count((COMPUTE, "end", work.WARM - 1)) == 1
    assert made.fault is None
    device.fails = lambda _: (_ for _ in ()).throw(BROKEN)
    made.warm_up(SIZE, ("infrared", "visible"))
    assert made.fault is not None


@pytest.mark.parametrize("model", ["realtime"])
def test_a_device_without_room_for_the_network_is_done_without_or_is_an_error(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = work.Network

    def full(model: str | None, task: str, path: Path, wanted: str, precision: str) -> object:
        if wanted != "cpu":
            raise FULL
        return network(model, task, path, "cpu", "fp32")

    monkeypatch.setattr(work, "Network", full)
    made = Work("infrared", None, weights, "auto", "auto", insist=False)
    assert made.at_once == 1
    assert "has no room for the network (CUDA out of memory" in caplog.text
    with pytest.raises(DeviceError, match="device 'cuda' has no room for the network: CUDA out of memory"):
        Work("infrared", None, weights, "cuda", "auto", insist=False)


@pytest.mark.parametrize("model", ["realtime"])
def test_pictures_stay_right_when_it_goes_on_with_one_frame_at_a_time(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [{"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)} for n in range(10)]
    device = FakeDevice()
    device.most_bytes = 2 * SIZE[0] * SIZE[1] * 4
    node = open_node(weights, device, monkeypatch)
    monkeypatch.setattr(work, "device_for", lambda _: FakeDevice())
    made = all_of(node, given)
    monkeypatch.setattr(work, "device_for", lambda _: None)
    alone = Fuse(weights=weights, device="cpu", precision="fp32", steady=None)
    alone.name = "fuse"
    alone.open({"infrared": None, "visible": SIZE})
    wanted = all_of(alone, given)
    assert all(np.abs(one.data.astype(int) - two.data).max() <= 8 for one, two in zip(made, wanted, strict=True))
    assert node._work is not None
    assert node._work.where.startswith("one frame at a time")


@pytest.mark.parametrize("insist", [False, True])
@pytest.mark.parametrize("model", ["realtime"])
def test_what_a_broken_device_holds_is_never_given_back(
    weights: Path, monkeypatch: pytest.MonkeyPatch, insist: bool
) -> None:
    monkeypatch.setattr(work, "LOST", [])
    device = FakeDevice()
    node = open_node(weights, device, monkeypatch)
    assert node._work is not None
    node._work._insist = insist
    on = weakref.ref(node._work._on_device)  # type: ignore[arg-type]
    fail_at(device, COMPUTE, 2, BROKEN)
    try:
        all_of(node, [{"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)} for n in range(6)])
    except DeviceError as error:
        error.__traceback__ = None
    node.close()
    gc.collect()
    assert on() is not None
    assert [on()] == work.LOST
