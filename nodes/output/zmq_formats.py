"""The formats of output.zmq: frames as JPEG and PNG, and as imagezmq and pyzmq's recipe for arrays expect them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from nodes.pictures import image_file, image_of
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.wire import MOST_ENTRIES, MOST_PAYLOAD_BYTES, MOST_SIDE, MOST_TEXT, STREAM_NAME, Buffer, Encoding

SUFFIXES: Mapping[Encoding, str] = {"jpeg": ".jpg", "png": ".png"}
Format = Literal["streamfuse", "imagezmq", "send_array"]
LEGAL: Mapping[Format, tuple[Encoding, ...]] = {
    "streamfuse": ("raw", "jpeg", "png"),
    "imagezmq": ("raw", "jpeg"),
    "send_array": ("raw",),
}
"""Encodings by format."""


def check_together(stream: str | None, format: Format, encoding: Encoding, delivery: str, consumers: int) -> None:
    """Raise ConfigError where settings do not go together."""
    if stream is not None:
        check_name(stream, "setting 'stream'")
    if encoding not in LEGAL[format]:
        raise ConfigError(
            f"setting 'encoding' is {encoding!r} with format {format!r}; legal is {' or '.join(LEGAL[format])}"
        )
    if delivery == "lossless" and format != "streamfuse":
        raise ConfigError(
            f"setting 'delivery' is 'lossless' with format {format!r}, which cannot; set format: streamfuse"
        )
    if delivery == "latest" and consumers != 1:
        raise ConfigError(f"setting 'consumers' is {consumers}: they are waited for with delivery 'lossless' alone")


def check_name(stream: str, where: str) -> None:
    """Raise ConfigError unless it can be the name of a stream."""
    if not STREAM_NAME.fullmatch(stream):
        raise ConfigError(
            f"{where} is {stream!r}, which is no name of a stream: set 'stream' to 1 to 64 letters, digits, _ . and -"
        )


def why_unfit(frame: Frame, format: Format, encoding: Encoding) -> str | None:
    """Why a frame cannot be published, and what to do; None if it can."""
    if encoding == "jpeg" and frame.pixel_format == "gray16":
        legal = " or ".join(each for each in LEGAL[format] if each != "jpeg")
        return f"jpeg cannot hold the 16 bits of {frame.pixel_format}; set encoding: {legal}"
    width, height = frame.size
    if max(frame.size) > MOST_SIDE or max(frame.data.nbytes, 3 * width * height) > MOST_PAYLOAD_BYTES:
        return f"{width}x{height} is too large; legal is up to {MOST_SIDE} a side and {MOST_PAYLOAD_BYTES >> 20} MiB"
    return None


def encoded(frame: Frame, encoding: Encoding, quality: int) -> tuple[Frame, bytes]:
    """A frame as JPEG or PNG, and what it is once it has been decoded.

    Gray keeps its numbers and its range. yuv420p becomes bgr24 of full range, which both formats can hold.

    Args:
        frame: gray8, gray16 (PNG alone), bgr24 or yuv420p.
        encoding: "jpeg" or "png".
        quality: of JPEG, 1..100.

    Returns:
        The frame as it will be decoded, but for what JPEG loses; and the bytes of the file.
    """
    if frame.pixel_format == "yuv420p":
        frame = replace(frame, data=image_of(frame), pixel_format="bgr24", color_range="full")
    return frame, image_file(SUFFIXES[encoding], frame.data, quality)


# Of other projects: a JSON object and an array, no topic. Colour is BGR, all of full range.


def foreign_header(frame: Frame, format: Format, encoding: Encoding, stream: str) -> bytes:
    """The first part. It also is what subscribers subscribe to, for there is no topic; most to b"", that is all.

    imagezmq (github.com/jeffbass/imagezmq) has the name in it. Beside an encoded picture it has nothing else; beside an
    array, there as in pyzmq's recipe (pyzmq.readthedocs.io, "Serializing messages with PyZMQ"), dtype and shape.
    """
    told: dict[str, Any] = {"msg": stream} if format == "imagezmq" else {}
    if encoding == "raw":
        width, height = frame.size
        colour = (height, width, 3) if frame.pixel_format in ("yuv420p", "bgr24") else (height, width)
        told |= {"dtype": str(frame.data.dtype), "shape": colour}
    return json.dumps(told).encode("utf-8")


def foreign_payload(frame: Frame, encoding: Encoding, quality: int) -> Buffer:
    """The second part."""
    image = image_of(frame)
    return np.ascontiguousarray(image).data if encoding == "raw" else image_file(SUFFIXES[encoding], image, quality)


# Numbers, as a header may have them:


def stages_of(nodes: Mapping[str, Mapping[str, Any]], live: bool) -> dict[str, float]:
    """How long each node usually takes in milliseconds, of what the pipeline tells of its nodes.

    Not those at the end, which are not on the way to others; nor a live source, which waits for its next frame.
    """
    told = {
        name: round(entry["p50_ms"], 3)
        for name, entry in nodes.items()
        if not entry["sink"] and not (live and entry["source"]) and math.isfinite(entry["p50_ms"])
    }
    return dict([pair for pair in told.items() if len(pair[0]) <= MOST_TEXT][:MOST_ENTRIES])
