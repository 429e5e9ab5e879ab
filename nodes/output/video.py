"""output.video: video files that play at any moment while they are written, and after a crash."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nodes.output.encoding import CPU, GPU, choose_encoder, look_of
from nodes.output.recording import SUFFIXES, EncoderFailed, VideoFile, try_gpu
from nodes.pictures import check_target
from pipeline.control import Control, switch
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame
from pipeline.node import Node

log = logging.getLogger("streamfuse")

RETRY_S = 10.0  # after the disk was full or failed
LOOK_S = 1.0  # how often to look for free space
MORE_ROOM = 1.25  # times `min_free_mb` to go on, so that a disk on the brink does not come to a hundred short files
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class VideoOutput(Node):
    """Write frames to a video file, with their timestamps, range and matrix.

    The file is created with the first frame, under its final name, and plays from then on, also if the process is
    killed: all but about the last two seconds are there. When the run fails it is renamed to `*.partial.*`, so that
    what has the final name is whole.

    Live, each file's times begin at 0, and no file is ever replaced: where `path` is there already, and for every
    further file, the name gets date and time, `night-20261122-181500.mkv`. A new file begins with the settings below,
    when `record` is switched on again, and when the size or the encoder's pixel format changes. A disk that is full or
    fails stops the recording and nothing else: it is tried again every 10 s, and frames not recorded are counted. A
    slow disk makes this node drop frames, and no other.

    Args:
        path: .mp4, .mov or .mkv. MKV keeps times to the millisecond, the others to 1/90000 s.
        codec: "h264"; "h264_nvenc", the same by an NVIDIA GPU that has an encoder; "ffv1", which is lossless, for .mkv.
            "auto" is h264; live, h264_nvenc as long as it works.
        crf: quality of H.264, 0 (lossless, but not of NVENC) to 51; 18 is visually transparent.
        preset: speed of H.264 against size.
        segment_s: live, begin a new file every so many seconds, all with date and time in their names.
        segment_mb: live, the same for every so many megabytes.
        min_free_mb: live, stop before the disk has fewer megabytes free.
        record: live, whether to record from the start; can be switched while running.
    """

    def __init__(
        self,
        path: Path,
        codec: Literal["auto", "h264", "h264_nvenc", "ffv1"] = "auto",
        crf: Annotated[int, Field(ge=0, le=51)] = 18,
        preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = "veryfast",
        segment_s: Annotated[float, Field(ge=1)] | None = None,
        segment_mb: Annotated[float, Field(ge=1)] | None = None,
        min_free_mb: Annotated[float, Field(ge=0)] = 200,
        record: bool = True,
    ) -> None:
        self.path, self.crf, self.preset = path, crf, preset
        self.segment_s, self.segment_mb, self.min_free_mb, self.record = segment_s, segment_mb, min_free_mb, record
        self.wanted, self.codec = codec, "ffv1" if codec == "ffv1" else "h264"
        self.encoder = "ffv1" if codec == "ffv1" else CPU
        if path.suffix.lower() not in SUFFIXES[self.codec]:
            legal = " or ".join(SUFFIXES[self.codec])
            raise ConfigError(f"setting 'path' is {str(path)!r}: {self.codec} goes into {legal}")
        self._file: VideoFile | None = None
        self._results: list[Path] = []
        """Files that are closed."""
        self._begin_ns = 0
        self._done_s = self._done_mb = 0.0
        self._missed: Counter[str] = Counter()
        self._trouble: str | None = None
        """Why there is no recording now, as a reason to count by."""
        self._again_at = self._look_at = 0.0

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        check_target(self.path)
        if self.wanted == GPU or (self.wanted == "auto" and self.in_live_mode):
            self.encoder = choose_encoder(self.wanted, self.name, lambda: try_gpu(self.crf, self.preset))
        if self.in_live_mode:
            return
        for setting in ("segment_s", "segment_mb"):
            if getattr(self, setting) is not None:
                raise ConfigError(f"Node {self.name!r}: setting {setting!r} is for live pipelines; leave it out")
        if not self.record:
            raise ConfigError(f"Node {self.name!r}: setting 'record' is for live pipelines; leave the node out")

    def process(self, frame: Frame) -> None:
        if self.in_live_mode:
            self._process_live(frame)
            return
        if self._file is None:
            self._file = self._create(frame, self.path, new=False)
            self._first = frame
        elif (frame.size, frame.pixel_format) != (self._first.size, self._first.pixel_format):
            kinds = ["{}x{} {}".format(*each.size, each.pixel_format) for each in (self._first, frame)]
            raise OutputError(
                f"{self.path}: a video keeps one size and format: it began with {kinds[0]}, now came {kinds[1]}"
            )
        self._file.write(frame)

    def close(self) -> None:
        if self.in_live_mode:
            self._end_file()
        elif self._file is not None:
            self._file.finish()
            self._put_away()

    def abort(self) -> None:
        if self._file is not None:
            self._file.give_up()
            self._put_away()

    def report(self) -> dict[str, Any]:
        paths = self._results + ([self._file.result] if self._file and self._file.result else [])
        if not self.in_live_mode:
            return {"path": str(paths[-1])} if paths else {}
        told: dict[str, Any] = {"notes": {f"not recorded: {why}": count for why, count in self._missed.items()}}
        if len(paths) > 1:
            told["notes"]["files"] = len(paths)
        if paths:
            several = self.path.with_name(f"{self.path.stem}*{self.path.suffix}")
            told["path"] = str(paths[0] if len(paths) == 1 else several)
        return told

    def gauges(self) -> dict[str, float]:
        file = self._file
        return {
            "recording": float(file is not None),
            "seconds": self._done_s + (file.seconds if file else 0),
            "megabytes": self._done_mb + (file.megabytes if file else 0),
            "not_recorded": float(sum(count for why, count in self._missed.copy().items() if why != "off")),
        }

    def controls(self) -> dict[str, Control]:
        return {"record": switch("Record", self.record)} if self.in_live_mode else {}

    def change(self, control: str, value: Any) -> None:
        self.record = value
        if not value:
            self._end_file()
        self._trouble, self._again_at = None, 0.0  # a person asks: do not wait

    def _create(self, frame: Frame, path: Path, new: bool) -> VideoFile:
        return VideoFile(path, frame, self.encoder, self.crf, self.preset, new=new, name=self.name)

    def _put_away(self) -> None:
        """Remember what became of the file."""
        file, self._file = self._file, None
        assert file is not None
        self._done_s, self._done_mb = self._done_s + file.seconds, self._done_mb + file.megabytes
        if file.result:
            self._results.append(file.result)

    # Live:

    def _process_live(self, frame: Frame) -> None:
        """Record the frame, or count why not; raises only where the first frame shows that the config is wrong."""
        if not self.record:
            self._missed["off"] += 1
        elif look_of(frame, self.codec) is None:
            self._refuse(frame)
        elif why := self._obstacle():
            self._missed[why] += 1
        else:
            self._write(frame)

    def _refuse(self, frame: Frame) -> None:
        """A frame that the codec cannot hold."""
        if not self._results and not self._file:
            self._create(frame, self.path, new=True)  # which says so
        if not self._missed["format"]:
            log.warning("%s: %s cannot hold %s; not recorded", self.name, self.codec, frame.pixel_format)
        self._missed["format"] += 1

    def _obstacle(self) -> str | None:
        """Why not to write now; looks for free space once a second."""
        now = self.now()
        if self._file is None and now < self._again_at:
            return self._trouble
        if self._file is not None and now < self._look_at:
            return None
        self._look_at = now + LOOK_S
        wanted_mb = self.min_free_mb * (MORE_ROOM if self._trouble == "disk_full" else 1)
        try:
            free_mb = self.free_mb()
        except OSError as error:
            return self._stop("write_failed", f"{self.path.parent}: {error.strerror}")
        if free_mb >= wanted_mb:
            return None
        self._end_file()
        return self._stop("disk_full", f"{self.path.parent} has {free_mb:.0f} MB free, of {wanted_mb:.0f} wanted")

    def _write(self, frame: Frame) -> None:
        try:
            if self._file is not None and self._is_over(self._file, frame):
                self._end_file()
            if self._file is None:
                self._file, self._begin_ns = self._create(frame, self._next_path(), new=True), frame.timestamp_ns
                self._tell_of_recovery()
            self._file.write(frame)
        except OutputError as error:
            if self._file is not None:
                self._file.give_up()
                self._put_away()
            if isinstance(error, EncoderFailed) and self.wanted == "auto" and self.encoder == GPU:
                log.warning("%s: %s; going on with %s", self.name, error, CPU)
                self.encoder = CPU
                self._write(frame)
                return
            cause = getattr(error.__cause__, "errno", None)
            self._missed[self._stop("disk_full" if cause in NO_ROOM else "write_failed", str(error))] += 1

    def _is_over(self, file: VideoFile, frame: Frame) -> bool:
        """Whether the frame belongs into a new file."""
        age_s = (frame.timestamp_ns - self._begin_ns) / 1e9
        return (
            not file.look.holds(frame, self.codec)
            or (self.segment_s is not None and age_s >= self.segment_s)
            or (self.segment_mb is not None and file.megabytes >= self.segment_mb)
        )

    def _end_file(self) -> None:
        if self._file is None:
            return
        try:
            self._file.finish()
        except OutputError as error:
            log.warning("%s: %s", self.name, error)
            self._file.give_up()
        self._put_away()

    def _stop(self, why: str, what: str) -> str:
        """Wait before the next try; told once."""
        if self._trouble is None:
            log.warning("%s: not recording: %s; trying again every %.0f s", self.name, what, RETRY_S)
        self._trouble, self._again_at = why, self.now() + RETRY_S
        return why

    def _tell_of_recovery(self) -> None:
        if self._trouble and self._file:
            log.warning("%s: recording again, to %s", self.name, self._file.path)
        self._trouble = None

    def _next_path(self) -> Path:
        """A name that is free."""
        segmented = self.segment_s is not None or self.segment_mb is not None
        if not segmented and not self._results and not self.path.exists():
            return self.path
        stem, number = f"{self.path.stem}-{time.strftime('%Y%m%d-%H%M%S')}", 1
        path = self.path.with_name(f"{stem}{self.path.suffix}")
        while path.exists() or path.with_name(f"{path.stem}.partial{path.suffix}").exists():
            number += 1
            path = self.path.with_name(f"{stem}-{number}{self.path.suffix}")
        return path

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()

    def free_mb(self) -> float:
        """Free space where the files go."""
        return shutil.disk_usage(self.path.parent).free / 1e6
