"""A recording, read frame by frame: a video file, a folder of images, or one image. What `capture.video` reads from.

Not a node.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from nodes.capture.decoding import Decoder, Decoding
from nodes.pictures import (
    IMAGE_SUFFIXES,
    array_of,
    color_matrix_of,
    color_range_of,
    image_format,
    images_in,
    pixel_format_of,
    read_image,
    reason,
)
from pipeline.errors import SourceError
from pipeline.frame import Frame, PixelFormat

log = logging.getLogger("streamfuse")

NOT_VIDEO = {"tty", "image2", "lrc", "srt", "webvtt", "subviewer", "ass"}  # formats FFmpeg guesses for plain text
USUAL_RATE = Fraction(25)  # frames a second, for a file that does not say


@dataclass
class Seen:
    """What came of a video so far."""

    packets: int = 0
    discarded: int = 0
    """Packets that an edit list leaves out on purpose."""
    damaged: int = 0
    """Packets that are incomplete or were not to be decoded, and frames that the decoder had to patch."""
    frames: int = 0
    end_s: float = 0.0
    """Presentation time at which the last packet's frame ends."""
    first_dts: int | None = None
    last_ns: int | None = None
    """Presentation time of the last frame."""
    longest_ns: int = 0
    """Longest time between two frames."""


