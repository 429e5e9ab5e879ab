"""What the bench on a GPU makes of what it measures, and what it counts; without one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import catalog, listing
from nodes.fusion import bench_cuda, bench_lane
from nodes.fusion.bench_lane import frames_per_second, latencies_ms, merged, moments_of, overlap
from nodes.fusion.cost import Cost, cost_of
from nodes.fusion.gpu import OnDevice
from nodes.fusion.network import Network
from tests.conftest import Command
from tests.cuda.figures import case, figures
from tests.nodes.fusion.fake_device import FakeDevice

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


class Small(nn.Module):
    """Two convolutions, and something between them that is not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 1, 1)

    def forward(self, *planes: Tensor) -> Tensor:
        result: Tensor = self.second(torch.relu(self.first(torch.cat(planes, 1))))
        return result


def test_each_convolution_reads_once_and_writes_once_and_a_multiply_add_counts_twice() -> None:
    pixels = 12 * 10
    cost = cost_of(Small(), (12, 10), value_bytes=2)
    assert cost.flops == 2 * pixels * (2 * 5 * 9 + 5)
    values = pixels * (2 + 5) + 2 * 5 * 9 + pixels * (5 + 1) + 5
    assert cost.bytes == 2 * values + 3 * pixels  # two frames come, one goes


def test_the_networks_cost_what_the_list_of_models_says() -> None:
    network = catalog.build("realtime")
    cost = cost_of(network, (320, 240), 2)
    each = listing.multiply_adds_a_pixel(network, (320, 240))
    assert abs(cost.flops / 2 / (320 * 240) - each) <= 0.5
    assert cost_of(network, (640, 480), 2).bytes > 3 * cost.bytes


def test_the_floor_is_the_longer_of_both_times() -> None:
    cost = Cost(flops=10**12, bytes=10**9)
    assert cost.floor_s(1e12, 1e14) == (0.01, "flops")
    assert cost.floor_s(1e10, 1e14) == (0.1, "bytes")


def test_overlap_is_what_of_the_transfers_lies_in_work() -> None:
    found = overlap(uploads=[(0, 2), (4, 6)], computed=[(2, 5), (5, 9)], downloads=[(9, 10), (5.5, 6.5)])
    assert found["transfers_hidden"] == pytest.approx(2.5 / 5.5)  # 4 to 6.5, of 0 to 2, 4 to 6.5 and 9 to 10
    assert found["computing"] == pytest.approx(0.7)


def test_spans_are_put_together() -> None:
    assert merged([(5, 6), (0, 2), (1, 3), (3, 4)]) == [(0, 4), (5, 6)]


def test_frames_go_through_the_lane_with_all_slots_in_use_and_alone(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_lane, "SCENES", 2)
    device = FakeDevice()
    on = OnDevice("infrared", Network(None, "infrared", weights, "cpu", "fp32"), device)
    moments = moments_of((64, 48))
    assert frames_per_second(on, moments, 7) > 0
    began = [device.log.index((stream, "begin", number)) for stream in range(3) for number in range(7)]
    assert len(began) == 21
    alone = latencies_ms(on, moments, 3)
    assert 0 < alone["p50"] <= alone["p99"]


def test_the_moments_are_such_as_the_device_colours_itself() -> None:
    for moment in moments_of((64, 48)):
        assert moment.frames[-1].pixel_format == "yuv420p"
        assert moment.steadily
        assert not moment.fresh
        assert np.ptp(moment.frames[0].data) > 200


def test_a_person_gets_a_table_with_what_was_not_in_use() -> None:
    lame = case(graph={"captured": False, "why_not": "not today"}, kernels={"compiled": False, "why_not": "no CuPy"})
    small = {"model": "cadnif", "size": [3840, 2160], "error": "CUDA out of memory."}
    lines = bench_cuda.lines(figures(case(trace="out/t.json", split_device_ms=1.5), lame, small, cupy="", driver=""))
    assert lines[0].startswith("Card Number 5, driver unknown, torch 2.13.0, CuPy none, fp16; at best 3000 GB/s")
    assert lines[2].split()[:4] == ["realtime", "1920x1080", "1.250", "750.0"]
    assert "realtime 1920x1080: not run as a CUDA graph: not today" in lines
    assert "kernels of our own are not used: no CuPy" in lines
    assert "cadnif 3840x2160: CUDA out of memory." in lines
    assert any("trace in out/t.json" in line for line in lines)
    assert "realtime 1920x1080: 1.500 ms on the device with sums in place of concatenations" in lines


def test_each_case_has_a_trace_of_its_own() -> None:
    path = Path("out/trace.json")
    assert bench_cuda.trace_of(path, "cadnif", (640, 512), alone=True) == path
    assert bench_cuda.trace_of(path, "cadnif", (640, 512), alone=False) == Path("out/trace-cadnif-640x512.json")


def test_a_program_that_is_not_there_or_fails_says_nothing() -> None:
    assert bench_cuda.told("no-such-program-anywhere") == ""
    assert bench_cuda.told("false") == ""
    assert bench_cuda.told("echo", "hello") == "hello"


@without_gpu
def test_without_cuda_the_bench_says_so_in_one_line(command: Command, tmp_path: Path) -> None:
    outcome = command("bench", "--device", "cuda", "--json", tmp_path / "figures.json")
    assert outcome.code == 4
    assert outcome.error.startswith("error: device 'cuda' is not there: ")
    assert not (tmp_path / "figures.json").exists()


@without_gpu
def test_a_trace_is_for_cuda_alone(command: Command, tmp_path: Path) -> None:
    outcome = command("bench", "--profile", tmp_path / "trace.json")
    assert outcome.code == 2
    assert "--profile" in outcome.error


def test_made_up_figures_are_as_json_has_them() -> None:
    assert json.loads(json.dumps(figures(case()))) == figures(case())
