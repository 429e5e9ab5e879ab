"""Messages: what a publisher and those who listen tell each other. `pipeline.wire` turns them into bytes and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

from pipeline.frame import ColorMatrix, ColorRange, Frame, PixelFormat, TimestampSource, layout
from pipeline.header import Buffer

VERSION = 1
MOST_RATE = (1 << 31) - 1  # of numerator and denominator, as codecs have them
MOST_ROOM = 1024  # frames
Encoding = Literal["raw", "jpeg", "png"]
Reason = Literal["end", "stopped", "failed", "refused"]

PRESENTATION = "presentation"
"""The clock of recordings: times since their start."""
DTYPES: Mapping[PixelFormat, str] = MappingProxyType(
    {"gray8": "uint8", "gray16": "uint16", "yuv420p": "uint8", "bgr24": "uint8"}
)
"""Of the values on the wire; those of 16 bits have the less significant byte first."""
ENCODED: Mapping[Encoding, tuple[PixelFormat, ...]] = MappingProxyType(
    {"jpeg": ("gray8", "bgr24"), "png": ("gray8", "gray16", "bgr24")}
)
"""What each encoding can hold as it is."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the header of every message from a publisher begins with."""

    stream: str
    """Name of the stream: 1 to 64 of letters, digits, `_`, `.` and `-`, and neither `.` nor `-` first."""
    session: str
    """Drawn anew at each start of the publisher: 16 hexadecimal digits, 0-9 and a-f."""
    sequence: int
    """Of a frame: counts up by one with each that is published in this session, from 0; a gap is loss on the way to
    who reads. Of `stats` and `bye`: of the next frame, that is how many there were."""
    clock: str
    """What timestamps refer to: `presentation` of a recording; else names the monotonic clock of a host, so that who
    has the same clock can compare with its own."""
    sent_ns: int
    """When it was sent, on the publisher's `time.monotonic_ns`."""
    sent_unix_ns: int
    """The same moment in nanoseconds since 1970, as far as the host's clock is right."""


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """A frame on its way."""

    head: Head
    frame: Frame
    """With the publisher's times and its sequence, of which a gap is loss before the publisher. Its data are a view of
    the payload. Of an encoded one they are zeros of the right shape that take no room: see `payload`."""
    encoding: Encoding
    payload: Buffer
    """As it came."""
    drops: Mapping[str, int]
    """Frames dropped before the publisher since the last one published, by reason."""
    stages_ms: Mapping[str, float]
    """How long each node before the publisher usually takes, by its name."""


@dataclass(frozen=True, slots=True)
class Steady:
    """What the headers of a stream's frames have in common as a rule. It comes first in them, so that it needs to be
    written and checked once only: with memory that is cold from copying pixels, that takes as long as sending them."""

    stream: str
    session: str
    clock: str
    timestamp_source: TimestampSource
    exposure_us: float | None
    frame_rate: Fraction | None
    state: str | None
    model: str | None
    pixel_format: PixelFormat
    size: tuple[int, int]
    color_range: ColorRange
    color_matrix: ColorMatrix
    encoding: Encoding

    def fields(self) -> dict[str, Any]:
        """As they stand in a header."""
        return {
            "version": VERSION,
            "kind": "frame",
            "stream": self.stream,
            "session": self.session,
            "clock": self.clock,
            "timestamp_source": self.timestamp_source,
            "exposure_us": self.exposure_us,
            "frame_rate": None if self.frame_rate is None else list(self.frame_rate.as_integer_ratio()),
            "state": self.state,
            "model": self.model,
            "pixel_format": self.pixel_format,
            "size": list(self.size),
            "dtype": DTYPES[self.pixel_format],
            "shape": list(layout(self.pixel_format, self.size)[0]),
            "range": self.color_range,
            "matrix": self.color_matrix,
            "encoding": self.encoding,
        }


@dataclass(frozen=True, slots=True)
class StatsMessage:
    """Once a second, whether frames come or not."""

    head: Head
    uptime_s: float
    unheard: int
    """Frames that were not sent, for nobody listened."""
    drops: Mapping[str, int]
    """Since the start, by reason."""
    stages_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ByeMessage:
    """The last one of a session."""

    head: Head
    reason: Reason
    """`end` of the recording, `stopped` by a person, `failed`; `refused`: to a consumer that comes too late or is one
    too many."""


@dataclass(frozen=True, slots=True)
class WantMessage:
    """Of lossless delivery, from the consumer to the publisher: all before `sequence` is here, and so many more fit."""

    consumer: str
    """Drawn by the consumer at its start: 16 hexadecimal digits, 0-9 and a-f."""
    session: str
    """Whose frames it has; "" before the first."""
    sequence: int
    room: int
    """0 to 1024 frames."""
    done: bool = False
    """It has got the `bye`, and goes."""


Message = FrameMessage | StatsMessage | ByeMessage | WantMessage


@dataclass(frozen=True, slots=True)
class About:
    """What a publisher tells beside the frame."""

    encoding: Encoding = "raw"
    payload: bytes = b""
    """Where it is encoded."""
    drops: Mapping[str, int] = field(default_factory=dict)
    stages_ms: Mapping[str, float] = field(default_factory=dict)
