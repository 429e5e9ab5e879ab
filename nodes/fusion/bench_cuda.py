"""How fast networks fuse on a GPU, beside what this GPU does at best."""

from __future__ import annotations

import copy
import gc
import importlib.metadata
import logging
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from models import catalog, inference
from models.inference import PRECISIONS
from nodes.fusion import ceilings, kernels
from nodes.fusion.bench import processor
from nodes.fusion.bench_lane import TimedCuda, frames_per_second, latencies_ms, moments_of, overlap
from nodes.fusion.cost import cost_of
from nodes.fusion.cuda import LaneFault
from nodes.fusion.gpu import OnDevice
from nodes.fusion.moment import Moment
from nodes.fusion.network import Network, Precision
from pipeline.errors import DeviceError

log = logging.getLogger("streamfuse")
T = TypeVar("T")

SIZES = ((640, 512), (1280, 720), (1920, 1080), (3840, 2160))
FRAMES, WARM = 300, 8  # of each measurement, and before it
NOTED = 60  # frames for what overlaps
TRACED = 12  # frames
ROOT = Path(__file__).resolve().parents[2]


def measure(
    models: Iterable[str], sizes: Sequence[tuple[int, int]], precision: Precision, frames: int, trace: Path | None
) -> dict[str, Any]:
    """Every model at every size, with the weights for infrared and the fusion node's own work around it.

    Args:
        models: their names.
        sizes: (width, height) each.
        precision: as in the fusion node.
        frames: of each measurement.
        trace: where to write a trace of some frames for Chrome; with more than one case a file for each.

    Returns:
        Conditions, ceilings, and a case for each model and size.

    Raises:
        DeviceError: there is no CUDA, or it failed.
    """
    networks = {model: Network(model, "infrared", None, "cuda", precision) for model in models}
    device, used = networks[min(networks)].device, networks[min(networks)].precision
    best = {
        "copy_bytes_per_s": ceilings.copied_bytes_per_s(device),
        "matmul_flops_per_s": ceilings.multiplied_flops_per_s(device, used),
    }
    torch.cuda.empty_cache()
    cases = []
    for model, network in networks.items():
        for size in sizes:
            log.info("%s %dx%d", model, *size)
            to = None if trace is None else trace_of(trace, model, size, alone=len(networks) * len(sizes) == 1)
            cases.append({"model": model, "size": list(size), **measure_one(network, size, frames, best, to)})
    return {"conditions": conditions(used, frames), "ceilings": best, "cases": cases}


def measure_one(
    network: Network, size: tuple[int, int], frames: int, best: dict[str, float], trace: Path | None
) -> dict[str, Any]:
    """One case; `error` alone if there is too little memory for it."""
    torch.cuda.reset_peak_memory_stats()
    device, moments = TimedCuda(network.device), moments_of(size)

    def work(on: OnDevice) -> dict[str, Any]:
        frames_per_second(on, moments, WARM)
        found = figures(on, device, moments, frames)
        return found if trace is None else found | {"trace": write_trace(on, moments, trace)}

    found = on_card(network, device, work)
    if isinstance(found, LaneFault):
        if not found.memory:
            raise DeviceError(f"device 'cuda': {found}") from found
        return {"error": str(found)}
    found |= beside(network, size, found["device_ms"], best)
    return found | {"split_device_ms": split_device_ms(network, size, found["device_ms"])}


def split_device_ms(network: Network, size: tuple[int, int], about_ms: float) -> float | None:
    """Of one frame, with convolutions added up in place of concatenated inputs; None where that was no graph."""
    other = copy.copy(network)
    loaded = catalog.load(catalog.shipped(network.model, "infrared"))
    other.module = inference.prepare(loaded, network.device, network.precision, split=True)

    def work(on: OnDevice) -> float | None:
        frames_per_second(on, moments_of(size), WARM)
        assert on.graphed is not None
        return None if on.graphed.recording is None else device_ms(on, about_ms)

    made = on_card(other, TimedCuda(network.device), work)
    return None if isinstance(made, LaneFault) else made


def on_card(network: Network, device: TimedCuda, work: Callable[[OnDevice], T]) -> T | LaneFault:
    """What comes of work on the card, or why nothing; the card is left as empty as it was."""
    on = OnDevice("infrared", network, device)
    made: T | LaneFault
    try:
        made = work(on)
    except LaneFault as fault:
        made = fault.fresh()  # without the frames that hold what is to be let go of
    with suppress(LaneFault):
        on.close()
    del on
    gc.collect()
    torch.cuda.empty_cache()
    return made


