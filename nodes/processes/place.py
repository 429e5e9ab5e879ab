"""Place: a job, the process that does it, and what is known of that."""

from __future__ import annotations

import math
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from nodes.processes.plan import Job
from pipeline.errors import INTERRUPTED, SourceError


class Process(Protocol):
    """What the supervisor wants of a process; `Child` is one."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def hear(self) -> list[dict[str, Any]]: ...
    def go(self) -> None: ...
    def stop(self) -> None: ...
    def fail(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


@dataclass
class Place:
    """A job, and the process that does it: one after the other, where they crash."""

    job: Job
    process: Process | None = None
    code: int | None = None
    """Of its last process, once there will be no other."""
    mode: str = ""
    was_up: bool = False
    """All its nodes were open, now or before a restart."""
    up_at: float = math.inf
    again_at: float = math.inf
    crashes: int = 0
    """In a row, without much good running in between."""
    restarts: int = 0
    killed: bool = False
    said: dict[str, Any] = field(default_factory=dict)
    """By its process: `summary`, `gave_up`, `error`."""

    def why(self, code: int) -> str:
        """It ended with a code, in words."""
        if error := self.said.get("error"):
            return str(error)
        if code < 0:
            with suppress(ValueError):
                return f"was killed by {signal.Signals(-code).name}"
        return "was interrupted" if code == INTERRUPTED else f"ended with exit code {code}"


@dataclass(frozen=True)
class Failure:
    """A process that ended as it should not have."""

    job: Job
    code: int
    why: str

    @property
    def is_consequence(self) -> bool:
        """Most likely only what another's failure has led to: it lost whom it received from."""
        return self.job.follows and self.code == SourceError.exit_code
