"""What a person or a script sees of a run: progress, the summary, data on standard output, an error in one line."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nodes.pictures import check_target, write_whole
from pipeline.errors import INTERRUPTED, OutputError, StreamfuseError
from pipeline.pipeline import Pipeline
from pipeline.stats import Summary

log = logging.getLogger("streamfuse")


def run_to_the_end(pipeline: Pipeline, json_to: str | None) -> int:
    """Run a pipeline with progress; one summary, also after a failure; the exit code."""
    failure: StreamfuseError | None = None
    with ending_on_signals(pipeline) as signals:
        try:
            with Progress(pipeline) as progress:
                summary = pipeline.run(progress.show)
        except StreamfuseError as error:
            failure, summary = error, error.summary  # type: ignore[attr-defined]
        try:
            tell(summary, json_to)
        except OutputError as error:
            failure = failure or error
        if failure:
            say_error(failure)
        code = failure.exit_code if failure else INTERRUPTED if signals else 0
        leave_if_stuck(pipeline, code)
    return code


@contextmanager
def ending_on_signals(pipeline: Pipeline) -> Iterator[list[int]]:
    """Ctrl-C (or a kill) ends the run in good order, a second one at once; gives the signals that came."""
    came: list[int] = []

    def handle(number: int, _: Any) -> None:
        if came:
            os._exit(INTERRUPTED)
        came.append(number)
        pipeline.stop()
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


def say_error(error: StreamfuseError) -> None:
    """In one line, whatever the names in it are made of."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
    with suppress(OSError):  # a log on the disk that is full; the exit code tells it, too
        print(f"error: {text}", file=sys.stderr)


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