def figures(on: OnDevice, device: TimedCuda, moments: Sequence[Moment], frames: int) -> dict[str, Any]:
    """What is measured."""
    fps = frames_per_second(on, moments, frames)
    alone = latencies_ms(on, moments, frames)
    device.noting = True
    frames_per_second(on, moments, NOTED)
    torch.cuda.synchronize()
    device.noting = False
    uploads, computed, downloads = device.spans()
    by_stage = {
        stage: sorted(end - begin for begin, end in spans)[len(spans) // 2]
        for stage, spans in zip(("upload", "compute", "download"), (uploads, computed, downloads), strict=True)
    }
    assert on.graphed is not None
    compiled, why_not = kernels.kernels()
    return {
        "device_ms": device_ms(on, by_stage["compute"]),
        "stages_ms": by_stage,
        "frames_per_second": fps,
        "latency_ms": alone,
        "overlap": overlap(uploads, computed, downloads),
        "graph": {"captured": on.graphed.recording is not None, "why_not": on.graphed.why_not or ""},
        "kernels": {"compiled": bool(compiled), "why_not": why_not},
        "memory_bytes": torch.cuda.max_memory_reserved(),
    }


def device_ms(on: OnDevice, in_lane_ms: float) -> float:
    """Of one frame on the device: of many replays one after another; without a graph as it is in the lane, where the
    device may wait for us."""
    assert on.graphed is not None
    recording = on.graphed.recording
    if recording is None:
        return in_lane_ms
    count = max(1, min(200, round(100 / max(in_lane_ms, 0.01))))  # a tenth of a second between two looks at the clock
    with torch.cuda.stream(torch.cuda.Stream()):
        return ceilings.milliseconds(recording.replay, count, repeats=9)


def beside(network: Network, size: tuple[int, int], device_ms: float, best: dict[str, float]) -> dict[str, Any]:
    """What was measured beside what would be possible."""
    cost = cost_of(
        catalog.load(catalog.shipped(network.model, "infrared")), size, PRECISIONS[network.precision].itemsize
    )
    floor_s, bound = cost.floor_s(best["copy_bytes_per_s"], best["matmul_flops_per_s"])
    seconds = device_ms / 1e3
    return {
        "flops": cost.flops,
        "least_bytes": cost.bytes,
        "flops_per_s": cost.flops / seconds,
        "bytes_per_s": cost.bytes / seconds,
        "floor_ms": floor_s * 1e3,
        "bound": bound,
        "share_of_floor": floor_s / seconds,
    }


def trace_of(path: Path, model: str, size: tuple[int, int], *, alone: bool) -> Path:
    """The file of a case."""
    return path if alone else path.with_name(f"{path.stem}-{model}-{size[0]}x{size[1]}{path.suffix}")


def write_trace(on: OnDevice, moments: Sequence[Moment], path: Path) -> str:
    """Of some frames with all slots in use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as made:
        frames_per_second(on, moments, TRACED)
        torch.cuda.synchronize()
    made.export_chrome_trace(str(path))
    return str(path)


# Conditions:


def conditions(precision: str, frames: int) -> dict[str, Any]:
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "card": card.name,
        "memory_bytes": card.total_memory,
        "capability": f"{card.major}.{card.minor}",
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "torch": str(torch.__version__),
        "cupy": version("cupy-cuda13x"),
        "python": platform.python_version(),
        "processor": processor(),
        "precision": precision,
        "frames": frames,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
    }


def version(package: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""


def driver() -> str:
    """Version of NVIDIA's; "" if nobody knows."""
    return told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0].strip()


def commit() -> str:
    """Of the code that was measured, with a mark if it had changes; "" where there is no git."""
    return told("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def told(*words: str) -> str:
    """What a program says, "" if it is not there or fails."""
    if shutil.which(words[0]) is None:
        return ""
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


# For a person:

HEADS: tuple[str, ...] = ("model", "size", "device ms", "frames/s", "p50 ms", "p99 ms")
HEADS += ("GB/s", "TFLOP/s", "floor ms", "share", "hidden", "GB")


def lines(found: dict[str, Any]) -> list[str]:
    about, best = found["conditions"], found["ceilings"]
    head = (
        f"{about['card']}, driver {about['driver'] or 'unknown'}, torch {about['torch']}, "
        f"CuPy {about['cupy'] or 'none'}, {about['precision']}"
    )
    copy, product = best["copy_bytes_per_s"] / 1e9, best["matmul_flops_per_s"] / 1e12
    head += f"; at best {copy:.0f} GB/s (copy), {product:.0f} TFLOP/s (product of matrices)"
    rows = [row(case) for case in found["cases"]]
    widths = [max(len(cells[n]) for cells in [HEADS, *rows]) for n in range(len(HEADS))]
    table = [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)) for cells in [HEADS, *rows]
    ]
    return [head, *table, *remarks(found["cases"])]


def row(case: dict[str, Any]) -> tuple[str, ...]:
    name = case["model"], "{}x{}".format(*case["size"])
    if "error" in case:
        return (*name, *["-"] * (len(HEADS) - len(name)))
    figures = (
        f"{case['device_ms']:.3f}", f"{case['frames_per_second']:.1f}",
        f"{case['latency_ms']['p50']:.2f}", f"{case['latency_ms']['p99']:.2f}",
        f"{case['bytes_per_s'] / 1e9:.0f}", f"{case['flops_per_s'] / 1e12:.1f}",
        f"{case['floor_ms']:.3f}", f"{case['share_of_floor']:.0%}",
        f"{case['overlap']['transfers_hidden']:.0%}", f"{case['memory_bytes'] / 1e9:.2f}",
    )  # fmt: skip
    return *name, *figures


def remarks(cases: Sequence[dict[str, Any]]) -> list[str]:
    """What the figures do not say, once for all cases."""
    said = []
    for case in cases:
        where = "{} {}x{}".format(case["model"], *case["size"])
        if "error" in case:
            said.append(f"{where}: {case['error']}")
            continue
        if not case["graph"]["captured"]:
            said.append(f"{where}: not run as a CUDA graph: {case['graph']['why_not'] or 'unknown'}")
        if not case["kernels"]["compiled"]:
            said.append(f"kernels of our own are not used: {case['kernels']['why_not']}")
        if (split_ms := case.get("split_device_ms")) is not None:
            said.append(f"{where}: {split_ms:.3f} ms on the device with sums in place of concatenations")
        if "trace" in case:
            said.append(f"{where}: trace in {case['trace']}; open it in https://ui.perfetto.dev")
    return list(dict.fromkeys(said))
