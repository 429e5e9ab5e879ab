"""What happened to the frames: counts, drops by reason and times, and the law they must obey."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; NaN of nothing. `share` in 0..1."""
    rank = math.ceil(share * len(values))
    return sorted(values)[max(rank, 1) - 1] if values else math.nan


@dataclass
class NodeStats:
    """Counts of one node, written by its thread alone."""

    taken: int = 0
    """Sets of frames worked on (of a source: frames made)."""
    emitted: int = 0
    """Frames handed on (of a node at the end: frames dealt with)."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Sets of frames that came to nothing in this node, by reason."""
    busy_ms: deque[float] = field(default_factory=lambda: deque(maxlen=4096))
    """How long `process` took, the last 4096 times."""
    age_ms: deque[float] = field(default_factory=lambda: deque(maxlen=4096))
    """Live: how long after its capture a frame was dealt with, the last 4096 times."""

    def balance(self) -> int:
        """0, or we lost count."""
        return self.taken - self.emitted - sum(self.dropped.values())


@dataclass
class Summary:
    """What a run came to, for people and for `--json`."""

    mode: str
    seconds: float
    """From when all nodes were open."""
    nodes: dict[str, dict[str, Any]]
    """By node: source, sink, taken, emitted, dropped (reason -> count, the inputs' before the node's own), p50_ms,
    p95_ms, p99_ms, live also age_p50_ms and so on, max_skew_ms where there are several inputs, live also behind_ms
    by input, and what the node reports of itself. A node that did not stop in time is not there."""
    broken: list[str]
    """Where frames in is not frames out + drops: always empty, unless the engine has a fault."""

    @property
    def dropped(self) -> Counter[str]:
        """Drops of the whole run, by reason."""
        total: Counter[str] = Counter()
        for node in self.nodes.values():
            for reason, count in node["dropped"].items():
                total[reason.rpartition(" ")[2]] += count
        return total

    def lines(self) -> list[str]:
        """The summary as a person wants to read it."""
        width = max((len(name) for name in self.nodes), default=0)
        return [f"{name:<{width}}  {self._line(node)}" for name, node in self.nodes.items()]

    def _line(self, node: dict[str, Any]) -> str:
        parts = [f"{node['emitted']} frames"]
        if path := node.get("path"):
            parts[0] += f" -> {path}" if node["sink"] else f" <- {path}"
        parts += [f"{count} dropped: {reason}" for reason, count in node["dropped"].items()]
        parts += [f"{key.replace('_', ' ')} {value}" for key, value in node.get("notes", {}).items()]
        if node["emitted"] and not node["source"] and self.seconds > 0:
            parts.append(f"{node['emitted'] / self.seconds:.1f} frames/s")
            parts.append(f"{node['p50_ms']:.1f} ms a frame (p99 {node['p99_ms']:.1f})")
        if "age_p50_ms" in node:
            parts.append(f"{node['age_p50_ms']:.0f} ms after capture (p99 {node['age_p99_ms']:.0f})")
        return ", ".join(parts)
