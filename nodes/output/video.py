"""output.video: a video file that plays at any moment while it is written, and after a crash."""

from __future__ import annotations

import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import av
from pydantic import Field

from nodes.pictures import check_target, picture_of, reason
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import MATRIX_CODES, Frame
from pipeline.node import Node

log = logging.getLogger("streamfuse")

TIME_BASE = Fraction(1, 90_000)  # exact for 24, 25, 30, 50, 60 and 30000/1001 frames a second
SUFFIXES = {"h264": (".mp4", ".mov", ".mkv"), "ffv1": (".mkv",)}
# A fragment a second while writing, an ordinary indexed file once closed; the index written
# late (delay_moov) is what keeps a start later than zero.
FRAGMENTED = {"movflags": "hybrid_fragmented+default_base_moof+delay_moov", "flush_packets": "1"}
CONTAINER_OPTIONS = {
    ".mp4": FRAGMENTED,
    ".mov": FRAGMENTED,
    # Short clusters, each on disk as soon as it is complete.
    ".mkv": {"flush_packets": "1", "cluster_time_limit": "1000"},
}
PIXEL_FORMATS = {
    ("h264", "gray8"): "yuv420p",
    ("h264", "yuv420p"): "yuv420p",
    ("h264", "bgr24"): "yuv420p",
    ("ffv1", "gray8"): "gray",
    ("ffv1", "gray16"): "gray16le",
    ("ffv1", "yuv420p"): "yuv420p",
    ("ffv1", "bgr24"): "bgr0",
}


class VideoOutput(Node):
    """Write frames to a video file, with their timestamps, range and matrix.

    The file is created with the first frame, under its final name, and plays from then on, also if the process is
    killed: all but about the last two seconds are there. When the run fails it is renamed, so that what has the final name is whole.

    Args:
        path: .mp4, .mov or .mkv. MKV keeps times to the millisecond, the others to 1/90000 s.
        codec: "h264", or "ffv1", which is lossless, for .mkv; "auto" is h264.
        crf: quality of h264, 0 (lossless) to 51; 18 is visually transparent.
        preset: speed of h264 against size.
    """

    def __init__(
        self,
        path: Path,
        codec: Literal["auto", "h264", "ffv1"] = "auto",
        crf: Annotated[int, Field(ge=0, le=51)] = 18,
        preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = "veryfast",
    ) -> None:
        self.path, self.crf, self.preset = path, crf, preset
        self.codec = "h264" if codec == "auto" else codec
        if path.suffix.lower() not in SUFFIXES[self.codec]:
            legal = " or ".join(SUFFIXES[self.codec])
            raise ConfigError(f"setting 'path' is {str(path)!r}: {self.codec} goes into {legal}")
        self._container: Any = None
        self._stream: Any = None
        self._first: Frame | None = None
        self._last_pts = -1
        self._written = 0

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        check_target(self.path)

    def process(self, frame: Frame) -> None:
        if self._first is None:
            self._start(frame)
        assert self._first is not None
        if (frame.size, frame.pixel_format) != (self._first.size, self._first.pixel_format):
            raise OutputError(
                f"{self.path}: a file keeps one size and format; it began with {self._first}, now {frame}"
            )
        picture = picture_of(frame, pad_to_even=self.codec == "h264")
        picture = self._in_codec_format(picture, frame)
        picture.pts = max(round(frame.timestamp_ns * TIME_BASE.denominator / 1_000_000_000), self._last_pts + 1)
        picture.time_base = TIME_BASE
        self._last_pts = picture.pts
        self._mux(picture)
        self._written += 1

    def close(self) -> None:
        if self._container is None:
            return
        try:
            if self._stream is not None:
                self._mux(None)
        finally:
            container, self._container = self._container, None
            try:
                container.close()
            except (av.FFmpegError, OSError) as error:
                self._set_aside()
                raise OutputError(f"{self.path}: cannot be finished: {reason(error)}") from error

    def abort(self) -> None:
        if self._container is None:
            return
        try:
            self.close()
        finally:
            self._set_aside()

    def report(self) -> dict[str, Any]:
        return {"path": str(self.path)} if self._written else {}

    def _start(self, frame: Frame) -> None:
        pixel_format = PIXEL_FORMATS.get((self.codec, frame.pixel_format))
        if pixel_format is None:
            raise OutputError(
                f"{self.path}: {self.codec} cannot hold {frame.pixel_format}; write codec: ffv1 and a .mkv path"
            )
        if self.codec == "h264" and (frame.size[0] % 2 or frame.size[1] % 2):
            log.warning("%s: H.264 has even sizes only: the last column or row is repeated once", self.name)
        try:
            options = CONTAINER_OPTIONS[self.path.suffix.lower()]
            self._container = av.open(str(self.path), "w", options=options)
            self._stream = self._add_stream(frame, pixel_format)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self.path}: cannot be written: {reason(error)}") from error
        self._first = frame

    def _add_stream(self, frame: Frame, pixel_format: str) -> Any:
        rate = frame.frame_rate or Fraction(30)
        stream = self._container.add_stream({"h264": "libx264", "ffv1": "ffv1"}[self.codec], rate=rate)
        context = stream.codec_context
        context.width, context.height = frame.size
        if self.codec == "h264":
            context.width, context.height = (side + side % 2 for side in frame.size)
            context.options = {"crf": str(self.crf), "preset": self.preset}
            context.max_b_frames = 0  # so that decoding time is presentation time, from the first frame on
            context.gop_size = max(1, round(rate))  # a fragment a second
        else:
            context.options = {"level": "3", "slices": "4", "slicecrc": "1"}
            context.gop_size = 1
        context.pix_fmt = pixel_format
        context.time_base = stream.time_base = TIME_BASE
        rgb = pixel_format == "bgr0"
        context.color_range = 2 if rgb or (frame.color_range == "full" and frame.pixel_format != "bgr24") else 1
        if not rgb:
            context.colorspace = MATRIX_CODES[frame.color_matrix]
        return stream

    def _in_codec_format(self, picture: av.VideoFrame, frame: Frame) -> av.VideoFrame:
        wanted = self._stream.codec_context.pix_fmt
        if picture.format.name == wanted:
            return picture
        if frame.pixel_format == "bgr24" and wanted == "yuv420p":
            matrix = MATRIX_CODES[frame.color_matrix]
            return picture.reformat(format=wanted, dst_colorspace=matrix, src_color_range=2, dst_color_range=1)
        side = picture.color_range
        return picture.reformat(format=wanted, src_color_range=side, dst_color_range=side)

    def _mux(self, picture: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self.path}: cannot be written on: {reason(error)}") from error

    def _set_aside(self) -> None:
        """Give up the final name; what was written may still be of use."""
        aside = self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")
        if self.path.is_file() and not self.path.is_symlink():
            os.replace(self.path, aside)
            log.warning("%s: what was written until the failure is in %s", self.name, aside)
