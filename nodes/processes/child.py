"""Child: a process that was started to run one config, as the one that started it sees it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from nodes.processes.link import FAIL, GO
from nodes.processes.plan import Job
from pipeline.errors import DeviceError

CHUNK = 1 << 16
MOST_CHUNKS = 256  # to read of one that has ended: a process that it left behind may go on writing
LONGEST_LINE = 4096
LONGEST_WORD = 1 << 24  # over the link: a summary is some kilobytes
SAID = {"mode": str, "ready": bool, "summary": dict, "gave_up": bool, "error": str}


class Relay:
    """What a process writes, as lines with its name before them.

    A line is handed on when it has ended. Of one that was written over (carriage returns, as progress bars do) only the
    last version is, and one that does not end comes in pieces.

    Args:
        prefix: to stand before each line.
        say: takes the lines.
    """

    def __init__(self, prefix: str, say: Callable[[str], None]) -> None:
        self._prefix, self._say, self._rest = prefix, say, b""

    def feed(self, data: bytes) -> None:
        """Take what was written, in pieces of any size."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)
        body = rest.rstrip(b"\r")
        self._rest = body.rpartition(b"\r")[2] + rest[len(body) :][:1]
        while len(self._rest) > LONGEST_LINE:
            self._tell(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]

    def end(self) -> None:
        """Nothing more comes."""
        self._tell(self._rest)
        self._rest = b""

    def _tell(self, line: bytes) -> None:
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="backslashreplace")
        if text.strip():
            self._say(f"{self._prefix}{text}")


def said_in(line: bytes) -> dict[str, Any]:
    """What a line over the link says. A library gone wild may have written there as well, which shall end nobody else:
    what is no word of ours is passed over."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    return {word: value for word, value in said.items() if isinstance(value, SAID.get(word, object))}


class Child:
    """Starts it: in a process group of its own, so that Ctrl-C comes to us alone; of our files it gets the link's end.

    Args:
        job: what it is to do.
        program: the words that start `run.py`.
        relay: for what it writes, to standard output too.

    Raises:
        DeviceError: the system has no room for one more process.
    """

    def __init__(self, job: Job, program: Sequence[str], relay: Relay) -> None:
        self._relay, self._heard = relay, b""
        self._link, theirs = socket.socketpair()
        option, *words = job.words
        command = [*program, option, "--link", str(theirs.fileno()), *words]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,
                )
        except OSError as error:
            self._link.close()
            raise DeviceError(f"{job.name}: its process cannot be started: {error.strerror}") from error
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._link.setblocking(False)
        os.set_blocking(self._output.fileno(), False)
        self._open = {self._link.fileno(), self._output.fileno()}

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def files(self) -> set[int]:
        """From which there may be something to read."""
        return self._open

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it runs."""
        return self._process.poll()

    def hear(self) -> list[dict[str, Any]]:
        """What it said over the link since the last call; what it wrote goes to the relay."""
        for _ in range(1 if self._process.returncode is None else MOST_CHUNKS):
            written, said = self._read(self._output.fileno()), self._read(self._link.fileno())
            self._relay.feed(written)
            self._heard += said
            if not written and not said:
                break
        *lines, rest = self._heard.split(b"\n")
        self._heard = rest[:LONGEST_WORD]
        return [what for line in lines if (what := said_in(line))]

    def go(self) -> None:
        """Let it open its nodes and run."""
        self._send(GO)

    def stop(self) -> None:
        """Have it end now, in good order."""
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)

    def fail(self) -> None:
        """Have it end now, and leave what it made marked as not whole."""
        self._send(FAIL)

    def kill(self) -> None:
        """End it at once, with what it may have started."""
        with suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """When it has ended, or was killed: let go of it, with its last words said."""
        self._process.wait()
        self._relay.end()
        self._link.close()
        self._output.close()
        self._open = set()

    def _send(self, byte: bytes) -> None:
        with suppress(OSError):  # it has ended
            self._link.send(byte)

    def _read(self, number: int) -> bytes:
        if number not in self._open:
            return b""
        try:
            data = os.read(number, CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._open.discard(number)
        return data


def wait(children: Iterable[Child], seconds: float) -> None:
    """Until one of them says or writes something, or the time is up."""
    select.select([number for child in children for number in child.files], [], [], seconds)
