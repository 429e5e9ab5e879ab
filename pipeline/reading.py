"""Reading: the fields of a header as a message. Pure. Whatever is not legal is a WireError."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from pipeline.frame import MATRIX_CODES, ColorRange, Frame, Fusion, PixelFormat, TimestampSource, layout
from pipeline.header import MOST_NS, MOST_PAYLOAD_BYTES, MOST_SIDE, Buffer, Fields, WireError, told
from pipeline.messages import (
    DTYPES,
    ENCODED,
    MOST_RATE,
    MOST_ROOM,
    VERSION,
    ByeMessage,
    Encoding,
    FrameMessage,
    Head,
    Message,
    Reason,
    StatsMessage,
    Steady,
    WantMessage,
)

ENCODINGS, REASONS = get_args(Encoding), get_args(Reason)
SOURCES, RANGES = get_args(TimestampSource), get_args(ColorRange)


def read(fields: Fields, payload: Buffer, most_payload_bytes: int) -> Message:
    kind = read_kind(fields)
    if kind != "frame" and len(payload):
        raise WireError(f"the payload of kind {kind!r} has {len(payload)} bytes; legal is none")
    return READ[kind](fields, payload, most_payload_bytes)


def read_kind(fields: Fields) -> str:
    if (version := fields.number("version", 0, MOST_NS)) != VERSION:
        raise WireError(f"version is {version}; legal is {VERSION}")
    kind: str = fields.one_of("kind", READ)
    return kind


def read_head(fields: Fields) -> Head:
    return Head(
        fields.stream(),
        fields.hexadecimal("session"),
        fields.number("sequence", 0, MOST_NS),
        fields.text("clock"),
        fields.number("sent_ns", 0, MOST_NS),
        fields.number("sent_unix_ns", 0, MOST_NS),
    )


def read_frame(fields: Fields, payload: Buffer, most_payload_bytes: int) -> FrameMessage:
    return read_moving(read_steady(fields), fields, payload, most_payload_bytes)


def read_steady(fields: Fields) -> Steady:
    """What is the same from frame to frame, as a rule."""
    pixel_format: PixelFormat = fields.one_of("pixel_format", DTYPES)
    width, height = fields.numbers("size", 2, 1, MOST_SIDE)
    shape, _ = layout(pixel_format, (width, height))
    if fields.numbers("shape", len(shape), 1, MOST_NS) != list(shape):
        raise fields.wrong("shape", f"{list(shape)} of {pixel_format} in {width}x{height}")
    fields.one_of("dtype", (DTYPES[pixel_format],))
    encoding: Encoding = fields.one_of("encoding", ENCODINGS)
    if encoding != "raw":
        fields.one_of("pixel_format", ENCODED[encoding])
    return Steady(
        stream=fields.stream(),
        session=fields.hexadecimal("session"),
        clock=fields.text("clock"),
        timestamp_source=fields.one_of("timestamp_source", SOURCES),
        exposure_us=fields.real("exposure_us") if fields.has("exposure_us") else None,
        frame_rate=Fraction(*fields.numbers("frame_rate", 2, 1, MOST_RATE)) if fields.has("frame_rate") else None,
        state=fields.state() if fields.has("state") else None,
        model=fields.text("model", least=0) if fields.has("model") or fields.has("state") else None,
        pixel_format=pixel_format,
        size=(width, height),
        color_range=fields.one_of("range", RANGES),
        color_matrix=fields.one_of("matrix", MATRIX_CODES),
        encoding=encoding,
    )


def read_moving(steady: Steady, fields: Fields, payload: Buffer, most_payload_bytes: int) -> FrameMessage:
    """The message, of the rest of its fields."""
    sequence, sent_ns, sent_unix_ns, frame_sequence = (fields.number(name, 0, MOST_NS) for name in COUNTS)
    frame = Frame(
        data=data_of(steady, fields, payload, most_payload_bytes),
        pixel_format=steady.pixel_format,
        size=steady.size,
        timestamp_ns=fields.number("timestamp_ns", -MOST_NS, MOST_NS),
        timestamp_source=steady.timestamp_source,
        sequence=frame_sequence,
        stream=steady.stream,
        color_range=steady.color_range,
        color_matrix=steady.color_matrix,
        frame_rate=steady.frame_rate,
        name=fields.file_name("name") if fields.has("name") else None,
        exposure_us=steady.exposure_us,
        fusion=read_fusion(steady, fields),
    )
    head = Head(steady.stream, steady.session, sequence, steady.clock, sent_ns, sent_unix_ns)
    return FrameMessage(head, frame, steady.encoding, payload, fields.counts("drops"), fields.reals("stages_ms"))


def check_moving(steady: Steady, fields: Fields, payload: Buffer) -> None:
    """What `read_moving` checks, without making a frame of it."""
    for name in COUNTS:
        fields.number(name, 0, MOST_NS)
    fields.number("timestamp_ns", -MOST_NS, MOST_NS)
    if fields.has("name"):
        fields.file_name("name")
    check_length(steady, fields, payload, MOST_PAYLOAD_BYTES)
    read_fusion(steady, fields)
    fields.counts("drops")
    fields.reals("stages_ms")


COUNTS = ("sequence", "sent_ns", "sent_unix_ns", "frame_sequence")


def data_of(steady: Steady, fields: Fields, payload: Buffer, most_payload_bytes: int) -> np.ndarray[Any, Any]:
    """The payload as an array, read-only; of an encoded one zeros that take no room."""
    check_length(steady, fields, payload, most_payload_bytes)
    shape, own, sent, _ = place(steady.pixel_format, steady.size)
    if steady.encoding != "raw":
        return np.broadcast_to(np.zeros((), own), shape)
    data = np.frombuffer(payload, sent).reshape(shape).astype(own, copy=False)
    return data if data.flags.aligned else data.copy()


def check_length(steady: Steady, fields: Fields, payload: Buffer, most_payload_bytes: int) -> None:
    """As many bytes as it says, as the format wants, and not too many, decoded neither."""
    if fields.number("payload_bytes", 1, most_payload_bytes) != len(payload):
        raise fields.wrong("payload_bytes", f"{len(payload)}: so many came")
    whole = place(steady.pixel_format, steady.size)[3]
    if whole > most_payload_bytes:
        width, height = steady.size
        raise WireError(
            f"size is [{width}, {height}]; legal is what has up to {most_payload_bytes} bytes; "
            f"{steady.pixel_format} of it has {whole}"
        )
    if steady.encoding == "raw" and whole != len(payload):
        raise fields.wrong("payload_bytes", f"{whole} of {steady.pixel_format} in this size")


@lru_cache(64)
def place(
    pixel_format: PixelFormat, size: tuple[int, int]
) -> tuple[tuple[int, ...], np.dtype[Any], np.dtype[Any], int]:
    """Shape, dtype here and on the wire, and number of bytes of a frame's data."""
    shape, dtype = layout(pixel_format, size)
    return shape, dtype, dtype.newbyteorder("<"), math.prod(shape) * dtype.itemsize


