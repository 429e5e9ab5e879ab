"""For `run.py doctor`: what torch, CUDA and CuPy can do here, and what to do about what they cannot."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch

from models import inference
from nodes.fusion.network import find_device

Told = tuple[str, Literal["ok", "missing", "warning"], str, str]  # what, its state, what was found, what to do about it

GIB = 1 << 30


def look() -> dict[str, Any]:
    """`torch` (its version), `threads`, `device` and `precision` as chosen by "auto", `cuda_build` (None: for CPUs
    only), `gpus` (name, memory in bytes, compute capability), `fault` (what torch says of a GPU that it cannot use, or
    None), and `cupy` (version and fault)."""
    with warnings.catch_warnings(record=True) as said:  # of a driver that is too old, say
        warnings.simplefilter("always")
        device = find_device("auto")
        fault = str(said[0].message) if said else None
    try:
        gpus, precision = list_gpus(), inference.best_precision(device)
    except RuntimeError as error:
        device = torch.device("cpu")
        gpus, precision, fault = [], inference.best_precision(device), str(error)
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "precision": precision,
        "cuda_build": torch.version.cuda,
        "gpus": gpus,
        "fault": fault and fault.partition("\n")[0],
        "cupy": look_at_cupy(),
    }


def list_gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [{"name": gpu.name, "memory": gpu.total_memory, "capability": f"{gpu.major}.{gpu.minor}"} for gpu in found]


def look_at_cupy() -> dict[str, str | None]:
    """Its version, or None; and why it is of no use, or None."""
    try:
        cupy = importlib.import_module("cupy")
        cupy.cuda.runtime.getDeviceCount()
    except ModuleNotFoundError:
        return {"version": None, "fault": None}
    except Exception as error:  # of CUDA's libraries, in many ways
        return {"version": None, "fault": str(error).strip().partition("\n")[0]}
    return {"version": cupy.__version__, "fault": None}


def tell(facts: Mapping[str, Any], cores: int, driver: str) -> Iterator[Told]:
    """What to make of it.

    Args:
        facts: as `look` has them.
        cores: that this process may use.
        driver: version of NVIDIA's driver, "" where there is none.
    """
    on_gpu, threads = facts["device"] == "cuda", facts["threads"]
    found = f"{facts['torch']}, {threads} {'thread' if threads == 1 else 'threads'}"
    if threads < cores and not on_gpu:
        yield "torch", "warning", found, f"{cores} cores are there: set OMP_NUM_THREADS={cores}, or unset it"
    else:
        yield "torch", "ok", found, ""
    found = f"{facts['precision']} on {'CUDA' if on_gpu else 'the CPU'}"
    if facts["precision"] == "fp32":
        remedy = "no instructions for bf16: a CPU with AVX-512 bf16 or a GPU fuses faster, and smaller frames do"
        yield "precision", "warning", found, remedy
    else:
        yield "precision", "ok", found, ""
    yield from tell_of_gpus(facts, driver)
    cupy = facts["cupy"]
    if cupy["version"]:
        yield "CuPy", "ok", cupy["version"], ""
    else:
        remedy = 'pip install -e ".[cuda]"' if facts["gpus"] else "of use with CUDA only"
        yield "CuPy", "missing", cupy["fault"] or "not installed", remedy


def tell_of_gpus(facts: Mapping[str, Any], driver: str) -> Iterator[Told]:
    has_driver = f"driver {driver}" if driver else "driver unknown"
    for gpu in facts["gpus"]:
        about = f"{gpu['name']}, {gpu['memory'] / GIB:.0f} GiB, compute capability {gpu['capability']}, {has_driver}"
        yield "CUDA", "ok", about, ""
    if facts["gpus"]:
        return
    if not driver:
        remedy = "for an NVIDIA GPU: install its driver, or run the container with --gpus all"
        yield "CUDA", "missing", "no NVIDIA driver", remedy
    elif facts["cuda_build"] is None:
        found = f"{has_driver}, but this torch is a build for CPUs only"
        yield "CUDA", "warning", found, "pip install --force-reinstall torch, a build for CUDA"
    else:
        found = f"{has_driver}, CUDA {facts['cuda_build']}: {facts['fault'] or 'torch finds no GPU'}"
        remedy = "see nvidia-smi: a driver that is too old, CUDA_VISIBLE_DEVICES, or a container without its GPU"
        yield "CUDA", "warning", found, remedy
