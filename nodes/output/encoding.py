"""Frames to what an encoder takes, and which encoder; shared by the nodes that write and send video."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import av

from nodes import nvidia
from nodes.pictures import EXACT, FULL, LIMITED, gray_in, picture_of
from pipeline.errors import DeviceError
from pipeline.frame import MATRIX_CODES, ColorMatrix, ColorRange, Frame

log = logging.getLogger("streamfuse")

CPU, GPU = "libx264", "h264_nvenc"  # FFmpeg's encoders of H.264
PIXEL_FORMATS = {
    ("h264", "gray8"): "yuv420p",
    ("h264", "yuv420p"): "yuv420p",
    ("h264", "bgr24"): "yuv420p",
    ("ffv1", "gray8"): "gray",
    ("ffv1", "gray16"): "gray16le",
    ("ffv1", "yuv420p"): "yuv420p",
    ("ffv1", "bgr24"): "bgr0",
}
SPACES = {"bt601": "ITU601", "bt709": "ITU709", "bt2020": "BT2020"}  # swscale's names
SIDES: dict[ColorRange, int] = {"limited": LIMITED, "full": FULL}


@dataclass(frozen=True)
class Look:
    """What a video keeps from its first picture to its last."""

    size: tuple[int, int]
    """(width, height) of the frames; H.264 pads odd ones."""
    pixel_format: str
    """The encoder's."""
    color_range: ColorRange
    color_matrix: ColorMatrix

    def holds(self, frame: Frame, codec: str) -> bool:
        """Whether a frame can be brought to this look without another encoder."""
        return self.size == frame.size and self.pixel_format == PIXEL_FORMATS.get((codec, frame.pixel_format))

    def picture(self, frame: Frame, pad_to_even: bool) -> av.VideoFrame:
        """The frame as the encoder takes it, in this range and matrix, for a video has but one of each."""
        if frame.pixel_format == "gray8":
            frame = replace(frame, data=gray_in(frame, self.color_range), color_range=self.color_range)
        picture = picture_of(frame, pad_to_even)
        same = (frame.color_range, frame.color_matrix) == (self.color_range, self.color_matrix)
        if picture.format.name == self.pixel_format and (same or frame.pixel_format != "yuv420p"):
            return picture
        gray = frame.pixel_format == "gray8"  # its luma is copied
        return picture.reformat(
            format=self.pixel_format,
            src_colorspace=SPACES[frame.color_matrix],
            dst_colorspace=SPACES[self.color_matrix],
            src_color_range=FULL if gray else picture.color_range,
            dst_color_range=FULL if gray else SIDES[self.color_range],
            interpolation=EXACT if frame.pixel_format == "yuv420p" else None,
        )

    def apply(self, context: Any, pad_to_even: bool) -> None:
        """Tell an encoder that is not open yet."""
        width, height = self.size
        context.width, context.height = even_size(self.size) if pad_to_even else (width, height)
        context.pix_fmt = self.pixel_format
        context.color_range = SIDES[self.color_range]
        if self.pixel_format != "bgr0":
            context.colorspace = MATRIX_CODES[self.color_matrix]


def look_of(frame: Frame, codec: str) -> Look | None:
    """The look of a video that begins with this frame; None where the codec cannot hold it.

    Colour turned into YUV is of limited range, all else stays as it is.
    """
    pixel_format = PIXEL_FORMATS.get((codec, frame.pixel_format))
    if pixel_format is None:
        return None
    turned = frame.pixel_format == "bgr24" and pixel_format != "bgr0"
    return Look(frame.size, pixel_format, "limited" if turned else frame.color_range, frame.color_matrix)


def choose_encoder(wanted: str, node: str, open_on_gpu: Callable[[], Any]) -> str:
    """The encoder of H.264 to use; says which, and why the CPU's where there is an NVIDIA driver.

    Args:
        wanted: "libx264", "h264_nvenc", or "auto" for the latter where it works.
        node: name of the node, for messages.
        open_on_gpu: opens the GPU's encoder as it is to be used.

    Raises:
        DeviceError: the GPU's is asked for, and does not open.
    """
    if wanted == CPU:
        return CPU
    why = nvidia.why_no_encoding(open_on_gpu)
    if why is None:
        log.info("%s: encodes with %s", node, GPU)
        return GPU
    if wanted == GPU:
        raise DeviceError(f"Node {node!r}: {GPU} does not open: {why}; set codec: auto")
    if why != nvidia.NO_DRIVER:
        log.info("%s: encodes with %s: %s", node, CPU, why)
    return CPU


def even_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) with one column or row more where they are odd: H.264 of 4:2:0 has even sizes only."""
    width, height = size
    return width + width % 2, height + height % 2