def read_fusion(steady: Steady, fields: Fields) -> Fusion | None:
    if steady.state is not None:
        skew_ns, times = fields.number("skew_ns", 0, MOST_NS), fields.times("timestamps_ns")
        return Fusion(steady.state, skew_ns, times, steady.model or "")
    if steady.model is not None:
        raise WireError(f"model is {told(steady.model)}; legal is null where state is null")
    for name in ("skew_ns", "timestamps_ns"):
        if fields.has(name):
            raise fields.wrong(name, "null where state is null")
    return None


def read_stats(fields: Fields, _: Buffer, __: int) -> StatsMessage:
    uptime_s, unheard = fields.real("uptime_s"), fields.number("unheard", 0, MOST_NS)
    return StatsMessage(read_head(fields), uptime_s, unheard, fields.counts("drops"), fields.reals("stages_ms"))


def read_bye(fields: Fields, _: Buffer, __: int) -> ByeMessage:
    return ByeMessage(read_head(fields), fields.one_of("reason", REASONS))


def read_want(fields: Fields, _: Buffer, __: int) -> WantMessage:
    return WantMessage(
        fields.hexadecimal("consumer"),
        fields.hexadecimal("session", or_empty=True),
        fields.number("sequence", 0, MOST_NS),
        fields.number("room", 0, MOST_ROOM),
        fields.one_of("done", (True, False)),
    )


READ: Mapping[str, Callable[[Fields, Buffer, int], Message]] = MappingProxyType(
    {"frame": read_frame, "stats": read_stats, "bye": read_bye, "want": read_want}
)
