"""A test that needs a GPU is skipped without one, with the reason, and fails where one must be there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize(("insist", "code", "word"), [("", 0, "skipped"), ("1", 1, "FAIL_WITHOUT_CUDA is set, and")])
def test_without_a_gpu(insist: str, code: int, word: str) -> None:
    test = "tests/cuda/test_kernels.py::test_a_kernel_waits_for_what_comes_before_it_on_the_stream_of_torch"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env=os.environ | {"FAIL_WITHOUT_CUDA": insist},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert word in done.stdout
