"""The bench measures on a GPU what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from docs import performance
from nodes.fusion import bench_cuda
from tests.conftest import Command

pytestmark = [pytest.mark.cuda, pytest.mark.slow]


def numbers(found: Any) -> list[float]:
    if isinstance(found, dict):
        return [number for each in found.values() for number in numbers(each)]
    if isinstance(found, list):
        return [number for each in found for number in numbers(each)]
    return [float(found)] if isinstance(found, int | float) else []


def test_it_gives_all_figures_and_a_trace_with_kernels_and_copies(command: Command, tmp_path: Path) -> None:
    to, trace = tmp_path / "figures.json", tmp_path / "trace.json"
    options = ["--model", "realtime", "--size", "640x512", "--frames", "20", "--profile", trace, "--json", to]
    outcome = command("bench", "--device", "cuda", *options)
    assert outcome.code == 0, outcome.err
    assert "realtime" in outcome.out
    found = json.loads(to.read_text(), parse_constant=pytest.fail)
    assert all(math.isfinite(number) for number in numbers(found))
    (case,) = found["cases"]
    assert case["graph"] == {"captured": True, "why_not": ""}
    assert case["kernels"] == {"compiled": True, "why_not": ""}
    assert 0 < case["share_of_floor"] < 1
    assert 0 < case["device_ms"] <= case["latency_ms"]["p99"]
    assert found["conditions"]["card"] in performance.page(found)
    events = json.loads(trace.read_text())["traceEvents"]
    kinds = {event.get("cat") for event in events}
    assert {"kernel", "gpu_memcpy"} <= kinds


def test_what_does_not_fit_is_told_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_cuda, "NOTED", 6)
    import torch

    before = torch.cuda.memory_reserved()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((before + (3 << 30)) / total)
    try:
        found = bench_cuda.measure(["realtime", "cadnif"], [(64, 48), (3840, 2160)], "fp16", 6, None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    small, _, _, large = found["cases"]
    assert small["frames_per_second"] > 0
    assert "memory" in large["error"]
    assert bench_cuda.lines(found)
    assert performance.page(found)
