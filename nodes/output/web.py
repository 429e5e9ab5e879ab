"""output.web: a page to watch and control a run on, with numbers for machines."""

from __future__ import annotations

import errno
import logging
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from pydantic import Field

from nodes.output.web_answers import Answers
from nodes.output.web_guard import Guard, is_loopback
from nodes.output.web_journal import Journal
from nodes.output.web_server import Server
from nodes.output.web_views import View
from nodes.pictures import reason
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame
from pipeline.node import Node

log = logging.getLogger("streamfuse")

SHORTEST_TOKEN = 16
NEW_TOKEN = 'python -c "import secrets; print(secrets.token_urlsafe())"'


class WebOutput(Node):
    """Show the run in a browser: its pictures, how it goes, and what may be changed while it runs.

    A picture is encoded when somebody watches, once for all who do; whoever is slow misses pictures and gets none late.
    Beside the page: `/metrics` for Prometheus, `/healthz` (alive), `/readyz` (a fresh picture; a lost sensor is said,
    and is no failure), `/stream/VIEW.mjpg` for players, `/snapshot/VIEW.png` with 16 bits as they are.

    Args:
        views: names of the inputs; the first is the one whose state, age and rate count.
        port: to listen on; 0 takes a free one.
        host: address to listen on; another than this machine's own (127.0.0.1) needs a token. 0.0.0.0 is all.
        token: what a client must know, at least 16 characters: as `Authorization: Bearer TOKEN`, or the page is opened
            once as http://ADDRESS/?token=TOKEN. There is no encryption: over a net that others use, put a proxy with
            TLS before it.
        names: further names that this machine is reached by, e.g. a proxy's.
        quality: of the pictures to watch, 1 to 100.
        max_side: longest side of the pictures to watch, in px; snapshots have their full size.
    """

    partial = True
    max_hold_ms = 1000.0  # a view that comes late is shown all the same

    def __init__(
        self,
        views: tuple[str, ...] = ("fused",),
        port: Annotated[int, Field(ge=0, le=65535)] = 8080,
        host: str = "127.0.0.1",
        token: Annotated[str, Field(coerce_numbers_to_str=True)] | None = None,
        names: tuple[str, ...] = (),
        quality: Annotated[int, Field(ge=1, le=100)] = 80,
        max_side: Annotated[int, Field(ge=16, le=8192)] = 1280,
    ) -> None:
        if (
            not views
            or len(set(views)) < len(views)
            or not all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in views)
        ):
            raise ConfigError(
                f"setting 'views' is {list(views)}: give at least one name of letters, digits, - and _, each but once"
            )
        check_token(host, token)
        self.views, self.port, self.host, self.token, self.names = views, port, host, token, names
        self.quality, self.max_side = quality, max_side
        self.reference = views[0]
        self.address: str | None = None
        """Of the page, while it is served."""
        self._pool: ThreadPoolExecutor | None = None
        self._views: dict[str, View] = {}
        self._journal: Journal | None = None
        self._server: Server | None = None

    def inputs(self) -> tuple[str, ...]:
        return self.views

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        listener = listen(self.name, self.host, self.port)
        port = listener.getsockname()[1]
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="web pictures")
        self._views = {name: View(name, self._pool, self.quality, self.max_side) for name in self.views}
        self._journal = Journal(self.views, live=self.running is None or self.running.mode == "live")
        names = (*self.names, socket.gethostname()) if self.token else self.names
        guard = Guard(self.host, self.token, names, port)
        self._server = Server(Answers(self._views, self._journal, self.running, guard))
        self._server.start(listener)
        self.address = address_of(self.host, port)
        log.info("%s: the page is at %s%s", self.name, self.address, " (?token=..., once)" if self.token else "")

    def process(self, **frames: Frame) -> None:
        assert self._journal is not None
        now_ns = time.monotonic_ns()
        for name, frame in frames.items():
            view = self._views[name]
            if view.newest is None or view.newest.frame is not frame:  # one that is held was counted when it came
                self._journal.note(name, frame, now_ns)
                view.put(frame, now_ns)

    def close(self) -> None:
        server, self._server, self.address = self._server, None, None
        if server is not None and not server.stop():
            log.warning("%s: the server did not stop within a second and is left behind", self.name)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def report(self) -> dict[str, Any]:
        return {"views": list(self.views)}

    def gauges(self) -> dict[str, float]:
        return {"watchers": float(sum(view.watchers for view in list(self._views.values())))}


def check_token(host: str, token: str | None) -> None:
    """Raise ConfigError for a page that strangers could see."""
    if token is None:
        if not is_loopback(host):
            raise ConfigError(
                f"setting 'host' is {host!r}, which others can reach: set a 'token' too, e.g. of {NEW_TOKEN}, "
                "or leave 'host' out"
            )
    elif len(token) < SHORTEST_TOKEN or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ConfigError(  # and never say which it is
            f"setting 'token' has {len(token)} characters; it needs at least {SHORTEST_TOKEN}, of ASCII and without "
            f"spaces: take that of {NEW_TOKEN}"
        )


def listen(node: str, host: str, port: int) -> socket.socket:
    """A socket that is bound.

    Raises:
        OutputError: the port is taken or not allowed, or the host is no address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise OutputError(f"{node}: there is no host {host!r}; 127.0.0.1 is this machine's own address") from error
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a run, the port is free at once
        listener.bind(address)
        listener.listen(64)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OutputError(f"{node}: cannot listen on {host} port {port}: {why_not(error)}") from error
    return listener


def why_not(error: OSError) -> str:
    """What is in the way of listening, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "another program does; end it, or set another 'port' (0 takes a free one)"
    if error.errno == errno.EACCES:
        return "not allowed; set a 'port' of 1024 or more"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; set another 'host' (0.0.0.0 is all of its addresses)"
    return reason(error)


def address_of(host: str, port: int) -> str:
    """Of the page, for people to open."""
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
