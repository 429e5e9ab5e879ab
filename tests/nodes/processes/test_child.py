"""A real process as the supervisor sees it, and what it writes as lines."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nodes.processes import child
from nodes.processes.child import LONGEST_LINE, Child, Relay
from nodes.processes.plan import Job
from pipeline.errors import DeviceError
from tests.pipeline.fakes import PATIENCE


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"n", b"e\nt", b"wo"], ["one", "two"]),
        ([b"a line\r\n", b"another\r", b"\n"], ["a line", "another"]),
        ([b" 10%\r 20%\r", b" 30%\r", b"100%\ndone\n"], ["100%", "done"]),
        ([b"10%\r", b"20%\r"], ["20%"]),
        ([b"\n\n  \none\n\n"], ["one"]),
        (["grün".encode()[:3], "grün".encode()[3:], b"\n\xff\n"], ["grün", "\\xff"]),
        ([b"x" * (LONGEST_LINE + 5), b"y\n"], ["x" * LONGEST_LINE, "xxxxxy"]),
    ],
)
def test_what_a_process_writes_comes_as_lines_with_its_name(written: list[bytes], lines: list[str]) -> None:
    said: list[str] = []
    relay = Relay("fuse | ", said.append)
    for piece in written:
        relay.feed(piece)
    relay.end()
    assert said == [f"fuse | {line}" for line in lines]


def test_a_line_is_not_held_back_for_the_next_one() -> None:
    said: list[str] = []
    Relay("", said.append).feed(b"one\ntw")
    assert said == ["one"]


def test_a_bar_that_never_ends_its_line_takes_no_memory() -> None:
    said: list[str] = []
    relay = Relay("", said.append)
    for step in range(100_000):
        relay.feed(f"{step:>20}\r".encode())
    assert len(relay._rest) < 100
    assert said == []


PRELUDE = "import json, os, signal, socket, sys, time; link = socket.socket(fileno=int(sys.argv[3]))\n"
Starting = Callable[[str], Child]


@pytest.fixture
def started(said: list[str]) -> Iterator[Starting]:
    """Starts Python with a text, as a child with its link."""
    with ExitStack() as stack:

        def start(text: str) -> Child:
            program = [sys.executable, "-c", PRELUDE + text]
            made = Child(Job("played", ("run", "played.yaml")), program, Relay("", said.append))
            stack.callback(made.close)
            stack.callback(made.kill)
            return made

        yield start


@pytest.fixture
def said() -> list[str]:
    return []


def until_ended(started: Child) -> tuple[int, list[dict[str, Any]]]:
    """Its exit code and what it said over the link."""
    deadline, messages = time.monotonic() + PATIENCE, []
    while True:
        child.wait([started], 0.05)
        code = started.poll()
        messages += started.hear()
        if code is not None:
            return code, messages
        assert time.monotonic() < deadline


def test_it_is_heard_to_its_last_word(started: Starting, said: list[str]) -> None:
    large = {"error": "x" * 1_000_000}
    code, messages = until_ended(
        started(
            "print('on standard output', flush=True); print('an error', file=sys.stderr)\n"
            'link.sendall(b\'{"mode": "live"}\\n{"error": "\' + b"x" * 1_000_000 + b\'"}\\n{"cut short\')\n'
            "sys.stderr.write('last words'); sys.stderr.flush(); os._exit(5)"
        )
    )
    assert (code, messages) == (5, [{"mode": "live"}, large])
    assert said == ["on standard output", "an error"]


def test_rubbish_on_the_link_is_passed_over_and_takes_no_memory(
    started: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LONGEST_WORD", 1000)
    rubbish = [b"\xff\x00", b"", b"[1]", b"7", b"null", b'{"mode": 1, "summary": [], "ready": "yes"}', b"[" * 5000, b""]
    process = started(
        "link.sendall(" + repr(b"\n".join(rubbish)) + ")\n"
        'link.sendall(b\'{"mode": "live"}\\n\')\n'
        "link.sendall(b'x' * 5_000_000)"
    )
    assert until_ended(process) == (0, [{"mode": "live"}])
    assert len(process._heard) <= 1000


def test_its_last_line_needs_no_end(started: Starting, said: list[str]) -> None:
    process = started(
        "sys.stderr.write('first\\nlast words'); sys.stderr.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    code, _ = until_ended(process)
    process.close()
    assert code == -signal.SIGKILL
    assert said == ["first", "last words"]


def test_it_is_told_to_go_to_fail_and_to_stop(started: Starting) -> None:
    process = started("print(link.recv(1), link.recv(1), link.recv(1), flush=True)\nlink.send(b'{\"last\": 1}\\n')")
    process.go()
    process.fail()
    process.stop()
    code, messages = until_ended(process)
    assert (code, messages) == (0, [{"last": 1}])


def test_of_our_files_it_gets_the_link_alone(started: Starting) -> None:
    others = [started("time.sleep(60)") for _ in range(2)]
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)
    try:
        process = started(
            "files = {number: os.readlink(f'/proc/self/fd/{number}') for number in os.listdir('/proc/self/fd')"
            " if os.path.exists(f'/proc/self/fd/{number}') or number in '012' or int(number) == link.fileno()}\n"
            "link.sendall(json.dumps(files).encode() + b'\\n')"
        )
        _, (files,) = until_ended(process)
    finally:
        os.close(reads)
        os.close(writes)
    numbers = {int(number) for number, target in files.items() if not target.startswith("/proc")}
    assert len(numbers) == 4, f"standard input, output and error, and the link: {files}"
    assert files["0"] == "/dev/null"
    assert all(other.poll() is None for other in others)


def test_ctrl_c_at_the_terminal_does_not_reach_it(started: Starting) -> None:
    _, (said,) = until_ended(started("link.sendall(b'{\"ids\": [%d, %d]}\\n' % (os.getpgid(0), os.getpid()))"))
    group = said["ids"]
    assert group[0] == group[1] != os.getpgid(0)


def test_one_that_ignores_everything_is_killed_with_what_it_started(started: Starting) -> None:
    process = started(
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "pid = os.fork()\n"
        "if pid: link.sendall(b'{\"pid\": %d}\\n' % pid)\n"
        "time.sleep(60)"
    )
    messages: list[Any] = []
    while not messages:
        assert process.poll() is None
        child.wait([process], PATIENCE)
        messages = process.hear()
    process.stop()
    os.kill(process.pid, signal.SIGINT)
    process.kill()
    code, _ = until_ended(process)
    assert code == -signal.SIGKILL
    deadline = time.monotonic() + PATIENCE
    while is_alive(messages[0]["pid"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """And no zombie, which it is until its new parent looks."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_one_that_has_ended_is_no_zombie_and_may_be_told_things_in_vain(started: Starting) -> None:
    process = started("")
    assert until_ended(process)[0] == 0
    for ask in (process.go, process.fail, process.stop, process.kill):
        ask()
    assert process.files == set()
    process.close()
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_program_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(DeviceError, match="played: its process cannot be started: No such file"):
        Child(Job("played", ("run",)), ["/no/such/program"], Relay("", print))
