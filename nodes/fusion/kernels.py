"""The kernels of `kernels.cu` through CuPy, on torch's stream and torch's memory; without CuPy their twins in torch."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nodes.fusion import twins

SOURCE = Path(__file__).with_suffix(".cu")
BLOCK = (32, 8, 1)  # threads: a warp a row
VALUES = {torch.float32: "float", torch.float16: "__half"}
COUNTS = {torch.uint8: "unsigned char", torch.uint16: "unsigned short"}
NAMES = [f"prepare<{count}, {value}>" for count in COUNTS.values() for value in VALUES.values()]
NAMES += [f"{kernel}<{value}>" for kernel in ("finish", "finish_calmed") for value in VALUES.values()]


def source() -> str:
    return f"#include <cuda_fp16.h>\n{SOURCE.read_text(encoding='utf-8')}"


@cache
def kernels() -> tuple[dict[str, Any], str]:
    """The kernels by name, compiled for the device; or none, and why."""
    try:
        cupy = importlib.import_module("cupy")
        module = cupy.RawModule(code=source(), options=("-std=c++17",), name_expressions=NAMES)
        return {name: module.get_function(name) for name in NAMES}, ""
    except Exception as error:  # of CuPy and of CUDA's compiler, in many ways
        return {}, str(error).strip().partition("\n")[0] or type(error).__name__


def on_device(tensor: Tensor) -> bool:
    """Whether the kernels are to be used, not their twins."""
    return tensor.is_cuda and bool(kernels()[0])


def prepare(plane: Tensor, table: Tensor | None, warp: Tensor | None, out: Tensor, black: float, span: float) -> None:
    """As `twins.prepare`, into (1, 1, H, W) float32 or float16."""
    height, width = out.shape[-2:]
    if not on_device(plane):
        out.copy_(twins.prepare(plane, table, warp, (height, width), black, span, out.dtype))
        return
    name = f"prepare<{COUNTS[plane.dtype]}, {VALUES[out.dtype]}>"
    rows, columns = plane.shape
    launch(
        name,
        (width, height),
        plane,
        *(np.int32(rows), np.int32(columns), np.int64(plane.stride(0))),
        *(table, warp),
        *(np.float32(black), np.float32(2 / span)),
        *(out, np.int32(height), np.int32(width)),
    )


def finish(fused: Tensor, out: Tensor, black: float, span: float, top: float) -> None:
    """As `twins.finish`, into (H, W) uint8."""
    if not on_device(fused):
        out.copy_(twins.finish(fused, black, span, top))
        return
    height, width = out.shape
    levels = np.float32(span / 2), np.float32(black), np.float32(top)
    launch(f"finish<{VALUES[fused.dtype]}>", (width, height), fused, *levels, out, np.int32(height), np.int32(width))


def finish_calmed(
    fused: Tensor, visible: Tensor, ramp: Tensor, out: Tensor, black: float, span: float, top: float
) -> None:
    """As `twins.finish_calmed`, into the data of a yuv420p frame."""
    height, width = fused.shape[-2:]
    if not on_device(fused):
        out.copy_(twins.finish_calmed(fused, black, span, top, visible, ramp, (height, width)))
        return
    levels = np.float32(span / 2), np.float32(black), np.float32(top)
    size = np.int32(height), np.int32(width)
    launch(
        f"finish_calmed<{VALUES[fused.dtype]}>", (width // 2, height // 2), fused, *levels, visible, ramp, out, *size
    )


def resizing(shape: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """(3, 3) float32: the warp that brings a plane of (h, w) to (H, W), corner on corner."""
    (rows, columns), (height, width) = shape, size
    x, y = columns / width, rows / height
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]], np.float32)


def launch(name: str, size: tuple[int, int], *arguments: Any) -> None:
    """On torch's current stream, a thread for each of (width, height)."""
    cupy = importlib.import_module("cupy")
    grid = tuple(-(-side // block) for side, block in zip(size, BLOCK, strict=False))
    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
    with stream:
        kernels()[0][name]((*grid, 1), BLOCK, tuple(shared(each) for each in arguments))


def shared(value: Any) -> Any:
    """A tensor as CuPy sees it, by DLPack: the same memory; no tensor as a null pointer."""
    if value is None:
        return np.uint64(0)
    return importlib.import_module("cupy").from_dlpack(value.contiguous()) if isinstance(value, Tensor) else value
