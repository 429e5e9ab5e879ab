"""Wire: frames as messages for other processes and hosts. Pure: bytes in and out, no socket, no clock of its own.

`docs/wire.md` has the format byte by byte, for who writes or reads it without this project. A message is three parts,
topic, header (JSON) and payload. What comes is believed in nothing: kind, types, names, sizes and the number of bytes
are checked against what is legal before a buffer is touched; what has a length of its own has a limit; a field that
is not known is ignored, so that later versions can have more. What goes is held to the same rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.frame import Frame
from pipeline.header import (
    MOST_ENTRIES,
    MOST_HEADER_BYTES,
    MOST_NS,
    MOST_PAYLOAD_BYTES,
    MOST_SIDE,
    MOST_TEXT,
    STREAM_NAME,
    Buffer,
    Fields,
    WireError,
)
from pipeline.messages import (
    DTYPES,
    MOST_ROOM,
    PRESENTATION,
    VERSION,
    About,
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
from pipeline.reading import READ, check_moving, read, read_kind, read_moving, read_steady

__all__ = [
    "DTYPES",
    "MOST_ENTRIES",
    "MOST_HEADER_BYTES",
    "MOST_NS",
    "MOST_PAYLOAD_BYTES",
    "MOST_ROOM",
    "MOST_SIDE",
    "MOST_TEXT",
    "PRESENTATION",
    "STREAM_NAME",
    "VERSION",
    "About",
    "Buffer",
    "ByeMessage",
    "Encoding",
    "FrameMessage",
    "Head",
    "Message",
    "Reason",
    "StatsMessage",
    "WantMessage",
    "WireError",
    "pack_bye",
    "pack_frame",
    "pack_stats",
    "pack_want",
    "topic",
    "unpack",
]


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

    Raises:
        WireError: `unpack` would refuse it.
    """
    payload = bytes_of(frame) if about.encoding == "raw" else memoryview(about.payload)
    steady, fusion = steady_of(head, frame, about.encoding), frame.fusion
    moving = {
        "sequence": head.sequence,
        "sent_ns": head.sent_ns,
        "sent_unix_ns": head.sent_unix_ns,
        "frame_sequence": frame.sequence,
        "timestamp_ns": frame.timestamp_ns,
        "name": frame.name,
        "skew_ns": fusion.skew_ns if fusion else None,
        "timestamps_ns": dict(fusion.timestamps_ns) if fusion else None,
        "payload_bytes": payload.nbytes,
        "drops": dict(about.drops),
        "stages_ms": dict(about.stages_ms),
    }
    begin = begun(steady)
    check_moving(steady, Fields(moving), payload)
    return [topic(head.stream, "frame"), checked_length(begin + as_json(moving)[1:]), payload]


def steady_of(head: Head, frame: Frame, encoding: Encoding) -> Steady:
    fusion = frame.fusion
    return Steady(
        stream=head.stream,
        session=head.session,
        clock=head.clock,
        timestamp_source=frame.timestamp_source,
        exposure_us=frame.exposure_us,
        frame_rate=frame.frame_rate,
        state=fusion.state if fusion else None,
        model=fusion.model if fusion else None,
        pixel_format=frame.pixel_format,
        size=frame.size,
        color_range=frame.color_range,
        color_matrix=frame.color_matrix,
        encoding=encoding,
    )


@lru_cache(64)
def begun(steady: Steady) -> bytes:
    """What the headers of frames begin with, up to `"sequence"`."""
    fields = steady.fields()
    read_steady(Fields(fields))
    return as_json(fields)[:-1] + b","


def pack_stats(message: StatsMessage) -> list[Buffer]:
    """As topic, header and empty payload; WireError if `unpack` would refuse it. So do the two below."""
    header = {
        **begin("stats", message.head),
        "uptime_s": message.uptime_s,
        "unheard": message.unheard,
        "drops": dict(message.drops),
        "stages_ms": dict(message.stages_ms),
    }
    return packed(header)


def pack_bye(message: ByeMessage) -> list[Buffer]:
    return packed({**begin("bye", message.head), "reason": message.reason})


