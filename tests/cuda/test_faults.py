"""Faults of a real GPU: the run goes on, flagged, with the right pictures; or ends with exit code 4 in one line."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nodes.fusion.cuda import Lane, LaneFault
from nodes.fusion.cuda_device import Cuda
from nodes.fusion.gpu import OnDevice
from pipeline.errors import DeviceError
from tests.cuda.nodes import apart, furthest, moments, open_node, open_reference
from tests.nodes.fusion.test_on_device import all_of

pytestmark = pytest.mark.cuda

ON_THE_CPU = 4  # grey levels: what goes on there may be computed in bf16
LEFT = 200 << 20  # bytes


@pytest.fixture
def full() -> Iterator[Any]:
    """Fills the memory of the card, when called."""
    hoard: list[Tensor] = []

    def fill() -> None:
        gc.collect()
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        hoard.append(torch.empty(max(0, free - LEFT), dtype=torch.uint8, device="cuda"))

    yield fill
    hoard.clear()
    gc.collect()
    torch.cuda.empty_cache()


def test_with_the_cards_memory_full_the_cpu_goes_on(full: Any, caplog: pytest.LogCaptureFixture) -> None:
    size = (1280, 720)
    node = open_node((64, 48), live=True, model="cadnif")
    given = moments("infrared", size, count=4)
    full()
    with caplog.at_level(logging.WARNING):
        made = all_of(node, given)
    assert furthest(made, all_of(open_reference(size, model="cadnif"), given)) <= ON_THE_CPU
    assert "too little memory" in caplog.text
    assert "the CPU goes on" in caplog.text
    assert node.gauges()["device_failed"] == 1
    node.close()
    assert node.report()["device"].startswith("CPU, since the device failed")


def test_what_failed_for_lack_of_memory_gives_it_back(full: Any) -> None:
    node = open_node((64, 48), live=True, model="cadnif")
    all_of(node, moments("infrared", (64, 48), count=3))
    torch.cuda.synchronize()
    gc.collect()
    before = torch.cuda.memory_allocated()
    full()
    filled = torch.cuda.memory_allocated() - before
    all_of(node, moments("infrared", (1280, 720), count=4))
    gc.collect()
    assert torch.cuda.memory_allocated() - filled - before < 64 << 20


def fail_at(monkeypatch: pytest.MonkeyPatch, at: int, error: Exception) -> None:
    """The device's work on a frame of nodes opened from now on fails."""
    count, compute = iter(range(10**6)), OnDevice._compute

    def failing(self: OnDevice, *arguments: Any) -> None:
        if next(count) == at:
            raise error
        compute(self, *arguments)

    monkeypatch.setattr(OnDevice, "_compute", failing)


def test_after_a_fault_of_a_kernel_the_cpu_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    size = (160, 128)
    fail_at(monkeypatch, 5, RuntimeError("CUDA error: unspecified launch failure\nmore"))
    node = open_node(size, live=True, steady=False)
    given = moments("infrared", size, count=10)
    with caplog.at_level(logging.WARNING):
        made = all_of(node, given)
    assert furthest(made, all_of(open_reference(size, steady=False), given)) <= ON_THE_CPU
    assert [record.message for record in caplog.records] == [
        "the device failed (CUDA error: unspecified launch failure): the CPU goes on"
    ]


def test_where_cuda_was_insisted_on_a_fault_ends_the_run_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, 5, RuntimeError("CUDA error: unspecified launch failure\nmore"))
    node = open_node((160, 128))
    with pytest.raises(DeviceError, match=r"^device 'cuda': CUDA error: unspecified launch failure$") as raised:
        all_of(node, moments("infrared", (160, 128), count=8))
    assert raised.value.exit_code == 4


def test_a_device_that_does_not_answer_is_no_hang() -> None:
    def sleep(_: Any, out: Tensor, options: dict[str, Any]) -> None:
        torch.cuda._sleep(3_000_000_000)  # cycles: more than a second

    lane = Lane(Cuda(torch.device("cuda")), sleep, patience_s=0.1)
    ticket = lane.submit({"a": np.zeros((4, 4), np.uint8)}, (4, 4))
    with pytest.raises(LaneFault, match="not answered"):
        ticket.wait()
    torch.cuda.synchronize()


BROKEN = """
import json, os, sys, torch
from nodes.fusion.gpu import OnDevice
from tests.cuda.nodes import moments, open_node, open_reference, furthest
from tests.nodes.fusion.test_on_device import all_of

compute, count = OnDevice._compute, iter(range(100))
def breaking(self, *arguments):
    compute(self, *arguments)
    if next(count) == 5:  # after this nothing works on the GPU any more, whoever asks
        torch.arange(4, device="cuda")[torch.full((1,), 10**6, device="cuda")]
OnDevice._compute = breaking
size = (160, 128)
given = moments("infrared", size, count=12)
node = open_node(size, live=True, steady=False)
made = all_of(node, given)
wanted = all_of(open_reference(size, steady=False), given)
gauges = node.gauges()
node.close()
print(json.dumps({"off": furthest(made, wanted), "failed": gauges["device_failed"], "where": node.report()["device"]}))
sys.stdout.flush()
os._exit(0)  # as run.py ends
"""


def test_after_a_fault_that_breaks_cuda_for_the_whole_process_the_cpu_goes_on() -> None:
    said = apart(BROKEN)
    assert said["off"] <= ON_THE_CPU
    assert said["failed"] == 1
    assert said["where"].startswith("CPU, since the device failed: CUDA error")
