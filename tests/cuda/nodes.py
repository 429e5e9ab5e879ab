"""The fusion node on a GPU, the same on the CPU in fp32 to compare with, and what both are given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from nodes.fusion.fuse import Fuse
from nodes.fusion.gpu import OnDevice
from pipeline.frame import Frame, half
from tests.nodes.fusion.frames import frame
from tests.nodes.fusion.test_on_device import Live, all_of

ROOT = Path(__file__).resolve().parents[2]
PRECISION = "fp16"
SAME = 2  # grey levels by which pictures of CPU and GPU may differ

Size = tuple[int, int]


def open_node(size: Size, *, live: bool = False, **settings: Any) -> Fuse:
    """On the GPU. A recorded one ends with an error if the GPU fails; a live one goes on elsewhere."""
    node = Fuse(**{"device": "cuda", "precision": PRECISION} | settings)
    node.name = "fuse"
    if live:
        node.running = Live()  # type: ignore[assignment]
    node.open(dict.fromkeys(node.inputs()[:-1]) | {node.inputs()[-1]: size})
    return node


def open_reference(size: Size, *, live: bool = False, **settings: Any) -> Fuse:
    """The same on the CPU in fp32."""
    torch.set_num_threads(os.cpu_count() or 1)
    return open_node(size, live=live, **{**settings, "device": "cpu", "precision": "fp32"})


def device_of(node: Fuse) -> OnDevice:
    """What works on the GPU for a node."""
    assert node._work is not None
    assert node._work.fault is None, str(node._work.fault)
    assert node._work._on_device is not None
    return node._work._on_device


@cache
def texture(seed: int, size: Size) -> np.ndarray:
    """(H, W) uint8 over the whole range, with edges, slopes and a little noise; of any size."""
    width, height = size
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 24 + 2, width // 24 + 2)).astype(np.float32)
    smooth = cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = 240
    return np.asarray((smooth + rng.normal(0, 4, (height, width))).clip(0, 255).astype(np.uint8))


def moved(seed: int, number: int, size: Size) -> np.ndarray:
    """A texture, a little further to the right with each frame."""
    return np.ascontiguousarray(np.roll(texture(seed, size), 2 * number, axis=1))


def colour(seed: int, number: int, size: Size) -> Frame:
    """yuv420p of limited range."""
    width, height = size
    luma = (16 + moved(seed, number, size).astype(np.int32) * 219 // 255).astype(np.uint8)
    chroma = texture(seed + 1, (2 * half(width), half(height)))
    data = np.concatenate([luma.reshape(-1), chroma.reshape(-1)])
    return frame(data, "yuv420p", size=size, color_range="limited", time_ms=40 * (number + 1))


def grey(seed: int, number: int, size: Size) -> Frame:
    return frame(moved(seed, number, size), time_ms=40 * (number + 1))


def moments(task: str, size: Size, count: int = 5) -> list[dict[str, Frame]]:
    """Focal planes are grey: which of them gives the colour hangs on a single level."""
    names = {
        "infrared": ("infrared", "visible"), "exposure": ("under", "over"), "focus": ("near", "far"),
        "medical": ("mri", "other"),
    }[task]  # fmt: skip
    first = grey if task in ("infrared", "medical", "focus") else colour
    last = grey if task == "focus" else colour
    return [{names[0]: first(3, n, size), names[1]: last(7, n, size)} for n in range(count)]


def difference(one: Frame, other: Frame) -> int:
    """Of two frames that are to be the same, in levels."""
    assert (one.pixel_format, one.size, one.color_range) == (other.pixel_format, other.size, other.color_range)
    assert one.timestamp_ns == other.timestamp_ns
    return int(np.abs(one.data.astype(np.int32) - other.data).max())


def furthest(made: list[Frame], wanted: list[Frame]) -> int:
    assert len(made) == len(wanted)
    return max(difference(one, other) for one, other in zip(made, wanted, strict=True))


def both(task: str, size: Size, given: list[dict[str, Frame]], **settings: Any) -> tuple[list[Frame], list[Frame]]:
    """What the GPU and the CPU make of the same; and the GPU made it."""
    node = open_node(size, task=task, **settings)
    made = all_of(node, given)
    device_of(node)
    node.close()
    settings.pop("precision", None)
    return made, all_of(open_reference(size, task=task, **settings), given)


def apart(script: str) -> Any:
    """What a script prints as JSON in its last line, run in a process of its own: after it the GPU may be of no use."""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])
