"""The run as text for Prometheus.

Format 0.0.4, https://prometheus.io/docs/instrumenting/exposition_formats/; names and base units after
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from nodes.output.web_journal import Journal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
BASE_UNITS = {"_ms": ("_seconds", 1e-3), "_us": ("_seconds", 1e-6), "_ns": ("_seconds", 1e-9), "_s": ("_seconds", 1.0)}


class Families:
    """Metrics in the making: samples by family, each family with its help and type once."""

    def __init__(self) -> None:
        self._heads: dict[str, tuple[str, str]] = {}
        self._samples: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, explained: str, value: float | None, **labels: str) -> None:
        """A sample; nothing if there is no such number."""
        if value is None or not math.isfinite(value):
            return
        self._heads.setdefault(name, (kind, explained))
        inner = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
        self._samples.setdefault(name, []).append(
            f"{name}{{{inner}}} {value:.10g}" if inner else f"{name} {value:.10g}"
        )

    def text(self) -> str:
        lines = []
        for name, (kind, explained) in self._heads.items():
            lines += [f"# HELP {name} {explained}", f"# TYPE {name} {kind}", *self._samples[name]]
        return "\n".join([*lines, ""])


def metrics(
    journal: Journal, now_ns: int, snapshot: Mapping[str, Mapping[str, Any]], watchers: Mapping[str, int]
) -> str:
    """All numbers of now.

    Args:
        journal: what came here.
        now_ns: on the monotonic clock.
        snapshot: what each node did, of `Running.snapshot`.
        watchers: clients by view.
    """
    families = Families()
    add_output(families, journal, now_ns, watchers)
    for node, entry in snapshot.items():
        add_node(families, node, entry)
    return families.text()


def add_output(families: Families, journal: Journal, now_ns: int, watchers: Mapping[str, int]) -> None:
    """What came to the page."""
    readiness, last, age_ms = journal.readiness(now_ns), journal.last(journal.main), journal.age_ms(now_ns)
    families.add("streamfuse_ready", "gauge", "1 while there is a fresh output, else 0.", float(readiness.ready))
    families.add("streamfuse_degraded", "gauge", "1 while a sensor is lost, else 0.", float(readiness.degraded))
    if last is not None:
        state = last.state
        for word in dict.fromkeys(("fused", "held", *([state] if state else []))) if state else ():
            families.add(
                "streamfuse_state", "gauge", "1 for how the newest frame was made.", float(word == state), state=word
            )
        families.add("streamfuse_skew_seconds", "gauge", "Skew of the newest frame's sources.", seconds(last.skew_ms))
    families.add("streamfuse_output_age_seconds", "gauge", "Time since the newest frame's capture.", seconds(age_ms))
    for share, value in journal.latency_ms(now_ns).items():
        text = "Age of frames when they reach the page, over the last 10 seconds."
        families.add("streamfuse_latency_seconds", "gauge", text, seconds(value), quantile=QUANTILES[share])
    for view in journal.views:
        text = "Frames a second over the last 5 seconds."
        families.add("streamfuse_frames_per_second", "gauge", text, journal.fps(view, now_ns), view=view)
        families.add("streamfuse_watchers", "gauge", "Clients that watch.", float(watchers.get(view, 0)), view=view)


def add_node(families: Families, node: str, entry: Mapping[str, Any]) -> None:
    """What a node did."""
    for key, explained in (
        ("taken", "Sets of frames worked on; of a source, frames made."),
        ("emitted", "Frames handed on; of a node at the end, dealt with."),
    ):
        families.add(f"streamfuse_frames_{key}_total", "counter", explained, entry.get(key), node=node)
    for reason, count in (entry.get("dropped") or {}).items():
        text = "Frames dropped, by reason."
        families.add("streamfuse_frames_dropped_total", "counter", text, count, node=node, reason=reason)
    for share, quantile in QUANTILES.items():
        for key, name, explained in (
            (f"{share}_ms", "streamfuse_process_seconds", "Time to work on a frame."),
            (f"age_{share}_ms", "streamfuse_age_seconds", "Age of frames when they reach the node."),
        ):
            families.add(name, "gauge", explained, seconds(entry.get(key)), node=node, quantile=quantile)
    text = "Largest skew of frames taken together so far."
    families.add("streamfuse_max_skew_seconds", "gauge", text, seconds(entry.get("max_skew_ms")), node=node)
    for gauge, value in (entry.get("gauges") or {}).items():
        name, factor = in_base_unit(gauge)
        families.add(f"streamfuse_node_{name}", "gauge", "As the node tells it.", value * factor, node=node)


def in_base_unit(gauge: str) -> tuple[str, float]:
    """Name of a gauge as Prometheus wants it, and what to multiply its value with."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", gauge)
    for unit, (base, factor) in BASE_UNITS.items():
        if name.endswith(unit):
            return name.removesuffix(unit) + base, factor
    return name, 1.0


def seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1e3


def escaped(text: str) -> str:
    """The value of a label."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
