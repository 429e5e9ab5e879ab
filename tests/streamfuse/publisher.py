"""A publisher that says what a test wants, and nothing by itself."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from pipeline import wire
from pipeline.errors import OutputError
from pipeline.frame import Frame, PixelFormat
from pipeline.wire import About, Buffer, ByeMessage, Head, StatsMessage
from streamfuse.broadcast import Broadcaster
from streamfuse.clocks import clock
from tests.pipeline.fakes import PATIENCE

ANY_PORT = "tcp://127.0.0.1:0"


def wait_until(true: Callable[[], object], what: str = "what was waited for did not happen") -> None:
    give_up = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < give_up, what
        time.sleep(0.002)


def picture(
    number: int = 0, stream: str = "fused", pixel_format: PixelFormat = "gray8", value: int = 0, **settings: Any
) -> Frame:
    """A frame of 4x2 pixels of one value, of now."""
    shape, dtype = wire_layout(pixel_format)
    now_ns = settings.pop("timestamp_ns", time.monotonic_ns())
    return Frame(np.full(shape, value, dtype), pixel_format, (4, 2), now_ns, "device", number, stream, **settings)


def wire_layout(pixel_format: PixelFormat) -> tuple[tuple[int, ...], type]:
    shapes: dict[PixelFormat, tuple[int, ...]] = {"gray8": (2, 4), "gray16": (2, 4), "bgr24": (2, 4, 3)}
    return shapes.get(pixel_format, (12,)), np.uint16 if pixel_format == "gray16" else np.uint8


def head(sequence: int = 0, session: str = "0" * 16, **changes: Any) -> Head:
    now_ns = time.monotonic_ns()
    known = {"stream": "fused", "clock": clock(), "sent_ns": now_ns, "sent_unix_ns": time.time_ns()}
    return Head(session=session, sequence=sequence, **{**known, **changes})


def packed(frame: Frame, about: About | None = None, **changes: Any) -> list[Buffer]:
    """A frame as it is sent; `changes` are those of its head."""
    changes.setdefault("sequence", frame.sequence)
    return wire.pack_frame(head(stream=frame.stream, **changes), frame, about or About())


class Publisher:
    """One session of a publisher.

    Args:
        address: to bind.
        stream: its name.
        clock_name: of the clock that its times are of; None: this host's.
    """

    def __init__(self, address: str = ANY_PORT, stream: str = "fused", clock_name: str | None = None) -> None:
        self.link = Broadcaster(address)
        self.address, self.stream, self.clock = self.link.address, stream, clock_name or clock()
        self.session, self.sequence = secrets.token_hex(8), 0

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.link.close()

    def head(self) -> Head:
        return head(self.sequence, self.session, stream=self.stream, clock=self.clock)

    def wait_for_listener(self, kind: str = "frame") -> None:
        wait_until(lambda: self.link.heard(wire.topic(self.stream, kind)), "nobody subscribed")

    def say(self, parts: Sequence[Buffer]) -> None:
        self.link.send(parts)

    def frame(self, frame: Frame | None = None, about: About | None = None) -> None:
        frame = frame or picture(self.sequence, self.stream)
        self.say(wire.pack_frame(self.head(), frame, about or About()))
        self.sequence += 1

    def stats(self) -> None:
        self.say(wire.pack_stats(StatsMessage(self.head(), 1.0, 0, {}, {})))

    def bye(self, reason: wire.Reason = "stopped") -> None:
        self.link.send_last(wire.pack_bye(ByeMessage(self.head(), reason)))


def started_again(address: str) -> Publisher:
    """Another session; in one process ZeroMQ may still be about to let go of the port."""
    found: list[Publisher] = []

    def start() -> bool:
        with suppress(OutputError):
            found.append(Publisher(address))
        return bool(found)

    wait_until(start, "the port does not become free")
    return found[0]
