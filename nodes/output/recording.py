"""One video file, from its first frame to its last: it plays at any moment while it is written, and after a crash."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av

from nodes.output.encoding import CPU, GPU, Look, even_size, look_of
from nodes.pictures import reason
from pipeline.errors import OutputError
from pipeline.frame import Frame

log = logging.getLogger("streamfuse")

SUFFIXES = {"h264": (".mp4", ".mov", ".mkv"), "ffv1": (".mkv",)}
CODECS = {CPU: "h264", GPU: "h264", "ffv1": "ffv1"}  # by encoder
PRESETS = {
    name: f"p{number}"
    for number, name in enumerate(("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"), start=1)
}  # of NVENC
CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
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
MOST_FRAMES_A_FRAGMENT = 120  # whatever rate a file of few frames claims to have
FAILURES = (av.FFmpegError, OSError)


class EncoderFailed(OutputError):
    """An encoder does not open, or fails later; nothing is wrong with the disk."""


class Disk:
    """The file below, written through Python.

    PyAV keeps the interpreter's lock while it writes a head or an index. What waits for a slow disk in here lets go of
    it, so that the other nodes go on.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.size = 0
        self._path = path
        self._file: BinaryIO | None = None

    def open(self, new: bool) -> None:
        """Create the file; replace an older one unless it has to be `new`."""
        self._file = self._path.open("xb" if new else "wb", buffering=0)

    def write(self, data: bytes) -> int:
        if self._file is None:  # given up before it began
            return len(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self.size = max(self.size, self._file.tell())
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence) if self._file else 0

    def tell(self) -> int:
        return self._file.tell() if self._file else 0

    def close(self) -> None:
        if self._file:
            self._file.close()


