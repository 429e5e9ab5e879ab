"""Pictures as cameras give them (packed, planar, compressed) to a frame's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import av
import numpy as np

from nodes.capture.device import Setup
from nodes.pictures import EXACT, FULL, LIMITED, array_of
from pipeline.frame import MATRIX_CODES, PixelFormat

# V4L2's name -> FFmpeg's. `Y10`, `Y12`, `Y14` hold their bits at the lower end of 16 and keep their numbers.
COLOUR = {
    **{"YU12": "yuv420p", "NV12": "nv12", "NV21": "nv21", "YUYV": "yuyv422", "UYVY": "uyvy422"},
    **{"BGR3": "bgr24", "RGB3": "rgb24"},
}
PACKED = {"YUYV": 2, "UYVY": 2, "BGR3": 3, "RGB3": 3}  # bytes a pixel
COMPRESSED = ("MJPG", "JPEG")
DEEP = {"Y16": "<u2", "Y16-BE": ">u2", "Y14": "<u2", "Y12": "<u2", "Y10": "<u2"}
RGB = ("BGR3", "RGB3")
YUV = ("YU12", "NV12", "NV21", "YUYV", "UYVY")
# What each format of ours can be made of, best first.
MADE_OF: Mapping[str, tuple[str, ...]] = {
    "yuv420p": (*YUV, *COMPRESSED, *RGB),
    "bgr24": (*RGB, *YUV, *COMPRESSED),
    "gray8": ("GREY", *YUV, *COMPRESSED),
    "gray16": tuple(DEEP),
    "auto": (*YUV, *COMPRESSED, *RGB, "GREY", *DEEP),
}


def format_for(fourcc: str, wanted: str) -> PixelFormat:
    """Format of ours of a picture of the camera's; "auto" is the one that keeps most of it."""
    if wanted != "auto":
        found: PixelFormat = wanted  # type: ignore[assignment]
        return found
    if fourcc in DEEP:
        return "gray16"
    return "gray8" if fourcc == "GREY" else "bgr24" if fourcc in RGB else "yuv420p"


class Unpacker:
    """Makes frames' data of a camera's pictures; keeps the decoder of compressed ones.

    Args:
        setup: what the camera gives.
        pixel_format: what to make of it.
    """

    def __init__(self, setup: Setup, pixel_format: PixelFormat) -> None:
        self._setup, self._format = setup, pixel_format
        self._decoder: Any = av.CodecContext.create("mjpeg", "r") if setup.fourcc in COMPRESSED else None
        if self._decoder is not None:
            self._decoder.thread_count = 1  # each picture is whole: no delay

    def unpack(self, data: bytes) -> tuple[np.ndarray, tuple[int, int]]:
        """A picture's data in a frame's layout, and its (width, height).

        Raises:
            ValueError: it is cut short, or damaged beyond decoding (av.FFmpegError).
        """
        setup = self._setup
        if setup.fourcc in DEEP:
            return self._lines(data, DEEP[setup.fourcc]).astype(np.uint16, copy=False), setup.size
        if setup.fourcc == "GREY":
            return self._lines(data, "u1"), setup.size
        picture = self._picture(data) if self._decoder is None else self._decoded(data)
        size = picture.width, picture.height
        if self._format == "bgr24":
            return self._bgr(picture), size
        planes = array_of(picture, "yuv420p")
        if self._format == "gray8":
            return planes[: size[0] * size[1]].reshape(size[1], size[0]), size
        return planes, size

    def _lines(self, data: bytes, dtype: str) -> np.ndarray:
        """(H, W) of gray, without the padding at the end of each line; a view where nothing is in the way."""
        (width, height), kind = self._setup.size, np.dtype(dtype)
        line = self._setup.bytes_per_line // kind.itemsize or width
        values = np.frombuffer(data, kind, count=(height - 1) * line + width)
        if line == width:
            return values.reshape(height, width)
        padded = np.zeros(height * line, kind)
        padded[: len(values)] = values
        return np.ascontiguousarray(padded.reshape(height, line)[:, :width])

    def _picture(self, data: bytes) -> av.VideoFrame:
        """Raw bytes as a picture of FFmpeg's."""
        setup = self._setup
        picture = av.VideoFrame(*setup.size, COLOUR[setup.fourcc])
        at = 0
        for index, plane in enumerate(picture.planes):
            values = 2 if index and setup.fourcc != "YU12" else PACKED.get(setup.fourcc, 1)  # U and V side by side
            line = setup.bytes_per_line or plane.width * values
            if index and setup.fourcc == "YU12" and setup.bytes_per_line:
                line = (line + 1) // 2
            source = np.frombuffer(data, np.uint8, count=line * plane.height, offset=at).reshape(plane.height, line)
            target = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
            common = min(line, plane.line_size)
            target[:, :common] = source[:, :common]
            at += line * plane.height
        picture.color_range = FULL if setup.color_range == "full" else LIMITED
        if setup.fourcc not in RGB:
            picture.colorspace = MATRIX_CODES[setup.color_matrix]
        return picture

    def _decoded(self, data: bytes) -> av.VideoFrame:
        if not data:  # which would tell the decoder that this is the end
            raise ValueError("empty")
        pictures = self._decoder.decode(av.Packet(data))
        if not pictures or pictures[0].is_corrupt:
            raise ValueError("not a whole JPEG")
        return pictures[0]

    def _bgr(self, picture: av.VideoFrame) -> np.ndarray:
        if self._setup.fourcc in RGB:
            return array_of(picture, "bgr24")
        side = FULL if self._setup.color_range == "full" else LIMITED
        turned = picture.reformat(format="bgr24", src_color_range=side, dst_color_range=FULL, interpolation=EXACT)
        return array_of(turned, "bgr24")