def pack_want(message: WantMessage) -> list[Buffer]:
    keys = ("consumer", "session", "sequence", "room", "done")
    return packed({"version": VERSION, "kind": "want", **{key: getattr(message, key) for key in keys}})


def begin(kind: str, head: Head) -> dict[str, Any]:
    keys = ("stream", "session", "clock", "sequence", "sent_ns", "sent_unix_ns")
    return {"version": VERSION, "kind": kind, **{key: getattr(head, key) for key in keys}}


def bytes_of(frame: Frame) -> memoryview:
    """The data as they are on the wire; a view of them, but on hosts that have the most significant byte first."""
    data = np.ascontiguousarray(frame.data)
    return data.astype(data.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data


def packed(header: Mapping[str, Any]) -> list[Buffer]:
    """The three parts of what is no frame, held to the rules of who reads them."""
    message = read(Fields(header), b"", MOST_PAYLOAD_BYTES)
    return [topic_of(message, header["kind"]), checked_length(as_json(header)), b""]


def as_json(header: Mapping[str, Any]) -> bytes:
    return ENCODER.encode(header).encode("ascii")


def checked_length(header: bytes) -> bytes:
    if len(header) > MOST_HEADER_BYTES:
        raise WireError(f"the header has {len(header)} bytes; legal are up to {MOST_HEADER_BYTES}")
    return header


ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # made once: it takes its time


# From bytes to messages:


def unpack(parts: Sequence[Buffer], most_payload_bytes: int = MOST_PAYLOAD_BYTES) -> Message:
    """The message of three parts.

    Args:
        parts: as they came; bytes, or views of bytes.
        most_payload_bytes: more is refused, also of an encoded payload that would have more once it is decoded.

    Raises:
        WireError: it is none, in any of the ways there are; nothing else is ever raised.
    """
    if len(parts) != 3:
        raise WireError(f"a message has 3 parts, topic, header and payload; got {len(parts)}")
    message, kind = unpacked_frame(parts, most_payload_bytes), "frame"
    if message is None:
        message, kind = unpacked_whole(parts, most_payload_bytes)
    expected = topic_of(message, kind)
    if (came := bytes(parts[0][: MOST_TEXT + 1])) != expected:
        raise WireError(f"topic is {came[:60]!r}; the header says {expected!r}")
    return message


def unpacked_whole(parts: Sequence[Buffer], most_payload_bytes: int) -> tuple[Message, str]:
    """Any message, and its kind."""
    fields = Fields.parse(parts[1])
    return read(fields, parts[2], most_payload_bytes), fields.one_of("kind", READ)


def unpacked_frame(parts: Sequence[Buffer], most_payload_bytes: int) -> Message | None:
    """A frame whose header begins as one before it did; None if it has to be read whole, or is none."""
    if len(parts[1]) > MOST_HEADER_BYTES:
        return None
    header = bytes(parts[1])
    if (at := header.find(MOVING)) < 0:
        return None
    try:
        steady = known(header[:at])
        moving = Fields.parse(b"{" + header[at + 1 :])
    except WireError:
        return None  # it may be fields in another order; if it is not, it is told what is wrong
    return None if moving.has_any(STEADY) else read_moving(steady, moving, parts[2], most_payload_bytes)


@lru_cache(64)
def known(begin: bytes) -> Steady:
    """What a header says that begins so: with these fields in full and no others, so that the rest is on its own."""
    fields = Fields.parse(begin + b"}")
    if read_kind(fields) != "frame" or not fields.are(STEADY):
        raise WireError("no beginning of a frame")
    return read_steady(fields)


MOVING = b',"sequence":'
"""Where what is new in each frame begins, as this end writes it. In text the quotation marks would be escaped."""
STEADY = frozenset(("version", "kind", "stream", "session", "clock", "timestamp_source", "exposure_us", "frame_rate"))
STEADY |= {"state", "model", "pixel_format", "size", "dtype", "shape", "range", "matrix", "encoding"}


def topic_of(message: Message, kind: str) -> bytes:
    return b"want" if isinstance(message, WantMessage) else topic(message.head.stream, kind)
