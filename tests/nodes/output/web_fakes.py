"""A page of output.web with a run behind it that is none, frames to feed it, and a client."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nodes.output.web import WebOutput
from pipeline import control
from pipeline.control import Control
from pipeline.errors import ConfigError
from pipeline.frame import Frame, Fusion, PixelFormat, layout

PATIENCE = 20.0  # seconds until a test gives up waiting for what should come at once


def wait_for(what: Callable[[], object]) -> None:
    """Ask again and again."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)


class FakeRun:
    """A pipeline as the page sees it."""

    def __init__(self, mode: str = "live") -> None:
        self.mode = mode
        self.changes: list[tuple[str, str, Any]] = []
        self.nodes: dict[str, dict[str, Any]] = {
            "thermal": self.node(source=True, gauges={"drift_ppm": -12.5, "clock_offset_ms": 3.0}),
            "fuse": self.node(dropped={"infrared no_partner": 2, "error": 1}, max_skew_ms=12.0, gauges={"gain": 0.5}),
        }
        self.own: dict[str, dict[str, Control]] = {
            "fuse": {
                "blend": control.number("Blend", 0.5, 0, 1, step=0.05),
                "palette": control.choice("Palette", "white-hot", ("white-hot", "black-hot", "ironbow")),
                "offset_ms": control.number("Infrared offset", 0, -500, 500, unit="ms"),
            },
            "record": {"recording": control.switch("Recording", False), "cut": control.action("New file")},
            "web": {},
        }

    @staticmethod
    def node(source: bool = False, **more: Any) -> dict[str, Any]:
        times = {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": float("nan")}
        ages = {"age_p50_ms": 21.0, "age_p95_ms": 30.0, "age_p99_ms": 41.0}
        counts = {"taken": 103, "emitted": 100, "dropped": {}, "gauges": {}}
        return {**counts, **times, **ages, "source": source, "sink": False, **more}

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return self.nodes

    def controls(self) -> dict[str, dict[str, Control]]:
        return self.own

    def change(self, node: str, control: str, value: Any = None) -> None:
        if control not in self.own.get(node, {}):
            raise ConfigError(f"node {node!r} has no control {control!r}")
        checked = self.own[node][control].checked(value)
        self.own[node][control] = replace(self.own[node][control], value=checked)
        self.changes.append((node, control, checked))


def picture(
    number: int = 0,
    *,
    pixel_format: PixelFormat = "gray8",
    size: tuple[int, int] = (64, 48),
    data: np.ndarray | None = None,
    age_ms: float = 5.0,
    state: str | None = None,
    skew_ms: float = 0.0,
) -> Frame:
    """A frame that was captured so long ago; without data, of noise that no two numbers share."""
    if data is None:
        shape, dtype = layout(pixel_format, size)
        data = np.random.default_rng(number).integers(0, 256, shape).astype(dtype)
    else:
        size = (data.shape[1], data.shape[0])
    return Frame(
        data,
        pixel_format,
        size,
        time.monotonic_ns() - round(age_ms * 1e6),
        "arrival",
        number,
        "camera",
        fusion=Fusion(state, round(skew_ms * 1e6), {}) if state else None,
    )


@contextmanager
def served(run: FakeRun | None = None, **settings: Any) -> Iterator[WebOutput]:
    """A page on a free port."""
    node = WebOutput(**{"port": 0} | settings)
    node.name, node.running = "web", run or FakeRun()
    node.open({})
    try:
        yield node
    finally:
        node.close()


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(node: WebOutput) -> http.client.HTTPConnection:
    assert node.address is not None
    return http.client.HTTPConnection(*place(node), timeout=PATIENCE)


def place(node: WebOutput) -> tuple[str, int]:
    """Where the page is reached from here, whatever it listens on."""
    assert node.address is not None
    return "127.0.0.1", int(node.address.rpartition(":")[2])


def get(node: WebOutput, path: str, headers: dict[str, str] | None = None, **how: Any) -> Answer:
    connection = connect(node)
    try:
        connection.request(how.pop("method", "GET"), path, headers=headers or {}, **how)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def post(node: WebOutput, wanted: Any, headers: dict[str, str] | None = None, path: str = "/api/controls") -> Answer:
    """A wish, sent as the page does unless the headers say otherwise."""
    body = wanted if isinstance(wanted, bytes) else json.dumps(wanted).encode()
    return get(node, path, {"Content-Type": "application/json"} | (headers or {}), method="POST", body=body)


@dataclass
class Part:
    """A picture of a stream."""

    sequence: int
    jpeg: bytes


class Watcher:
    """A client of a stream.

    Args:
        node: whose page.
        view: which picture.
        buffer: bytes that its system takes without being asked.
        path: of the stream, where not that of the view.
    """

    def __init__(self, node: WebOutput, view: str = "fused", buffer: int | None = None) -> None:
        self._connection = connect(node)
        self._connection.sock = socket.socket()
        if buffer is not None:
            self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._connection.sock.settimeout(PATIENCE)
        self._connection.sock.connect(place(node))
        self._connection.request("GET", f"/stream/{view}.mjpg")
        self.answer = self._connection.getresponse()

    def next(self) -> Part:
        head: dict[str, str] = {}
        while line := self.answer.readline().strip().decode():
            name, _, value = line.partition(": ")
            head[name.lower()] = value
        jpeg = self.answer.read(int(head["content-length"]))
        assert self.answer.readline() == b"\r\n"
        return Part(int(head["x-sequence"]), jpeg)

    def ended(self) -> bool:
        """Read on until the server hangs up."""
        with suppress(http.client.HTTPException, ConnectionError):
            while self.answer.read(65536):
                pass
        return True

    def close(self) -> None:
        self.answer.close()
        self._connection.close()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
