"""capture.video: a video file, a folder of images, or one image, at once or as if it came from a camera."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from pydantic import Field

from nodes.capture.decoding import Decoding, Hwaccel
from nodes.capture.recording import Recording
from pipeline.control import Control, number
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Node, Running

log = logging.getLogger("streamfuse")

SECOND_NS = 1_000_000_000
LONGEST_WAIT_NS = SECOND_NS // 10  # so that we can be stopped
LATEST_NS = SECOND_NS  # a live frame that is later than this is left out
LONGEST_SKIP_NS = SECOND_NS  # if leaving out frames for so long does not help, it is reading that takes too long
LONG_SILENCE_NS = 5 * SECOND_NS  # before a first frame, that is worth a word


class Start:
    """When the recordings of one live pipeline start: together, so that their times are to each other as in the files.

    The one whose times begin first starts at once.
    """

    _of: ClassVar[WeakKeyDictionary[Running, Start]] = WeakKeyDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._first_ns: int | None = None
        self._origin_ns: int | None = None

    @classmethod
    def of(cls, running: Running | None) -> Start:
        """What the nodes of a pipeline share; a node by itself has its own."""
        if running is None:
            return cls()
        with cls._lock:
            return cls._of.setdefault(running, cls())

    def join(self, first_ns: int) -> None:
        """Take part, with the presentation time of the first frame; before any node starts."""
        with self._lock:
            self._first_ns = first_ns if self._first_ns is None else min(self._first_ns, first_ns)

    def clock_ns(self, presentation_ns: int, now_ns: int) -> int:
        """Of a presentation time, the moment on the host's clock. The first call is the start."""
        with self._lock:
            if self._origin_ns is None:
                self._origin_ns = now_ns - (self._first_ns or 0)
            return self._origin_ns + presentation_ns

    def put_off(self, presentation_ns: int, now_ns: int) -> None:
        """Go on from a presentation time now, all together."""
        with self._lock:
            assert self._origin_ns is not None
            self._origin_ns = max(self._origin_ns, now_ns - presentation_ns)


