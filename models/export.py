"""Writing a network as ONNX, and proving that the file computes what the network computes.

The file is for one size of picture: how many tokens the networks attend to depends on it, so a size is asked for and
then stands in the graph as numbers.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from models.inference import is_out_of_memory

OPSET = 18
NEEDED = ("onnx", "onnxruntime")
LARGEST_DIFFERENCE = 1e-3  # from torch, on the scale of -1..1: an eighth of a grey level
SIZE_OF = torch.Tensor.shape.__get__  # type: ignore[attr-defined]


class ExportError(ValueError):
    """A network cannot be exported; the message says what to do."""


class DifferenceError(ExportError):
    """The export computes something else than the network."""


def check_packages() -> None:
    """Say what is missing before any work is done.

    Raises:
        ExportError: a package that this needs is not installed.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ExportError(f"writing ONNX needs {' and '.join(missing)}: pip install -e '.[onnx]'")


def export(network: nn.Module, inputs: Sequence[str], size: tuple[int, int]) -> tuple[bytes, float]:
    """The network as ONNX, tried out against torch.

    Args:
        network: as loaded, in float32 on the CPU.
        inputs: the names of its planes, in their order.
        size: (width, height) of the planes, in px.

    Returns:
        The file, whose inputs and output `fused` are float32 (1, 1, H, W) in -1..1, and the largest difference from
        torch on random planes, on that scale.

    Raises:
        ExportError: packages or memory are missing.
        DifferenceError: the largest difference is larger than `LARGEST_DIFFERENCE`.
    """
    check_packages()
    planes = random_planes(len(inputs), size)
    try:
        with torch.inference_mode():
            wanted: Tensor = network(*planes)
        file = to_onnx(network, inputs, planes)
        difference = np.abs(run(file, inputs, planes) - wanted.numpy()).max().item()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ExportError(f"not enough memory for planes of {size[0]}x{size[1]}; give a smaller --size") from error
    if not difference <= LARGEST_DIFFERENCE:  # NaN is no agreement
        raise DifferenceError(f"differs from torch by up to {difference:.1e}, legal is {LARGEST_DIFFERENCE:.0e}")
    return file, difference


def random_planes(count: int, size: tuple[int, int]) -> list[Tensor]:
    """Planes of (1, 1, H, W) in -1..1, always the same."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 1, size[1], size[0], generator=generator) * 2 - 1 for _ in range(count)]


def to_onnx(network: nn.Module, inputs: Sequence[str], planes: Sequence[Tensor]) -> bytes:
    """Trace the network on the planes.

    By the exporter that traces, since the one by `torch.export` refuses attention without heads and needs one more
    package. Constants are not folded: doing so loses one of `InstanceNorm`, and every runtime does it when it loads.
    """
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), WithNumbers():
        # That sizes become numbers is meant, and the exporter is chosen knowingly: see above.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        torch.onnx.export(
            network,
            tuple(planes),
            file,  # type: ignore[arg-type]  # its annotation forgets files that are not on a disk
            input_names=list(inputs),
            output_names=["fused"],
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=False,
        )
    return file.getvalue()


class WithNumbers(TorchFunctionMode):
    """While tracing: sizes are numbers, not part of the graph, and what ONNX lacks is made of what it has."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == SIZE_OF:  # a method, which Python makes anew each time
            return numbers(func(*args))
        if func is F.pad and (kwargs or {}).get("mode") == "replicate":
            return pad(*args)
        if func is F.adaptive_avg_pool2d:
            return pool(*args)
        return func(*args, **kwargs or {})


def numbers(size: Sequence[int]) -> torch.Size:
    """A size as tracing gives it, which is tensors, as numbers."""
    return torch.Size([int(side) for side in size])


def pad(x: Tensor, by: tuple[int, int, int, int]) -> Tensor:
    """`F.pad` with `mode="replicate"` by picking rows and columns: ONNX would work out by how much at each run."""
    (height, width), (left, right, top, bottom) = numbers(x.shape[-2:]), by
    rows = np.arange(-top, height + bottom).clip(0, height - 1)
    columns = np.arange(-left, width + right).clip(0, width - 1)
    return x.index_select(-2, torch.from_numpy(rows)).index_select(-1, torch.from_numpy(columns))


def pool(x: Tensor, output_size: tuple[int, int]) -> Tensor:
    """`F.adaptive_avg_pool2d` as two products of matrices: ONNX has it only where cells are all of one size."""
    rows, columns = (averages(*sides) for sides in zip(numbers(x.shape[-2:]), output_size, strict=True))
    return rows @ x @ columns.T


def averages(side: int, cells: int) -> Tensor:
    """(cells, side): each row takes the mean of its cell, as `F.adaptive_avg_pool2d` cuts them."""
    matrix = np.zeros((cells, side), np.float32)
    for cell in range(cells):
        begin, end = cell * side // cells, -(-(cell + 1) * side // cells)
        matrix[cell, begin:end] = 1 / (end - begin)
    return torch.from_numpy(matrix)


def run(file: bytes, inputs: Sequence[str], planes: Sequence[Tensor]) -> np.ndarray:
    """What the file makes of the planes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    fused: np.ndarray = session.run(None, {name: x.numpy() for name, x in zip(inputs, planes, strict=True)})[0]
    return fused
