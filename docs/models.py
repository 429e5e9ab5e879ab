"""Measure all weights that come with the project: `models/weights/figures.json`, and `docs/models.md` made of it.

python docs/models.py [--data FOLDER] [--only MODEL-TASK ...] [--frames N]     measure, then write both
python docs/models.py --from-json                                              write the page anew from the figures
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, this file sees its own folder only

import numpy as np  # noqa: E402
import torch  # noqa: E402

from docs.models_page import CLIPS, CONTROL, page  # noqa: E402
from models import catalog, evaluation, inference, listing  # noqa: E402
from models.controls import Fusing, controls_for  # noqa: E402
from nodes.capture.video import VideoCapture  # noqa: E402
from nodes.fusion import bench, stability  # noqa: E402
from nodes.fusion.network import Network  # noqa: E402
from nodes.fusion.stability import NOT_STEADY  # noqa: E402
from pipeline.errors import StreamfuseError  # noqa: E402

FIGURES = catalog.WEIGHTS / listing.FIGURES
PAGE = Path(__file__).with_suffix(".md")
PEERS = Path(__file__).with_name("peers.json")
FRAMES = 15  # pairs to time
SHAPES = ((16, 1), (16, 2), (12, 3), (16, 3), (24, 2), (24, 3))  # channels and blocks

# Data sets by task, as folders below --data.
SETS = {
    "infrared": ("infrared/val",),
    "exposure": ("exposure/val",),
    "focus": ("focus/val",),
    "medical": ("medical/val/mri-ct", "medical/val/mri-pet", "medical/val/mri-spect"),
}
NOISE, SHIFT = 10.0, 3  # grey levels, px


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="has infrared/val and so on")
    parser.add_argument(
        "--only", nargs="+", metavar="MODEL-TASK", help="judge these; others that did not change keep their figures"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="of each clip, for a try-out (all)")
    parser.add_argument("--from-json", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    try:
        if options.frames is not None and options.frames < 2:
            raise ValueError(f"--frames {options.frames}: change takes two frames or more")
        figures = listing.read_figures(FIGURES)
        if not options.from_json:
            figures = measure(options.data, options.only, figures, options.frames)
            FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if not figures:
            raise ValueError(f"{FIGURES}: there is none yet; measure first, without --from-json")
        PAGE.write_text(page(figures, json.loads(PEERS.read_text(encoding="utf-8"))), encoding="utf-8")
    except (ValueError, StreamfuseError) as error:
        sys.exit(f"error: {error}")
    print(f"{PAGE.name}: written")


# Measuring:


def measure(data: Path, only: Iterable[str] | None, before: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
    """All figures: new ones for the weights named by `only` (None: all), those from before for the others.

    Args:
        data: has the data sets.
        only: names as of the weights' files.
        before: the figures as they were.
        limit: how many frames of each clip to take; None for all.
    """
    shipped = {f"{model}-{task}": (model, task) for model, task in listing.shipped()}
    if not shipped:
        raise ValueError(f"{catalog.WEIGHTS}: there are no weights")
    wanted = set(shipped if only is None else only)
    if unknown := sorted(wanted - shipped.keys()):
        raise ValueError(f"there are no weights {unknown[0]!r}; there are: {', '.join(shipped)}")
    networks = {name: Network(*of, None, "auto", "auto") for name, of in shipped.items()}
    conditions = describe_machine(networks[min(networks)])
    if only is None:
        before = {}
    elif before:
        check_same(before["conditions"], conditions, "conditions")
        check_same(before.get("stability", {}).get("limit"), limit, "--frames")
    weights = {name: describe(*of) for name, of in shipped.items()}
    speed = {
        "frames": FRAMES,
        "size": list(listing.SIZE),
        "milliseconds": time_networks(networks),
        "shapes": time_shapes(networks[min(networks)]),
    }
    figures: dict[str, Any] = {"conditions": conditions, "weights": weights, "speed": speed, "quality": {}}
    for task in [task for task in SETS if any(about["task"] == task for about in weights.values())]:
        known = Known(before, weights, task)
        chosen = {shipped[name][0]: networks[name] for name in shipped if name in wanted and shipped[name][1] == task}
        figures["quality"][task] = judge_all(data, task, chosen, known)
        if task == "infrared":
            figures["stability"] = {"limit": limit, "clips": judge_clips(data / "video", chosen, known, limit)}
            figures["robustness"] = judge_damaged(data / SETS[task][0], chosen, known)
    return figures


def check_same(before: Any, now: Any, what: str) -> None:
    if before != now:
        raise ValueError(f"the others were measured with {what} {before}, not {now}; measure all")


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


def time_networks(networks: Mapping[str, Network]) -> dict[str, float]:
    """Median milliseconds of a pair from memory to memory."""
    first, second = bench.synthetic_pair(listing.SIZE)
    for network in networks.values():
        network.warm_up(listing.SIZE)
    device = networks[min(networks)].device
    calls = {name: partial(network.fuse_full_range, "", first, second) for name, network in networks.items()}
    return time_in_turns("speed, pair", device, calls)


def time_shapes(like: Network) -> dict[str, float]:
    """Median milliseconds of `realtime` alone, untrained, by channels and blocks; on the same device."""
    planes = [like.upload(plane, "full") for plane in bench.synthetic_pair(listing.SIZE)]
    calls = {}
    for channels, blocks in SHAPES:
        network = catalog.build("realtime", {"channels": channels, "blocks": blocks})
        calls[f"{channels} channels, {blocks} blocks"] = partial(
            inference.prepare(network, like.device, like.precision), *planes
        )
    with torch.inference_mode():
        return time_in_turns("shapes, pair", like.device, calls)


def time_in_turns(what: str, device: torch.device, calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Median milliseconds of each call; in turns, so that all see the same state of the machine."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(FRAMES):
        print(f"{what} {number + 1} of {FRAMES}", file=sys.stderr)
        for name, call in calls.items():
            call()  # so that nothing is timed that the call before has left in the caches
            times[name].append(bench.timed(device, call)[1])
    return {name: round(median(ms), 1) for name, ms in times.items()}


class Known:
    """What was measured before and is still true: the controls, and networks whose weights are those that were judged.

    Args:
        before: all figures as they were.
        weights: what there is to tell of each file now.
        task: of which to know.
    """

    def __init__(self, before: Mapping[str, Any], weights: Mapping[str, Any], task: str) -> None:
        same = [key.removesuffix(f"-{task}") for key in weights if before.get("weights", {}).get(key) == weights[key]]
        self.before = before
        self.methods = {*controls_for(task), *same, *(name + NOT_STEADY for name in same)}

    def at(self, *keys: str) -> dict[str, Any]:
        """What stands at these keys, one below the other; nothing if nothing does."""
        found: Any = self.before
        for key in keys:
            found = found.get(key, {})
        return {key: self.true(part) if isinstance(part, dict) else part for key, part in found.items()}

    def true(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """The rows of a table that still hold."""
        return {method: row for method, row in rows.items() if method in self.methods}


def judge_all(data: Path, task: str, networks: Mapping[str, Network], known: Known) -> dict[str, Any]:
    """Means over each data set of a task by method: networks by the name of their model, and the controls."""
    fusions = {name: network.fuse_full_range for name, network in networks.items()}
    return {
        folder.name: judged(folder, task, fusions, controls_for(task), known.at("quality", task, folder.name))
        for folder in [data / part for part in SETS[task]]
    }


def judged(
    folder: Path, task: str, fusions: Mapping[str, Fusing], controls: Mapping[str, Fusing], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Number of pairs, and means by method: of these fusions, of controls that are not known, and what is known."""
    means = dict(known.get("means", {}))
    controls = {name: control for name, control in controls.items() if name not in means}
    if not fusions and not controls:
        return dict(known)
    print(f"{folder}: {', '.join([*controls, *fusions])}", file=sys.stderr)
    found = evaluation.judge(evaluation.find_pairs(folder, None, task), task, fusions, None, controls)
    means |= {name: rounded(row) for name, row in found["means"].items()}
    return {"pairs": found["pairs"], "means": means}


