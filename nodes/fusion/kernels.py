"""The kernels of `kernels.cu` through CuPy, on torch's stream and torch's memory; without CuPy their twins in torch."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nodes.fusion import twins

log = logging.getLogger("streamfuse")

SOURCE = Path(__file__).with_suffix(".cu")
BLOCK = (32, 8, 1)  # threads: a warp a row
VALUES = {torch.float32: "float", torch.float16: "__half"}
COUNTS = {torch.uint8: "unsigned char", torch.uint16: "unsigned short"}
NAMES = [f"prepare<{count}, {value}>" for count in COUNTS.values() for value in VALUES.values()]
NAMES += [f"{kernel}<{value}>" for kernel in ("finish", "finish_calmed") for value in VALUES.values()]
OPTIONS = ("-std=c++17",)


def source() -> str:
    return f"#include <cuda_fp16.h>\n{SOURCE.read_text(encoding='utf-8')}"


@cache
def kernels() -> tuple[dict[str, Any], str]:
    """The kernels by name, compiled for the device and tried on it; or none, and why, which is also said, once."""
    try:
        cupy = importlib.import_module("cupy")
        module = cupy.RawModule(code=source(), options=OPTIONS, name_expressions=NAMES)
        found = {name: module.get_function(name) for name in NAMES}
        check(found)
    except Exception as error:  # of CuPy and of CUDA's compiler, in many ways
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        log.warning("kernels of our own are not used (%s): torch does their work", why)
        return {}, why
    return found, ""


def check(found: dict[str, Any]) -> None:
    """Have one of them do something.

    Raises:
        Exception: it cannot be launched, or does something else.
    """
    values, out = torch.tensor([[-1.0, 0.5, 3.0]], device="cuda"), torch.zeros((1, 3), dtype=torch.uint8, device="cuda")
    levels = np.float32(109.5), np.float32(16), np.float32(235)
    launch(found["finish<float>"], (3, 1), values, *levels, out, np.int32(1), np.int32(3))
    if (made := out.tolist()) != [[16, 180, 235]]:
        raise RuntimeError(f"a kernel makes {made} of what is to be [[16, 180, 235]]")


def on_device(tensor: Tensor) -> bool:
    """Whether the kernels are to be used, not their twins."""
    return tensor.is_cuda and bool(kernels()[0])


def prepare(plane: Tensor, table: Tensor | None, warp: Tensor | None, out: Tensor, black: float, span: float) -> None:
    """As `twins.prepare`, into (1, 1, H, W) float32 or float16. The rows of the plane may lie apart."""
    height, width = out.shape[-2:]
    if not on_device(plane):
        out.copy_(twins.prepare(plane, table, warp, (height, width), black, span, out.dtype))
        return
    assert plane.stride(1) == 1
    rows, columns = plane.shape
    launch(
        kernels()[0][f"prepare<{COUNTS[plane.dtype]}, {VALUES[out.dtype]}>"],
        (width, height),
        plane,
        *(np.int32(rows), np.int32(columns), np.int64(plane.stride(0))),
        *(whole(table), whole(warp)),
        *(np.float32(black), np.float32(2 / span)),
        *(whole(out), np.int32(height), np.int32(width)),
    )


def finish(fused: Tensor, out: Tensor, black: float, span: float, top: float) -> None:
    """As `twins.finish`, into (H, W) uint8."""
    if not on_device(fused):
        out.copy_(twins.finish(fused, black, span, top))
        return
    height, width = out.shape
    levels = np.float32(span / 2), np.float32(black), np.float32(top)
    kernel = kernels()[0][f"finish<{VALUES[fused.dtype]}>"]
    launch(kernel, (width, height), whole(fused), *levels, whole(out), np.int32(height), np.int32(width))


def finish_calmed(
    fused: Tensor, visible: Tensor, ramp: Tensor, out: Tensor, black: float, span: float, top: float
) -> None:
    """As `twins.finish_calmed`, into the data of a yuv420p frame."""
    height, width = fused.shape[-2:]
    if not on_device(fused):
        out.copy_(twins.finish_calmed(fused, black, span, top, visible, ramp, (height, width)))
        return
    kernel = kernels()[0][f"finish_calmed<{VALUES[fused.dtype]}>"]
    levels = np.float32(span / 2), np.float32(black), np.float32(top)
    size = np.int32(height), np.int32(width)
    launch(kernel, (width // 2, height // 2), whole(fused), *levels, whole(visible), whole(ramp), whole(out), *size)


def whole(tensor: Tensor | None) -> Tensor | None:
    """A kernel takes it for a block without gaps. Never a copy: what is written to a copy is lost."""
    assert tensor is None or tensor.is_contiguous()
    return tensor


def launch(kernel: Any, size: tuple[int, int], *arguments: Any) -> None:
    """On torch's current stream, a thread for each of (width, height)."""
    cupy = importlib.import_module("cupy")
    grid = tuple(-(-side // block) for side, block in zip(size, BLOCK, strict=False))
    number = torch.cuda.current_stream().cuda_stream
    # CuPy 14 has a new word for it, and warns of the old one.
    of_ours = getattr(cupy.cuda.Stream, "from_external", None)
    with of_ours(Numbered(number)) if of_ours else cupy.cuda.ExternalStream(number):
        kernel((*grid, 1), BLOCK, tuple(shared(each) for each in arguments))


class Numbered:
    """A stream by the protocol that CuPy asks for; torch's own streams have learned it of late only.

    https://nvidia.github.io/cuda-python/cuda-core/latest/interoperability.html#cuda-stream-protocol
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._number


def shared(value: Any) -> Any:
    """A tensor as CuPy sees it, by DLPack: the same memory; no tensor as a null pointer."""
    if value is None:
        return np.uint64(0)
    return importlib.import_module("cupy").from_dlpack(OnThisStream(value)) if isinstance(value, Tensor) else value


class OnThisStream:
    """A tensor that is handed over by DLPack on the stream that it was written on: there is nothing to wait for.

    torch would have the stream wait for itself, for it does not know it again as CuPy names it.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __dlpack__(self, *, stream: int | None = None, **how: Any) -> Any:
        return self._tensor.__dlpack__(stream=-1, **how)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()
