"""Measure all weights that come with the project: `models/weights/figures.json`, and `docs/models.md` made of it.

python docs/models.py [--data FOLDER] [--only MODEL-TASK ...]     measure, then write both
python docs/models.py --from-json                                 write the page anew from the figures
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, this file sees its own folder only

import torch  # noqa: E402

from models import catalog, evaluation, listing, metrics  # noqa: E402
from nodes.fusion import bench  # noqa: E402
from nodes.fusion.network import Network  # noqa: E402
from pipeline.errors import StreamfuseError  # noqa: E402

FIGURES = catalog.WEIGHTS / listing.FIGURES
PAGE = Path(__file__).with_suffix(".md")
PEERS = Path(__file__).with_name("peers.json")
FRAMES = 15  # pairs to time

# Data sets by task, as folders below --data.
SETS = {
    "infrared": ("infrared/val",),
    "exposure": ("exposure/val",),
    "focus": ("focus/val",),
    "medical": ("medical/val/mri-ct", "medical/val/mri-pet", "medical/val/mri-spect"),
}
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
UNRANKED = {"infrared": tuple(evaluation.CONTROLS), "medical": ()}

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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="has infrared/val and so on")
    parser.add_argument(
        "--only", nargs="+", metavar="MODEL-TASK", help="judge these; others that did not change keep their figures"
    )
    parser.add_argument("--from-json", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    try:
        figures = listing.read_figures(FIGURES)
        if not options.from_json:
            figures = measure(options.data, options.only, figures)
            FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if not figures:
            raise ValueError(f"{FIGURES}: there is none yet; measure first, without --from-json")
        PAGE.write_text(page(figures, json.loads(PEERS.read_text(encoding="utf-8"))), encoding="utf-8")
    except (ValueError, StreamfuseError) as error:
        sys.exit(f"error: {error}")
    print(f"{PAGE.name}: written")


# Measuring:


def measure(data: Path, only: Iterable[str] | None, before: Mapping[str, Any]) -> dict[str, Any]:
    """All figures: new ones for the weights named by `only` (None: all), those from before for the others."""
    shipped = {f"{model}-{task}": (model, task) for model, task in listing.shipped()}
    if not shipped:
        raise ValueError(f"{catalog.WEIGHTS}: there are no weights")
    wanted = set(shipped if only is None else only)
    if unknown := sorted(wanted - shipped.keys()):
        raise ValueError(f"there are no weights {unknown[0]!r}; there are: {', '.join(shipped)}")
    networks = {name: Network(*of, None, "auto", "auto") for name, of in shipped.items()}
    conditions = describe_machine(networks[min(networks)])
    if only is not None and before and before["conditions"] != conditions:
        raise ValueError(f"the others were measured under {before['conditions']}, not {conditions}; measure all")
    weights = {name: describe(*of) for name, of in shipped.items()}
    speed = {"frames": FRAMES, "size": list(listing.SIZE), "milliseconds": time_in_turns(networks)}
    tasks = [task for task in SETS if any(about["task"] == task for about in weights.values())]
    chosen = {name: network for name, network in networks.items() if name in wanted}
    quality = {task: judge_all(data, task, chosen, still_true(before, weights, task)) for task in tasks}
    return {"conditions": conditions, "weights": weights, "speed": speed, "quality": quality}


def describe_machine(network: Network) -> dict[str, Any]:
    return {
        "processor": torch.cuda.get_device_name() if network.device.type == "cuda" else bench.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": network.precision,
    }


def describe(model: str, task: str) -> dict[str, Any]:
    """What the weights file tells, and which file it was."""
    digest = hashlib.sha256(listing.path_of(model, task).read_bytes()).hexdigest()
    return listing.describe(model, task) | {"sha256": digest}


def time_in_turns(networks: Mapping[str, Network]) -> dict[str, float]:
    """Median milliseconds of a pair from memory to memory; in turns, so that all see the same state of the machine."""
    first, second = bench.synthetic_pair(listing.SIZE)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        network.warm_up(listing.SIZE)
    for number in range(FRAMES):
        print(f"speed, pair {number + 1} of {FRAMES}", file=sys.stderr)
        for name, network in networks.items():
            fuse = partial(network.fuse_full_range, "", first, second)
            fuse()  # so that nothing is timed that the network before has left in the caches
            times[name].append(bench.timed(network.device, fuse)[1])
    return {name: round(median(ms), 1) for name, ms in times.items()}


def still_true(before: Mapping[str, Any], weights: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The quality known of a task, by data set: without networks whose weights are not those that were judged."""
    same = {key for key, about in weights.items() if before.get("weights", {}).get(key) == about}
    kept = {*evaluation.CONTROLS, *(key.removesuffix(f"-{task}") for key in same)}
    return {
        name: found | {"means": {method: row for method, row in found["means"].items() if method in kept}}
        for name, found in before.get("quality", {}).get(task, {}).items()
    }