class VideoFile:
    """A file that is being written.

    Args:
        path: .mp4, .mov or .mkv; created now, when all else is ready.
        first: the first frame, which decides on the look; to be written like the others.
        encoder: "libx264", "h264_nvenc" or "ffv1".
        crf: quality of H.264.
        preset: speed of H.264.
        new: never replace a file; and times begin at 0.
        name: who writes it, for messages.

    Raises:
        EncoderFailed: the encoder does not open.
        OutputError: the codec cannot hold it, or it cannot be written.
    """

    def __init__(self, path: Path, first: Frame, encoder: str, crf: int, preset: str, *, new: bool, name: str) -> None:
        self.path, self.encoder, self.crf, self.preset, self.name = path, encoder, crf, preset, name
        self.codec = CODECS[encoder]
        self.clock = CLOCKS[path.suffix.lower()]
        self.result: Path | None = None
        """Where it is: here, set aside after a failure, or nowhere."""
        self.look = self._look(first)
        self._begin_ns = first.timestamp_ns if new else 0
        self._last_pts, self._shift, self._encoded = -1, 0, 0
        self._disk = Disk(path)
        suffix = path.suffix.lower()
        self._container: Any = av.open(self._disk, "w", format=CONTAINERS[suffix], options=CONTAINER_OPTIONS[suffix])
        try:
            with self._one_line("{}x{} {} cannot be encoded".format(*first.size, first.pixel_format), EncoderFailed):
                self._stream = self._add_stream(first.frame_rate or Fraction(30))
            with self._one_line("cannot be written to"):
                self._disk.open(new)
        except OutputError:
            self._container.close()
            raise
        self.result = path
        try:
            with self._one_line("cannot be written to"):
                self._container.start_encoding()
        except OutputError:
            self.give_up()
            raise

    @property
    def seconds(self) -> float:
        """Of the last frame's time, from 0 on."""
        return max(0, self._last_pts) * float(self.clock)

    @property
    def megabytes(self) -> float:
        """Of the file, with what waits in memory for the next cluster or fragment, a second at most."""
        return max(self._disk.size, self._encoded) / 1e6

    def write(self, frame: Frame) -> None:
        """Encode and write a frame that the look holds.

        Raises:
            EncoderFailed: it could not be encoded.
            OutputError: it could not be written.
        """
        picture = self.look.picture(frame, pad_to_even=self.codec == "h264")
        picture.pts, picture.time_base = self._pts(frame), self.clock
        with self._one_line("a frame cannot be encoded", EncoderFailed):
            packets = self._stream.encode(picture)
        with self._one_line("cannot be written to"):
            self._encoded += sum(packet.size for packet in packets)
            self._container.mux(packets)

    def finish(self) -> None:
        """Make it whole, and close it."""
        with self._one_line("cannot be finished"):
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._disk.close()

    def give_up(self) -> None:
        """Keep what can be kept, under another name. Never raises."""
        with suppress(*FAILURES):
            self._container.mux(self._stream.encode(None))
        with suppress(*FAILURES):
            self._container.close()
        with suppress(OSError):
            self._disk.close()
        self._set_aside()

    def _look(self, first: Frame) -> Look:
        look = look_of(first, self.codec)
        if look is None:
            raise OutputError(
                f"{self.path}: {self.codec} cannot hold {first.pixel_format}; write codec: ffv1 and a .mkv path"
            )
        if self.codec == "h264" and even_size(look.size) != look.size:
            log.warning("%s: H.264 has even sizes only: the last column or row is repeated once", self.name)
        return look

    def _add_stream(self, rate: Fraction) -> Any:
        """A stream with its encoder opened."""
        stream = self._container.add_stream(self.encoder, rate=rate)
        stream.time_base = self.clock
        open_encoder(stream.codec_context, self.look, self.crf, self.preset, rate, self.clock)
        return stream

    def _pts(self, frame: Frame) -> int:
        """Presentation time in ticks of our clock; later than the last, for no two frames can have one time."""
        pts = round((frame.timestamp_ns - self._begin_ns) * self.clock.denominator / 1_000_000_000)
        if self._last_pts < 0 and pts < 0:
            log.warning("%s: times begin at %.3f s; they are moved to begin at 0", self.name, frame.timestamp_ns / 1e9)
            self._shift = -pts
        self._last_pts = max(pts + self._shift, self._last_pts + 1)
        return self._last_pts

    @contextmanager
    def _one_line(self, what: str, kind: type[OutputError] = OutputError) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise kind(f"{self.path}: {what}: {reason(error)}") from error

    def _set_aside(self) -> None:
        """Give up the final name; what was written may still be of use."""
        self.result, aside = None, self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")
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
        self.result = aside
        log.warning("%s: what was written until the failure is in %s", self.name, aside)


def open_encoder(context: Any, look: Look, crf: int, preset: str, rate: Fraction, clock: Fraction) -> None:
    """Set up an encoder for files, and open it.

    NVENC takes `crf` for the quality that it keeps constant, of which 0 is not lossless but leaves the choice to it.
    """
    look.apply(context, pad_to_even=context.name != "ffv1")
    context.time_base = clock
    if context.name == "ffv1":
        # Level 3 has checksums, but cannot divide a line of one pixel into the slices it wants.
        context.options = {"level": "3", "slicecrc": "1"} if min(look.size) > 1 else {"level": "1"}
        context.gop_size = 1
    else:
        context.max_b_frames = 0  # so that decoding time is presentation time, from the first frame on
        context.gop_size = min(max(1, round(rate)), MOST_FRAMES_A_FRAGMENT)  # a fragment a second
        context.options = {"crf": str(crf), "preset": preset}
    if context.name == GPU:
        context.bit_rate = 0
        # Each packet is given at once, so that a crash takes no more than with the CPU's.
        context.options = {"rc": "vbr", "cq": str(max(1, crf)), "preset": PRESETS[preset], "delay": "0"}
    context.open()


def try_gpu(crf: int, preset: str) -> None:
    """Open NVENC as for a file; raises whatever FFmpeg does."""
    context = av.CodecContext.create(GPU, "w")
    open_encoder(context, Look((640, 480), "yuv420p", "limited", "bt709"), crf, preset, Fraction(30), MP4_CLOCK)
