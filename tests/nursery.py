"""Publishers and readers as processes, to be stopped and killed: fifty of them in the time that one takes to start.

As a program this is a process that has loaded all, and forks one more for each line that it reads.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

import streamfuse
from pipeline.frame import Frame
from tests.nodes.zmq_ends import publishing, wait_until

FULL_HD = (1920, 1080)
BEAT_S = 0.005  # of publishers that have all the time in the world


def picture(number: int, size: tuple[int, int] = FULL_HD) -> Frame:
    """yuv420p of one's own pixels, with their checksum for its name."""
    pixels = np.full(size[0] * size[1] * 3 // 2, number % 251, np.uint8)
    pixels[: 1 << 12] = np.frombuffer(number.to_bytes(8, "little") * (1 << 9), np.uint8)
    return Frame(pixels, "yuv420p", size, time.monotonic_ns(), "device", number, "fused", name=checksum(pixels))


def checksum(pixels: np.ndarray) -> str:
    return f"{zlib.crc32(pixels):08x}"


class Nursery:
    """Starts them, and keeps what they say."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.nursery"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._started: list[int] = []
        self._said: defaultdict[int, list[list[str]]] = defaultdict(list)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, kind: str, *words: object) -> int:
        """One more process: its number."""
        assert self._process.stdin is not None
        count = len(self._started)
        self._process.stdin.write(" ".join([kind, *map(str, words)]) + "\n")
        wait_until(lambda: len(self._started) > count)
        return self._started[-1]

    def said(self, pid: int) -> list[list[str]]:
        """Its lines so far, as words."""
        return self._said[pid]

    def kill(self, pid: int) -> None:
        """And wait until it is gone with all its threads: as long as one is there, what it has open is."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists())

    def close(self) -> None:
        assert self._process.stdin is not None
        for pid in self._started:
            if parent_of(pid) == self._process.pid:  # numbers of those that have ended are given to others
                self.kill(pid)
        self._process.stdin.close()
        self._listener.join()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            pid, *words = line.split()
            self._said[int(pid)].append(words) if words else self._started.append(int(pid))


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


@contextmanager
def opened() -> Iterator[Nursery]:
    nursery = Nursery()
    try:
        yield nursery
    finally:
        nursery.close()


# What they do:


def say(*words: object) -> None:
    """A line, in one piece: others write there too."""
    os.write(1, (" ".join(map(str, (os.getpid(), *words))) + "\n").encode())


def read(address: str) -> None:
    """A program with our client: says the number of each frame, and how many it missed before it."""
    with streamfuse.subscribe(address) as stream:
        for received in stream:
            say(received.message.head.sequence, received.lost)


def publish(address: str, width: str, height: str) -> None:
    """An output.zmq that goes on for ever."""
    with publishing(address) as node:
        say("ready")
        for number in itertools.count():
            node.process(picture(number, (int(width), int(height))))
            threading.Event().wait(BEAT_S)


def publish_many(*addresses: str) -> None:
    """Each frame in new memory, which is that of one before as soon as it is let go, as fast as it goes."""
    with ExitStack() as stack:
        all_of_them = [stack.enter_context(publishing(address)) for address in addresses]
        say("ready")
        for number in itertools.count():
            for place, node in enumerate(all_of_them):
                node.process(picture(number * len(addresses) + place))


KINDS: dict[str, Callable[..., None]] = {"read": read, "publish": publish, "publish-many": publish_many}


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none becomes a zombie
    for line in iter(sys.stdin.readline, ""):
        kind, *words = line.split()
        if os.fork() == 0:
            os.close(0)
            say()
            try:
                KINDS[kind](*words)
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(1)


if __name__ == "__main__":
    main()