def judge_all(data: Path, task: str, networks: Mapping[str, Network], known: Mapping[str, Any]) -> dict[str, Any]:
    """Means over each data set of a task by method: networks by the name of their model, controls, what is known."""
    fusions = {name.partition("-")[0]: of.fuse_full_range for name, of in networks.items() if name.endswith(task)}
    sets: dict[str, Any] = {}
    for folder in [data / part for part in SETS[task]]:
        sets[folder.name] = dict(known.get(folder.name, {"means": {}}))
        if fusions or not sets[folder.name]["means"]:
            print(f"{folder}: {', '.join(fusions)}", file=sys.stderr)
            found = evaluation.judge(evaluation.find_pairs(folder, None, task), task, fusions, None)
            sets[folder.name]["pairs"] = found["pairs"]
            sets[folder.name]["means"] |= {name: rounded(row) for name, row in found["means"].items()}
    return sets


def rounded(row: Mapping[str, float]) -> dict[str, float]:
    """Without what is not defined, for which JSON has no word."""
    return {key: round(value, 4) for key, value in row.items() if math.isfinite(value)}


# The page:


def page(figures: Mapping[str, Any], peers: Mapping[str, Any]) -> str:
    """The whole page, from the figures alone."""
    tables = [
        section(f"{task}/{name}", found, peers["tables"])
        for task in SETS
        for name, found in sorted(figures["quality"].get(task, {}).items())
    ]
    quality = QUALITY.format(precision=figures["conditions"]["precision"], source=peers["source"])
    return "\n".join([HEAD + speed(figures), quality, *tables])


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
    return "\n".join([*lines, "", text, ""])


def section(name: str, found: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
    """One table: our networks and the controls as measured, the others, of as many pairs, as in `peers.json`."""
    task, means = name.partition("/")[0], found["means"]
    ours = sorted(means.keys() - evaluation.CONTROLS.keys())
    rows = {method: means[method] for method in [*ours, *evaluation.CONTROLS]}
    if name in tables and tables[name]["pairs"] == found["pairs"]:
        rows |= {method: row for method, row in tables[name]["rows"].items() if method not in rows}
    ranks = mean_ranks(task, rows)
    order = sorted(rows, key=lambda method: ranks.get(method, float("inf")))
    columns = [*COLUMNS[task], *(["mean rank"] if ranks else [])]
    lines = [f"### {TITLES[name]} ({found['pairs']} pairs)", "", "| method | " + " | ".join(columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for method in order:
        cells = [told(column, rows[method].get(column)) for column in COLUMNS[task]]
        cells += [f"{ranks[method]:.1f}" if method in ranks else "-"] if ranks else []
        lines.append(f"| {f'**{method}**' if method in ours else method} | " + " | ".join(cells) + " |")
    ranked = f"\nThe mean rank is over {', '.join(RANKED[task])}.\n" if ranks else ""
    return "\n".join(lines) + "\n" + ranked


def mean_ranks(task: str, rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Among the methods that are ranked; none for a task without a ranking."""
    if task not in RANKED:
        return {}
    columns = RANKED[task]
    ranked = {name: {column: row.get(column, math.nan) for column in columns} for name, row in rows.items()}
    return metrics.mean_rank({name: row for name, row in ranked.items() if name not in UNRANKED[task]}, columns)


def told(column: str, value: float | None) -> str:
    """A figure with the digits that its size deserves."""
    return "" if value is None else f"{value:.1f}" if column in ("SD", "SF") else f"{value:.3f}"


if __name__ == "__main__":
    main()
