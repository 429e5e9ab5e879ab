"""Pipeline: runs the nodes and stops them together. The only owner of threads."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.account import account, drops_before, frames_lost, summarise
from pipeline.control import Control
from pipeline.errors import ConfigError, FramesLost, SourceError, SourceFailed, did_you_mean
from pipeline.graph import Mode, Step, common_mode, connect, in_order
from pipeline.node import EndOfStream, Node
from pipeline.stats import Summary
from pipeline.turns import Turns

log = logging.getLogger("streamfuse")

TICK_SECONDS = 0.2
STOP_SECONDS = 2.5  # after Ctrl-C; with what Python needs to leave, everything is over within 3
MOST_FRAMES = 1024  # in one queue that had to grow: of full HD in YUV these take 3 GB


class Pipeline:
    """Nodes and the arrows between them.

    Args:
        nodes: by name.
        inputs: for each node that has inputs, the node that feeds each of them (`camera`, or `camera.under` of a node
            with several outputs).
        queue_sizes: frames to keep before a node, where not the default (8 recorded, 2 live).

    Raises:
        ConfigError: an input missing, unknown or in a circle; live and recorded sources together.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        inputs: Mapping[str, Mapping[str, str]],
        queue_sizes: Mapping[str, int] | None = None,
    ) -> None:
        for name, node in nodes.items():
            node.name = name
            node.running = self
        self.mode: Mode = common_mode(nodes)
        self.steps = connect(nodes, inputs, queue_sizes or {}, self.mode)
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._stopping = threading.Event()
        self._aborted = False
        self._flowed_at: float | None = None  # when all nodes were open
        self._failure: BaseException | None = None
        self._moved: list[tuple[int, int]] = []

    def run(self, tick: Callable[[Pipeline], None] | None = None) -> Summary:
        """Run to the end of the inputs, to `stop`, or to the first failure.

        Args:
            tick: called five times a second, to show progress.

        Raises:
            StreamfuseError: the first failure, after everything has been closed. It carries the summary as `summary`.
        """
        began = time.monotonic()
        try:
            for name, step in self.steps.items():
                step.thread = threading.Thread(target=self._live_through, args=(step,), name=name, daemon=True)
                step.thread.start()
            self._watch(tick)
        except BaseException as error:  # of the tick, or a Ctrl-C that nobody handles: still, leave in good order
            self._fail("run", error)
            self._watch(None)
        for name in (name for name, step in self.steps.items() if step.alive):
            log.warning("%s: did not stop within %.1f s and is left behind", name, STOP_SECONDS)
        summary = summarise(self.mode, time.monotonic() - (self._flowed_at or began), self.steps)
        self._judge(summary)
        return summary

    def stop(self) -> None:
        """End the run now: what is in a queue is let go of and counted, files are finished. May be called anywhere."""
        self._stopping.set()
        for step in self.steps.values():
            if step.channel:
                step.channel.close("interrupted")
            step.ready.set()  # nobody needs to wait for a node that is still opening
        self._go.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called, by a person or after a failure."""
        return self._stopping.is_set()

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """What each node has done so far, and its gauges; may be called anywhere."""
        return {name: {**account(step), "gauges": step.gauges()} for name, step in self.steps.items()}

    def drops(self, node: str) -> Counter[str]:
        """How many frames were dropped so far on the way to a node, by reason; may be called anywhere."""
        return drops_before(node, self.steps)

    def controls(self) -> dict[str, dict[str, Control]]:
        """What may be changed, by node and name; may be called anywhere."""
        return {name: controls for name, step in self.steps.items() if (controls := step.controls())}

    def change(self, node: str, control: str, value: Any = None) -> None:
        """Have a node take over a value before its next frame; may be called anywhere.

        Raises:
            ConfigError: no such node or control, or no legal value.
        """
        everything = self.controls()
        if node not in everything:
            raise ConfigError(f"{node!r} is no node that can be changed.{did_you_mean(node, everything)}")
        if control not in everything[node]:
            raise ConfigError(f"Node {node!r} has no control {control!r}.{did_you_mean(control, everything[node])}")
        self.steps[node].changes.append((control, everything[node][control].checked(value)))

    def check(self) -> None:
        """Open everything, one after the other, and close it again.

        Raises:
            StreamfuseError: the first thing that would be in the way of a run.
        """
        opened: list[Step] = []
        try:
            for step in in_order(self.steps):
                opened.append(step)
                step.node.open(self._sizes(step))
        finally:
            for step in reversed(opened):
                self._abort(step.node)

    def _sizes(self, step: Step) -> dict[str, tuple[int, int] | None]:
        return {key: self.steps[source].node.size for key, source in step.sources.items()}

    # In the main thread, while it runs:

    def _watch(self, tick: Callable[[Pipeline], None] | None) -> None:
        """Wait until all threads have ended; once stopping, no longer than is allowed."""
        deadline = math.inf
        while alive := [step for step in self.steps.values() if step.alive]:
            if thread := alive[0].thread:
                thread.join(TICK_SECONDS)
            if tick:
                tick(self)
            if self._stopping.is_set():
                deadline = min(deadline, time.monotonic() + STOP_SECONDS)
                if time.monotonic() > deadline:
                    return
            else:
                self._relieve(alive)

    def _relieve(self, alive: list[Step]) -> None:
        """Make queues longer where all nodes wait for one another and would for ever.

        Branches of a graph that meet again do so when one holds frames back, e.g. a contact sheet of `visible` and
        `fused` while nothing has a partner yet: its queue of `visible` is full, so no more `visible` comes to be fused.
        """
        moved = [(step.stats.taken, step.stats.emitted) for step in alive]
        stuck = all(step.stuck for step in alive) and moved == self._moved
        self._moved = moved
        for step in alive if stuck else ():
            if step.channel and step.channel.grow() > MOST_FRAMES:
                raise ConfigError(
                    f"Node {step.node.name!r}: {MOST_FRAMES} frames of one input wait for frames of another that do "
                    "not come, and the nodes wait for each other; set its queue_size, or leave the node out"
                )

    # In the thread of a node:

    def _live_through(self, step: Step) -> None:
        """The life of a node."""
        turns = Turns(step, self.mode)
        try:
            self._open(step)
            self._go.wait()
            while not self._stopping.is_set() and turns.advance():
                pass
            turns.finish()
        except EndOfStream:
            pass
        except BaseException as error:
            if not self._breaks_off(step, error):
                self._fail(step.node.name, error)
        finally:
            self._leave(step)

    def _open(self, step: Step) -> None:
        for source in step.sources.values():
            self.steps[source].ready.wait()
        if not self._stopping.is_set():
            step.touched = True
            step.node.open(self._sizes(step))
        self._be_ready(step)

    def _be_ready(self, step: Step) -> None:
        step.ready.set()
        if all(other.ready.is_set() for other in self.steps.values()):
            self._flowed_at = self._flowed_at or time.monotonic()
            self._go.set()

    def _breaks_off(self, step: Step, error: BaseException) -> bool:
        """Whether a recording ends too soon, which fails at the end: what it gave is still worth its way through."""
        running_source = self._go.is_set() and step.channel is None
        broken_off = isinstance(error, SourceError) and not isinstance(error, SourceFailed)
        if self.mode == "live" or not running_source or not broken_off:
            return False
        self._keep_failure(step.node.name, error)
        return True

    def _fail(self, name: str, error: BaseException) -> None:
        """End the run with an error. Half a recording fused is not left as if it were whole.

        What a live run has recorded is wanted, whatever else fails, and so is what there is when a person stops it.
        """
        self._keep_failure(name, error)
        wanted = self.stopping or isinstance(error, KeyboardInterrupt) or (self.mode == "live" and self._go.is_set())
        if not wanted:
            self._aborted = True
        self.stop()

    def _keep_failure(self, name: str, error: BaseException) -> None:
        """Keep the first one; later ones are its consequences more often than not."""
        with self._lock:
            if self._failure is None:
                self._failure = error
                return
        log.warning("%s: %s", name, error)

    def _leave(self, step: Step) -> None:
        """Let nobody wait for a node that has ended; close it last, for that may take its time or fail."""
        self._be_ready(step)
        if step.channel:
            step.channel.close("ended")
        for channel, name, _ in step.consumers:
            channel.end(name)
        if not step.touched:
            return
        if self._aborted:
            self._abort(step.node)
            return
        try:
            step.node.close()
        except BaseException as error:
            self._keep_failure(step.node.name, error)
            self._abort(step.node)

    def _abort(self, node: Node) -> None:
        """Never in the way of what is told to the user: the failure that led here."""
        try:
            node.abort()
        except Exception as error:
            log.warning("%s: while giving up: %s", node.name, error)

    # In the main thread, when all is over:

    def _judge(self, summary: Summary) -> None:
        """Raise what the user must know."""
        if self._failure is None:
            if summary.broken:
                self._failure = FramesLost("; ".join(summary.broken) + " (a fault of ours: please report it)")
            elif self.mode == "recorded" and not self.stopping and (lost := frames_lost(self.steps)):
                self._failure = FramesLost(lost)
        if self._failure is not None:
            self._failure.summary = summary  # type: ignore[attr-defined]
            raise self._failure
