"""Messages to pack, and what comes when fields of a header are changed."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from typing import Any

import numpy as np

from pipeline import wire
from pipeline.frame import Frame, Fusion, PixelFormat, half
from pipeline.wire import About, Buffer, ByeMessage, FrameMessage, Head, StatsMessage, WantMessage

HEAD = Head(
    stream="fused",
    session="0123456789abcdef",
    sequence=7,
    clock="5f0c9a52-6e1d-4c58-9f1b-3a7e0d2b8c41 time:[4026531834]",
    sent_ns=5_000_000_000,
    sent_unix_ns=1_790_000_000_000_000_000,
)
FUSION = Fusion("held", 3_000_000, {"infrared": 4_963_000_000, "visible": 4_960_000_000}, "realtime")
ABOUT = About(drops={"queue_full": 2}, stages_ms={"thermal": 0.5, "fuse": 12.25})
STATS = StatsMessage(HEAD, 61.5, 12, {"no_partner": 3, "queue_full": 40}, {"fuse": 12.25})
BYE = ByeMessage(HEAD, "end")
WANT = WantMessage("fedcba9876543210", "0123456789abcdef", 8, 4)


def data(pixel_format: PixelFormat, size: tuple[int, int]) -> np.ndarray:
    """Every value another one: 1, 2, 3 ...; of 16 bits 0x0101, 0x0102 ..."""
    width, height = size
    if pixel_format == "yuv420p":
        return np.arange(1, 1 + width * height + 2 * half(width) * half(height), dtype=np.uint8)
    if pixel_format == "bgr24":
        return np.arange(1, 1 + width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    if pixel_format == "gray16":
        return np.arange(0x0101, 0x0101 + width * height, dtype=np.uint16).reshape(height, width)
    return np.arange(1, 1 + width * height, dtype=np.uint8).reshape(height, width)


def frame(pixel_format: PixelFormat = "gray8", size: tuple[int, int] = (3, 2), **settings: Any) -> Frame:
    """A fused frame with all that a frame can have."""
    known: dict[str, Any] = {
        "color_range": "limited",
        "color_matrix": "bt709",
        "frame_rate": Fraction(30000, 1001),
        "name": "0007 Tür",
        "exposure_us": 8000.5,
        "fusion": FUSION,
    }
    return Frame(data(pixel_format, size), pixel_format, size, 4_960_000_000, "device", 9, "fused", **known | settings)


MADE: dict[str, list[Buffer]] = {
    "frame": wire.pack_frame(HEAD, frame(), ABOUT),
    "stats": wire.pack_stats(STATS),
    "bye": wire.pack_bye(BYE),
    "want": wire.pack_want(WANT),
}
"""A message of each kind, as it is sent."""


def header(kind: str) -> dict[str, Any]:
    """The fields of that message."""
    fields: dict[str, Any] = json.loads(bytes(MADE[kind][1]))
    return fields


def parts(kind: str, fields: dict[str, Any] | str | bytes, payload: Buffer | None = None) -> list[Buffer]:
    """That message with another header: fields, or text as it is."""
    text = json.dumps(fields, separators=(",", ":")) if isinstance(fields, dict) else fields
    topic, _, own = MADE[kind]
    return [topic, text.encode() if isinstance(text, str) else text, own if payload is None else payload]


def changed(kind: str, /, **fields: Any) -> list[Buffer]:
    """That message with some fields changed."""
    return parts(kind, header(kind) | fields)


def encoded(pixel_format: PixelFormat, size: tuple[int, int], encoding: str, payload: bytes = b"JPEG") -> list[Buffer]:
    """A header that tells of an encoded frame, whether or not there may be such a one."""
    width, height = size
    shapes = {"bgr24": [height, width, 3], "yuv420p": [width * height + 2 * half(width) * half(height)]}
    fields = header("frame") | {
        "pixel_format": pixel_format,
        "size": [width, height],
        "shape": shapes.get(pixel_format, [height, width]),
        "dtype": wire.DTYPES[pixel_format],
        "encoding": encoding,
        "payload_bytes": len(payload),
    }
    return parts("frame", fields, payload)


def unpacked(parts: list[Buffer]) -> FrameMessage:
    message = wire.unpack(parts)
    assert isinstance(message, FrameMessage)
    return message


def same(one: Frame, other: Frame) -> bool:
    """Whether two frames are equal in everything, their pixels bit by bit."""
    meta = [each.name for each in dataclasses.fields(Frame) if each.name != "data"]
    return (
        one.data.dtype == other.data.dtype
        and np.array_equal(one.data, other.data)
        and all(getattr(one, name) == getattr(other, name) for name in meta)
    )
