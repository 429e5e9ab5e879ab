"""capture.zmq: the frames that another process or host publishes with output.zmq."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline import control
from pipeline.control import Control
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Node
from pipeline.wire import STREAM_NAME
from streamfuse.clocks import shifted
from streamfuse.lossless import Ended
from streamfuse.sockets import check_address
from streamfuse.subscription import Received, Subscription

log = logging.getLogger("streamfuse")

WAIT_S = 0.2  # that `process` waits for a frame
KEPT = 4  # live frames that wait for `process`, which takes them at once unless the machine is overloaded


class ZmqCapture(Node):
    """Frames of an `output.zmq`, with their times, states and names as they are there.

    A publisher that is not there yet, falls silent or is restarted is waited for; after a restart the sequence goes on,
    with a gap. Times of another host are brought to this one's clock (see `streamfuse.clocks`).

    Args:
        address: of the publisher, `tcp://HOST:PORT` or `ipc:///PATH`.
        stream: its name there; default: the only one there is.
        delivery: as the publisher has it. "latest" makes the pipeline live. "lossless" is a recording that comes from
            elsewhere: all frames, in order, to the end.
        keys: a folder that `run.py keygen` has made, where the publisher wants keys.
        client: name of the client's key in it; default: the only one.
        silent_ms: with "latest": without a frame for so long, it is told that none come, and why.
        timeout_s: with "lossless": a publisher that is not there for so long ends the run.
        offset_ms: added to each time stamp.
    """

    def __init__(
        self,
        address: str,
        stream: str | None = None,
        delivery: Literal["latest", "lossless"] = "latest",
        keys: Path | None = None,
        client: str | None = None,
        silent_ms: Annotated[float, Field(ge=100, le=3_600_000)] = 3000.0,
        timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0,
        offset_ms: Annotated[float, Field(ge=-10_000, le=10_000)] = 0.0,
    ) -> None:
        check_address(address)
        if stream is not None and not STREAM_NAME.fullmatch(stream):
            raise ConfigError(f"setting 'stream' is {stream!r}; legal are 1 to 64 of letters, digits, _ . and -")
        if client is not None and keys is None:
            raise ConfigError(
                f"setting 'client' is {client!r}, and there are no keys; set 'keys' to the folder with its key"
            )
        self.address, self.stream, self.delivery, self.keys, self.client = address, stream, delivery, keys, client
        self.silent_ms, self.timeout_s, self.offset_ms = silent_ms, timeout_s, offset_ms
        self._offsets_ms = (offset_ms - 500, offset_ms + 500)  # to turn: so that a step of a slider is a small one
        self.live = delivery == "latest"
        self._subscription: Subscription | None = None
        self._age_ms: float | None = None
        self._frame_at = 0.0
        self._missing = False
        """That no frames come has been told."""
        self._untimed = False

    # In the node's thread:

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        self._subscription = Subscription(
            self.address,
            stream=self.stream,
            keep=KEPT if self.live else None,
            lossless=not self.live,
            keys=self.keys,
            name=self.client,
            timeout_s=None if self.live else self.timeout_s,
            silent_s=self.silent_ms / 1e3,
        )
        self._frame_at = self.now()

    def process(self) -> Frame | None:
        assert self._subscription is not None
        try:
            received = self._subscription.take(WAIT_S)
        except Ended:
            self._refuse_another(self._subscription)
            raise EndOfStream from None
        if received is None:
            if self.live:
                self._look(self._subscription)
            return None
        self._frame_at = self.now()
        if self._missing:
            self._missing = False
            log.info("%s: frames from %s come again", self.name, self.address)
        return self._frame(received)

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()  # which still tells its counts

    def change(self, control: str, value: Any) -> None:
        self.offset_ms = value

    # From anywhere:

    def report(self) -> dict[str, Any]:
        counts, dropped = self._counts()
        notes = {what: count for what, count in counts.items() if count and what not in ("received", "sessions")}
        restarts = {"restarts": counts["sessions"] - 1} if counts.get("sessions", 0) > 1 else {}
        return {"path": self.address, "notes": restarts | notes | {f"upstream: {why}": n for why, n in dropped.items()}}

    def gauges(self) -> dict[str, float]:
        counts, dropped = self._counts()
        connected = self._subscription is not None and self._subscription.connected
        ages = {} if self._age_ms is None else {"age_ms": self._age_ms}
        return {**counts, "dropped_upstream": sum(dropped.values()), "connected": float(connected), **ages}

    def controls(self) -> dict[str, Control]:
        return {"offset_ms": control.number("Time offset", self.offset_ms, *self._offsets_ms, unit="ms")}

    def _counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Of messages; and of drops before the publisher, by reason."""
        if self._subscription is None:
            return {}, {}
        return self._subscription.counts(), self._subscription.dropped_upstream

    # Frames:

    def _frame(self, received: Received) -> Frame:
        frame = replace(received.frame, stream=self.name)
        self._age_ms = received.age_ms
        if self.live and received.age_ms is None:
            frame = self._stamped(frame)
        return shifted(frame, round(self.offset_ms * 1e6)) if self.offset_ms else frame

    def _refuse_another(self, subscription: Subscription) -> None:
        """Raise SourceError where the recording that has ended is not the one that was wanted."""
        if (foreign := subscription.counts()["foreign"]) and not subscription.counts()["received"]:
            raise SourceError(
                f"{self.address}: there is no stream {self.stream!r}, and {foreign} frames of another one; set "
                "'stream' to the name that it has where it is published, or leave it out"
            )

    def _stamped(self, frame: Frame) -> Frame:
        """A frame with the time of its arrival, for that of a recording is no time of a live pipeline."""
        if not self._untimed:
            self._untimed = True
            log.warning("%s: %s sends times of a recording; frames get those of their arrival", self.name, self.address)
        return replace(shifted(frame, time.monotonic_ns() - frame.timestamp_ns), timestamp_source="arrival")

    def _look(self, subscription: Subscription) -> None:
        """Tell once that no frames come, and why; that the publisher is silent, the subscription tells."""
        if self._missing or self.now() - self._frame_at < self.silent_ms / 1e3:
            return
        if subscription.bye is not None:
            why = f"the publisher has left ({subscription.bye.reason})"
        elif subscription.connected:
            why = "the publisher is there, and has none"
        elif subscription.counts()["malformed"] and not subscription.counts()["sessions"]:
            why = "what is published there is none of our messages"
        elif subscription.counts()["sessions"] == 0:
            why = "there is no publisher of this stream, or it wants other keys, or its delivery is lossless"
        else:
            return
        self._missing = True
        log.warning("%s: no frames from %s: %s; waiting for them", self.name, self.address, why)

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()
