"""What a person or a script sees of a run: progress, the summary, data on standard output, an error in one line."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from nodes.addresses import without_credentials
from nodes.pictures import check_target, write_whole
from pipeline.errors import INTERRUPTED, ConfigError, OutputError, StreamfuseError
from pipeline.pipeline import Pipeline
from pipeline.stats import Summary

log = logging.getLogger("streamfuse")

STATUS_SECONDS = 10.0
LATE_MS = 100  # a stream that comes so much later than its partner makes the fused picture late, or is left out
ADDRESS = re.compile(r"\b([A-Za-z][\w+.-]*)(://?)([^\s'\"/][^\s'\"]*)")  # one slash: of an address taken for a path


class Parent(Protocol):
    """The process that has started this one, to run one of several configs: it hears what else a person would."""

    ended: bool
    """It has told this one to stop, or is no more."""

    def tell(self, **what: Any) -> None: ...
    def look(self, pipeline: Pipeline) -> None: ...


def run_to_the_end(
    pipeline: Pipeline,
    json_to: str | None,
    seconds: float | None = None,
    *looks: Callable[[Pipeline], None],
    parent: Parent | None = None,
) -> int:
    """Run a pipeline with progress; one summary, also after a failure; the exit code.

    Args:
        pipeline: to run.
        json_to: file for the summary, "-" for standard output.
        seconds: live, end in good order so long after all nodes were open.
        looks: called from time to time, beside what is said of every run.
        parent: gets summary and failure in place of a person, and may end the run.

    Raises:
        ConfigError: a recorded pipeline is to end before its recordings do.
    """
    if seconds is not None and pipeline.mode == "recorded":
        raise ConfigError("--for: it is for live pipelines; recordings are read to their end")
    looks += (Timer(seconds).look, *([parent.look] if parent else []))
    with ending_on_signals(pipeline.stop) as signals:
        summary, failure = run_watched(pipeline, *looks)
        try:
            if parent:  # what was made is whole where a failure did not stop the rest
                parent.tell(summary=asdict(summary), gave_up=failure is not None and pipeline.stopping)
            else:
                tell(summary, json_to)
        except OutputError as error:
            failure = failure or error
        if failure:
            say_error(failure, parent)
        code = failure.exit_code if failure else INTERRUPTED if signals or (parent and parent.ended) else 0
        leave_if_stuck(pipeline, code)
    return code


def run_watched(pipeline: Pipeline, *looks: Callable[[Pipeline], None]) -> tuple[Summary, StreamfuseError | None]:
    """Run a pipeline with progress; what it came to, and what failed."""
    try:
        with Progress(pipeline) as progress:
            return pipeline.run(in_turn(progress.show, LiveStatus().show, *looks)), None
    except StreamfuseError as error:
        return error.summary, error  # type: ignore[attr-defined]


@contextmanager
def ending_on_signals(stop: Callable[[], None], force: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Ctrl-C (or a kill) ends the run in good order, a second one at once; gives the signals that came."""
    came: list[int] = []

    def handle(number: int, _: Any) -> None:
        if came:
            if force:
                force()
            os._exit(INTERRUPTED)
        came.append(number)
        stop()
        with suppress(OSError):  # nobody may be listening any more
            os.write(2, b"\nstopping; once more to force\n")  # `print` may be in the middle of something

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_if_stuck(pipeline: Pipeline, code: int) -> None:
    """A node that does not come back must not keep the process, nor crash it while Python takes itself apart."""
    if any(step.alive for step in pipeline.steps.values()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def in_turn(*looks: Callable[[Pipeline], None]) -> Callable[[Pipeline], None]:
    """One function that calls all."""

    def all_of_them(pipeline: Pipeline) -> None:
        for look in looks:
            look(pipeline)

    return all_of_them


class Timer:
    """Ends a run when its time is up, counted from when all nodes are open: loading a network takes its time."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._ends_at = math.inf
        self._now: Callable[[], float] = time.monotonic

    def look(self, pipeline: Pipeline) -> None:
        """Called from time to time."""
        if self.seconds is None or pipeline.stopping:
            return
        if self._ends_at == math.inf and all(step.ready.is_set() for step in pipeline.steps.values()):
            self._ends_at = self._now() + self.seconds
        if self._now() >= self._ends_at:
            pipeline.stop()


class Progress:
    """A bar on a terminal, for recorded input."""

    def __init__(self, pipeline: Pipeline) -> None:
        tqdm.monitor_interval = 0  # its thread is of no use here
        self.sinks = [step for step in pipeline.steps.values() if not step.consumers]
        self.sources = [step.node for step in pipeline.steps.values() if step.channel is None]
        wanted = pipeline.mode == "recorded" and log.isEnabledFor(logging.INFO)
        self.bar = tqdm(unit=" frames", disable=None if wanted else True, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, _: Pipeline) -> None:
        expected = [n for n in (getattr(node, "expected_frames", None) for node in self.sources) if n]
        self.bar.total = min(expected) if expected else None
        self.bar.n = min(step.stats.emitted for step in self.sinks)
        self.bar.refresh()


class LiveStatus:
    """Of a live run a line now and then for each node that pairs its inputs: rate, age, and what came of the frames."""

    def __init__(self) -> None:
        self._now: Callable[[], float] = time.monotonic
        self._last_s: float | None = None
        self._before: dict[str, dict[str, float]] = {}

    def show(self, pipeline: Pipeline) -> None:
        """Called from time to time."""
        now = self._now()
        if pipeline.mode == "recorded" or not log.isEnabledFor(logging.INFO):
            return
        if self._last_s is None or now - self._last_s >= STATUS_SECONDS:
            for name, node in pipeline.snapshot().items():
                if len(pipeline.steps[name].sources) > 1:
                    self._tell(name, node, now)
            self._last_s = now

    def _tell(self, name: str, node: dict[str, Any], now: float) -> None:
        counts = {"frames": node["emitted"], **node["gauges"], **node["dropped"]}
        before = self._before.get(name, {})
        self._before[name] = counts
        new = {key: value - before.get(key, 0) for key, value in counts.items()}
        if self._last_s is None:
            return
        frames = new.pop("frames")
        parts = [f"{name}: {frames / (now - self._last_s):.1f} frames/s"]
        if frames and "age_p50_ms" in node:
            parts.append(f"{node['age_p50_ms']:.0f} ms after capture (p99 {node['age_p99_ms']:.0f})")
        states = [f"{count:.0f} {key[:-7]}" for key, count in new.items() if key.endswith("_frames") and count]
        drops = [f"{count} dropped: {key}" for key, count in new.items() if key in node["dropped"] and count]
        late = [f"{key} comes {ms:.0f} ms late" for key, ms in node.get("behind_ms", {}).items() if ms > LATE_MS]
        log.info("%s", ", ".join(parts + states + drops + late))


def tell(summary: Summary, json_to: str | None) -> None:
    """The summary as lines for a person, and as JSON for whom wants it."""
    if any(node["taken"] for node in summary.nodes.values()):  # else nothing flowed, and an error says why
        for line in summary.lines():
            log.info("%s", line)
    write_json(asdict(summary), json_to)


def say(text: str) -> None:
    """To standard output, at once: that nobody reads it or that it has no room must not pass for success."""
    try:
        print(text.encode(errors="backslashreplace").decode(), flush=True)  # names of files may be no text
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python tries once more at its end
        raise OutputError(f"standard output: cannot be written: {error.strerror}") from error


def say_aside(text: str) -> None:
    """To standard error."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def say_error(error: StreamfuseError, parent: Parent | None = None) -> None:
    """In one line, whatever the names in it are made of, and with no password of an address in it."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
    text = ADDRESS.sub(without_password, text)
    if parent:
        parent.tell(error=text)
        return
    with suppress(OSError):  # a log on the disk that is full; the exit code tells it, too
        print(f"error: {text}", file=sys.stderr)


def without_password(address: re.Match[str]) -> str:
    """What may be shown of an address in a text."""
    scheme, mark, rest = address.groups()
    return without_credentials(f"{scheme}://{rest}").replace("://", mark, 1)


def check_json_target(to: str | None) -> None:
    """Known before the work, not after it; and a slip does not cost a recording.

    Raises:
        OutputError: JSON cannot or may not be written there.
    """
    if to in (None, "-"):
        return
    path = Path(str(to))
    check_target(path)
    if path.exists() and not (path.is_file() and path.suffix == ".json"):
        raise OutputError(f"--json {path}: is there and not named .json; it is not written over, so give another name")


def write_json(figures: Any, to: str | None) -> None:
    """To a file, or with "-" to standard output."""
    if to is None:
        return
    text = json.dumps(without_nan(figures), indent=2, allow_nan=False)
    if to == "-":
        say(text)
    else:
        write_whole(Path(to), f"{text}\n".encode())


def without_nan(figures: Any) -> Any:
    """With None in place of what is not finite, for which JSON has no word."""
    if isinstance(figures, dict):
        return {key: without_nan(value) for key, value in figures.items()}
    if isinstance(figures, list | tuple):
        return [without_nan(value) for value in figures]
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures
