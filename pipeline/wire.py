"""Wire: frames as messages for other processes and hosts. Pure: bytes in and out, no socket, no clock of its own.

`docs/wire.md` has the format byte by byte, for who writes or reads it without this project. A message is three parts,
topic, header (JSON) and payload. What comes is believed in nothing: kind, types, names, sizes and the number of bytes
are checked against what is legal before a buffer is touched; what has a length of its own has a limit; a field that
is not known is ignored, so that later versions can have more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from pipeline.frame import MATRIX_CODES, ColorRange, Frame, Fusion, PixelFormat, TimestampSource, layout

VERSION = 1
MOST_HEADER_BYTES = 1 << 16
MOST_PAYLOAD_BYTES = 1 << 28  # of 8K in 24 bits there are 100 MB
MOST_SIDE = 16384
MOST_ENTRIES = 64  # of a mapping in a header
MOST_TEXT = 256
MOST_NS = 1 << 63
PRESENTATION = "presentation"
"""The clock of recordings: times since their start."""

Encoding = Literal["raw", "jpeg", "png"]
Reason = Literal["end", "stopped", "failed", "refused"]
DTYPES: Mapping[PixelFormat, str] = MappingProxyType(
    {"gray8": "uint8", "gray16": "uint16", "yuv420p": "uint8", "bgr24": "uint8"}
)
"""Of the values on the wire; those of 16 bits have the less significant byte first."""
STREAM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

T = TypeVar("T")
Buffer = bytes | memoryview


class WireError(ValueError):
    """A message that is none of this format. One line: which field, what came, what is legal."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the header of every message from a publisher begins with."""

    stream: str
    """Name of the stream: 1 to 64 of letters, digits, `_`, `.` and `-`."""
    session: str
    """Drawn anew at each start of the publisher: 16 hexadecimal digits."""
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
    """Drawn by the consumer at its start: 16 hexadecimal digits."""
    session: str
    """Whose frames it has; "" before the first."""
    sequence: int
    room: int
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


def topic(stream: str, kind: str) -> bytes:
    """What a message begins with, and what to subscribe to: `fused/frame`; `fused/` is all of the stream."""
    return f"{stream}/{kind}".encode("ascii")


# From messages to bytes:


def pack_frame(head: Head, frame: Frame, about: About) -> list[Buffer]:
    """A frame as topic, header and payload; a raw payload is a view of the frame's data.

    Args:
        head: of the message.
        frame: of an encoded one, as it is when it has been decoded again.
        about: encoding and payload of an encoded one, and the rest.
    """
    raw = np.ascontiguousarray(frame.data).astype(f"<{frame.data.dtype.str[1:]}", copy=False)
    payload = memoryview(raw).cast("B") if about.encoding == "raw" else memoryview(about.payload)
    fusion = frame.fusion
    header = {
        **start("frame", head),
        "frame_sequence": frame.sequence,
        "timestamp_ns": frame.timestamp_ns,
        "timestamp_source": frame.timestamp_source,
        "exposure_us": frame.exposure_us,
        "frame_rate": None if frame.frame_rate is None else list(frame.frame_rate.as_integer_ratio()),
        "name": frame.name,
        "state": fusion and fusion.state,
        "skew_ns": fusion and fusion.skew_ns,
        "timestamps_ns": fusion and dict(fusion.timestamps_ns),
        "model": fusion and fusion.model,
        "pixel_format": frame.pixel_format,
        "size": list(frame.size),
        "dtype": DTYPES[frame.pixel_format],
        "shape": list(frame.data.shape),
        "range": frame.color_range,
        "matrix": frame.color_matrix,
        "encoding": about.encoding,
        "payload_bytes": payload.nbytes,
        "drops": dict(about.drops),
        "stages_ms": dict(about.stages_ms),
    }
    return [topic(head.stream, "frame"), as_json(header), payload]


def pack_stats(message: StatsMessage) -> list[Buffer]:
    header = {
        **start("stats", message.head),
        "uptime_s": message.uptime_s,
        "unheard": message.unheard,
        "drops": dict(message.drops),
        "stages_ms": dict(message.stages_ms),
    }
    return [topic(message.head.stream, "stats"), as_json(header), b""]


def pack_bye(message: ByeMessage) -> list[Buffer]:
    return [
        topic(message.head.stream, "bye"),
        as_json({**start("bye", message.head), "reason": message.reason}),
        b"",
    ]


def pack_want(message: WantMessage) -> list[Buffer]:
    keys = ("consumer", "session", "sequence", "room", "done")
    header = {"version": VERSION, "kind": "want", **{key: getattr(message, key) for key in keys}}
    return [b"want", as_json(header), b""]


def start(kind: str, head: Head) -> dict[str, Any]:
    keys = ("stream", "session", "sequence", "clock", "sent_ns", "sent_unix_ns")
    return {"version": VERSION, "kind": kind, **{key: getattr(head, key) for key in keys}}


