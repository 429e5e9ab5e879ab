"""What output.web answers: the page, pictures, numbers, and what may be changed."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from nodes.output import web_metrics
from nodes.output.web_guard import Guard, Handler, refuse
from nodes.output.web_journal import Journal, finite
from nodes.output.web_views import View
from pipeline.control import Control
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.node import Running

log = logging.getLogger("streamfuse")

FILES = {  # path -> file beside this one and its type
    "/": ("web_page.html", "text/html"),
    "/icon.svg": ("web_icon.svg", "image/svg+xml"),
    "/page.css": ("web_page.css", "text/css"),
    "/page.js": ("web_page.js", "text/javascript"),
    "/controls.js": ("web_controls.js", "text/javascript"),
    "/plot.js": ("web_plot.js", "text/javascript"),
    "/stream.js": ("web_stream.js", "text/javascript"),
}
BOUNDARY = "frame"
MOST_STREAMS = 32  # at a time; each has a connection and some hundred kilobytes
MOST_BODY = 4096  # bytes of a request
PATIENCE_SECONDS = 10.0  # a client that takes no picture for so long is let go of
UNSENT_BYTES = 16384  # of a picture that may wait in the system for a slow line; more would be late pictures


class Answers:
    """All that can be asked for.

    Args:
        views: by name; the first is the main one.
        journal: what came so far.
        run: the pipeline; None where there is none.
        guard: who may enter.
    """

    def __init__(self, views: Mapping[str, View], journal: Journal, run: Running | None, guard: Guard) -> None:
        self.views, self.journal, self.run, self.guard = views, journal, run, guard
        self._boot = secrets.token_hex(8)  # so that a page knows another run from this one
        self._files = {path: Path(__file__).with_name(name).read_bytes() for path, (name, _) in FILES.items()}
        self._streams: set[asyncio.Task[Any]] = set()

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """What each node did so far."""
        return self.run.snapshot() if self.run is not None else {}

    def end_streams(self) -> None:
        """Let go of all who watch."""
        for stream in self._streams:
            stream.cancel()

    def application(self) -> web.Application:
        """What the server runs."""
        application = web.Application(client_max_size=MOST_BODY, middlewares=[self.guard.check, one_line])
        application.on_response_prepare.append(self.guard.sign)
        route = application.router.add_get
        for path in FILES:
            route(path, self._file)
        route("/stream/{view}.mjpg", self._stream, allow_head=False)
        route("/snapshot/{view}{suffix:[.](?:png|jpg)}", self._snapshot_of_view)
        route("/api/state", self._state)
        route("/api/history", self._history)
        route("/api/controls", self._controls)
        application.router.add_post("/api/controls", self._change)
        route("/metrics", self._metrics)
        route("/healthz", self._healthz)
        route("/readyz", self._readyz)
        return application

    # Pictures:

    def _view(self, request: web.Request) -> View:
        name = request.match_info["view"]
        if name not in self.views:
            raise web.HTTPNotFound(text=f"there is no view {name!r}; there is: {', '.join(self.views)}\n")
        return self.views[name]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Motion JPEG without end: each part a whole picture, the newest there is when the one before has left."""
        view = self._view(request)
        if len(self._streams) >= MOST_STREAMS:
            return refuse(503, f"{MOST_STREAMS} clients watch already; close one")
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        view.watchers += 1
        try:
            return await send_pictures(request, view)
        finally:
            view.watchers -= 1
            self._streams.discard(task)

    async def _snapshot_of_view(self, request: web.Request) -> web.Response:
        view, suffix = self._view(request), request.match_info["suffix"]
        data = await view.snapshot(suffix)
        if data is None:
            return refuse(503, f"no frame of {view.name} came yet")
        name = f"{view.name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}{suffix}"
        return web.Response(
            body=data,
            content_type="image/png" if suffix == ".png" else "image/jpeg",
            headers={"Content-Disposition": f'inline; filename="{name}"'},
        )

    async def _file(self, request: web.Request) -> web.Response:
        return web.Response(body=self._files[request.path], content_type=FILES[request.path][1], charset="utf-8")

    # Numbers:

    async def _state(self, _: web.Request) -> web.Response:
        now_ns, journal = time.monotonic_ns(), self.journal
        last, readiness = journal.last(journal.main), journal.readiness(now_ns)
        figures = {
            "boot": self._boot,
            "mode": "live" if journal.live else "recorded",
            "main": journal.main,
            "state": last and last.state,
            "skew_ms": last and last.skew_ms,
            "age_ms": journal.age_ms(now_ns),
            "ready": readiness.ready,
            "degraded": readiness.degraded,
            "reason": readiness.reason,
            "latency_ms": journal.latency_ms(now_ns),
            "views": {name: self._view_state(view, now_ns) for name, view in self.views.items()},
            "nodes": self.snapshot(),
        }
        return as_json(figures)

    def _view_state(self, view: View, now_ns: int) -> dict[str, Any]:
        newest, fps = view.newest, self.journal.fps(view.name, now_ns)
        if newest is None:
            return {"fps": fps, "watchers": view.watchers, "silent_s": None, "size": None, "pixel_format": None}
        return {
            "fps": fps,
            "watchers": view.watchers,
            "silent_s": (now_ns - newest.arrived_ns) / 1e9,
            "size": newest.frame.size,
            "pixel_format": newest.frame.pixel_format,
        }

    async def _history(self, _: web.Request) -> web.Response:
        return as_json(self.journal.history(time.monotonic_ns()))

    async def _metrics(self, _: web.Request) -> web.Response:
        watchers = {name: view.watchers for name, view in self.views.items()}
        text = web_metrics.metrics(self.journal, time.monotonic_ns(), self.snapshot(), watchers)
        return web.Response(body=text.encode(), headers={"Content-Type": web_metrics.CONTENT_TYPE})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        readiness = self.journal.readiness(time.monotonic_ns())
        return web.Response(status=200 if readiness.ready else 503, text=f"{readiness.reason}\n")

    # Controls:

    async def _controls(self, _: web.Request) -> web.Response:
        controls = self.run.controls() if self.run is not None else {}
        return as_json(
            {node: {name: described(one) for name, one in own.items()} for node, own in controls.items() if own}
        )

    async def _change(self, request: web.Request) -> web.Response:
        node, control, value = wish(await request.read())
        if self.run is None:
            return refuse(503, "nothing runs")
        try:
            self.run.change(node, control, value)
        except (ConfigError, OverflowError) as error:  # a number too large for a float is no legal one
            return refuse(400, str(error))
        return as_json({"taken": True})


