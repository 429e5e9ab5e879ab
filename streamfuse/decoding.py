"""Decoding: JPEG and PNG to frames, after what their own header promises was compared with the message's.

A decoder believes the size in the file. A few hundred bytes can promise gigabytes ("decompression bomb"), so the size
and whatever else a decoder would make room for, is read here, strictly, before one sees the file.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import SourceError
from pipeline.frame import Frame, PixelFormat
from pipeline.wire import Buffer, FrameMessage, WireError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"  # PNG (ISO/IEC 15948), 5.2; chunks are in 5.3 and 11
PNG_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"tIME", b"tEXt", b"bKGD"}
PNG_KINDS: dict[tuple[int, int], PixelFormat] = {(8, 0): "gray8", (16, 0): "gray16", (8, 2): "bgr24"}  # depth, colour
JPEG_SCAN, MOST_SCANS = b"\xff\xda", 32  # each may be a few bytes, and is a pass over the whole picture
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"  # ITU-T T.81, table B.1
JPEG_SIZES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, with Huffman coding: what decoders know
JPEG_SKIPPED = {0xC4, 0xCC, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # tables, comments, applications
JPEG_KINDS: dict[tuple[int, int], PixelFormat] = {(8, 1): "gray8", (8, 3): "bgr24"}  # depth, components


class Promise(NamedTuple):
    """What the header of a file says of the picture in it."""

    size: tuple[int, int]
    pixel_format: PixelFormat | None
    """None for one that frames do not have."""


def decoded(frame: Frame, message: FrameMessage) -> Frame:
    """The frame with its pixels.

    Args:
        frame: of the message.
        message: with the encoding and the file; a raw one has its pixels already.

    Raises:
        WireError: the file is damaged, or is not what the message says.
        SourceError: OpenCV is not installed.
    """
    if message.encoding == "raw":
        return frame
    promise = png_promise(message.payload) if message.encoding == "png" else jpeg_promise(message.payload)
    if promise != (frame.size, frame.pixel_format):
        raise WireError(
            f"the {message.encoding} is {promise.pixel_format or 'no format of ours'} of "
            f"{promise.size[0]}x{promise.size[1]}; the header says {frame.pixel_format} of "
            f"{frame.size[0]}x{frame.size[1]}"
        )
    image = decode(message.payload, message.encoding)
    if image is None or image.shape != frame.data.shape or image.dtype != frame.data.dtype:
        raise WireError(f"the {message.encoding} is damaged")
    return replace(frame, data=image)


def decode(payload: Buffer, encoding: str) -> np.ndarray[Any, Any] | None:
    try:
        import cv2
    except ImportError as error:
        raise SourceError(
            f"the frames come as {encoding}: to decode them `pip install opencv-python-headless`, "
            "or set `encoding: raw` where they are published"
        ) from error
    try:
        return cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)  # and not turned as EXIF says
    except cv2.error:
        return None


def png_promise(payload: Buffer) -> Promise:
    """From IHDR; the lengths of all chunks are checked too, for a decoder makes room for what they promise."""
    view, at, kind = memoryview(payload), len(PNG_SIGNATURE), b""
    if bytes(view[:at]) != PNG_SIGNATURE or bytes(view[12:16]) != b"IHDR":
        raise WireError("the payload is no png")
    while at + 12 <= len(view) and kind != b"IEND":
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        if kind not in PNG_CHUNKS:
            raise WireError(f"the png has a part {kind!r}, which is not read: no palettes, profiles or animations")
        at += 12 + length
    if kind != b"IEND" or at != len(view):
        raise WireError("the payload is no whole png")
    width, height, depth, colour = struct.unpack(">IIBB", view[16:26])
    return Promise((width, height), PNG_KINDS.get((depth, colour)))


def jpeg_promise(payload: Buffer) -> Promise:
    """From the frame header, found marker by marker; what decoders might read in different ways is refused."""
    view, at = memoryview(payload), 2
    if bytes(view[:2]) != JPEG_START or bytes(view[-2:]) != JPEG_END:
        raise WireError("the payload is no whole jpeg")
    if (scans := bytes(view).count(JPEG_SCAN)) > MOST_SCANS:
        raise WireError(f"the jpeg has {scans} scans; legal are up to {MOST_SCANS}")
    while at + 10 <= len(view):
        marker, length = view[at + 1], int.from_bytes(view[at + 2 : at + 4], "big")
        if view[at] != 0xFF or length < 2:
            break
        if marker in JPEG_SIZES:
            depth, height, width, components = struct.unpack(">BHHB", view[at + 4 : at + 10])
            return Promise((width, height), JPEG_KINDS.get((depth, components)))
        if marker not in JPEG_SKIPPED:
            break
        at += 2 + length
    raise WireError("the payload is a jpeg without a size, or of a kind that is not read")
