"""The kernels are CUDA C++ that NVIDIA's compilers take, checked without a GPU where there is such a compiler.

NVRTC comes from PyPI: `pip install nvidia-cuda-nvrtc nvidia-cuda-runtime` (150 MB, so not part of the extra `dev`).
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nodes.fusion import kernels

ARCHITECTURES = ("sm_75", "sm_90")  # the oldest that CUDA 13 knows, and Hopper


def folder_of_nvidia() -> Path | None:
    """Where the packages of CUDA's parts from PyPI lie."""
    try:
        found = importlib.util.find_spec("nvidia")
    except ValueError:
        return None
    places = [] if found is None else list(found.submodule_search_locations or [])
    return next((Path(place) for place in places), None)


def find_nvrtc() -> tuple[ctypes.CDLL, list[Path]]:
    """The compiler, and where the headers may lie."""
    folder = folder_of_nvidia()
    libraries = sorted(folder.glob("*/lib/libnvrtc.so.*")) if folder is not None else []
    if folder is None or not libraries:
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime")
    headers = [path.parent for path in folder.glob("*/include/cuda_fp16.h")]
    if not headers:
        pytest.skip("no cuda_fp16.h: pip install nvidia-cuda-runtime")
    return ctypes.CDLL(str(libraries[-1])), headers


def said(nvrtc: ctypes.CDLL, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, text)
    return text.value.decode()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_every_kernel_that_may_be_asked_for(architecture: str) -> None:
    nvrtc, headers = find_nvrtc()
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), kernels.source().encode(), b"kernels.cu", 0, None, None) == 0
    for name in kernels.NAMES:
        assert nvrtc.nvrtcAddNameExpression(program, name.encode()) == 0
    options = [*kernels.OPTIONS, f"--gpu-architecture={architecture}", *(f"-I{path}" for path in headers)]
    words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    code = nvrtc.nvrtcCompileProgram(program, len(options), words)
    assert (code, said(nvrtc, program)) == (0, "")
    symbols = set()
    for name in kernels.NAMES:
        symbol = ctypes.c_char_p()
        assert nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(symbol)) == 0
        symbols.add(symbol.value)
    assert len(symbols) == len(kernels.NAMES)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


BYTES = "unsigned char*"
INSTANCES = {
    "prepare": f"const {{0}}*, int, int, long long, const {BYTES}, const float*, float, float, {{1}}*, int, int",
    "finish": f"const {{0}}*, float, float, float, {BYTES}, int, int",
    "finish_calmed": f"const {{0}}*, float, float, float, const {BYTES}, const {BYTES}, {BYTES}, int, int",
}


def test_nvcc_compiles_them_without_a_warning_and_none_spills_registers(tmp_path: Path) -> None:
    if (nvcc := shutil.which("nvcc")) is None:
        pytest.skip("no nvcc")
    text = [kernels.source()]
    for name in kernels.NAMES:
        kernel, types = name.rstrip(">").split("<")
        text.append(f"template __global__ void {name}({INSTANCES[kernel].format(*types.split(', '))});")
    source = tmp_path / "kernels.cu"
    source.write_text("\n".join(text))
    command = [
        nvcc,
        *kernels.OPTIONS,
        "-arch=sm_90",
        "-cubin",
        "-Xptxas",
        "-v,-warn-spills",
        "-o",
        str(tmp_path / "out"),
    ]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    assert done.stderr.count("Compiling entry function") == len(kernels.NAMES)
    assert max(int(count) for count in re.findall(r"Used (\d+) registers", done.stderr)) <= 64  # 256 threads a block
