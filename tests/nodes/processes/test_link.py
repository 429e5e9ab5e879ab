"""What passes between a process that runs a config and the one that started it."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nodes.processes.link import FAIL, GO, Abandoned, Link
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame
from pipeline.pipeline import Pipeline
from tests.pipeline.fakes import Endless, Logging, Running, Source, wait_for


class Sink(Logging):
    def process(self, frame: Frame) -> None:
        self.note("process")


class Parent:
    """The other end."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.link = Link(theirs.detach())

    def heard(self) -> list[dict[str, Any]]:
        self.socket.setblocking(False)
        try:
            return [json.loads(line) for line in self.socket.recv(1 << 16).splitlines()]
        except BlockingIOError:
            return []


@pytest.fixture
def parent() -> Iterator[Parent]:
    parent = Parent()
    yield parent
    parent.socket.close()
    parent.link._socket.close()


def running(node: Any, sink: Sink, parent: Parent) -> Running:
    return Running(Pipeline({"camera": node, "sink": sink}, {"sink": {"frame": "camera"}}), parent.link.look)


@pytest.mark.parametrize(("byte", "goes"), [(GO, True), (FAIL, False), (b"", False)])
def test_it_goes_when_it_is_told_to_and_not_when_it_is_left_alone(parent: Parent, byte: bytes, goes: bool) -> None:
    if byte:
        parent.socket.send(byte)
    else:
        parent.socket.close()
    assert parent.link.wait_for_go() is goes


def test_it_tells_once_that_all_nodes_are_open(parent: Parent) -> None:
    sink = Sink()
    run = running(Endless(), sink, parent)
    parent.socket.setblocking(True)
    assert json.loads(parent.socket.recv(100)) == {"ready": True}
    wait_for(sink.called["process"])
    parent.socket.shutdown(socket.SHUT_WR)
    run.end()
    assert parent.heard() == []


def test_a_pipeline_that_cannot_open_is_never_ready(parent: Parent) -> None:
    sink = Sink()
    sink.fails["open"] = SourceError("nothing there")
    with pytest.raises(SourceError):
        running(Endless(), sink, parent).end()
    assert parent.heard() == []


@pytest.mark.parametrize("how", ["told to", "parent killed"])
def test_it_ends_in_good_order_when_it_is_told_to_or_its_parent_is_no_more(parent: Parent, how: str) -> None:
    sink = Sink()
    run = running(Endless(), sink, parent)
    wait_for(sink.called["process"])
    if how == "told to":
        parent.socket.shutdown(socket.SHUT_WR)
    else:
        parent.socket.close()
    run.end()
    assert parent.link.ended
    assert sink.did() == ["open", "process", "close"]
    parent.link.tell(summary={})  # to nobody, and no error


def test_when_another_has_failed_its_results_are_given_up(parent: Parent) -> None:
    source, sink, released = Source([0.0, 40.0]), Sink(), threading.Event()
    source.before["process"] = lambda: source.given and wait_for(released)
    run = running(source, sink, parent)
    wait_for(sink.called["process"])
    parent.socket.send(FAIL)
    while not run.pipeline.stopping:
        run.thread.join(0.01)
    released.set()
    with pytest.raises(Abandoned):
        run.end()
    assert sink.did() == ["open", "process", "abort"]


def test_a_number_that_was_not_lent_is_refused(tmp_path: Any) -> None:
    file = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ConfigError, match="--link: it is for processes that"):
            Link(file)
    finally:
        os.close(file)
