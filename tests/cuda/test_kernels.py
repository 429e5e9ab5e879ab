"""The kernels on a GPU against their twins in torch on the CPU."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nodes.fusion import kernels, twins
from nodes.fusion.chroma import ramp
from nodes.fusion.cuda_device import CudaRecording
from tests.nodes.fusion.test_kernels import FAR, MOVED, TABLE, TABLE_16, TURNED

pytestmark = pytest.mark.cuda

RANGES = [(0.0, 255.0, 255.0), (16.0, 219.0, 235.0)]
VALUES = [torch.float32, torch.float16]


@pytest.fixture(autouse=True)
def compiled() -> None:
    found, why = kernels.kernels()
    if not found:
        (pytest.fail if os.environ.get("FAIL_WITHOUT_CUDA") else pytest.skip)(f"the kernels are not compiled: {why}")


def on_gpu(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(np.ascontiguousarray(array)).cuda()


def on_cpu(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(np.ascontiguousarray(array))


def prepared(
    plane: Tensor, table: Any, warp: Any, size: tuple[int, int], levels: tuple[float, float], value: torch.dtype
) -> Tensor:
    """By the kernel, on the CPU; between guards that nobody may write to."""
    guarded = torch.full((size[0] + 2, size[1]), -9, dtype=value, device="cuda")
    out = guarded[1:-1].view(1, 1, *size)
    kernels.prepare(plane, on_gpu(table), on_gpu(warp), out, *levels)
    assert (guarded[[0, -1]] == -9).all()
    return out.float().cpu()


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("warp", [None, MOVED, TURNED, FAR], ids=["as it is", "moved", "homography", "outside"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("shape", [(37, 51), (1, 1), (64, 1), (513, 641)], ids=str)
@pytest.mark.parametrize("padding", [0, 5])
def test_a_plane_is_prepared_as_its_twin_does(
    value: torch.dtype, warp: Any, bits: int, shape: tuple[int, int], padding: int
) -> None:
    rng = np.random.default_rng(1)
    dtype, most, table = (np.uint8, 256, TABLE) if bits == 8 else (np.uint16, 65536, TABLE_16)
    counts = rng.integers(0, most, (shape[0], shape[1] + padding), dtype=dtype)
    size = shape if warp is None else (45, 67)
    whole = on_gpu(counts)
    assert whole is not None
    kernel = prepared(whole[:, : shape[1]], table, warp, size, (16, 219), value)
    own = on_cpu(counts[:, : shape[1]]), on_cpu(table), on_cpu(warp)
    twin = twins.prepare(*own, size, 16, 219, value).float()  # type: ignore[arg-type]
    assert float((kernel - twin).abs().max()) * 219 / 2 < 0.3


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_without_a_table_counts_are_grey_levels(value: torch.dtype) -> None:
    plane = torch.arange(256, dtype=torch.uint8, device="cuda").view(16, 16)
    kernel = prepared(plane, None, None, (16, 16), (0, 255), value)
    torch.testing.assert_close((kernel[0, 0] + 1) * 127.5, plane.cpu().float(), atol=0.1, rtol=0)


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("levels", RANGES, ids=["full", "limited"])
@pytest.mark.parametrize("size", [(33, 47), (1, 1), (1080, 1920), (7, 4095)], ids=str)
def test_the_fused_plane_is_finished_as_its_twin_does(
    value: torch.dtype, levels: tuple[float, float, float], size: tuple[int, int]
) -> None:
    fused = torch.empty(1, 1, *size).uniform_(-1.2, 1.2, generator=torch.Generator().manual_seed(2)).to(value)
    guarded = torch.full((size[0] + 2, size[1]), 7, dtype=torch.uint8, device="cuda")
    kernels.finish(fused.cuda(), guarded[1:-1], *levels)
    assert (guarded[[0, -1]] == 7).all()
    twin = twins.finish(fused, *levels)
    assert int((guarded[1:-1].cpu().int() - twin.int()).abs().max()) <= 1


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("levels", RANGES, ids=["full", "limited"])
@pytest.mark.parametrize("size", [(2, 2), (4, 2), (34, 48), (1080, 1920)], ids=str)
def test_colour_is_calmed_as_its_twin_does(
    value: torch.dtype, levels: tuple[float, float, float], size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(3)
    height, width = size
    visible = rng.integers(16, 90, height * width * 3 // 2, dtype=np.uint8)
    visible[height * width :] = rng.integers(0, 256, height * width // 2, dtype=np.uint8)
    fused = torch.empty(1, 1, *size).uniform_(-1, 1, generator=torch.Generator().manual_seed(4)).to(value)
    table = ramp(levels[0])
    guarded = torch.full((visible.size + 20,), 7, dtype=torch.uint8, device="cuda")
    out = guarded[10:-10]
    kernels.finish_calmed(fused.cuda(), on_gpu(visible), on_gpu(table), out, *levels)  # type: ignore[arg-type]
    assert (guarded[:10] == 7).all()
    assert (guarded[-10:] == 7).all()
    twin = twins.finish_calmed(fused, *levels, on_cpu(visible), on_cpu(table), size)  # type: ignore[arg-type]
    assert int((out.cpu().int() - twin.int()).abs().max()) <= 1
    assert torch.equal(out[height * width :].cpu(), twin[height * width :]), "the colour is worked out in whole numbers"


def test_a_kernel_waits_for_what_comes_before_it_on_the_stream_of_torch() -> None:
    plane = torch.full((64, 64), 200, dtype=torch.uint8, device="cuda")
    out = torch.zeros((1, 1, 64, 64), device="cuda")
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        plane.fill_(0)
        kernels.prepare(plane, None, None, out, 0, 255)
        result = out.clone()
    stream.synchronize()
    assert (result == -1).all()


def test_a_kernel_can_be_recorded_and_replayed() -> None:
    plane = torch.zeros((8, 8), dtype=torch.uint16, device="cuda")
    table = on_gpu(TABLE_16)

    def work() -> tuple[Tensor, ...]:
        out = torch.empty((1, 1, 8, 8), dtype=torch.float16, device="cuda")
        kernels.prepare(plane, table, None, out, 0, 255)
        return (out,)

    with torch.cuda.stream(torch.cuda.Stream()):
        work()
        recording = CudaRecording(work)
        for count in (9000, 17207):
            plane.copy_(torch.full((8, 8), count, dtype=torch.int32).to(torch.uint16))
            recording.replay()
            level = float(TABLE_16[count])
            assert abs((float(recording.result[0][0, 0, 3, 3]) + 1) * 127.5 - level) < 0.2
        recording.close()
