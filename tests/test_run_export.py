"""`run.py models` and `run.py export`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import onnxruntime
import pytest

from models import catalog, export
from models.realtime import Realtime
from tests.conftest import Command
from tests.media import TASK_INPUTS

OPTIONS = {"channels": 8, "blocks": 1}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Untrained weights in place of those that come with the project."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr("models.catalog.WEIGHTS", folder)
    for task, _ in TASK_INPUTS:
        catalog.save(folder / f"realtime-{task}.safetensors", Realtime(**OPTIONS), "realtime", task, OPTIONS)
    return folder


# models:


@pytest.mark.usefixtures("shipped")
def test_models_lists_all_weights(command: Command) -> None:
    outcome = command("models")
    assert outcome.code == 0
    rows = [line.split(" | ")[:2] for line in outcome.out.splitlines()[2:]]
    assert rows == [["| realtime", task] for task, _ in TASK_INPUTS]


@pytest.mark.usefixtures("shipped")
def test_models_gives_its_list_as_json(command: Command) -> None:
    listed = json.loads(command("models", "--json", "-").out)
    assert [row["task"] for row in listed] == [task for task, _ in TASK_INPUTS]
    assert all(row["multiply_adds_a_pixel"] > 0 and row["milliseconds"] is None for row in listed)


def test_models_names_damaged_weights(command: Command, shipped: Path) -> None:
    (shipped / "realtime-focus.safetensors").write_bytes(b"damaged")
    outcome = command("models")
    assert (outcome.code, outcome.out) == (2, "")
    assert "realtime-focus.safetensors" in outcome.error


# export:


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(("task", "inputs"), TASK_INPUTS)
def test_export_writes_a_file_with_the_inputs_of_the_task(
    command: Command, tmp_path: Path, task: str, inputs: tuple[str, str]
) -> None:
    path = tmp_path / "out.onnx"
    outcome = command("export", "--model", "realtime", "--task", task, "--size", "32x24", "-o", path)
    assert outcome.code == 0
    assert f"{path}: differs from torch by at most " in outcome.err
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [plane.name for plane in session.get_inputs()] == list(inputs)
    assert [plane.shape for plane in session.get_outputs()] == [[1, 1, 24, 32]]


def test_a_file_that_computes_something_else_is_not_written(
    command: Command, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "run", lambda *_: 2)
    folder = tmp_path / "out"
    folder.mkdir()
    weights = shipped / "realtime-focus.safetensors"
    what = ("export", "--model", "realtime", "--weights", weights, "--size", "32x24", "-o", folder / "net.onnx")
    outcome = command(*what)
    assert outcome.code == 5
    assert "net.onnx: not written, since it differs from torch" in outcome.error
    assert list(folder.iterdir()) == []

    (folder / "net.onnx").write_bytes(b"what was there before")
    assert command(*what).code == 5
    assert (folder / "net.onnx").read_bytes() == b"what was there before"


@pytest.mark.usefixtures("shipped")
def test_export_says_before_any_work_what_cannot_be(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (["-o", tmp_path / "net.pt"], 2, "net.pt"),
        (["-o", tmp_path / "nowhere" / "net.onnx"], 5, "nowhere"),
        (["-o", tmp_path / "net.onnx", "--model", "realtme"], 2, "realtme"),
        (["-o", tmp_path / "net.onnx", "--weights", tmp_path / "no.safetensors"], 2, "no.safetensors"),
        (["-o", tmp_path / "net.onnx", "--size", "640"], 2, "--size"),
        ([], 2, "--output"),
    ]
    for arguments, code, says in cases:
        outcome = command("export", *arguments)
        assert outcome.code == code
        assert says in outcome.error

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else find(name))
    outcome = command("export", "-o", tmp_path / "net.onnx")
    assert outcome.code == 2
    assert "needs onnx and onnxruntime: pip install -e '.[onnx]'" in outcome.error
    assert not (tmp_path / "net.onnx").exists()
