"""Processes and a clock that are played, for a supervisor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nodes.processes.plan import Job
from nodes.processes.supervisor import TURN_S, Supervisor
from pipeline.errors import DeviceError

KILLED = -9
LIVE, RECORDED = "live", "recorded"


class Played:
    """A process that does what the test says; it keeps what was asked of it."""

    pid = 4711

    def __init__(self) -> None:
        self.code: int | None = None
        self.asked: list[str] = []
        self._said: list[dict[str, Any]] = []

    def says(self, **what: Any) -> None:
        self._said.append(what)

    def ends(self, code: int, **what: Any) -> None:
        self.says(**what)
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def hear(self) -> list[dict[str, Any]]:
        said, self._said = self._said, []
        return said

    def go(self) -> None:
        self.asked.append("go")

    def stop(self) -> None:
        self.asked.append("stop")

    def fail(self) -> None:
        self.asked.append("fail")

    def kill(self) -> None:
        self.asked.append("kill")
        self.code = KILLED if self.code is None else self.code

    def close(self) -> None:
        self.asked.append("close")


class Stage:
    """A supervisor with its played processes, by name those that were started one after another."""

    def __init__(self, *names: str, follow: Iterable[str] = (), seconds: float | None = None) -> None:
        self.now = 100.0
        self.started: dict[str, list[Played]] = {name: [] for name in names}
        self.no_room = False
        jobs = [Job(name, ("run", f"{name}.yaml"), follows=name in follow) for name in names]
        self.supervisor = Supervisor(jobs, self.start, self.wait, seconds, clock=lambda: self.now)
        for place in self.supervisor.places:
            place.process = self.start(place.job)

    def start(self, job: Job) -> Played:
        if self.no_room:
            raise DeviceError("no room for one more process")
        self.started[job.name].append(Played())
        return self.started[job.name][-1]

    def wait(self, processes: Iterable[Any], seconds: float) -> None:
        self.now += seconds

    def __getitem__(self, name: str) -> Played:
        """The last process of a job."""
        return self.started[name][-1]

    def up(self, mode: str = LIVE) -> Stage:
        """All come up."""
        for processes in self.started.values():
            processes[-1].says(mode=mode)
        self.turn()
        for processes in self.started.values():
            processes[-1].says(ready=True)
        self.turn()
        return self

    def turn(self, seconds: float = TURN_S) -> None:
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.supervisor.turn()

    def report(self) -> Any:
        assert not self.supervisor.is_running
        return self.supervisor.report()

    def asked(self, name: str) -> list[str]:
        return self[name].asked
