"""How fast a network fuses on this machine, by stage, beside the same network as plain torch runs it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from models import catalog, inference
from nodes.fusion.network import Device, Network, Precision
from pipeline.stats import percentile

SIZE, FRAMES = (640, 480), 15
STAGES = ("upload", "compute", "download")


def measure(model: str, size: tuple[int, int], device: Device, precision: Precision, frames: int) -> dict[str, Any]:
    """Fuse synthetic pairs, one at a time, and the same in plain torch in between, so that both see the same machine.

    Plain torch is the network as a user would run it without this project: fp32, NCHW, normalisation not folded.

    Args:
        model: its name; with the weights for infrared.
        size: (width, height).
        device, precision: as in the fusion node.
        frames: how many pairs to time, after warm-up.

    Returns:
        Conditions, frames per second, milliseconds by stage (p50, p95, p99), and the ratio to plain torch (medians).
    """
    network = Network(model, "infrared", None, device, precision)
    plain = catalog.load(catalog.shipped(model, "infrared")).to(network.device)
    first, second = synthetic_pair(size)
    network.warm_up(size)
    time_plain(plain, network, first, second)  # warms that up, too
    times: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "total", "plain_torch")}
    for _ in range(frames):
        for stage, ms in time_stages(network, first, second).items():
            times[stage].append(ms)
        times["plain_torch"].append(time_plain(plain, network, first, second))
    typical = {stage: percentile(ms, 0.5) for stage, ms in times.items()}
    return {
        "model": model,
        "size": list(size),
        "device": torch.cuda.get_device_name() if network.device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": network.precision,
        "frames": frames,
        "frames_per_second": 1000 / typical["total"],
        "latency_ms": {
            stage: {f"p{share}": percentile(ms, share / 100) for share in (50, 95, 99)} for stage, ms in times.items()
        },
        "faster_than_plain_torch_fp32": typical["plain_torch"] / typical["compute"],
    }


def synthetic_pair(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two (H, W) uint8 planes with something in them."""
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, 256, (size[1], size[0]), dtype=np.uint8) for _ in range(2))  # type: ignore[return-value]


def timed(device: torch.device, work: Callable[[], Any]) -> tuple[Any, float]:
    """Result and milliseconds of a piece of work, the device's included."""
    began = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, (time.perf_counter() - began) * 1e3


@torch.inference_mode()
def time_stages(network: Network, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    device = network.device
    planes, upload = timed(device, lambda: [network.upload(plane, "full") for plane in (first, second)])
    fused, compute = timed(device, lambda: network.compute(*planes))
    _, download = timed(device, lambda: network.download(fused, "full"))
    return {"upload": upload, "compute": compute, "download": download, "total": upload + compute + download}


@torch.inference_mode()
def time_plain(plain: torch.nn.Module, network: Network, first: np.ndarray, second: np.ndarray) -> float:
    """Milliseconds of the network alone, with the C library's memory as it is by default."""
    planes = [torch.from_numpy(p).to(network.device).float()[None, None] / 127.5 - 1 for p in (first, second)]
    inference.keep_memory(False)
    try:
        return timed(network.device, lambda: plain(*planes))[1]
    finally:
        inference.keep_memory(True)


def processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def lines(figures: dict[str, Any]) -> list[str]:
    """The figures for a person."""
    width, height = figures["size"]
    head = (
        f"{figures['model']} {width}x{height} {figures['precision']} on {figures['device']}, "
        f"{figures['threads']} threads, torch {figures['torch']}, {figures['frames']} pairs one at a time"
    )
    rows = [
        f"{stage:<12} {ms['p50']:9.1f} {ms['p95']:9.1f} {ms['p99']:9.1f}" for stage, ms in figures["latency_ms"].items()
    ]
    return [
        head,
        f"{'ms':<12} {'p50':>9} {'p95':>9} {'p99':>9}",
        *rows,
        f"{figures['frames_per_second']:.2f} frames/s; the network is "
        f"{figures['faster_than_plain_torch_fp32']:.1f} times as fast as in plain torch (fp32, NCHW)",
    ]
