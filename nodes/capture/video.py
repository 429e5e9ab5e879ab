"""capture.video: a video file, a folder of images, or one image."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import av
from pydantic import Field

from nodes.pictures import IMAGE_SUFFIXES, array_of, color_matrix_of, color_range_of, pixel_format_of, read_image
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame, PixelFormat
from pipeline.node import EndOfStream, Node

log = logging.getLogger("streamfuse")

NOT_VIDEO = {"tty", "image2", "lrc", "srt", "webvtt", "subviewer", "ass"}  # formats FFmpeg guesses for plain text


class VideoCapture(Node):
    """Frames of a recording, with the presentation times of the file.

    Args:
        path: a video that FFmpeg can read; a folder of images, taken in natural order (`2.png` before `10.png`); or one
            image. 8-bit gray and yuv420p come as they are, gray of more bits bit-exact as gray16, RGB as bgr24, anything
            else as yuv420p with range and matrix kept.
        fps: images a second of a folder.
        pace: "full" gives frames as fast as they are wanted; "realtime" at the times of the file, as a camera would,
            which makes the pipeline live.
    """

    def __init__(
        self,
        path: Path,
        fps: Annotated[float, Field(gt=0, le=1000)] = 25.0,
        pace: Literal["full", "realtime"] = "full",
    ) -> None:
        if "://" in str(path) or re.match(r"^[a-z]+:/[^/]", str(path)):
            raise ConfigError(f"setting 'path' is {str(path)!r}: this node reads files and folders, not addresses")
        self.path, self.fps, self.pace = path, Fraction(fps).limit_denominator(1001), pace
        self.live = pace == "realtime"
        self.expected_frames: int | None = None
        self._frames: Iterator[Frame] | None = None
        self._container: Any = None
        self._began: float | None = None
        self._next: Frame | None = None
        self._notes: dict[str, int] = {}

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        if not self.path.exists():
            raise SourceError(f"{self.path}: there is no such file or folder")
        if self.path.is_dir():
            self._frames = self._open_folder()
        elif self.path.suffix.lower() in IMAGE_SUFFIXES:
            self.expected_frames = 1
            self._frames = self._images([self.path])
        else:
            self._frames = self._open_video()
        # The first frame is decoded here: what cannot be read is known before anything flows, and so is the size.
        self._next = next(self._frames, None)
        if self._next is None:
            raise SourceError(f"{self.path}: there is not one frame in it")
        self.size = self._next.size

    def process(self) -> Frame | None:
        assert self._frames is not None
        if self._next is None:
            self._next = next(self._frames, None)
        if self._next is None:
            raise EndOfStream
        if self.live and not self._due(self._next):
            return None
        frame, self._next = self._next, None
        return frame

    def _due(self, frame: Frame) -> bool:
        """Wait for the frame's time, a tenth of a second at most, so that we can be stopped."""
        now = time.monotonic()
        if self._began is None:
            self._began = now - frame.timestamp_ns / 1e9
        left = self._began + frame.timestamp_ns / 1e9 - now
        time.sleep(min(max(left, 0), 0.1))
        return left <= 0.1

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def report(self) -> dict[str, Any]:
        return {"path": str(self.path), "notes": self._notes}

    def _open_folder(self) -> Iterator[Frame]:
        paths = [path for path in self.path.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
        if not paths:
            raise SourceError(f"{self.path}: no image in this folder; legal are {', '.join(sorted(IMAGE_SUFFIXES))}")
        self.expected_frames = len(paths)
        return self._images(sorted(paths, key=natural))

    def _images(self, paths: list[Path]) -> Iterator[Frame]:
        folder = self.path.is_dir()
        for number, path in enumerate(paths):
            try:
                image, alpha = read_image(path)
            except ValueError as error:
                raise SourceError(f"{path}: {error}") from error
            if alpha:
                if not self._notes:
                    log.warning("%s: %s has an alpha channel, which is left out", self.name, path)
                self._notes["alpha_channels_left_out"] = self._notes.get("alpha_channels_left_out", 0) + 1
            yield Frame(
                data=image,
                pixel_format=image_format(image),
                size=(image.shape[1], image.shape[0]),
                timestamp_ns=round(number * 1_000_000_000 / self.fps),
                timestamp_source="pts",
                sequence=number,
                stream=self.name,
                frame_rate=self.fps if folder else None,
                name=path.stem if folder else None,
            )

    def _open_video(self) -> Iterator[Frame]:
        try:
            self._container = av.open(str(self.path), timeout=(10.0, 10.0))
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(
                f"{self.path}: not a video that can be read, or cut short at its head ({reason})"
            ) from error
        if not self._container.streams.video or NOT_VIDEO & set(self._container.format.name.split(",")):
            raise SourceError(f"{self.path}: not a video (FFmpeg takes it for {self._container.format.long_name!r})")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.expected_frames = stream.frames or None
        return self._decode(stream)

    def _decode(self, stream: Any) -> Iterator[Frame]:
        """Decoded frames in order of presentation; what was lost on the way is raised at the end."""
        number, last_ns, broken = 0, -1, 0
        for packet in self._packets(stream):
            if packet is None:
                broken += 1
                continue
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                broken += 1
                continue
            for picture in pictures:
                timestamp_ns = self._timestamp_ns(picture, stream, last_ns)
                yield self._frame(picture, number, timestamp_ns, stream.average_rate)
                number, last_ns = number + 1, timestamp_ns
        self._check_whole(stream, number, last_ns, broken)

    def _packets(self, stream: Any) -> Iterator[Any]:
        """Packets of the stream; None for the place where the file breaks off."""
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:
                yield None
                return
            yield packet

    def _timestamp_ns(self, picture: Any, stream: Any, last_ns: int) -> int:
        """Presentation time; repaired to go on where the file has none or goes back."""
        if picture.pts is not None:
            timestamp_ns = round(picture.pts * picture.time_base * 1_000_000_000)
            if timestamp_ns > last_ns:
                return timestamp_ns
        self._notes["timestamps_repaired"] = self._notes.get("timestamps_repaired", 0) + 1
        interval_ns = round(1_000_000_000 / (stream.average_rate or 25))
        return last_ns + interval_ns if last_ns >= 0 else 0

    def _frame(self, picture: Any, number: int, timestamp_ns: int, rate: Fraction | None) -> Frame:
        pixel_format: PixelFormat = pixel_format_of(picture)
        if number == 0 and any(component.is_alpha for component in picture.format.components):
            log.warning("%s: %s has an alpha channel, which is left out", self.name, self.path)
        return Frame(
            data=array_of(picture, pixel_format),
            pixel_format=pixel_format,
            size=(picture.width, picture.height),
            timestamp_ns=timestamp_ns,
            timestamp_source="pts",
            sequence=number,
            stream=self.name,
            color_range=color_range_of(picture),
            color_matrix=color_matrix_of(picture),
            frame_rate=rate,
        )

    def _check_whole(self, stream: Any, count: int, last_ns: int, broken: int) -> None:
        """Raise what is missing by the file's own account."""
        if stream.frames and count < stream.frames:
            raise SourceError(f"{self.path}: cut short: {count} of {stream.frames} frames could be read")
        seconds = self._container.duration / av.time_base if self._container.duration else 0.0
        start = (self._container.start_time or 0) / av.time_base
        # The file's duration may round, or count audio that goes on a little: less than half a second is no loss.
        if count and not stream.frames and last_ns / 1e9 < start + seconds - 0.5:
            raise SourceError(
                f"{self.path}: cut short: the file says {seconds:.1f} s, {last_ns / 1e9 - start:.1f} s ({count} frames) "
                "could be read"
            )
        if broken:
            raise SourceError(f"{self.path}: damaged: {broken} packets could not be decoded, {count} frames could")


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Key for sorting names as people count: 2 before 10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def image_format(image: Any) -> PixelFormat:
    if image.ndim == 3:
        return "bgr24"
    return "gray16" if image.dtype.itemsize == 2 else "gray8"
