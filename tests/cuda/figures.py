"""Figures as a GPU would give them, made up, to try what is made of them."""

from __future__ import annotations

from typing import Any


def case(model: str = "realtime", size: tuple[int, int] = (1920, 1080), **other: Any) -> dict[str, Any]:
    return {
        "model": model,
        "size": list(size),
        "device_ms": 1.25,
        "stages_ms": {"upload": 0.1, "compute": 1.3, "download": 0.06},
        "frames_per_second": 750.0,
        "latency_ms": {"p50": 2.0, "p99": 2.5},
        "overlap": {"transfers_hidden": 0.9, "computing": 0.97},
        "graph": {"captured": True, "why_not": ""},
        "kernels": {"compiled": True, "why_not": ""},
        "memory_bytes": 3 << 29,
        "flops": 10**10,
        "least_bytes": 28 * 10**7,
        "flops_per_s": 8e12,
        "bytes_per_s": 2.24e11,
        "floor_ms": 0.1,
        "bound": "bytes",
        "share_of_floor": 0.08,
        **other,
    }


def figures(*cases: dict[str, Any], **conditions: Any) -> dict[str, Any]:
    about = {
        "card": "Card Number 5",
        "memory_bytes": 80 << 30,
        "capability": "9.0",
        "driver": "580.1",
        "cuda": "13.0",
        "cudnn": 91002,
        "torch": "2.13.0",
        "cupy": "14.2.0",
        "python": "3.12.3",
        "processor": "Some Processor",
        "precision": "fp16",
        "frames": 300,
        "date": "2026-01-02",
        "commit": "abcdef012345",
    }
    ceilings = {"copy_bytes_per_s": 3e12, "matmul_flops_per_s": 7e14}
    return {"conditions": about | conditions, "ceilings": ceilings, "cases": list(cases)}
