"""The kernels against their twins in torch: compiled for the processor here, and on a GPU where there is one."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nodes.fusion import kernels, twins
from nodes.fusion.chroma import ramp as calming
from nodes.fusion.chroma import with_chroma
from nodes.fusion.moment import Source
from nodes.fusion.planes import resized
from pipeline.frame import Frame

# What CUDA means by its words, for one thread after another.
HOST = """
#include <cmath>
#define __global__
#define __device__
struct Dim { int x, y, z; };
static Dim blockIdx, blockDim, threadIdx;
using std::floor;
"""
CALLS = """
#define EVERY(width, height, call) \\
    blockDim = {1, 1, 1}; \\
    for (blockIdx.y = 0; blockIdx.y < (height) + 3; blockIdx.y++) \\
        for (blockIdx.x = 0; blockIdx.x < (width) + 3; blockIdx.x++) call;

extern "C" void prepare8(const unsigned char* p, int r, int c, long long pitch, const unsigned char* t, const float* w,
                         float black, float scale, float* out, int h, int wi) {
    EVERY(wi, h, (prepare<unsigned char, float>(p, r, c, pitch, t, w, black, scale, out, h, wi)))
}
extern "C" void prepare16(const unsigned short* p, int r, int c, long long pitch, const unsigned char* t,
                          const float* w, float black, float scale, float* out, int h, int wi) {
    EVERY(wi, h, (prepare<unsigned short, float>(p, r, c, pitch, t, w, black, scale, out, h, wi)))
}
extern "C" void finish1(const float* f, float half, float black, float top, unsigned char* out, int h, int w) {
    EVERY(w, h, finish<float>(f, half, black, top, out, h, w))
}
extern "C" void finish3(const float* f, float half, float black, float top, const unsigned char* v,
                        const unsigned char* ramp, unsigned char* out, int h, int w) {
    EVERY(w / 2, h / 2, finish_calmed<float>(f, half, black, top, v, ramp, out, h, w))
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as functions of the processor."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernels for the processor with")
    folder = tmp_path_factory.mktemp("kernels")
    text = folder / "kernels.cpp"
    text.write_text(HOST + kernels.SOURCE.read_text(encoding="utf-8") + CALLS)
    library = folder / "kernels.so"
    command = ["g++", "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Werror", "-fsanitize=undefined"]
    command += ["-fno-sanitize-recover", "-static-libubsan", "-shared", "-fPIC", "-o", str(library), str(text)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def real(value: float) -> ctypes.c_float:
    return ctypes.c_float(value)


def prepared(
    compiled: ctypes.CDLL, plane: np.ndarray, table: Any, warp: Any, size: tuple[int, int], black: float, span: float
) -> np.ndarray:
    """By the kernel; the result lies between guards that nobody may write to."""
    rows, columns = plane.shape
    pitch = plane.strides[0] // plane.itemsize
    guarded = np.full((size[0] + 2, size[1]), -9, np.float32)
    out = guarded[1:-1]
    function = compiled.prepare8 if plane.itemsize == 1 else compiled.prepare16
    function(
        pointer(plane), rows, columns, ctypes.c_longlong(pitch), pointer(table), pointer(warp), real(black),
        real(2 / span), pointer(out), *size,
    )  # fmt: skip
    assert (guarded[[0, -1]] == -9).all()
    return out


def tensor(array: np.ndarray | None) -> torch.Tensor | None:
    return None if array is None else torch.from_numpy(np.ascontiguousarray(array))


TABLE = np.clip(np.arange(256) * 1.3 - 20, 0, 255).astype(np.uint8)
TABLE_16 = np.clip((np.arange(65536) - 7000) / 40, 0, 255).astype(np.uint8)
MOVED = np.array([[1, 0, 3.25], [0, 1, -2.5], [0, 0, 1]], np.float32)
TURNED = np.array([[0.52, 0.03, -4], [-0.02, 0.49, 5], [0.0004, -0.0003, 1]], np.float32)
FAR = np.array([[1, 0, 1e7], [0, 1, -1e7], [0, 0, 1]], np.float32)


@pytest.mark.parametrize("warp", [None, MOVED, TURNED, FAR], ids=["as it is", "moved", "homography", "outside"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("padding", [0, 5])
def test_a_plane_is_prepared_as_its_twin_does(compiled: ctypes.CDLL, warp: Any, bits: int, padding: int) -> None:
    rng = np.random.default_rng(1)
    dtype, most = (np.uint8, 256) if bits == 8 else (np.uint16, 65536)
    plane = rng.integers(0, most, (37, 51 + padding), dtype=dtype)[:, :51]
    size = (37, 51) if warp is None else (45, 64)
    table = TABLE if bits == 8 else TABLE_16
    kernel = prepared(compiled, plane, table, warp, size, 16, 219)
    twin = twins.prepare(tensor(plane), tensor(table), tensor(warp), size, 16, 219)  # type: ignore[arg-type]
    assert np.abs(kernel - twin[0, 0].numpy()).max() * 219 / 2 < 0.01


def test_without_a_table_counts_are_grey_levels(compiled: ctypes.CDLL) -> None:
    plane = np.arange(256, dtype=np.uint8).reshape(16, 16)
    kernel = prepared(compiled, plane, None, None, (16, 16), 0, 255)
    np.testing.assert_allclose(kernel, plane / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(twins.prepare(tensor(plane), None, None, (16, 16), 0, 255)[0, 0], kernel, atol=1e-6)


@pytest.mark.parametrize(("black", "span", "top"), [(0, 255, 255), (16, 219, 235)])
def test_the_fused_plane_is_finished_as_its_twin_does(
    compiled: ctypes.CDLL, black: float, span: float, top: float
) -> None:
    fused = np.random.default_rng(2).uniform(-1.2, 1.2, (33, 47)).astype(np.float32)
    out = np.zeros((33, 47), np.uint8)
    compiled.finish1(pointer(fused), real(span / 2), real(black), real(top), pointer(out), 33, 47)
    twin = twins.finish(torch.from_numpy(fused)[None, None], black, span, top).numpy()
    assert (out == twin).all()
    assert (out.min(), out.max()) == (black, top)


@pytest.mark.parametrize("size", [(2, 2), (4, 2), (34, 48)])
def test_colour_is_calmed_as_its_twin_and_the_processor_do(compiled: ctypes.CDLL, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    height, width = size
    visible = rng.integers(16, 90, height * width * 3 // 2, dtype=np.uint8)
    visible[height * width :] = rng.integers(0, 256, height * width // 2, dtype=np.uint8)
    fused = rng.uniform(-1, 1, size).astype(np.float32)
    ramp = calming(16)
    out = np.zeros_like(visible)
    compiled.finish3(
        pointer(fused), real(109.5), real(16), real(235), pointer(visible), pointer(ramp), pointer(out), height, width
    )
    given = torch.from_numpy(fused)[None, None]
    twin = twins.finish_calmed(given, 16, 219, 235, tensor(visible), tensor(ramp), size).numpy()  # type: ignore[arg-type]
    assert (out == twin).all()
    frame = Frame(visible, "yuv420p", (width, height), 0, "pts", 0, "v", color_range="limited")
    grey = Frame(np.zeros(size, np.uint8), "gray8", (width, height), 0, "pts", 0, "i")
    luma = out[: height * width].reshape(size)
    by_processor, _ = with_chroma("infrared", [grey, frame], [grey.data, frame.planes[0]], luma)
    assert (out == by_processor).all()


def test_a_warp_that_enlarges_does_what_resizing_does(compiled: ctypes.CDLL) -> None:
    plane = np.random.default_rng(4).integers(0, 256, (48, 64), dtype=np.uint8)
    warp = Source(Frame(plane, "gray8", (64, 48), 0, "pts", 0, "i"), None, "full").warp((96, 160))
    kernel = (prepared(compiled, plane, None, warp, (96, 160), 0, 255) + 1) * 127.5
    assert np.abs(kernel - resized(plane, (96, 160))).max() <= 1


def test_every_kernel_that_may_be_asked_for_is_compiled_by_name() -> None:
    text = Path(kernels.SOURCE).read_text(encoding="utf-8")
    for name in kernels.NAMES:
        assert f"__global__ void {name.partition('<')[0]}(" in text
    assert "prepare<unsigned short, __half>" in kernels.NAMES


def test_a_kernel_is_launched_on_the_stream_of_torch_with_a_thread_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[tuple[int, int]] = []
    launched: list[tuple[Any, ...]] = []

    def from_external(stream: Any) -> Any:
        streams.append(stream.__cuda_stream__())
        return nullcontext()

    cupy = SimpleNamespace(cuda=SimpleNamespace(Stream=SimpleNamespace(from_external=from_external)))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=77))
    kernels.launch(lambda *how: launched.append(how), (65, 9), np.int32(4), None)
    assert streams == [(0, 77)]
    assert launched == [((3, 2, 1), (32, 8, 1), (4, 0))]
    assert isinstance(launched[0][2][1], np.uint64), "a null pointer has eight bytes"
