"""Which networks there are, and how their weights are kept: safetensors whose metadata say how to build the network."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from models.cadnif import Cadnif
from models.realtime import Realtime

MODELS: dict[str, type[nn.Module]] = {"cadnif": Cadnif, "realtime": Realtime}
DEFAULT = "realtime"
TASKS = ("infrared", "exposure", "focus", "medical")
WEIGHTS = Path(__file__).parent / "weights"


class ModelError(ValueError):
    """A network cannot be built or its weights cannot be used; the message says what to do."""


def build(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A network with fresh parameters."""
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ModelError(f"there is no model {name!r}; there is: {', '.join(MODELS)}.{hint}")
    try:
        return MODELS[name](**(options or {}))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"options {dict(options or {})} do not build {name!r}: {error}") from error


def name_of(network: nn.Module) -> str:
    """The name of a network's kind."""
    return next(name for name, kind in MODELS.items() if type(network) is kind)


def save(path: Path, model: nn.Module, name: str, task: str, options: Mapping[str, Any], **about: str) -> None:
    """Write weights with what is needed to build the network again; `about` says where they come from."""
    metadata = {"model": name, "task": task, "options": json.dumps(dict(options), sort_keys=True), **about}
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata)
    part.replace(path)


def shipped(name: str, task: str) -> Path:
    """Where the weights that come with the project lie."""
    if name not in MODELS:
        build(name)  # says which there are
    if task not in TASKS:
        raise ModelError(f"there is no task {task!r}; there is: {', '.join(TASKS)}")
    path = WEIGHTS / f"{name}-{task}.safetensors"
    if not path.exists():
        have = sorted(found.stem for found in WEIGHTS.glob("*.safetensors"))
        raise ModelError(
            f"no weights of {name!r} for task {task!r} come with this version; there are: {', '.join(have)}"
        )
    return path


def task_of(path: Path) -> str:
    """The task that weights were trained for, as their file says; empty if it does not."""
    with safe_open(path, framework="pt") as file:
        return str((file.metadata() or {}).get("task", ""))


def load(path: Path, *, model: str | None = None) -> nn.Module:
    """The network of a weights file, in evaluation mode, float32, on the CPU.

    Args:
        path: a safetensors file written by `save`.
        model: the name of the network it must be of, or None for whatever it is.

    Raises:
        ModelError: missing, damaged, of another architecture, or with values that are not finite.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file, perhaps cut short ({error})") from error
    if about.get("model") not in MODELS:
        raise ModelError(f"{path}: not weights of this project (its metadata name the model {about.get('model')!r})")
    if model is not None and about["model"] != model:
        raise ModelError(f"{path}: these are weights of {about['model']!r}, but {model!r} is asked for")
    try:
        network = build(about["model"], json.loads(about.get("options", "{}")))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: its metadata do not say how to build {about['model']!r} ({error})") from error
    return fill(path, network, tensors)


def fill(path: Path, network: nn.Module, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Put the tensors into the network, refusing what does not fit."""
    wanted = network.state_dict()
    wrong = sorted(wanted.keys() ^ tensors.keys())
    wrong += [key for key in wanted.keys() & tensors.keys() if wanted[key].shape != tensors[key].shape]
    if wrong:
        raise ModelError(f"{path}: of another architecture: {len(wrong)} tensors do not fit, the first is {wrong[0]!r}")
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {key} holds values that are not finite (NaN or infinity): the file is of no use")
    network.load_state_dict(tensors)
    return network.eval()
