"""Write docs/performance.md from docs/performance.json, which `run.py bench --device cuda --json` writes.

python docs/performance.py [--commit COMMIT]

`make bench-cuda` does both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, this file sees its own folder only

from docs.models_page import table  # noqa: E402

FIGURES = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).with_suffix(".md")
GIB = 1 << 30

HEAD = """\
# Performance on a GPU

Made by `python docs/performance.py` from `docs/performance.json`, which is measured by `make bench-cuda`.

"""
NOT_MEASURED = """\
**Nothing has been measured yet: no GPU has been at hand.** No figure stands here that was not measured on the card that
is named beside it. On a machine with an NVIDIA GPU one command fills this page in:
```
make bench-cuda
```
`make test-cuda` runs the tests that need a GPU, and fails where there is none.
"""
WANTED = """\
What is wanted of an H100: 1920x1080 at 120 frames a second and more with `cadnif` and 600 with `realtime`; the 99th
percentile of the delay of a frame alone at most 12 ms and 3 ms; end to end not less than 90 % of what the device alone
could do.
"""
# Model: frames a second at least, milliseconds at most for a frame alone, at 1920x1080.
TARGETS = {"cadnif": (120, 12), "realtime": (600, 3)}
LEAST_SHARE = 0.9
FULL_HD = [1920, 1080]

MEANING = """\
- *device ms*: one frame on the device, from the planes as they were captured to the planes of the fused frame, by the
  device's clock, over many replays. *with sums*: with convolutions added up in place of concatenated maps.
- *frames/s*: from host memory to host memory, three frames on their way. *of the device alone*: how many of the frames
  that the device could do these are. *p50*, *p99*: delay of a frame that comes alone, from host memory to host memory,
  by the host's clock.
- *GB/s* and *TFLOP/s*: what a frame needs, over device ms. Operations are those of all convolutions and products of
  matrices; bytes are the least that layers one after another must move: each reads its maps and weights once and writes
  its result once. *floor*: the time that this takes at the card's best, as measured in the same run; *bound* says
  which of both it is. *share*: of the floor in device ms; 100 % would be perfect.
- *hidden*: share of the time of all uploads and downloads in which the device computed, too. *computing*: share of the
  whole time in which it did. *memory*: the most that torch has had of the card's.
