"""Account: what a run came to, and whether the law holds that frames in are frames out plus drops by reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.graph import Mode, Step
from pipeline.node import Node
from pipeline.stats import Summary, percentile

log = logging.getLogger("streamfuse")

LOST = {"no_partner": "have no partner", "out_of_order": "are older than the one before them"}  # in recorded mode


def summarise(mode: Mode, seconds: float, steps: Mapping[str, Step]) -> Summary:
    """What happened to the frames, of the nodes that have come to an end."""
    ended = {name: step for name, step in steps.items() if not step.alive}
    broken = [line for name, step in ended.items() for line in unbalanced(name, step, steps)]
    entries = {name: account(step) | report(step.node) for name, step in ended.items()}
    return Summary(mode, seconds, entries, broken)


def account(step: Step) -> dict[str, Any]:
    """What a node has done so far."""
    drops = step.channel.drops() if step.channel else {}
    skew = {"max_skew_ms": step.channel.max_skew_seen_ns / 1e6} if step.channel and len(step.sources) > 1 else {}
    return {
        "source": step.channel is None,
        "sink": not step.consumers,
        "taken": step.stats.taken,
        "emitted": step.stats.emitted,
        "dropped": {f"{key} {reason}": count for (key, reason), count in drops.items()} | dict(step.stats.dropped),
        **percentiles("", step.stats.busy_ms),
        **(percentiles("age_", step.stats.age_ms) if step.stats.age_ms else {}),
        **skew,
        **({"behind_ms": behind} if step.channel and (behind := step.channel.behind_ms()) else {}),
    }


def drops_before(name: str, steps: Mapping[str, Step]) -> Counter[str]:
    """Drops so far by reason in a node and all before it, and in their channels."""
    total: Counter[str] = Counter()
    on_the_way = {name}
    left = [name]
    while left:
        step = steps[left.pop()]
        total.update(step.stats.dropped.copy())
        for (_, reason), count in step.channel.drops().items() if step.channel else ():
            total[reason] += count
        before = set(step.sources.values()) - on_the_way
        on_the_way |= before
        left += before
    return total


def percentiles(of: str, values: Iterable[float]) -> dict[str, float]:
    """The median, and what 95 and 99 % stay below."""
    seen = sorted(values)  # once: to sort what is sorted takes next to nothing
    return {f"{of}p{share}_ms": percentile(seen, share / 100) for share in (50, 95, 99)}


def report(node: Node) -> dict[str, Any]:
    """What a node says of itself; a mistake in that hides nothing else."""
    try:
        return node.report()
    except Exception as error:
        log.warning("%s: cannot say what it did: %s", node.name, error)
        return {}


def unbalanced(name: str, step: Step, steps: Mapping[str, Step]) -> list[str]:
    """Where count is lost on the way from the nodes before to this one and through it: nowhere, or we have a fault."""
    lines = []
    if balance := step.stats.balance():
        lines.append(f"{name}: {balance} frames taken are neither handed on nor dropped")
    if step.channel is None:
        return lines
    if lost := step.channel.taken - step.stats.taken:
        lines.append(f"{name}: {lost} frames were delivered and never taken")
    for key, source in step.sources.items():
        if steps[source].alive:
            continue  # left behind, it may be in the middle of something
        if missing := steps[source].stats.emitted - step.channel.arrived[key]:
            lines.append(f"{name}: {missing} frames of {key} were sent by {source} and never arrived")
        if balance := step.channel.balance(key):
            lines.append(f"{name}: {balance} frames of {key} are neither delivered nor dropped")
    return lines


def frames_lost(steps: Mapping[str, Step]) -> str:
    """In recorded mode each frame is promised a place in the result; which have none, and why. Empty if all have."""
    lines, hint = [], ""
    for name, step in steps.items():
        for (key, reason), count in step.channel.drops().items() if step.channel else ():
            if step.channel and reason in LOST:
                lines.append(f"{name}: {count} of {step.channel.arrived[key]} {key} frames {LOST[reason]}")
            if reason == "no_partner":
                hint = " (the recordings differ in length, start or rate: see max_skew_ms and reference)"
    return "; ".join(lines) + hint
