"""The page of `docs/models.py`: tables made of the figures alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from models import metrics
from models.controls import controls_for
from nodes.fusion.stability import HEAD as FIRST
from nodes.fusion.stability import NOT_STEADY

Row = Mapping[str, float]

TITLES = {
    "infrared/val": "Infrared and visible",
    "exposure/val": "Exposures: the darkest and the brightest of each scene",
    "focus/val": "Focus: near and far",
    "medical/mri-ct": "Medical: MRI and CT",
    "medical/mri-pet": "Medical: MRI and PET, grey",
    "medical/mri-spect": "Medical: MRI and SPECT, grey",
}
COLUMNS = {
    "infrared": metrics.RANKED_COLUMNS,
    "exposure": ("EN", "SD", "SF", "SCD", "VIF", "Qabf", "SSIM", "Nabf", "MEF-SSIM"),
    "focus": ("EN", "SF", "MI", "VIF", "Qabf", "SSIM", "Nabf"),
    "medical": ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM", "Nabf"),
}
# The metrics that a task's mean rank is over, and the rows that have none.
RANKED = {"infrared": metrics.RANKED_COLUMNS, "medical": ("SF", "MI", "SCD", "VIF", "Qabf", "SSIM")}
UNRANKED = {"infrared": ("average", "maximum"), "medical": ()}

CLIPS = ("gain-jumps", "stairs", "smoke")  # folders of infrared.* and visible.*
DAMAGED = {"noise": "Infrared with white noise of 10 grey levels", "shift": "Infrared shifted by 3 px to the right"}
CONTROL = "Laplacian pyramid"  # of robustness

HEAD = """\
# Models

Made by `python docs/models.py` from [figures.json](../models/weights/figures.json), which it measures.

## Speed and size

| weights | kB | parameters | multiply-adds a pixel | ms | pairs a second |
|---|---|---|---|---|---|
"""
QUALITY = """\
## Quality

Means over the validation pairs, nothing stretched, our networks (bold) in {precision}. Nabf: lower is better. {source}
"""
STABILITY = """\
## Stability

Change that neither source shows, in grey levels a frame; lower is better. Networks for infrared, in {precision}, hold
back such changes, as the fusion node does; the rows "not steady" are without. Smear is what that costs: the mean
absolute difference between both, in grey levels.{tried} {source}
"""
ROBUSTNESS = """\
## Robustness

The networks see a damaged infrared picture and are judged against the clean sources: what each figure loses of its
value with clean sources, in percent, and of Nabf the absolute rise. Less is better, below zero it gains. EN, SD and SF
look at the fused picture alone: noise that comes through raises them.
"""


def page(figures: Mapping[str, Any], peers: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        figures: as `docs/models.py` measures them.
        peers: what is known of other methods.
    """
    precision = figures["conditions"]["precision"]
    parts = [HEAD + speed(figures), QUALITY.format(precision=precision, source=peers["source"])]
    for name in TITLES:
        task, _, folder = name.partition("/")
        if found := figures["quality"].get(task, {}).get(folder):
            parts.append(section(name, found, peers["tables"]))
    if clips := figures.get("stability", {}).get("clips"):
        limit = figures["stability"]["limit"]
        tried = f" A try-out: no more than {limit} frames of each clip." if limit else ""
        parts.append(STABILITY.format(precision=precision, tried=tried, source=peers["stability"]["source"]))
        parts.append(stability(clips, peers["stability"]["rows"]))
    if damaged := figures.get("robustness"):
        clean = figures["quality"]["infrared"]["val"]["means"]
        parts += [ROBUSTNESS, *(robustness(kind, damaged[kind], clean) for kind in DAMAGED)]
    return "\n".join(parts)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


# Speed:


def speed(figures: Mapping[str, Any]) -> str:
    """The rows of the first table, and the conditions."""
    times, where = figures["speed"]["milliseconds"], figures["conditions"]
    lines = [
        f"| `{name}` | {about['size_kb']:,} | {about['parameters']:,} | {about['multiply_adds_a_pixel']:,} "
        f"| {times[name]:.1f} | {1000 / times[name]:.1f} |"
        for name, about in sorted(figures["weights"].items(), key=lambda item: (item[1]["model"], item[0]))
    ]
    width, height = figures["speed"]["size"]
    text = (
        f"One pair of {width}x{height} planes from memory to memory, {where['precision']}, {where['processor']}, "
        f"threads: {where['threads']}, torch {where['torch']}: median of {figures['speed']['frames']}, all in turns."
    )
    if {"cadnif-infrared", "realtime-infrared"} <= times.keys():
        ratio = times["cadnif-infrared"] / times["realtime-infrared"]
        text += f" For infrared `realtime` is {ratio:.0f} times as fast as `cadnif`."
    if shapes := figures["speed"].get("shapes"):
        told = "; ".join(
            f"{name} {ms:.1f} ms" for name, ms in sorted(shapes.items(), key=lambda item: (item[1], item[0]))
        )
        text += f"\n\nOther shapes of `realtime`, untrained, the network alone: {told}."
    return "\n".join([*lines, "", text, ""])


# Quality:


