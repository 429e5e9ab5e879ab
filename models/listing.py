"""What comes with the project: each set of weights with its size, its cost, its speed and its quality."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import catalog

SIZE = (640, 480)  # (width, height) of the planes that cost and speed are for
FIGURES = "figures.json"  # beside the weights: what was measured of them

# What a task's quality is told in where there is room for a few figures only.
MAIN_COLUMNS = {
    "infrared": ("VIF", "Qabf", "SSIM", "Hot"),
    "exposure": ("VIF", "Qabf", "MEF-SSIM"),
    "focus": ("VIF", "Qabf", "SSIM"),
    "medical": ("VIF", "Qabf", "SSIM"),
}
COLUMNS = ("model", "task", "size_kb", "parameters", "multiply_adds_a_pixel", "milliseconds", "quality")
HEADS = ("model", "task", "kB", "parameters", "multiply-adds a pixel", "ms, 640x480", "quality on val")


def shipped() -> list[tuple[str, str]]:
    """Model and task of each weights file that is there."""
    names = [(model, task) for model in catalog.MODELS for task in catalog.TASKS]
    return [name for name in names if path_of(*name).is_file()]


def path_of(model: str, task: str) -> Path:
    return catalog.WEIGHTS / f"{model}-{task}.safetensors"


def rows() -> list[dict[str, Any]]:
    """What `COLUMNS` names of each weights file; None for what has not been measured.

    Raises:
        ModelError: a weights file or the file of figures is damaged.
    """
    figures = read_figures()
    try:
        return [describe(model, task) | measured(figures, model, task) for model, task in shipped()]
    except (KeyError, TypeError, AttributeError) as error:
        path = catalog.WEIGHTS / FIGURES
        raise catalog.ModelError(f"{path}: not as docs/models.py writes it ({error!r})") from error


def describe(model: str, task: str) -> dict[str, Any]:
    """What the weights file itself tells."""
    path = path_of(model, task)
    network = catalog.load(path, model=model)
    return {
        "model": model,
        "task": task,
        "size_kb": round(path.stat().st_size / 1000),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds_a_pixel": multiply_adds_a_pixel(network),
    }


def multiply_adds_a_pixel(network: nn.Module, size: tuple[int, int] = SIZE) -> int:
    """Multiply-adds of all convolutions and products of matrices for a pair of planes, for each of their pixels.

    Counted without computing anything; by the attention that is made of products, as others are not counted.
    """
    width, height = size
    planes = [torch.empty(1, 1, height, width, device="meta") for _ in range(2)]
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        copy.deepcopy(network).to("meta")(*planes)
    return round(counter.get_total_flops() / 2 / (width * height))


def read_figures(path: Path | None = None) -> dict[str, Any]:
    """What was measured, as `docs/models.py` wrote it; nothing where it has not."""
    path = path or catalog.WEIGHTS / FIGURES
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise catalog.ModelError(f"{path}: not a readable file of figures ({error})") from error
    if not isinstance(figures, dict):
        raise catalog.ModelError(f"{path}: not a file of figures; run docs/models.py to write it")
    return figures


def measured(figures: Mapping[str, Any], model: str, task: str) -> dict[str, Any]:
    """Speed and quality from the file of figures, quality as the mean over all data sets of the task."""
    sets = figures.get("quality", {}).get(task, {}).values()
    means = [found["means"][model] for found in sets if model in found["means"]]
    quality = {}
    for key in MAIN_COLUMNS[task]:
        if defined := [row[key] for row in means if key in row]:
            quality[key] = sum(defined) / len(defined)
    speed = figures.get("speed", {}).get("milliseconds", {})
    return {"milliseconds": speed.get(f"{model}-{task}"), "quality": quality or None}


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, a row for each set of weights."""
    lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    lines += ["| " + " | ".join(told(row[column]) for column in COLUMNS) + " |" for row in found]
    return "\n".join(lines)


def told(value: Any) -> str:
    """A cell of the table."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {number:.3f}" for key, number in value.items())
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