class VideoCapture(Node):
    """Frames of a recording, with the presentation times of the file; live, on the host's clock.

    Args:
        path: a video that FFmpeg can read; a folder of images, taken in natural order (`2.png` before `10.png`); or one
            image. 8-bit gray and yuv420p come as they are, gray of more bits bit-exact as gray16, RGB as bgr24,
            anything else as yuv420p with range and matrix kept.
        fps: images a second of a folder.
        pace: "full" gives frames as fast as they are wanted; "realtime" at the times of the file, as a camera would,
            which makes the pipeline live. Recordings of one pipeline then start together, and a frame that is more than
            a second late is left out.
        loop: with pace "realtime": from the last frame go on to the first, by itself of each recording; times go on,
            too.
        offset_ms: constant that is added to the times.
        hwaccel: "auto" decodes long videos of 1280x720 and more by CUDA where it gives the same as the CPU, bit by bit,
            and says why where it does not; "cuda" insists on it; "none" leaves it to the CPU. A GPU patches damaged
            pictures without a word, where the CPU tells of them: to look for damage, set "none".
    """

    def __init__(
        self,
        path: Path,
        fps: Annotated[float, Field(ge=0.001, le=1000)] = 25.0,
        pace: Literal["full", "realtime"] = "full",
        loop: bool = False,
        offset_ms: Annotated[float, Field(ge=-1000, le=1000)] = 0.0,
        hwaccel: Hwaccel = "auto",
    ) -> None:
        if "://" in str(path) or re.match(r"^[a-z]+:/[^/]", str(path)):
            raise ConfigError(f"setting 'path' is {str(path)!r}: this node reads files and folders, not addresses")
        if loop and pace == "full":
            raise ConfigError("setting 'loop' is true: that needs pace: realtime, for it never ends")
        self.path, self.fps, self.pace = path, Fraction(fps).limit_denominator(1001), pace
        self.loop, self.offset_ms = loop, offset_ms
        self.live = pace == "realtime"
        self._decoding = Decoding(hwaccel)
        self._recording = Recording(path, self.fps, self._decoding)
        self._frames: Iterator[Frame] | None = None
        self._next: Frame | None = None
        """Read, and not yet given."""
        self._round_ns, self._round_frames = 0, 0
        """What earlier rounds of a loop add to times and numbers."""
        self._end_ns, self._count = 0, 0
        """When the last frame that was read ends, and how many there were, all rounds together."""
        self._start = Start()
        self._began = False
        self._late_since_ns: int | None = None

    @property
    def expected_frames(self) -> int | None:
        """How many are to come by the file's own account; None where it does not say, or in a loop."""
        return None if self.loop else self._recording.expected_frames

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        self._recording.stream = self.name
        self._decoding.open(self.name)
        # The first frame is decoded here: what cannot be read is known before anything flows, and so is the size.
        self._next = self._noted(self._first())
        self.size, self._decoding.goes_on = self._next.size, self.live
        self._start = Start.of(self.running)
        self._start.join(self._next.timestamp_ns)

    def process(self) -> Frame | None:
        if self._next is None:
            self._next = self._read()
        if self.live:
            return self._when_due(self._next)
        frame, self._next = self._next, None
        return frame if not self.offset_ms else replace(frame, timestamp_ns=frame.timestamp_ns + self._offset_ns)

    def close(self) -> None:
        self._frames = self._next = None
        self._recording.close()

    def report(self) -> dict[str, Any]:
        return {"path": str(self.path), "notes": dict(self._recording.notes)}

    def gauges(self) -> dict[str, float]:
        return {"late_frames_left_out": self._recording.notes["late_frames_left_out"]} if self.live else {}

    def controls(self) -> dict[str, Control]:
        return {"offset_ms": number("Offset of the timestamps", self.offset_ms, -1000, 1000, unit="ms")}

    def change(self, control: str, value: Any) -> None:
        self.offset_ms = value

    @property
    def _offset_ns(self) -> int:
        return round(self.offset_ms * 1e6)

    def _first(self) -> Frame:
        """Open the recording and read its first frame."""
        self._frames = self._recording.open()
        frame = next(self._frames, None)
        if frame is None:
            raise SourceError(f"{self.path}: there is not one frame in it")
        return frame

    def _read(self) -> Frame:
        """The next frame; after the last one of a loop the first again."""
        assert self._frames is not None
        try:
            frame = next(self._frames, None)
        except SourceError as error:
            if not self.loop:
                raise
            self._recording.note("damaged_rounds", f"{error}; the loop goes on")
            frame = None
        if frame is not None:
            return self._noted(frame)
        if not self.loop:
            raise EndOfStream
        self._recording.close()
        frame = self._first()
        self._round_ns, self._round_frames = self._end_ns - frame.timestamp_ns, self._count - frame.sequence
        return self._noted(frame)

    def _noted(self, frame: Frame) -> Frame:
        """Keep what the next round goes on from."""
        interval_ns = round(SECOND_NS / (frame.frame_rate or self.fps))
        self._end_ns = frame.timestamp_ns + self._round_ns + interval_ns
        self._count = frame.sequence + self._round_frames + 1
        return frame

    def _when_due(self, frame: Frame) -> Frame | None:
        """Wait for a frame's moment, a tenth of a second at most."""
        now_ns, presentation_ns = time.monotonic_ns(), frame.timestamp_ns + self._round_ns
        captured_ns = self._start.clock_ns(presentation_ns, now_ns)
        left_ns = captured_ns - now_ns
        if not self._began and left_ns > LONG_SILENCE_NS:
            log.warning("%s: its times begin %.1f s after the start: it waits", self.name, left_ns / 1e9)
        self._began = True
        if left_ns < -LATEST_NS:
            self._leave_out(presentation_ns, now_ns)
            return None
        time.sleep(min(max(left_ns, 0), LONGEST_WAIT_NS) / SECOND_NS)
        if left_ns > LONGEST_WAIT_NS:
            return None
        self._next, self._late_since_ns = None, None
        return replace(frame, timestamp_ns=captured_ns + self._offset_ns, sequence=frame.sequence + self._round_frames)

    def _leave_out(self, presentation_ns: int, now_ns: int) -> None:
        """A frame is too late; go on from it now if those before it were, too, for so long that it does not help."""
        if self._late_since_ns is None:
            self._late_since_ns = now_ns
        elif now_ns - self._late_since_ns > LONGEST_SKIP_NS:
            self._late_since_ns = None
            self._start.put_off(presentation_ns, now_ns)
            self._recording.note("stalls", f"{self.path} cannot be read as fast as it is to be shown: it stalls")
            return
        self._next = None
        self._recording.note("late_frames_left_out", "frames come more than a second late and are left out")
