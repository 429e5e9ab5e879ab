"""Turns: what a node does again and again in its thread. Takes frames, works, hands on; counts what came of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from functools import partial

from pipeline.errors import DeviceError, OutputError, SourceError
from pipeline.frame import Frame
from pipeline.graph import Mode, Step
from pipeline.node import EndOfStream, Later, Made

log = logging.getLogger("streamfuse")

BAD_FRAMES_IN_A_ROW = 100  # in live mode: this many and the node is broken, not the frame
FATAL = (EndOfStream, SourceError, DeviceError, OutputError)  # in live mode too: it will not get better by itself


class Turns:
    """The turns of one node.

    What a node begins and finishes later is waited for, in the order of the frames, by a second thread: so a result
    leaves when it is there, and not when the next frame comes.
    """

    def __init__(self, step: Step, mode: Mode) -> None:
        self._step, self._mode = step, mode
        self._in_work: deque[tuple[Mapping[str, Frame], float, Later]] = deque()
        self._changed = threading.Condition()
        self._no_more = False
        self._failure: BaseException | None = None
        self._waiter: threading.Thread | None = None

    def advance(self) -> bool:
        """One turn; False when there is nothing more to do.

        Raises:
            Exception: what ends the run, or at least this node.
        """
        self._wait_for_room()
        inputs = self._step.take()
        if inputs is None:
            return False
        began = time.perf_counter()
        if self._waiter is not None or self._step.node.in_flight > 1:
            self._put(inputs, began)
        else:
            try:
                made = self._step.work(inputs)
                assert not callable(made), f"{self._step.node.name}: finishes later, and in_flight is 1"
            except Exception as error:
                self._survive(error)
            else:
                self._deal(inputs, began, made)
        return not self._unheard()

    def finish(self) -> None:
        """Wait for what is in work.

        Raises:
            Exception: as `advance`.
        """
        with self._changed:
            self._no_more = True
            self._changed.notify_all()
        if self._waiter is not None:
            self._waiter.join()
        if self._failure is not None:
            raise self._failure

    def _deal(self, inputs: Mapping[str, Frame], began: float, made: Made) -> None:
        """Hand on what was made."""
        step = self._step
        if step.channel is not None or made is not None:
            step.stats.busy_ms.append((time.perf_counter() - began) * 1e3)
            step.failed_in_a_row = 0
        if self._mode == "live":
            step.note_age(inputs, made)
        step.hand_on(made)

    def _unheard(self) -> bool:
        """In live mode a node ends with those it works for. A recording is read to its end, so that we count it."""
        consumers = self._step.consumers
        return self._mode == "live" and bool(consumers) and all(channel.done for channel, *_ in consumers)

    def _survive(self, error: Exception) -> None:
        """Count frames that failed. Live mode goes on after one; what does not get better is raised again."""
        step = self._step
        if step.channel is not None:
            step.stats.dropped["ended" if isinstance(error, EndOfStream) else "error"] += 1
        if self._mode == "recorded" or isinstance(error, FATAL):
            raise error
        step.failed_in_a_row += 1
        step.failed += 1
        if step.failed == 1 or step.failed % BAD_FRAMES_IN_A_ROW == 0:
            log.warning("%s: frame dropped (%d so far): %s", step.node.name, step.failed, error)
        if step.failed_in_a_row >= BAD_FRAMES_IN_A_ROW:
            raise error

    # With several frames in work:

    def _wait_for_room(self) -> None:
        with self._changed:
            while len(self._in_work) >= self._step.node.in_flight and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure

    def _put(self, inputs: Mapping[str, Frame], began: float) -> None:
        """Begin work on frames; whatever comes of it takes its place behind the others."""
        if self._waiter is None:
            name = f"{self._step.node.name} results"
            self._waiter = threading.Thread(target=self._hand_on_in_order, name=name, daemon=True)
            self._waiter.start()
        try:
            made = self._step.work(inputs)
            later = made if callable(made) else partial(at_once, made)
        except Exception as error:
            later = partial(failed, error)
        with self._changed:
            if self._failure is not None:  # meanwhile: nobody waits for it any more
                self._step.stats.dropped["ended"] += 1
                return
            self._in_work.append((inputs, began, later))
            self._step.in_work = len(self._in_work)
            self._changed.notify_all()

    def _hand_on_in_order(self) -> None:
        while (work := self._oldest()) is not None:
            inputs, began, later = work
            try:
                try:
                    made = later()
                except Exception as error:
                    self._survive(error)
                else:
                    self._deal(inputs, began, made)
            except BaseException as error:
                self._give_up(error)
                return
            with self._changed:
                self._in_work.popleft()
                self._step.in_work = len(self._in_work)
                self._changed.notify_all()

    def _oldest(self) -> tuple[Mapping[str, Frame], float, Later] | None:
        """What to wait for next; None when nothing will come any more."""
        with self._changed:
            while not self._in_work and not self._no_more:
                self._changed.wait()
            return self._in_work[0] if self._in_work else None

    def _give_up(self, error: BaseException) -> None:
        """After a failure, what is still in work comes to nothing."""
        with self._changed:
            self._failure = error
            if lost := len(self._in_work) - 1:
                self._step.stats.dropped["ended"] += lost
            self._in_work.clear()
            self._step.in_work = 0
            self._changed.notify_all()
        if self._step.channel is not None:
            self._step.channel.close("ended")  # the node may be waiting for frames


def at_once(made: Made) -> Made:
    return made


def failed(error: Exception) -> Made:
    raise error