def judge_clips(folder: Path, networks: Mapping[str, Network], known: Known, limit: int | None) -> dict[str, Any]:
    """Unexplained change in each clip by method."""
    return {clip: judge_clip(folder / clip, networks, known.at("stability", "clips", clip), limit) for clip in CLIPS}


def judge_clip(
    folder: Path, networks: Mapping[str, Network], known: Mapping[str, Any], limit: int | None
) -> dict[str, Any]:
    """Number of frames, and figures by method, as in `judged`."""
    methods = dict(known.get("methods", {}))
    controls = {name: control for name, control in controls_for("infrared").items() if name not in methods}
    if not networks and not controls:
        return dict(known)
    print(f"{folder}: {', '.join([*controls, *networks])}", file=sys.stderr)
    sources = [video_in(folder, name) for name in ("infrared", "visible")]
    found = stability.measure(VideoCapture, *sources, networks=networks, controls=controls, limit=limit)
    methods |= {name: rounded(row) for name, row in found["methods"].items()}
    return {"frames": found["frames"], "methods": methods}


def video_in(folder: Path, name: str) -> Path:
    """The video of this name, whatever its kind."""
    if found := sorted(folder.glob(f"{name}.*")):
        return found[0]
    raise ValueError(f"{folder}: there is no video {name!r} in it")


def judge_damaged(folder: Path, networks: Mapping[str, Network], known: Known) -> dict[str, Any]:
    """Means by kind of damage and by method, which sees damaged infrared and is judged against the clean one."""
    controls = {CONTROL: controls_for("infrared")[CONTROL]}
    return {
        kind: judged(
            folder,
            "infrared",
            {name: seeing(damage, network.fuse_full_range) for name, network in networks.items()},
            {name: seeing(damage, control) for name, control in controls.items()},
            known.at("robustness", kind),
        )
        for kind, damage in DAMAGES.items()
    }


def seeing(damage: Callable[[str, np.ndarray], np.ndarray], fuse: Fusing) -> Fusing:
    """The fusion of a damaged first source."""
    return lambda stem, first, second: fuse(stem, damage(stem, first), second)


def noisy(stem: str, plane: np.ndarray) -> np.ndarray:
    """White noise over (H, W) uint8, of each pair its own and always the same."""
    rng = np.random.default_rng(zlib.crc32(stem.encode()))
    return np.clip(np.rint(plane + rng.normal(0, NOISE, plane.shape)), 0, 255).astype(np.uint8)


def shifted(_: str, plane: np.ndarray) -> np.ndarray:
    """(H, W) uint8 moved to the right, the first column repeated."""
    return np.pad(plane, ((0, 0), (SHIFT, 0)), mode="edge")[:, :-SHIFT]


DAMAGES = {"noise": noisy, "shift": shifted}


def rounded(row: Mapping[str, float]) -> dict[str, float]:
    """Without what is not defined, for which JSON has no word."""
    return {key: round(value, 4) for key, value in row.items() if math.isfinite(value)}


if __name__ == "__main__":
    main()
