"""The command line as a fixture, and weights to fuse with that need no training."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# The tests' pictures are so small that a second thread costs more than it brings: ten times the time on a busy machine.
# Read once, when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `cuda` where there is no GPU; with FAIL_WITHOUT_CUDA=1 fail, so that a lost GPU is seen."""
    if item.get_closest_marker("cuda") is None or (why := why_no_cuda()) is None:
        return
    if os.environ.get("FAIL_WITHOUT_CUDA", "0") not in ("", "0"):
        pytest.fail(f"FAIL_WITHOUT_CUDA is set, and {why}", pytrace=False)
    pytest.skip(why)


@cache
def why_no_cuda() -> str | None:
    """Why the tests cannot use CUDA; None if they can."""
    import torch

    if torch.version.cuda is None:
        return "this torch is a build for CPUs only"
    with warnings.catch_warnings():  # of a driver that is too old, say
        warnings.simplefilter("ignore")
        return None if torch.cuda.is_available() else "torch finds no NVIDIA GPU"


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what went wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


Command = Callable[..., Outcome]
Fusing = Callable[..., Outcome]
WeightsOf = Callable[..., Path]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """`command("fuse", a, b)` is `python run.py fuse a b`, in this process."""
    import run

    def do(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run.main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield do
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import media

    return media.write_weights(tmp_path_factory.mktemp("weights") / "untrained.safetensors")


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> WeightsOf:
    """`weights_of("realtime", symmetric=True)` are untrained weights of that network."""
    from tests import media

    def do(model: str, **options: Any) -> Path:
        return media.write_weights(tmp_path_factory.mktemp(model) / "untrained.safetensors", model=model, **options)

    return cache(do)


@pytest.fixture
def fuse(command: Command, weights: Path, tmp_path: Path) -> Fusing:
    """`fuse(a, b)` is `run.py fuse a b -o out.mkv` in this test's folder; a third source and options as given."""

    def do(first: object, second: object, *more: object, to: object = tmp_path / "out.mkv") -> Outcome:
        return command("fuse", first, second, *more, "-o", to, "--weights", weights)

    return do