def as_json(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, separators=(",", ":"), allow_nan=False).encode("ascii")


# From bytes to messages:


def unpack(parts: Sequence[Buffer], most_payload_bytes: int = MOST_PAYLOAD_BYTES) -> Message:
    """The message of three parts.

    Raises:
        WireError: it is none, in any of the ways there are; nothing else is ever raised.
    """
    if len(parts) != 3:
        raise WireError(f"a message has 3 parts, topic, header and payload; got {len(parts)}")
    fields = Fields(parts[1])
    if (version := fields.number("version", 0, 1 << 31)) != VERSION:
        raise WireError(f"version is {version}; this end knows {VERSION}")
    kind = fields.one_of("kind", UNPACK)
    payload = parts[2]
    if kind != "frame" and len(payload):
        raise WireError(f"a message of kind {kind!r} has no payload; got {len(payload)} bytes")
    message = UNPACK[kind](fields, payload, most_payload_bytes)
    expected = b"want" if isinstance(message, WantMessage) else topic(message.head.stream, kind)
    if bytes(parts[0][:MOST_TEXT]) != expected:
        raise WireError(f"topic is {bytes(parts[0][:MOST_TEXT])!r}, and the header says {expected!r}")
    return message


def unpack_frame(fields: Fields, payload: Buffer, most_payload_bytes: int) -> FrameMessage:
    encoding: Encoding = fields.one_of("encoding", get_args(Encoding))
    size, pixel_format, shape = read_layout(fields)
    data = data_of(fields, payload, encoding, pixel_format, shape, most_payload_bytes)
    frame = Frame(
        data=data,
        pixel_format=pixel_format,
        size=size,
        timestamp_ns=fields.number("timestamp_ns", -MOST_NS, MOST_NS),
        timestamp_source=fields.one_of("timestamp_source", get_args(TimestampSource)),
        sequence=fields.number("frame_sequence", 0, MOST_NS),
        stream=fields.stream(),
        color_range=fields.one_of("range", get_args(ColorRange)),
        color_matrix=fields.one_of("matrix", MATRIX_CODES),
        frame_rate=read_rate(fields),
        name=fields.text("name") if fields.has("name") else None,
        exposure_us=fields.real("exposure_us") if fields.has("exposure_us") else None,
        fusion=read_fusion(fields),
    )
    return FrameMessage(fields.head(), frame, encoding, payload, fields.counts("drops"), fields.reals("stages_ms"))


def read_layout(fields: Fields) -> tuple[tuple[int, int], PixelFormat, tuple[int, ...]]:
    """Size, format and shape, which must agree."""
    pixel_format: PixelFormat = fields.one_of("pixel_format", DTYPES)
    width, height = fields.numbers("size", 2, 1, MOST_SIDE)
    shape, _ = layout(pixel_format, (width, height))
    if tuple(fields.numbers("shape", len(shape), 1, MOST_NS)) != shape:
        raise WireError(f"shape is {fields.told('shape')}; {pixel_format} of {width}x{height} is {list(shape)}")
    fields.one_of("dtype", (DTYPES[pixel_format],))
    return (width, height), pixel_format, shape


