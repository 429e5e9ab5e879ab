"""What a run of several processes came to, for people and for `--json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.stats import Summary


@dataclass(frozen=True)
class Report:
    """What is known when all have ended."""

    processes: dict[str, dict[str, Any] | None]
    """By name the summary of the process, that of the last where it was started again; None if it left none."""
    restarts: dict[str, int]
    """By name how often it was started again."""
    code: int
    """Exit code of the whole."""
    error: str = ""
    """Why it is not 0, in one line."""

    def figures(self) -> dict[str, Any]:
        """For `--json`."""
        return {"processes": self.processes, "restarts": self.restarts}

    def lines(self) -> list[str]:
        """As a person wants to read it; nothing where nothing flowed."""
        width = max(map(len, self.processes), default=0)
        told = []
        for name, summary in self.processes.items():
            if summary and any(node["taken"] for node in summary["nodes"].values()):
                told += [f"{name:<{width}} | {line}" for line in Summary(**summary).lines()]
            if count := self.restarts[name]:
                told.append(f"{name:<{width}} | restarted {count} time{'s' * (count > 1)}")
        return told
