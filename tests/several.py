"""`run.py` with several configs as a process, with nodes that fail and hang, and configs for it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import media
from tests.conftest import Outcome
from tests.programs import PATIENCE, ROOT, Tree, write_tree

LOOK_S = 0.02
CAMERA = {"type": "capture.pattern", "view": "visible", "size": [64, 48]}

PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import threading
import nodes, run
from nodes.processes import supervisor
from pipeline.errors import OutputError
from pipeline.frame import Frame
from pipeline.node import Node

class Fails(Node):
    def __init__(self, after: int) -> None:
        self.left = after
    def process(self, frame: Frame) -> Frame:
        self.left -= 1
        if self.left < 0:
            raise OutputError("the end of the world")
        return frame

class Hangs(Fails):
    def process(self, frame: Frame) -> Frame:
        self.left -= 1
        if self.left < 0:
            print("hanging", file=sys.stderr, flush=True)
            threading.Event().wait()
        return frame

nodes.TYPES["test.fails"] = lambda: Fails
nodes.TYPES["test.hangs"] = lambda: Hangs
run.PROGRAM = (sys.executable, __file__)
supervisor.GRACE_S = 0.5
if __name__ == "__main__":
    sys.exit(run.main(sys.argv[1:]))
"""


class Several:
    """`run.py` with several configs, as a process; with nodes that fail and hang."""

    def __init__(self, folder: Path, *words: object) -> None:
        program, self._out, self._err = folder / "program.py", folder / "standard-output", folder / "standard-error"
        program.write_text(PROGRAM)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            command = [sys.executable, str(program), *map(str, words)]
            self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err)

    @property
    def err(self) -> str:
        return self._err.read_text()

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait while it runs."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < deadline, f"did not happen: {what}\n{self.err}"
            assert self.process.poll() is None, f"ended before this: {what}\n{self.err}"
            time.sleep(LOOK_S)
        return found

    def pids(self, name: str) -> list[int]:
        """Of the processes of a config, one after the other."""
        return [int(pid) for pid in re.findall(rf"^{name}: (?:restart \d+, )?process (\d+)$", self.err, re.MULTILINE)]

    def pid(self, name: str, number: int = 1) -> int:
        """Once there were so many."""
        found: list[int] = self.until(lambda: len(self.pids(name)) >= number and self.pids(name), f"{name} runs")
        return found[number - 1]

    def end(self) -> Outcome:
        code = self.process.wait(PATIENCE)
        outcome = Outcome(code, self._out.read_text(), self.err)
        assert "Traceback" not in outcome.err, outcome.err
        return outcome

    def interrupt(self) -> Outcome:
        self.process.send_signal(signal.SIGINT)
        return self.end()


@contextmanager
def started(folder: Path, *words: object) -> Iterator[Several]:
    program = Several(folder, *words)
    try:
        yield program
    finally:
        program.process.kill()  # then its processes end by themselves
        program.process.wait()
        for pid in re.findall(r"process (\d+)$", program.err, re.MULTILINE):
            until_gone(int(pid))


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(LOOK_S)


def is_alive(pid: int) -> bool:
    """And no zombie, which it is until its new parent looks."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def link(folder: Path, name: str, delivery: str) -> dict[str, Any]:
    return {"address": f"ipc://{folder}/{name}.ipc", "delivery": delivery}


def chain(folder: Path, camera: Tree, delivery: str, work: dict[str, Any] | None = None) -> list[Path]:
    """Three configs: `capture` sends what `camera` sees, `work` hands it on, and `record` writes `night.mkv`."""
    first, second = link(folder, "first", delivery), link(folder, "second", delivery)
    trees: dict[str, Tree] = {
        "capture": {**camera, "send": {"type": "output.zmq", "inputs": "camera", **first}},
        "work": {
            "take": {"type": "capture.zmq", **first},
            **({"worker": {**work, "inputs": "take"}} if work else {}),
            "hand_on": {"type": "output.zmq", "inputs": "worker" if work else "take", **second},
        },
        "record": {
            "taken": {"type": "capture.zmq", **second},
            "save": {"type": "output.video", "inputs": "taken", "path": str(folder / "night.mkv"), "codec": "ffv1"},
        },
    }
    return [write_tree(folder / f"{name}.yaml", tree) for name, tree in trees.items()]


def live(folder: Path, **how: Any) -> list[Path]:
    return chain(folder, {"camera": CAMERA}, "latest", **how)


def recorded(folder: Path, frames: int = 40, **how: Any) -> list[Path]:
    path, _ = media.write_recording(folder, frames)
    return chain(folder, {"camera": {"type": "capture.video", "path": str(path)}}, "lossless", **how)
