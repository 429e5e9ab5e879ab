"""The example for programs without this project: it runs, is short, and reads what is published."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.frame import Frame, PixelFormat
from tests.streamfuse.publisher import Publisher, picture, wait_until

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "subscriber.py"


@contextmanager
def running(publisher: Publisher, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """From an empty folder, so that it cannot import us."""
    words = [sys.executable, "-I", str(EXAMPLE), publisher.address, publisher.stream]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        publisher.wait_for_listener()
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr and process.stderr.read()
    return line.replace("(", "").replace(")", "").replace(",", "").split()


def test_it_is_short_and_needs_pyzmq_and_numpy_alone() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 30
    imported = {
        name.name for found in ast.walk(ast.parse(text)) if isinstance(found, ast.Import) for name in found.names
    }
    assert not any(isinstance(found, ast.ImportFrom) for found in ast.walk(ast.parse(text)))
    assert imported - set(sys.stdlib_module_names) == {"numpy", "zmq"}


@pytest.mark.parametrize(
    ("pixel_format", "shape"), [("gray8", [2, 4]), ("gray16", [2, 4]), ("bgr24", [2, 4, 3]), ("yuv420p", [12])]
)
def test_it_reads_every_pixel_format(pixel_format: PixelFormat, shape: list[int], tmp_path: Path) -> None:
    value = 40_000 if pixel_format == "gray16" else 200
    with Publisher() as publisher, running(publisher, tmp_path) as example:
        publisher.stats()
        publisher.frame(picture(7, pixel_format=pixel_format, value=value))
        sequence, *found, total, age_ns = map(int, next_line(example))
    assert (sequence, found, total) == (0, shape, value * np.prod(shape))
    assert age_ns > 0


def test_a_reader_that_is_held_up_goes_on_with_the_newest_frame(tmp_path: Path) -> None:
    """What holds it up is its own output, which nobody reads: a pipe takes only so much."""
    with Publisher() as publisher, running(publisher, tmp_path) as example:
        assert example.stdout is not None
        os.set_blocking(example.stdout.fileno(), True)
        shrink(example.stdout.fileno())
        while publisher.sequence < 1000:
            send(publisher)
        newest = [0]
        wait_until(lambda: send(publisher) or newest.append(int(next_line(example)[0])) or newest[-1] > 1000)
    seen = newest[1:]
    assert seen == sorted(set(seen))
    assert len(seen) < 500, "it has read them all"


def send(publisher: Publisher) -> None:
    publisher.frame(Frame(np.zeros((2, 4), np.uint8), "gray8", (4, 2), 0, "device", publisher.sequence, "fused"))
    publisher.link.heard(b"")


def shrink(pipe: int) -> None:
    """To 4096 bytes, less than a hundred lines; the usual size is not enough to hold up a program for long."""
    fcntl = pytest.importorskip("fcntl")
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("the size of a pipe can be set on Linux alone")
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
