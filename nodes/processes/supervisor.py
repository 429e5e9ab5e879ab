"""Supervisor: starts a process for each config, starts live ones again that crash, and ends all together."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nodes.processes.place import Failure, Place, Process
from nodes.processes.plan import Job
from nodes.processes.report import Report
from pipeline.errors import INTERRUPTED, ConfigError, DeviceError

log = logging.getLogger("streamfuse")

TURN_S = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0  # before a process is started again
GOOD_S = 60.0  # of running, and what was before is forgiven
GRACE_S = 5.0  # recorded: for the others to learn of a failure, and of which one, by themselves
KILL_S = 4.0  # a process that works at all ends within 3 s
DRAIN_S = 0.5  # live: for the last frames, when the sources have come to their end


class Supervisor:
    """Runs the jobs, each in a process.

    All are started at once, and go when each has found its config right. Then, of live processes, one that crashes is
    started again, after a pause that doubles each time, for ever; only one that never came up ends the run. Of recorded
    ones a failure ends the run: the others learn of it by themselves, and are ended if they do not. When all processes
    that have sources of their own have come to their end, those that follow them are ended.

    Args:
        jobs: at least one.
        start: makes the process of a job.
        wait: for something to be heard from processes, at most so many seconds.
        seconds: live, end all in good order so long after all nodes of all were open.
        clock: in seconds.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        start: Callable[[Job], Process],
        wait: Callable[[Iterable[Any], float], None],
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places = [Place(job) for job in jobs]
        self._start, self._wait, self._seconds, self._clock = start, wait, seconds, clock
        self._going = self._ending = self._interrupted = False
        self._timed_end_at = self._given_up_at = self._drained_at = self._kill_at = math.inf
        self._failures: list[Failure] = []

    def stop(self) -> None:
        """End all in good order; may be called anywhere, also in the handler of a signal."""
        self._interrupted = True

    def kill(self) -> None:
        """End all at once; may be called anywhere."""
        for place in self.places:
            if place.process:
                place.process.kill()

    def run(self) -> Report:
        """Until all have ended.

        Raises:
            ConfigError: the run is to end after a time, and some processes work on recordings.
            DeviceError: a first process could not be started.
        """
        try:
            for place in self.places:
                place.process = self._start(place.job)
            while self.is_running:
                self.turn()
        finally:
            self._leave_none()
        return self.report()

    @property
    def is_running(self) -> bool:
        return any(place.code is None for place in self.places)

    def turn(self) -> None:
        """Wait a moment, and see to what has happened."""
        self._wait([place.process for place in self.places if place.process], TURN_S)
        now = self._clock()
        for place in self.places:
            if place.process:
                self._look_after(place, place.process, now)
            elif place.again_at <= now:
                self._start_again(place, now)
        if not self._going:
            self._let_them_go()
        self._look_at_the_time(now)
        if self._interrupted and not self._ending:
            self._end(now)

    # One process:

    def _look_after(self, place: Place, process: Process, now: float) -> None:
        code = process.poll()
        for said in process.hear():
            place.said |= said
            place.mode = place.said.get("mode", place.mode)
            if said.get("ready"):
                place.was_up, place.up_at = True, now
        if code is not None:
            process.close()
            place.process = None
            self._note_end(place, code, now)

    def _note_end(self, place: Place, code: int, now: float) -> None:
        """What it means that a process has ended."""
        if self._ending and code in (0, INTERRUPTED):
            place.code = code
        elif self._ending and (place.killed or not self._going):
            place.code = code
            if self._going:
                log.warning("%s: did not stop within %.0f s and was killed", place.job.name, KILL_S)
        elif code == 0:
            place.code = code
        elif self._may_start_again(place, code):
            self._plan_restart(place, code, now)
        else:
            place.code = code
            self._note_failure(place, code, now)

    def _may_start_again(self, place: Place, code: int) -> bool:
        return place.mode == "live" and place.was_up and code != ConfigError.exit_code and not self._ending

    def _plan_restart(self, place: Place, code: int, now: float) -> None:
        place.crashes = 0 if now - place.up_at >= GOOD_S else place.crashes
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(place.crashes, 30))
        place.crashes += 1
        place.again_at, place.up_at = now + pause_s, math.inf
        log.warning("%s: %s; starting it again in %.1f s", place.job.name, place.why(code), pause_s)

    def _start_again(self, place: Place, now: float) -> None:
        place.again_at, place.said = math.inf, {}
        place.restarts += 1
        try:
            place.process = self._start(place.job)
        except DeviceError as error:  # for now there is no room
            place.said = {"error": str(error)}
            self._plan_restart(place, error.exit_code, now)
        else:
            place.process.go()
            log.info("%s: restart %d, process %d", place.job.name, place.restarts, place.process.pid)

    def _note_failure(self, place: Place, code: int, now: float) -> None:
        failure = Failure(place.job, code, place.why(code))
        if self._ending and failure.is_consequence:
            return
        self._failures.append(failure)
        if len(self._failures) > 1 or self._ending:
            log.warning("%s: %s", place.job.name, failure.why)
        if self._ending:
            return
        if place.mode != "recorded" or code == ConfigError.exit_code or not self._going:
            self._end(now)
        elif place.said.get("gave_up", True):
            self._given_up_at = min(self._given_up_at, now + GRACE_S)

    # All of them:

    def _let_them_go(self) -> None:
        """When all have found their configs right."""
        if self._ending or not all(place.mode for place in self.places):
            return
        recorded = [place.job.name for place in self.places if place.mode == "recorded"]
        if recorded and self._seconds is not None:
            raise ConfigError(f"--for: {recorded[0]} is not live; recordings are read to their end")
        self._going = True
        for place in self.places:
            if place.process:
                place.process.go()
                log.info("%s: process %d", place.job.name, place.process.pid)

    def _look_at_the_time(self, now: float) -> None:
        if self._ending:
            if now >= self._kill_at:
                self._kill_the_rest()
            return
        if self._seconds is not None and self._timed_end_at == math.inf and all(place.was_up for place in self.places):
            self._timed_end_at = now + self._seconds
        if self._drained_at == math.inf and self._only_followers_are_left():
            self._drained_at = now + DRAIN_S
        left = [place for place in self.places if place.code is None]
        if self._given_up_at < math.inf and not any(place.job.follows for place in left):
            self._given_up_at = now  # those that are left have nobody to learn it from
        if now >= min(self._timed_end_at, self._given_up_at, self._drained_at):
            self._end(now)

    def _only_followers_are_left(self) -> bool:
        """Live ones, who would wait for ever for those that have come to their end."""
        left = [place for place in self.places if place.code is None]
        ended = [place for place in self.places if place.code is not None]
        return any(not place.job.follows for place in ended) and all(
            place.job.follows and place.mode == "live" for place in left
        )

    def _end(self, now: float) -> None:
        """Have all end: in good order, or after a failure in recorded mode with nothing left that seems whole."""
        self._ending, self._kill_at = True, now + KILL_S
        for place in self.places:
            if place.process is None:  # has ended, or waits to be started again
                place.code, place.again_at = place.code or 0, math.inf
            elif not self._going:  # nothing is open, so there is nothing to finish
                place.process.kill()
            elif place.mode == "recorded" and self._failures and not self._interrupted:
                place.process.fail()
            else:
                place.process.stop()

    def _leave_none(self) -> None:
        """Whatever happens, none is left behind."""
        self.kill()
        for place in self.places:
            if place.process:
                place.process.close()

    def _kill_the_rest(self) -> None:
        for place in self.places:
            if place.process:
                place.killed = True
                place.process.kill()

    def report(self) -> Report:
        """What it came to, when all have ended."""
        code, error = INTERRUPTED if self._interrupted else 0, ""
        if self._failures:
            cause = min(self._failures, key=lambda failure: failure.is_consequence)  # the first of several
            code, error = cause.code if cause.code > 0 else 128 - cause.code, f"{cause.job.name}: {cause.why}"
        return Report(
            {place.job.name: place.said.get("summary") for place in self.places},
            {place.job.name: place.restarts for place in self.places},
            code,
            error,
        )
