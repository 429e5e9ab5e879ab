"""Node: a step in a thread of its own."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.control import Control
from pipeline.frame import Frame

Made = Frame | Mapping[str, Frame] | None
"""What a node makes of its inputs: a frame, with several outputs frames by output, or nothing."""
Later = Callable[[], Made]
"""Waits for work that has begun, and gives what was made; raises what `process` may raise."""


class EndOfStream(Exception):
    """Raised by `process` of a source when there is nothing more to come; by another node, when it wants no more."""


class Running(Protocol):
    """The pipeline that a node is part of, as the node may use it, from any thread."""

    @property
    def mode(self) -> str:
        """ "live" or "recorded"."""

    @property
    def stopping(self) -> bool:
        """Whether the run is to end now: a node that waits for something gives up."""

    def drops(self, node: str) -> Counter[str]:
        """How many frames were dropped so far on the way to a node, by reason. Cheap enough for every frame."""

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """What each node did so far: counts, drops by reason, times, ages, gauges."""

    def controls(self) -> dict[str, dict[str, Control]]:
        """What may be changed, by node and name, with the values of now."""

    def change(self, node: str, control: str, value: Any = None) -> None:
        """Check a value, and have the node take it over before its next frame; an action is done then.

        Raises:
            ConfigError: no such node or control, or no legal value.
        """


class Node:
    """A step of a pipeline. Subclass it, and write what differs.

    The parameters of the constructor are the settings in YAML, checked against their annotations before anything
    opens. The parameters of `process` are the inputs; a node that only takes frames declares that it returns None.
    `open`, `process` and `close` all run in the node's own thread; `process` may block, but not for ever: a source
    returns None at least every half second, so that it can be stopped.
    """

    name: str = ""
    """The name in the config; set by the pipeline before `open`."""
    live: bool = False
    """Of a source: frames come when they come, and a late one is worthless. Makes the whole pipeline live."""
    size: tuple[int, int] | None = None
    """(width, height) of the frames to come out, where known once open; those further down warm up for it."""
    reference: str | None = None
    """With several inputs: the one whose every frame wants a partner. Default: the last."""
    max_skew_ms: float | None = None
    """With several inputs: partners further apart are none. Default: half the reference's usual frame interval."""
    max_hold_ms: float | None = None
    """With several inputs, live: a partner that is older than `max_skew_ms` is used up to this age. Default: 200 ms, or
    three of its usual frame intervals if that is longer."""
    partial: bool = False
    """With several inputs, live: works with some of them missing, which `process` then does not get."""
    held: tuple[str, ...] = ()
    """Set before `process`: the inputs whose frame is an older one, for none came that is near enough."""
    driver: str = ""
    """Set before `process`, live: the input that gives the moment, the reference or what stands in for it."""
    running: Running | None = None
    """The pipeline, from before `open` on."""
    in_flight: int = 1
    """How many frames may be in work at once. If more than one, `process` may begin the work and return a function
    that waits for it and gives what was made: another thread calls it, in the order of the frames. A node that began
    with more than one may change it in `process`: down to 1, too, and still finish later."""

    @property
    def in_live_mode(self) -> bool:
        """Whether it is part of a live pipeline."""
        return self.running is not None and self.running.mode == "live"

    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs. A source has none."""
        parameters = inspect.signature(self.process).parameters.values()
        return tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)

    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives, where it is more than one stream: others write `inputs: {under: camera.under}`."""
        return ()

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        """Get ready to work without delay: open devices, load, warm up; write nothing yet.

        Args:
            sizes: (width, height) by input of the frames to expect, None where not known.
        """

    def process(self, **inputs: Frame) -> Made | Later:
        """One frame of each input to one frame out, or None for nothing; with several outputs, frames by output.

        Raises:
            EndOfStream: by a source, at its end.
            StreamfuseError: ends the run, in these cases not at once. A recording that breaks off (SourceError) ends
                its own stream only, and what it gave is still worked on. A frame that a live node cannot work with is
                dropped and counted, unless the error is of source, device or output, or 100 fail in a row.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was written and let go of everything. Called after `open`, also when that or `process` failed."""

    def abort(self) -> None:
        """Leave nothing half done under a final name, and let go of everything.

        Instead of `close` when a recorded run or the opening has failed, and after a `close` that failed.
        """
        self.close()

    def report(self) -> dict[str, Any]:
        """What the summary at the end should say of this node, e.g. where its file is."""
        return {}

    def gauges(self) -> dict[str, float]:
        """Numbers of now for whom watches, by name with unit (`drift_ppm`); called from other threads, at any time."""
        return {}

    def controls(self) -> dict[str, Control]:
        """What may be changed while it runs, by name; called from other threads, at any time."""
        return {}

    def change(self, control: str, value: Any) -> None:
        """Take over a value that its control has checked, or do an action. In the node's thread, between two frames."""
