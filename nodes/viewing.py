"""The pipeline behind `run.py view ADDRESS`, as the tree that a config would give, and what is said while it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nodes.pictures import IMAGE_SUFFIXES
from pipeline.config import NodeTypes
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Node
from pipeline.pipeline import Pipeline
from pipeline.stats import percentile

log = logging.getLogger("streamfuse")

Tree = dict[str, dict[str, Any]]

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv"}
SOURCE, NEWEST = "view", "newest"  # nodes
LINE_SECONDS = 1.0
HINT_EVERY = 10  # lines that say that nothing comes: the first of so many says what to look at
TOLD = {  # gauges of capture.zmq that count, as the line says them
    "lost_in_transit": "lost on the way",
    "dropped_upstream": "dropped before they were published",
    "skipped": "skipped here",
    "malformed": "messages that are none of ours",
    "foreign": "of other streams",
    "mistimed": "with times that cannot be",
}


@dataclass(frozen=True)
class Wanted:
    """What to look at, and what to do with it: the options of the command."""

    address: str
    stream: str | None = None
    lossless: bool = False
    keys: Path | None = None
    client: str | None = None
    """Name of the key in `keys`; None for the only one."""
    save: Path | None = None
    codec: str = "auto"
    web: int | None = None
    """Port of the page, 0 for a free one; None for no page."""
    frames: int | None = None
    """End after so many."""

    @property
    def most_frames(self) -> int | None:
        """After how many frames to end: an image is one."""
        return 1 if self.frames is None and self.save is not None and is_image(self.save) else self.frames


def tree(wanted: Wanted) -> Tree:
    """Nodes that receive a stream, keep its newest frame, and save or serve it.

    Raises:
        ConfigError: options that do not go together, or a file that is no kind of ours.
    """
    source: dict[str, Any] = {"type": "capture.zmq", "address": wanted.address}
    if wanted.stream is not None:
        source["stream"] = wanted.stream
    if wanted.lossless:
        source["delivery"] = "lossless"
    if wanted.keys is not None:
        source["keys"] = str(wanted.keys)
    if wanted.client is not None:
        source["client"] = wanted.client
    nodes: Tree = {SOURCE: source, NEWEST: {"type": "output.memory", "inputs": SOURCE, "keep": 1}}
    if wanted.save is not None:
        nodes["save"] = {"inputs": SOURCE, **saving(wanted, wanted.save)}
    if wanted.web is not None:
        nodes["page"] = {"type": "output.web", "inputs": {"view": SOURCE}, "views": ["view"], "port": wanted.web}
    if wanted.lossless and wanted.frames is not None:
        raise ConfigError("--frames: is for streams that go on; one of lossless delivery is read to its end")
    return nodes


def saving(wanted: Wanted, path: Path) -> dict[str, Any]:
    """The node that saves, by the name of what to write."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES and not path.is_dir():
        return {"type": "output.video", "path": str(path), "codec": wanted.codec}
    if is_image(path):
        if wanted.lossless or wanted.most_frames != 1:
            raise ConfigError(f"--save {path}: holds one image, and more frames are to come; give a video or a folder")
    elif suffix and not path.is_dir():
        legal = ", ".join(sorted({*VIDEO_SUFFIXES, *IMAGE_SUFFIXES}))
        raise ConfigError(f"--save {path}: {suffix} is nothing that we write; legal are {legal}, or a folder")
    return {"type": "output.images", "path": str(path)}