def section(name: str, found: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
    """One table: our networks and the controls as measured, the others, of as many pairs, as in `peers.json`."""
    task, means = name.partition("/")[0], found["means"]
    controls = [control for control in controls_for(task) if control in means]
    ours = sorted(means.keys() - set(controls))
    rows = {method: means[method] for method in [*ours, *controls]}
    if name in tables and tables[name]["pairs"] == found["pairs"]:
        rows |= {method: row for method, row in tables[name]["rows"].items() if method not in rows}
    ranks = ranks_beside(task, rows, ours)

    def place(method: str) -> float:
        having = [by[method] for by in ranks.values() if method in by]
        return sum(having) / len(having) if having else math.inf

    cells = []
    for method in sorted(rows, key=place):
        figures = [told(column, rows[method].get(column)) for column in COLUMNS[task]]
        rank = [f"{by[method]:.1f}" if method in by else "-" for by in ranks.values()]
        cells.append([bold(method, ours), *figures, *rank])
    heads = ["method", *COLUMNS[task], *(f"mean rank, {network}" for network in ranks)]
    text = f"\nThe mean rank is over {', '.join(RANKED[task])}" if ranks else ""
    apart = ", of each of our networks beside the others without our other one" if len(ranks) > 1 else ""
    return f"### {TITLES[name]} ({found['pairs']} pairs)\n\n{table(heads, cells)}\n" + (
        f"{text}{apart}.\n" if text else ""
    )


def ranks_beside(task: str, rows: Mapping[str, Row], ours: Sequence[str]) -> dict[str, dict[str, float]]:
    """By each of our networks: the mean ranks of the others and of it, had we no other; none for an unranked task."""
    if task not in RANKED:
        return {}
    columns = RANKED[task]
    ranked = {
        method: {column: row.get(column, math.nan) for column in columns}
        for method, row in rows.items()
        if method not in UNRANKED[task]
    }
    return {
        network: metrics.mean_rank(
            {method: row for method, row in ranked.items() if method == network or method not in ours}, columns
        )
        for network in ours
    }


def bold(method: str, ours: Sequence[str]) -> str:
    return f"**{method}**" if method in ours else method


def told(column: str, value: float | None) -> str:
    """A figure with the digits that its size deserves."""
    return "" if value is None else f"{value:.1f}" if column in ("SD", "SF") else f"{value:.3f}"


# Stability:


def stability(clips: Mapping[str, Any], peers: Mapping[str, Row]) -> str:
    """One table: three columns a clip."""
    there = {clip: clips[clip] for clip in CLIPS if clip in clips}
    measured = sorted({method for found in there.values() for method in found["methods"]})
    controls = [control for control in controls_for("infrared") if control in measured]
    ours = [method for method in measured if method not in controls]
    heads = ["method"]
    for clip, found in there.items():
        heads += [f"{clip}, first {min(FIRST, found['frames'])}", f"all {found['frames']}", "smear"]
    cells = []
    for method in [*ours, *controls]:
        rows = [found["methods"].get(method, {}) for found in there.values()]
        keys = ("unexplained_change_16", "unexplained_change", "smear")
        steady = [name for name in ours if not name.endswith(NOT_STEADY)]
        cells.append([bold(method, steady), *(told(key, row.get(key)) for row in rows for key in keys)])
    for method, row in peers.items():
        values = [row.get(clip) if found["frames"] >= FIRST else None for clip, found in there.items()]
        cells.append([method, *(cell for value in values for cell in (told("", value), "", ""))])
    return table(heads, cells) + "\n"


# Robustness:


def robustness(kind: str, damaged: Mapping[str, Any], clean: Mapping[str, Row]) -> str:
    """One table: what each method loses, and by how many columns it loses less than the control."""
    columns = metrics.RANKED_COLUMNS
    lost = {name: losses(clean[name], row) for name, row in damaged["means"].items()}
    ours = sorted(lost.keys() - {CONTROL})
    cells = []
    for name in [*ours, CONTROL]:
        both = [column for column in columns if column in lost[name] and column in lost[CONTROL]]
        less = sum(lost[name][column] < lost[CONTROL][column] for column in both)
        figures = [told_loss(column, lost[name].get(column)) for column in columns]
        cells.append([bold(name, ours), *figures, f"{less} of {len(both)}" if name in ours else "-"])
    heads = ["method", *columns, f"loses less than the {CONTROL}"]
    return f"### {DAMAGED[kind]} ({damaged['pairs']} pairs)\n\n{table(heads, cells)}\n"


def losses(clean: Row, damaged: Row) -> dict[str, float]:
    """By column what is lost: percent of the clean value, and of what is better low the absolute rise."""
    both = [column for column in metrics.RANKED_COLUMNS if column in clean and column in damaged]
    return {
        column: 100 * (clean[column] - damaged[column]) / abs(clean[column])
        if metrics.COLUMNS[column]
        else damaged[column] - clean[column]
        for column in both
        if clean[column] or not metrics.COLUMNS[column]
    }


def told_loss(column: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:z.1f} %" if metrics.COLUMNS[column] else f"{value:+.3f}"