async def send_pictures(request: web.Request, view: View) -> web.StreamResponse:
    """Until the client leaves. What the line cannot take is left out, never sent late."""
    hold_little(request)
    response = web.StreamResponse(headers={"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"})
    writer = await response.prepare(request)
    assert writer is not None
    shown: Frame | None = None
    while True:
        newest, jpeg = await view.next_jpeg(after=shown)
        shown = newest.frame
        waited_ms = (time.monotonic_ns() - newest.arrived_ns) / 1e6
        head = (
            f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
            f"X-Sequence: {shown.sequence}\r\nX-Waited-Ms: {waited_ms:.0f}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await response.write(head.encode() + jpeg + b"\r\n")
                await writer.drain()
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            return response


def hold_little(request: web.Request) -> None:
    """Keep pictures from queueing between us and a slow client: neither here nor in the system's buffer."""
    transport = request.transport
    if not isinstance(transport, asyncio.WriteTransport):
        return
    transport.set_write_buffer_limits(high=0)
    connection = transport.get_extra_info("socket")
    with suppress(OSError, AttributeError):  # not there on all systems
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


@web.middleware
async def one_line(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A fault of ours is told in one line too, and no fault of one answer stops the server."""
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception as error:
        log.warning("%s of the page failed: %s: %s", request.path, type(error).__name__, error)
        return refuse(500, f"this failed: {error}")


def wish(body: bytes) -> tuple[str, str, Any]:
    """Node, control and value of a request to change something.

    Raises:
        HTTPBadRequest: it is none.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):  # ValueError also where it is no UTF-8
        asked = None
    if not isinstance(asked, dict):
        raise web.HTTPBadRequest(text='the body is no JSON object; send {"node": ..., "control": ..., "value": ...}\n')
    node, control = asked.get("node"), asked.get("control")
    if not isinstance(node, str) or not isinstance(control, str):
        raise web.HTTPBadRequest(text="'node' and 'control' are names, both needed; GET /api/controls lists them\n")
    return node, control, asked.get("value")


def described(control: Control) -> dict[str, Any]:
    """For the page to build it; limits that are none are null."""
    return {
        "kind": control.kind,
        "label": control.label,
        "value": control.value,
        "least": control.least,
        "most": control.most,
        "step": control.step,
        "unit": control.unit,
        "choices": list(control.choices),
    }


def as_json(figures: Any) -> web.Response:
    return web.Response(text=json.dumps(finite(figures), allow_nan=False), content_type="application/json")