def is_image(path: Path) -> bool:
    """Whether the name is that of one image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def types(known: NodeTypes, frames: int | None) -> NodeTypes:
    """The node types, in which capture.zmq ends after so many frames; as they are for None."""
    return known if frames is None else {**known, "capture.zmq": lambda: ending_after(known["capture.zmq"](), frames)}


def ending_after(source: type[Node], frames: int) -> type[Node]:
    """A source that comes to its end sooner, with the same settings."""

    class Ending(source):  # type: ignore[misc, valid-type]
        given = 0

        def process(self) -> Frame | None:
            if self.given == frames:
                raise EndOfStream
            frame: Frame | None = super().process()
            self.given += frame is not None
            return frame

    return Ending


class Watch:
    """Says once a second how the stream does.

    Args:
        wanted: what is looked at, for hints.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._now: Callable[[], float] = time.monotonic
        self._last_s: float | None = None
        self._came_s = 0.0
        """When the last frame was seen; before the first, when it began."""
        self._before: dict[str, float] = {}
        self._empty_lines = 0
        """In a row."""

    @property
    def frames(self) -> int:
        """That came so far, as of the last line."""
        return round(self._before.get("frames", 0))

    def show(self, pipeline: Pipeline) -> None:
        """Called from time to time."""
        now = self._now()
        if self._last_s is None:
            if all(step.ready.is_set() for step in pipeline.steps.values()):  # from then on frames can come
                self._last_s = self._came_s = now
                self._what_is_new(pipeline)  # what came before is of no full second
            return
        if now - self._last_s < LINE_SECONDS:
            return
        seconds, self._last_s = now - self._last_s, now
        new, connected = self._what_is_new(pipeline)
        if new["frames"]:
            self._came_s, self._empty_lines = now, 0
            line = ", ".join([*self._of_frames(pipeline, new, seconds), *of_counts(new)])
        else:
            line = ", ".join([self._of_nothing(now, connected), *of_counts(new)])
            self._empty_lines += 1
        with tqdm.external_write_mode():  # of lossless delivery there may be a bar
            log.info("%s: %s", SOURCE, line)

    def refuse_nothing(self, pipeline: Pipeline) -> None:
        """A look at a stream that showed nothing is no success.

        Raises:
            SourceError: no frame came.
        """
        if not pipeline.steps[SOURCE].stats.emitted:
            raise SourceError(f"{self.wanted.address}: no frame came: {self.hint()}")

    def hint(self) -> str:
        """What to look at when nothing comes: what is missing cannot be told from here, for nothing comes."""
        wanted = self.wanted
        if self._before.get("malformed"):
            return "what is published there is none of our messages; is it output.zmq with format: streamfuse?"
        asked = ["is a publisher running at this address?"]
        if wanted.stream is not None:
            asked.append(f"Is its stream named {wanted.stream!r}?")
        asked.append("Is its delivery lossless?" if wanted.lossless else "Does it need --lossless?")
        ours = f"Has it keys, is {wanted.keys}/server.key its own, and our key in its clients/?"
        asked.append("Does it need --keys?" if wanted.keys is None else ours)
        return " ".join(asked)

    def _what_is_new(self, pipeline: Pipeline) -> tuple[dict[str, float], bool]:
        """Counts since the last line, and whether the publisher is there."""
        gauges = pipeline.steps[SOURCE].gauges()
        dropped = sum(
            count
            for name, step in pipeline.steps.items()
            if name != NEWEST and step.channel
            for count in step.channel.drops().values()
        )
        counts: dict[str, float] = {
            "frames": pipeline.steps[SOURCE].stats.emitted,
            "dropped": dropped,
            "sessions": gauges.get("sessions", 0.0),
            **{name: gauges.get(name, 0.0) for name in TOLD},
        }
        new = {name: count - self._before.get(name, 0) for name, count in counts.items()}
        if not self._before.get("sessions", 0):
            new["sessions"] = 0  # the first is no restart
        self._before = counts
        return new, bool(gauges.get("connected"))

    def _of_frames(self, pipeline: Pipeline, new: Mapping[str, float], seconds: float) -> list[str]:
        parts = [f"{new['frames'] / seconds:.1f} frames/s"]
        step = pipeline.steps[NEWEST]
        ages = list(step.stats.age_ms)[-round(new["frames"]) :]
        if ages:
            parts.append(f"{percentile(ages, 0.5):.0f} ms after capture (p99 {percentile(ages, 0.99):.0f})")
        if kept := list(getattr(step.node, "frames", ())):
            frame: Frame = kept[-1]
            parts.append("{}x{} {}".format(*frame.size, frame.pixel_format))
            parts += [frame.fusion.state] if frame.fusion is not None else []
        return parts

    def _of_nothing(self, now: float, connected: bool) -> str:
        silent = f"nothing comes ({now - self._came_s:.0f} s)"
        if connected:
            return f"{silent}; the publisher is there, and has no frames"
        if self._empty_lines % HINT_EVERY:
            return silent
        return f"{silent}; {self.hint()}" if not self.frames else f"{silent}; the publisher is gone, waiting for it"


def of_counts(new: Mapping[str, float]) -> list[str]:
    """What was lost, and where."""
    parts = [f"{new[name]:.0f} {words}" for name, words in TOLD.items() if new[name] > 0]
    if new["dropped"] > 0:
        parts.append(f"{new['dropped']:.0f} dropped here")
    if new["sessions"] > 0:
        parts.append("the publisher was started anew")
    return parts
