"""output.zmq: frames over ZeroMQ for other processes and hosts, none of which can slow down or break the others."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nodes.output.zmq_formats import (
    Format,
    check_name,
    check_together,
    encoded,
    foreign_header,
    foreign_payload,
    stages_of,
    why_unfit,
)
from pipeline import wire
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Node
from pipeline.wire import About, Buffer, ByeMessage, Encoding, Head, Reason, StatsMessage
from streamfuse.broadcast import Broadcaster
from streamfuse.clocks import clock
from streamfuse.lossless import Giver
from streamfuse.sockets import check_address, check_exposure

log = logging.getLogger("streamfuse")

BEAT_S = 0.2  # how often to look for who listens, and for what a lossless consumer wants
STATS_S = 1.0
SLICE_S = 0.1  # of waiting for a lossless consumer, so that we can be stopped


class ZmqOutput(Node):
    """Publish frames over ZeroMQ, with their times, states and what was dropped before them.

    What goes out is described in docs/wire.md; `capture.zmq` and `streamfuse.subscribe` are the other end. As long as
    nobody listens, frames are not encoded and not sent; they are counted as `unheard`.

    Delivery "latest" is for live pipelines: nobody is waited for, and who is slow misses frames, the oldest ones.
    "lossless" is for recorded ones: the slowest of a known number of consumers sets the pace, nothing is dropped, and
    the end is delivered.

    Args:
        address: `tcp://HOST:PORT` (`*` for all of this machine's addresses) or `ipc:///PATH`.
        stream: its name, of letters, digits, `_`, `.` and `-`; default: the name of this node.
        format: "streamfuse"; "imagezmq", for `imagezmq.ImageHub(open_port=ADDRESS, REQ_REP=False)`; "send_array", for
            pyzmq's recipe for arrays. The latter two have pixels alone: gray, or BGR of full range.
        encoding: of the pixels: "raw", as they are; "png", lossless, and colour as BGR; "jpeg", 8 bits alone.
        quality: of jpeg, 1 to 100.
        delivery: "latest" or "lossless".
        consumers: of lossless delivery: how many are waited for.
        timeout_s: of lossless delivery: how long to wait for a consumer that is away.
        keys: a folder that `run.py keygen` has made; then only who has a key that is in its `clients/` can listen.
        insecure: allow an address that other machines can reach without keys.
        encode_for_nobody: encode and send whether anybody listens or not, to see what it costs.
    """

    def __init__(
        self,
        address: str,
        stream: str | None = None,
        format: Format = "streamfuse",
        encoding: Encoding = "raw",
        quality: Annotated[int, Field(ge=1, le=100)] = 90,
        delivery: Literal["latest", "lossless"] = "latest",
        consumers: Annotated[int, Field(ge=1, le=64)] = 1,
        timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0,
        keys: Path | None = None,
        insecure: bool = False,
        encode_for_nobody: bool = False,
    ) -> None:
        check_address(address)
        check_exposure(address, keys, insecure, lambda _: None)  # said when it is opened
        check_together(stream, format, encoding, delivery, consumers)
        self.address, self.stream, self.format, self.encoding, self.quality = address, stream, format, encoding, quality
        self.delivery, self.consumers, self.timeout_s = delivery, consumers, timeout_s
        self.keys, self.insecure, self.encode_for_nobody = keys, insecure, encode_for_nobody
        self._link: Broadcaster | Giver | None = None
        self._lock = threading.Lock()
        """Of `_link` and what is sent with it: neither is for two threads."""
        self._stop = threading.Event()
        self._beater: threading.Thread | None = None
        self._session, self._clock = "", ""
        self._sequence = self._unheard = self._bytes = 0
        self._heard = False
        self._unfit = 0
        self._told: Counter[str] = Counter()
        """Drops that the last frame has told of."""
        self._stages: dict[str, float] = {}
        self._began = self._stats_at = 0.0

    # In the node's thread:

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        self._check_mode()
        check_name(self._name(), f"Node {self.name!r}: its name")
        check_exposure(self.address, self.keys, self.insecure, log.warning)
        self._session = secrets.token_hex(8)
        self._clock = clock() if self.delivery == "latest" else wire.PRESENTATION
        self._link = self._connect()
        self.address = self._link.address
        self._stop, self._began = threading.Event(), self.now()
        self._stats_at = self._began + STATS_S
        name, arguments = f"{self.name} beat", (self._link, self._stop)
        self._beater = threading.Thread(target=self._beat_on, args=arguments, name=name, daemon=True)
        self._beater.start()
        log.info("%s: publishes %s at %s", self.name, self._name(), self.address)

    def process(self, frame: Frame) -> None:
        if why := why_unfit(frame, self.format, self.encoding):
            self._refuse(why)
        elif isinstance(self._link, Giver):
            self._give(self._link, frame)
        elif self._link is not None:
            self._broadcast(self._link, frame)

    def close(self) -> None:
        self._leave("stopped" if self._stopping() else "end")

    def abort(self) -> None:
        # Where nothing was sent and nobody stops a run, it is a check of the config, of which nobody wants to hear.
        self._leave("failed" if self._sequence or self._stopping() else None)

    # From anywhere:

    def report(self) -> dict[str, Any]:
        notes = {"unheard": self._unheard, "not sent: format": self._unfit}
        return {"path": self.address, "notes": {what: count for what, count in notes.items() if count}}

    def gauges(self) -> dict[str, float]:
        counts: dict[str, float] = {"published": self._sequence, "unheard": self._unheard, "unfit": self._unfit}
        counts |= {"megabytes": self._bytes / 1e6, "heard": float(self._heard)}
        if isinstance(link := self._link, Giver):
            counts |= {"heard": float(link.present > 0), "consumers": link.present}
            counts |= {"refused": link.refused, "malformed": link.malformed}
        return counts

    # Opening:

    def _check_mode(self) -> None:
        """Live frames cannot wait, and recorded ones must not be lost."""
        if self.running is None:
            return
        where = f"Node {self.name!r}: setting 'delivery' is {self.delivery!r}"
        if self.in_live_mode and self.delivery == "lossless":
            raise ConfigError(f"{where}: a live pipeline would wait for its slowest consumer; set delivery: latest")
        if not self.in_live_mode and self.delivery == "latest":
            raise ConfigError(
                f"{where}: frames of a recording would be lost and nobody told; set delivery: lossless, or pace: "
                "realtime where the recording is read"
            )

    def _connect(self) -> Broadcaster | Giver:
        if self.delivery == "latest":
            return Broadcaster(self.address, keys=self.keys)
        return Giver(
            self.address,
            stream=self._name(),
            session=self._session,
            clock=self._clock,
            consumers=self.consumers,
            timeout_s=self.timeout_s,
            keys=self.keys,
            stopping=self._stopping,
        )

    def _stopping(self) -> bool:
        return self.running is not None and self.running.stopping

    # Frames:

    def _refuse(self, why: str) -> None:
        """A frame that cannot go out: ends the run where it is the first, for then the config is wrong."""
        if not self.in_live_mode or not (self._sequence or self._unheard):
            raise OutputError(f"Node {self.name!r}: {why}")
        if not self._unfit:
            log.warning("%s: not sent: %s", self.name, why)
        self._unfit += 1

    def _broadcast(self, link: Broadcaster, frame: Frame) -> None:
        topic = self._topic(frame)
        if not self._heard:
            with self._lock:
                self._heard = link.heard(topic)
        if not (self._heard or self.encode_for_nobody):
            self._unheard += 1
            return
        parts, drops = self._parts(frame, topic)  # may take its time, in which the beat goes on
        with self._lock:
            link.send(parts)
            self._heard = link.heard(topic)  # for the next one: now nobody waits for that
            self._note(parts, drops)

    def _give(self, link: Giver, frame: Frame) -> None:
        while not self._has_room(link):
            if self._stopping():
                raise EndOfStream  # which counts the frame as dropped
            self._beat(link, SLICE_S)
        parts, drops = self._parts(frame, self._topic(frame))
        with self._lock:
            link.offer(parts)
            self._note(parts, drops)

    def _has_room(self, link: Giver) -> bool:
        with self._lock:
            return link.room()

    def _topic(self, frame: Frame) -> bytes:
        if self.format == "streamfuse":
            return wire.topic(self._name(), "frame")
        return foreign_header(frame, self.format, self.encoding, self._name())

    def _parts(self, frame: Frame, topic: bytes) -> tuple[list[Buffer], Counter[str]]:
        """A frame as a message; and the drops so far, which it tells of."""
        if self.format != "streamfuse":
            return [topic, foreign_payload(frame, self.encoding, self.quality)], Counter()
        payload = b""
        if self.encoding != "raw":
            frame, payload = encoded(frame, self.encoding, self.quality)
        drops = self._drops()
        return wire.pack_frame(
            self._head(), frame, About(self.encoding, payload, drops - self._told, self._stages)
        ), drops

    def _note(self, parts: list[Buffer], drops: Counter[str]) -> None:
        """A message has gone out."""
        self._sequence += 1
        self._bytes += len(memoryview(parts[-1]).cast("B"))
        self._told = drops

    # Beside the frames:

    def _head(self) -> Head:
        return Head(self._name(), self._session, self._sequence, self._clock, time.monotonic_ns(), time.time_ns())

    def _name(self) -> str:
        return self.stream or self.name

    def _drops(self) -> Counter[str]:
        return Counter() if self.running is None else self.running.drops(self.name)

    def _beat_on(self, link: Broadcaster | Giver, stop: threading.Event) -> None:
        """A thread of its own: listeners come and go, and a second has its stats, whether there are frames or not."""
        failed = False
        while not stop.wait(BEAT_S):
            try:
                if self.running is not None and self.now() >= self._stats_at:
                    self._stages = stages_of(self.running.snapshot(), self.in_live_mode)
                self._beat(link, 0.0)
            except Exception as error:  # frames may go on all the same
                if not failed:
                    log.warning("%s: cannot say how it does: %s: %s", self.name, type(error).__name__, error)
                failed = True

    def _beat(self, link: Broadcaster | Giver, wait_s: float) -> None:
        with self._lock:
            if isinstance(link, Giver):
                link.tick(wait_s)
            elif self.format == "streamfuse":
                self._heard = link.heard(wire.topic(self._name(), "frame"))
            if self.format == "streamfuse" and self.now() >= self._stats_at:
                self._stats_at = self.now() + STATS_S
                parts = wire.pack_stats(self._stats())
                link.stats(parts) if isinstance(link, Giver) else link.send(parts)

    def _stats(self) -> StatsMessage:
        return StatsMessage(self._head(), self.now() - self._began, self._unheard, self._drops(), self._stages)

    def _leave(self, reason: Reason | None) -> None:
        """Say goodbye, for a reason, and let go of everything."""
        self._stop.set()
        if self._beater is not None:
            self._beater.join()
        link, self._link = self._link, None
        if link is None:
            return
        try:
            if isinstance(link, Giver) and reason:
                link.end(reason)
            elif isinstance(link, Broadcaster) and reason and self.format == "streamfuse":
                link.heard(wire.topic(self._name(), "bye"))  # ZeroMQ then knows what has left, and drops no goodbye
                link.send_last(wire.pack_bye(ByeMessage(self._head(), reason)))
        finally:
            link.close()

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()
