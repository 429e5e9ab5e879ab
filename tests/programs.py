"""The program as a process of its own: what it says while it runs, how it is interrupted, and what it came to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import pytest
import yaml

from tests.conftest import Outcome

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300.0  # seconds until a test gives up waiting for what should come at once
STOPS_WITHIN = 3.0  # seconds after Ctrl-C, where the machine has time for us
LOOK = 0.05
BUSY = 0.05  # seconds that we ourselves come too late: then others have the processor

Tree = Mapping[str, Mapping[str, Any]]


class Program:
    """`python run.py ...`, with what it writes kept in files, so that it never waits for somebody to read.

    Args:
        folder: for these files.
        words: of the command line.
    """

    def __init__(self, folder: Path, *words: object) -> None:
        self._out, self._err = folder / "standard-output.txt", folder / "standard-error.txt"
        command = [sys.executable, "run.py", *(str(word) for word in words)]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)

    @property
    def err(self) -> str:
        return self._err.read_text()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait while the process runs."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"what was waited for did not happen: {what}\n{self.err}"
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended with {self.process.wait(LOOK)} before this: {what}\n{self.err}")

    def until_told(self, text: str) -> None:
        self.until(lambda: text in self.err, text)

    def interrupt(self) -> Outcome:
        """Ctrl-C; it must end soon. On a machine that is busy with other things only that it ends can be judged."""
        began, latest = time.monotonic(), 0.0
        self.process.send_signal(signal.SIGINT)
        while self.process.poll() is None:
            looked = time.monotonic()
            assert looked < began + PATIENCE, f"Ctrl-C did not end it\n{self.err}"
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LOOK)
            latest = max(latest, time.monotonic() - looked - LOOK)
        took, outcome = time.monotonic() - began, self.end()
        if latest < BUSY:
            assert took < STOPS_WITHIN, outcome.err
            assert "did not stop within" not in outcome.err
        elif "did not stop within" in outcome.err:
            pytest.skip("this machine is so busy that the nodes did not stop in time")
        assert outcome.err.count("stopping; once more to force") == 1
        return outcome

    def end(self) -> Outcome:
        """Wait until it ends by itself."""
        code = self.process.wait(PATIENCE)
        outcome = Outcome(code, self._out.read_text(), self.err)
        assert "Traceback" not in outcome.err, outcome.err
        return outcome

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def started(folder: Path, *words: object) -> Iterator[Program]:
    program = Program(folder, *words)
    try:
        yield program
    finally:
        program.close()


def write_tree(path: Path, tree: Tree) -> Path:
    """A config."""
    path.write_text(yaml.safe_dump({name: dict(node) for name, node in tree.items()}, sort_keys=False))
    return path


def nodes_of(outcome: Outcome, tree: Tree) -> dict[str, dict[str, Any]]:
    """What `--json -` says of each node of a config: one summary, in which every frame is accounted for."""
    summary = json.loads(outcome.out)
    nodes: dict[str, dict[str, Any]] = summary["nodes"]
    assert summary["mode"] == "live"
    assert summary["broken"] == []
    assert list(nodes) == list(tree)
    for name, node in nodes.items():
        assert node["taken"] == node["emitted"] + drops(node, "")
        wired = tree[name].get("inputs", {})
        if isinstance(wired, str):
            before = sum(node["dropped"].values()) - drops(node, "")
            assert nodes[wired]["emitted"] == node["taken"] + before
            continue
        for key, source in wired.items():  # one that is held is taken more than once
            assert 0 <= nodes[source.partition(".")[0]]["emitted"] - drops(node, key) <= node["taken"]
    return nodes


def drops(node: Mapping[str, Any], key: str) -> int:
    """Frames of an input that were dropped before the node, or with "" sets of frames in it."""
    return sum(count for reason, count in node["dropped"].items() if reason.rpartition(" ")[0] == key)


def frames_that_play(*paths: Path) -> int:
    """While they are written, too; 0 as long as there is nothing to play."""
    count = 0
    for path in paths:
        with suppress(av.FFmpegError, FileNotFoundError), av.open(str(path)) as container:
            for _ in container.decode(video=0):
                count += 1
    return count