def data_of(
    fields: Fields,
    payload: Buffer,
    encoding: Encoding,
    pixel_format: PixelFormat,
    shape: tuple[int, ...],
    most_payload_bytes: int,
) -> np.ndarray[Any, Any]:
    """The payload as an array, read-only; of an encoded one zeros that take no room."""
    dtype = np.dtype(DTYPES[pixel_format]).newbyteorder("<")
    whole = math.prod(shape) * dtype.itemsize
    said = fields.number("payload_bytes", 0, most_payload_bytes)
    if said != len(payload):
        raise WireError(f"payload_bytes is {said}; {len(payload)} bytes came")
    if encoding == "raw":
        if whole != len(payload):
            raise WireError(f"payload_bytes is {said}; {pixel_format} of this size is {whole} bytes")
        data = np.frombuffer(payload, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
        return data if data.flags.aligned else data.copy()
    if whole > most_payload_bytes:
        raise WireError(f"decoded it would have {whole} bytes; legal are up to {most_payload_bytes}")
    if pixel_format == "yuv420p":
        raise WireError(
            f"pixel_format is 'yuv420p' of encoding {encoding!r}; legal is what decoders give: gray or bgr24"
        )
    return np.broadcast_to(np.zeros((), dtype.newbyteorder("=")), shape)


def read_rate(fields: Fields) -> Fraction | None:
    return Fraction(*fields.numbers("frame_rate", 2, 1, 1 << 31)) if fields.has("frame_rate") else None


def read_fusion(fields: Fields) -> Fusion | None:
    if not fields.has("state"):
        return None
    times = fields.mapping("timestamps_ns", int, -MOST_NS, MOST_NS)
    return Fusion(fields.text("state"), fields.number("skew_ns", 0, MOST_NS), times, fields.text("model"))


def unpack_stats(fields: Fields, _: Buffer, __: int) -> StatsMessage:
    uptime_s, unheard = fields.real("uptime_s"), fields.number("unheard", 0, MOST_NS)
    return StatsMessage(fields.head(), uptime_s, unheard, fields.counts("drops"), fields.reals("stages_ms"))


def unpack_bye(fields: Fields, _: Buffer, __: int) -> ByeMessage:
    return ByeMessage(fields.head(), fields.one_of("reason", get_args(Reason)))


def unpack_want(fields: Fields, _: Buffer, __: int) -> WantMessage:
    session = fields.text("session")
    return WantMessage(
        fields.hexadecimal("consumer"),
        fields.hexadecimal("session") if session else "",
        fields.number("sequence", 0, MOST_NS),
        fields.number("room", 0, 1024),
        fields.one_of("done", (True, False)),
    )


UNPACK = {"frame": unpack_frame, "stats": unpack_stats, "bye": unpack_bye, "want": unpack_want}


class Fields:
    """The fields of a header, each checked as it is read."""

    def __init__(self, header: Buffer) -> None:
        if len(header) > MOST_HEADER_BYTES:
            raise WireError(f"the header has {len(header)} bytes; legal are up to {MOST_HEADER_BYTES}")
        try:
            fields = json.loads(bytes(header).decode("utf-8"))
        except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of thousands of digits, ((((((((
            raise WireError("the header is not JSON") from error
        if not isinstance(fields, dict):
            raise WireError("the header is no JSON object")
        self._fields: dict[str, Any] = fields

    def has(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def told(self, name: str) -> str:
        """What came, for a message, and not too much of it."""
        text = repr(self._fields[name]) if name in self._fields else "not there"
        return text if len(text) <= 60 else f"{text[:60]}..."

    def wrong(self, name: str, legal: str) -> WireError:
        return WireError(f"{name} is {self.told(name)}; legal is {legal}")

    def number(self, name: str, least: int, most: int) -> int:
        value = self._fields.get(name)
        if not whole(value, least, most):
            raise self.wrong(name, f"a whole number of {least} to {most}")
        return int(value)  # type: ignore[arg-type]

    def numbers(self, name: str, count: int, least: int, most: int) -> list[int]:
        values = self._fields.get(name)
        if not isinstance(values, list) or len(values) != count or not all(whole(v, least, most) for v in values):
            raise self.wrong(name, f"{count} whole numbers of {least} to {most}")
        return values

    def real(self, name: str) -> float:
        value = self._fields.get(name)
        if not real(value):
            raise self.wrong(name, "a number")
        return float(value)  # type: ignore[arg-type]

    def text(self, name: str) -> str:
        value = self._fields.get(name)
        if not isinstance(value, str) or len(value) > MOST_TEXT:
            raise self.wrong(name, f"text of up to {MOST_TEXT} characters")
        return value

    def one_of(self, name: str, legal: Any) -> Any:
        value = self._fields.get(name)
        if not isinstance(value, str | bool) or value not in legal:
            raise self.wrong(name, " or ".join(repr(each) for each in legal))
        return value

    def stream(self) -> str:
        if not STREAM_NAME.fullmatch(self.text("stream")):
            raise self.wrong("stream", "1 to 64 of letters, digits, _ . and -")
        return self.text("stream")

    def hexadecimal(self, name: str) -> str:
        if not re.fullmatch("[0-9a-f]{16}", self.text(name)):
            raise self.wrong(name, "16 hexadecimal digits")
        return self.text(name)

    def head(self) -> Head:
        return Head(
            self.stream(),
            self.hexadecimal("session"),
            self.number("sequence", 0, MOST_NS),
            self.text("clock"),
            self.number("sent_ns", 0, MOST_NS),
            self.number("sent_unix_ns", 0, MOST_NS),
        )

    def mapping(self, name: str, kind: type, least: float, most: float) -> dict[str, Any]:
        values = self._fields.get(name)
        if (
            not isinstance(values, dict)
            or len(values) > MOST_ENTRIES
            or not all(len(key) <= MOST_TEXT for key in values)
            or not all(whole(v, least, most) if kind is int else real(v) for v in values.values())
        ):
            raise self.wrong(name, f"an object of up to {MOST_ENTRIES} numbers of {least} to {most}")
        return values

    def counts(self, name: str) -> dict[str, int]:
        return self.mapping(name, int, 0, MOST_NS)

    def reals(self, name: str) -> dict[str, float]:
        return self.mapping(name, float, -math.inf, math.inf)


def whole(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def real(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (isinstance(value, float) and math.isfinite(value)) or (isinstance(value, int) and abs(value) < MOST_NS)
