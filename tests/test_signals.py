"""Ctrl-C, a kill, and a node that hangs: what was recorded plays, and nothing waits for ever."""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import media
from tests.programs import ROOT, frames_that_play

PATIENCE = 120.0  # seconds until a test gives up waiting for what should come at once
FRAMES = 800  # more than are done before the signal comes, by far


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of 5 frames a second, so that a few of them make the second after which a file is sure to grow."""
    folder, size = tmp_path_factory.mktemp("long"), (32, 24)
    infrared = media.write_video(folder / "infrared.mkv", (media.heat(n, size) for n in range(FRAMES)), fps=5)
    return infrared, media.write_video(folder / "visible.mkv", (media.scene(n, size) for n in range(FRAMES)), fps=5)


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, *(str(argument) for argument in arguments)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """While the process runs."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended too soon, with {process.wait(0.05)}")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "fused.mp4"), (signal.SIGTERM, "fused.mkv")])
def test_ctrl_c_or_a_kill_finishes_the_file(
    recording: tuple[Path, Path], weights: Path, tmp_path: Path, number: signal.Signals, name: str
) -> None:
    fused = tmp_path / name
    with started("run.py", "fuse", *recording, "-o", fused, "--weights", weights, "--device", "cpu") as process:
        wait_until(lambda: frames_that_play(fused) > 0, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert out == ""
    assert "stopping; once more to force" in err
    assert "Traceback" not in err
    told = re.search(rf"^output +(\d+) frames -> {fused}", err, re.MULTILINE)
    assert told is not None
    assert 0 < frames_that_play(fused) == int(told[1]) < FRAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fused.mp4", "fused.mkv"])
def test_a_process_that_is_shot_leaves_a_file_that_plays(
    recording: tuple[Path, Path], weights: Path, tmp_path: Path, name: str
) -> None:
    fused = tmp_path / name
    with started("run.py", "fuse", *recording, "-o", fused, "--weights", weights, "--device", "cpu") as process:
        wait_until(lambda: frames_that_play(fused) > 0, process)
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert 0 < frames_that_play(fused) < FRAMES


HANGING = """
import sys, threading
import nodes, run
from pipeline.node import Node

class Hanging(Node):
    def __init__(self) -> None: ...
    def process(self, frame) -> None:
        print("hanging", flush=True)
        threading.Event().wait()

nodes.TYPES["test.hanging"] = lambda: Hanging
sys.exit(run.main(sys.argv[1:]))
"""


@contextmanager
def hanging(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a node that hangs, once it does."""
    (folder / "hang.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{HANGING}")
    images, _ = media.write_folders(folder, ["1"])
    config = folder / "hang.yaml"
    config.write_text(f"a: {{type: capture.video, path: {images}}}\nb: {{type: test.hanging, inputs: a}}\n")
    with started(folder / "hang.py", config) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], PATIENCE)[0], "the node was never reached"
        assert process.stdout.readline() == "hanging\n"
        yield process


@pytest.mark.slow
def test_a_node_that_hangs_is_left_behind(tmp_path: Path) -> None:
    with hanging(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "b: did not stop within" in err


def test_a_second_ctrl_c_forces(tmp_path: Path) -> None:
    with hanging(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("once more to force" in line for line in lines)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "did not stop within" not in err