class Recording:
    """What is in a file or folder.

    Args:
        path: a video that FFmpeg can read, a folder of images, or one image.
        fps: images a second of a folder.
        decoding: who decodes a video.
    """

    def __init__(self, path: Path, fps: Fraction, decoding: Decoding) -> None:
        self.path, self.fps, self.decoding = path, fps, decoding
        self.stream = ""
        """Name of the stream that its frames say they are of."""
        self.expected_frames: int | None = None
        """How many there are by the file's own account, once open."""
        self.notes: Counter[str] = Counter()
        """What the summary tells."""
        self._container: Any = None

    def open(self) -> Iterator[Frame]:
        """Its frames from the first one on, with presentation times.

        Raises:
            SourceError: it cannot be read; also raised by the iterator, at the end, of what is broken or cut short.
            DeviceError: the GPU is asked for, and cannot decode it; also raised by the iterator where it fails.
        """
        try:
            return self._find()
        except OSError as error:  # a name too long, or a folder that may not be looked into
            raise SourceError(f"{self.path}: cannot be read: {reason(error)}") from error

    def close(self) -> None:
        """Let go of the file."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def note(self, key: str, warning: str) -> None:
        """Count something the summary tells, and warn the first time."""
        if not self.notes[key]:
            log.warning("%s: %s", self.stream, warning)
        self.notes[key] += 1

    def _find(self) -> Iterator[Frame]:
        """The frames of what is there, be it folder, image or video."""
        if self.path.is_dir():
            return self._images(images_in(self.path))
        if not self.path.is_file():
            what = "is neither a file nor a folder" if self.path.exists() else "there is no such file or folder"
            raise SourceError(f"{self.path}: {what}")
        if self.path.suffix.lower() in IMAGE_SUFFIXES:
            return self._images([self.path])
        return self._open_video()

    # Images:

    def _images(self, paths: list[Path]) -> Iterator[Frame]:
        self.decoding.refuse("images are")
        self.expected_frames, folder = len(paths), self.path.is_dir()
        for number, path in enumerate(paths):
            try:
                image, alpha = read_image(path)
            except ValueError as error:
                raise SourceError(f"{path}: {error}") from error
            if alpha:
                self.note("alpha_channels_left_out", f"{path} has an alpha channel, which is left out")
            yield Frame(
                data=image,
                pixel_format=image_format(image),
                size=(image.shape[1], image.shape[0]),
                timestamp_ns=round(number * 1_000_000_000 / self.fps),
                timestamp_source="pts",
                sequence=number,
                stream=self.stream,
                frame_rate=self.fps if folder else None,
                name=path.stem if folder else None,
            )

    # Video:

    def _open_video(self) -> Iterator[Frame]:
        try:
            # An absolute path: FFmpeg takes what stands before a colon for a protocol.
            name = str(self.path.absolute())
            self._container = av.open(name, metadata_errors="replace", options={"protocol_whitelist": "file"})
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(
                f"{self.path}: not a video that can be read, or cut short at its head ({reason(error)})"
            ) from error
        covers = av.stream.Disposition.attached_pic  # of music
        streams = [stream for stream in self._container.streams.video if not stream.disposition & covers]
        if not streams or NOT_VIDEO & set(self._container.format.name.split(",")):
            taken_for = self._container.format.long_name
            raise SourceError(f"{self.path}: there is no video in it (FFmpeg takes it for {taken_for!r})")
        stream = streams[0]
        if stream.codec_context is None:
            raise SourceError(f"{self.path}: its codec is one that cannot be decoded here; convert it, e.g. to H.264")
        stream.thread_type = "AUTO"
        self.expected_frames = stream.frames or None
        return self._decode(stream, self.decoding.begin(stream))

    def _decode(self, stream: Any, decoder: Decoder) -> Iterator[Frame]:
        """Decoded frames in order of presentation; what was lost on the way is raised at the end."""
        seen = Seen()
        for packet in self._packets(stream, seen):
            pictures, damaged = decoder.decode(packet)
            seen.damaged += damaged
            for picture in pictures:
                seen.damaged += picture.is_corrupt and not (packet and packet.is_corrupt)
                if rotation := picture.rotation or decoder.rotation:
                    turn = f"{self.path} asks to be shown turned by {rotation} degrees, and is not turned"
                    self.note("rotations_left_out", turn)
                frame = self._frame(picture, stream, seen)
                seen.frames, seen.last_ns = seen.frames + 1, frame.timestamp_ns
                yield frame
        self._check_whole(stream, seen)

    def _packets(self, stream: Any, seen: Seen) -> Iterator[Any]:
        """Packets of the stream; at the end, or where the file breaks off, None to get out what the decoder holds."""
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                seen.damaged += 1
                packet = None
            if packet is None:
                yield None
                return
            if not packet.size:  # a dropped frame of AVI, or the demuxer's own sign of the end
                continue
            seen.packets += 1
            seen.discarded += packet.is_discard
            seen.damaged += packet.is_corrupt
            if packet.pts is not None:
                seen.end_s = max(seen.end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            yield packet

    def _frame(self, picture: Any, stream: Any, seen: Seen) -> Frame:
        pixel_format: PixelFormat = pixel_format_of(picture)
        if any(component.is_alpha for component in picture.format.components):
            self.note("alpha_channels_left_out", f"{self.path} has an alpha channel, which is left out")
        return Frame(
            data=array_of(picture, pixel_format),
            pixel_format=pixel_format,
            size=(picture.width, picture.height),
            timestamp_ns=self._timestamp_ns(picture, stream, seen),
            timestamp_source="pts",
            sequence=seen.frames,
            stream=self.stream,
            color_range=color_range_of(picture),
            color_matrix=color_matrix_of(picture),
            frame_rate=stream.average_rate,
        )

    def _timestamp_ns(self, picture: Any, stream: Any, seen: Seen) -> int:
        """Presentation time; repaired to go on where the file has none or goes back."""
        ticks, avi = picture.pts, self._container.format.name == "avi"
        if avi and (ticks := picture.dts) is not None:
            # AVI counts frames as they are decoded; FFmpeg's guess at when to show them is wrong if they are reordered.
            seen.first_dts = ticks if seen.first_dts is None else seen.first_dts
            ticks -= seen.first_dts
        if ticks is not None:
            timestamp_ns = round(ticks * stream.time_base * 1_000_000_000)
            if seen.last_ns is None:
                return timestamp_ns
            if timestamp_ns > seen.last_ns:
                seen.longest_ns = max(seen.longest_ns, timestamp_ns - seen.last_ns)
                return timestamp_ns
        if not avi:
            self.note("timestamps_repaired", f"{self.path} has frames without a time or in disorder: we count on")
        interval_ns = round(1_000_000_000 / (stream.average_rate or USUAL_RATE))
        return 0 if seen.last_ns is None else seen.last_ns + interval_ns

    def _check_whole(self, stream: Any, seen: Seen) -> None:
        """Raise SourceError where frames are missing by the file's own account, or damaged."""
        kind, interval_s = self._container.format.name, float(1 / (stream.average_rate or USUAL_RATE))
        mp4 = "mp4" in kind.split(",")
        # MP4 knows when its last frame ends; elsewhere that is told with or without the last frame's duration.
        slack_s = interval_s / 2 if mp4 else max(interval_s * 1.5, seen.longest_ns / 1e9)
        promised_s = promised_end_s(self._container, stream)
        covered = promised_s is None or seen.end_s >= promised_s - slack_s
        promised = stream.frames - seen.discarded
        if mp4 and covered:  # an edit list may leave out frames at the end, too
            promised = min(promised, seen.packets - seen.discarded)
        if seen.frames < promised:
            raise SourceError(f"{self.path}: cut short or damaged: {seen.frames} of {promised} frames could be read")
        read = f"{seen.frames} frames could be read"
        if not covered:
            raise SourceError(f"{self.path}: cut short: {seen.end_s:.2f} s of {promised_s:.2f} s, {read}")
        packet = 192 if self.path.suffix.lower() in (".m2ts", ".mts") else 188  # bytes; with and without a time code
        if kind == "mpegts" and self._container.size % packet:
            raise SourceError(f"{self.path}: cut short in the middle of a packet; {read}")
        if seen.damaged:
            places = f"{seen.damaged} place{'s' if seen.damaged > 1 else ''}"
            raise SourceError(f"{self.path}: damaged in {places}; {read}")


def promised_end_s(container: Any, stream: Any) -> float | None:
    """Presentation time at which the video ends at the earliest by the file's own account; None if it does not say."""
    if stream.duration and stream.start_time is not None:
        return float((stream.start_time + stream.duration) * stream.time_base)
    if clock := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):  # Matroska's, of one track
        hours, minutes, seconds = clock.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration and len(container.streams) == 1:  # or else it may be another stream that is so long
        return float(container.duration / av.time_base)
    return None
