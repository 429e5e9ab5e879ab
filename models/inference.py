"""Getting a trained network ready to run fast: constants folded, memory laid out, kept by the process."""

from __future__ import annotations

import copy
import ctypes
import platform

import torch
from torch import nn

from models.layers import Conv

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8  # <malloc.h> of glibc


def prepare(network: nn.Module, device: torch.device, precision: str, *, split: bool = False) -> nn.Module:
    """A copy of the network for inference on a device: channels last, normalisation folded into the weights.

    Args:
        network: as loaded, in float32.
        device: where it shall run.
        precision: "fp32", "bf16" or "fp16".
        split: add up convolutions in place of concatenating their inputs; see `Conv.prepare`. On a CPU with oneDNN
            that is done anyway.
    """
    ready = copy.deepcopy(network).eval().requires_grad_(False)
    accumulate = device.type == "cpu" and precision != "fp16" and has_accumulating_convolution()
    for module in ready.modules():
        if isinstance(module, Conv):
            module.prepare(accumulate, split)  # folded in float32, before the precision is reduced
    return ready.to(device, PRECISIONS[precision], memory_format=torch.channels_last)  # type: ignore[call-overload]


def has_accumulating_convolution() -> bool:
    """Whether this torch has oneDNN's convolutions with an activation or a sum behind them (x86 builds have)."""
    ops = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and all(
        hasattr(ops, name) for name in ("_convolution_pointwise", "_convolution_pointwise_")
    )


def best_precision(device: torch.device) -> str:
    """The fastest precision that the device computes in by instructions of its own."""
    if device.type == "cuda":
        return "fp16"  # three bits finer than bf16, and GPUs that are too old for that have it, too
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return "bf16" if has is not None and has() else "fp32"


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def keep_memory(keep: bool = True) -> bool:
    """Have glibc keep freed memory, instead of giving each large tensor back to the system and fetching it again, page
    by page, at the next.

    Args:
        keep: False for the way it is without us.

    Returns:
        Whether the C library understood.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # One arena, since those of other threads than the first cannot hold large blocks.
    kept = {M_MMAP_THRESHOLD: 1 << 30, M_TRIM_THRESHOLD: (1 << 31) - 1, M_TOP_PAD: 64 << 20, M_ARENA_MAX: 1}
    usual = {M_MMAP_THRESHOLD: 128 << 10, M_TRIM_THRESHOLD: 128 << 10, M_TOP_PAD: 0}
    return all([libc.mallopt(name, value) for name, value in (kept if keep else usual).items()])