"""
SPEED = ("model", "size", "device ms", "with sums", "frames/s", "of the device alone", "p50 ms", "p99 ms")
USE = ("model", "size", "GB/s", "TFLOP/s", "floor ms", "bound", "share", "hidden", "computing", "memory, GiB", "graph")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", help="of the code that was measured, where its machine had no git to ask")
    options = parser.parse_args(arguments)
    figures = read()
    if options.commit and figures is None:
        sys.exit(f"error: --commit: there is no {FIGURES.name} yet; make bench-cuda measures it")
    if options.commit and figures is not None:
        figures["conditions"]["commit"] = options.commit
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(figures), encoding="utf-8")
    print(f"{PAGE.name}: written")


def read() -> dict[str, Any] | None:
    """The figures; None before there are any."""
    if not FIGURES.exists():
        return None
    found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


def page(figures: Mapping[str, Any] | None) -> str:
    """The whole page.

    Args:
        figures: as `nodes.fusion.bench_cuda.measure` gives them; None before anything was measured.
    """
    if figures is None:
        return HEAD + NOT_MEASURED
    cases = [case for case in figures["cases"] if "error" not in case]
    parts = [HEAD + conditions(figures), "## Speed", table(SPEED, [speed(case) for case in cases])]
    parts += [*failed(figures["cases"]), WANTED + judged(cases), "## Use of the card"]
    parts += [table(USE, [use(case) for case in cases]), *without(cases), MEANING]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def conditions(figures: Mapping[str, Any]) -> str:
    about, best = figures["conditions"], figures["ceilings"]
    versions = (
        f"CUDA {about['cuda']}, cuDNN {about['cudnn']}, torch {about['torch']}, CuPy {about['cupy'] or 'none'}, "
        f"Python {about['python']}"
    )
    return (
        f"{about['card']} ({about['memory_bytes'] / GIB:.0f} GiB, compute capability {about['capability']}), driver "
        f"{about['driver'] or 'unknown'}, {versions}, {about['processor']}. Measured on {about['date']} at commit "
        f"{about['commit'] or 'unknown'}, {about['frames']} frames each: infrared of 8 bits and visible yuv420p, "
        f"noise, with the weights for infrared, in {about['precision']}, steadily, as the fusion node does it.\n\n"
        f"The same card at its best, in the same run: a large copy {best['copy_bytes_per_s'] / 1e9:.0f} GB/s, read and "
        f"written; a large product of matrices {best['matmul_flops_per_s'] / 1e12:.0f} TFLOP/s in the same precision."
    )


def speed(case: Mapping[str, Any]) -> list[str]:
    alone = case["latency_ms"]
    sums = case.get("split_device_ms")
    times = [f"{case['device_ms']:.3f}", "-" if sums is None else f"{sums:.3f}"]
    times += [f"{case['frames_per_second']:.1f}", f"{share_of_device(case):.0%}"]
    return [*name(case), *times, f"{alone['p50']:.2f}", f"{alone['p99']:.2f}"]


def use(case: Mapping[str, Any]) -> list[str]:
    overlap = case["overlap"]
    done = [f"{case['bytes_per_s'] / 1e9:.0f}", f"{case['flops_per_s'] / 1e12:.1f}", f"{case['floor_ms']:.3f}"]
    shares = [f"{case['share_of_floor']:.0%}", f"{overlap['transfers_hidden']:.0%}", f"{overlap['computing']:.0%}"]
    graph = "yes" if case["graph"]["captured"] else "no"
    return [*name(case), *done, case["bound"], *shares, f"{case['memory_bytes'] / GIB:.2f}", graph]


def name(case: Mapping[str, Any]) -> list[str]:
    return [f"`{case['model']}`", "{}x{}".format(*case["size"])]


def share_of_device(case: Mapping[str, Any]) -> float:
    """Frames a second end to end, over those that the device alone could do."""
    share: float = case["frames_per_second"] * case["device_ms"] / 1e3
    return share


def judged(cases: Sequence[Mapping[str, Any]]) -> str:
    """What came of what was wanted, whatever the card."""
    lines = []
    for case in cases:
        if case["size"] != FULL_HD or case["model"] not in TARGETS:
            continue
        (least, most_ms), fps, p99 = TARGETS[case["model"]], case["frames_per_second"], case["latency_ms"]["p99"]
        share = share_of_device(case)
        lines.append(
            f"- `{case['model']}`: {fps:.0f} of {least} frames/s: {met(fps >= least)}; p99 {p99:.2f} of {most_ms} ms: "
            f"{met(p99 <= most_ms)}; {share:.0%} of {LEAST_SHARE:.0%}: {met(share >= LEAST_SHARE)}"
        )
    return "\n" + "\n".join(lines) if lines else ""


def met(yes: bool) -> str:
    return "met" if yes else "**missed**"


def failed(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"- {' '.join(name(case))}: {case['error']}" for case in cases if "error" in case]
    return ["\n".join(["Not measured:", *lines])] if lines else []


def without(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was not in use, and why."""
    lines = [
        f"- {' '.join(name(case))}: not run as a CUDA graph: {case['graph']['why_not'] or 'unknown'}"
        for case in cases
        if not case["graph"]["captured"]
    ]
    reasons = dict.fromkeys(case["kernels"]["why_not"] for case in cases if not case["kernels"]["compiled"])
    lines += [f"- kernels of our own were not used: {why}" for why in reasons]
    return ["\n".join(lines)] if lines else []


if __name__ == "__main__":
    main()
