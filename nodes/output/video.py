"""output.video: a video file that plays at any moment while it is written, and after a crash."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import av
from pydantic import Field

from nodes.pictures import EXACT, FULL, LIMITED, check_target, gray_in, picture_of, reason
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import MATRIX_CODES, Frame
from pipeline.node import Node

log = logging.getLogger("streamfuse")

SUFFIXES = {"h264": (".mp4", ".mov", ".mkv"), "ffv1": (".mkv",)}
MP4_CLOCK = Fraction(1, 90_000)  # exact for 24, 25, 30, 50, 60 and 30000/1001 frames a second
CLOCKS = {".mp4": MP4_CLOCK, ".mov": MP4_CLOCK, ".mkv": Fraction(1, 1000)}  # Matroska counts milliseconds
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
SPACES = {"bt601": "ITU601", "bt709": "ITU709", "bt2020": "BT2020"}  # swscale's names
MOST_FRAMES_A_FRAGMENT = 120  # whatever rate a file of few frames claims to have
FAILURES = (av.FFmpegError, OSError)


class VideoOutput(Node):
    """Write frames to a video file, with their timestamps, range and matrix.

    The file is created with the first frame, under its final name, and plays from then on, also if the process is
    killed: all but about the last two seconds are there. When the run fails it is renamed to `*.partial.*`, so that
    what has the final name is whole.

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
        self.clock = CLOCKS[path.suffix.lower()]
        self._container: Any = None
        self._stream: Any = None
        self._first: Frame | None = None
        self._last_pts = -1
        self._shift = 0
        self._result: Path | None = None

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        check_target(self.path)

    def process(self, frame: Frame) -> None:
        if self._first is None:
            self._start(frame)
        first = self._first or frame
        if (frame.size, frame.pixel_format) != (first.size, first.pixel_format):
            kinds = ["{}x{} {}".format(*each.size, each.pixel_format) for each in (first, frame)]
            raise OutputError(
                f"{self.path}: a video keeps one size and format: it began with {kinds[0]}, now came {kinds[1]}"
            )
        picture = self._in_codec_format(frame, first)
        picture.pts, picture.time_base = self._pts(frame), self.clock
        with self._one_line("cannot be written to"):
            self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        if self._container is None:
            return
        with self._one_line("cannot be finished"):
            self._container.mux(self._stream.encode(None))
            self._container.close()
        self._container = None

    def abort(self) -> None:
        container, self._container = self._container, None
        if container is None:
            return
        with suppress(*FAILURES):
            container.mux(self._stream.encode(None))
        with suppress(*FAILURES):
            container.close()
        self._set_aside()

    def report(self) -> dict[str, Any]:
        return {"path": str(self._result)} if self._result else {}

    def _start(self, frame: Frame) -> None:
        """Create the file. An older one of that name is lost when all is ready to write, and not before."""
        pixel_format = PIXEL_FORMATS.get((self.codec, frame.pixel_format))
        if pixel_format is None:
            raise OutputError(
                f"{self.path}: {self.codec} cannot hold {frame.pixel_format}; write codec: ffv1 and a .mkv path"
            )
        if self.codec == "h264" and (frame.size[0] % 2 or frame.size[1] % 2):
            log.warning("%s: H.264 has even sizes only: the last column or row is repeated once", self.name)
        # An absolute path: FFmpeg takes what stands before a colon for a protocol.
        name, options = str(self.path.absolute()), CONTAINER_OPTIONS[self.path.suffix.lower()]
        container = av.open(name, "w", options=options)
        try:
            with self._one_line("{}x{} {} cannot be encoded".format(*frame.size, frame.pixel_format)):
                self._stream = self._add_stream(container, frame, pixel_format)
            with self._one_line("cannot be written to"):
                self.path.open("wb").close()
        except OutputError:
            container.close()
            raise
        self._container, self._first, self._result = container, frame, self.path
        with self._one_line("cannot be written to"):
            container.start_encoding()

    def _add_stream(self, container: Any, frame: Frame, pixel_format: str) -> Any:
        """A stream with its encoder opened."""
        rate = frame.frame_rate or Fraction(30)
        stream = container.add_stream({"h264": "libx264", "ffv1": "ffv1"}[self.codec], rate=rate)
        context = stream.codec_context
        context.width, context.height = frame.size
        if self.codec == "h264":
            context.width, context.height = (side + side % 2 for side in frame.size)
            context.options = {"crf": str(self.crf), "preset": self.preset}
            context.max_b_frames = 0  # so that decoding time is presentation time, from the first frame on
            context.gop_size = min(max(1, round(rate)), MOST_FRAMES_A_FRAGMENT)  # a fragment a second
        else:
            # Level 3 has checksums, but cannot divide a line of one pixel into the slices it wants.
            context.options = {"level": "3", "slicecrc": "1"} if min(frame.size) > 1 else {"level": "1"}
            context.gop_size = 1
        context.pix_fmt = pixel_format
        context.time_base = stream.time_base = self.clock
        context.color_range = encoded_range(frame, pixel_format)
        if pixel_format != "bgr0":
            context.colorspace = MATRIX_CODES[frame.color_matrix]
        context.open()
        return stream

    def _in_codec_format(self, frame: Frame, first: Frame) -> av.VideoFrame:
        """The frame as the encoder takes it, in the range and matrix of the first, for the file has but one of each."""
        if frame.pixel_format == "gray8":
            frame = replace(frame, data=gray_in(frame, first.color_range), color_range=first.color_range)
        picture = picture_of(frame, pad_to_even=self.codec == "h264")
        wanted = self._stream.codec_context.pix_fmt
        looks = [(each.color_range, each.color_matrix) for each in (frame, first)]
        if picture.format.name == wanted and (looks[0] == looks[1] or frame.pixel_format != "yuv420p"):
            return picture
        gray = frame.pixel_format == "gray8"  # its luma is copied
        return picture.reformat(
            format=wanted,
            src_colorspace=SPACES[frame.color_matrix],
            dst_colorspace=SPACES[first.color_matrix],
            src_color_range=FULL if gray else picture.color_range,
            dst_color_range=FULL if gray else encoded_range(first, wanted),
            interpolation=EXACT if frame.pixel_format == "yuv420p" else None,
        )

    def _pts(self, frame: Frame) -> int:
        """Presentation time in ticks of our clock; later than the last, for no two frames can have one time."""
        pts = round(frame.timestamp_ns * self.clock.denominator / 1_000_000_000)
        if self._last_pts < 0 and pts < 0:
            log.warning("%s: times begin at %.3f s; they are moved to begin at 0", self.name, frame.timestamp_ns / 1e9)
            self._shift = -pts
        self._last_pts = max(pts + self._shift, self._last_pts + 1)
        return self._last_pts

    @contextmanager
    def _one_line(self, what: str) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise OutputError(f"{self.path}: {what}: {reason(error)}") from error

    def _set_aside(self) -> None:
        """Give up the final name; what was written may still be of use."""
        self._result, aside = None, self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")
        if not self.path.is_file():  # a device
            return
        try:
            if not self.path.stat().st_size:
                self.path.unlink()
                return
            self.path.replace(aside)
        except OSError as error:
            log.warning("%s: %s is not whole, and cannot be renamed: %s", self.name, self.path, reason(error))
            return
        self._result = aside
        log.warning("%s: what was written until the failure is in %s", self.name, aside)


def encoded_range(frame: Frame, pixel_format: str) -> int:
    """The range of a frame's values in the file: colour turned into YUV is limited, all else stays as it is."""
    turned = frame.pixel_format == "bgr24" and pixel_format != "bgr0"
    return FULL if frame.color_range == "full" and not turned else LIMITED
