"""ONNX: every network exports at any size, and a file that computes something else is refused."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import catalog, export
from models.export import DifferenceError, ExportError

SIZE = (61, 45)  # (width, height): no cell and no token fits it

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("realtime", {"blocks": 2}),
    ("realtime", {"blocks": 2, "symmetric": True}),
    ("cadnif", {}),
    ("cadnif", {"auxiliary": "released"}),
    ("cadnif", {"normalisation": "instance"}),
]


class Larger(nn.Module):
    """The larger of both planes: quick to export."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return torch.maximum(first, second)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_every_network_computes_the_same_as_onnx(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = catalog.build(name, options).eval()
    file, difference = export.export(network, ("near", "far"), SIZE)
    assert difference < 1e-5
    graph = onnx.load_from_string(file).graph
    planes = {x.name: [side.dim_value for side in x.type.tensor_type.shape.dim] for x in (*graph.input, *graph.output)}
    assert planes == {name: [1, 1, SIZE[1], SIZE[0]] for name in ("near", "far", "fused")}
    assert {node.op_type for node in graph.node}.isdisjoint({"Pad", "Range", "ConstantOfShape", "If", "Loop"})


def test_the_file_is_whole_and_of_a_known_version() -> None:
    file, _ = export.export(Larger(), ("a", "b"), (4, 3))
    model = onnx.load_from_string(file)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import] == [export.OPSET]


@pytest.mark.parametrize(
    ("size", "cells"), [((48, 64), (3, 4)), ((45, 61), (3, 4)), ((7, 5), (7, 5)), ((9, 1), (2, 1))]
)
def test_pooling_by_products_is_adaptive_pooling(size: tuple[int, int], cells: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    torch.testing.assert_close(export.pool(x, cells), F.adaptive_avg_pool2d(x, cells))


@pytest.mark.parametrize("by", [(0, 3, 0, 2), (1, 0, 2, 0), (0, 0, 0, 1)])
def test_padding_by_picking_is_replicating(by: tuple[int, int, int, int]) -> None:
    x = torch.rand(2, 1, 5, 7)
    assert torch.equal(export.pad(x, by), F.pad(x, by, mode="replicate"))


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_a_file_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    run = export.run
    monkeypatch.setattr(export, "run", lambda *what: run(*what) + wrong)
    with pytest.raises(DifferenceError, match=r"differs from torch by up to .* legal is 1e-03"):
        export.export(Larger(), ("a", "b"), (4, 3))


@pytest.mark.parametrize("missing", [["onnx"], ["onnxruntime"], ["onnx", "onnxruntime"]])
def test_missing_packages_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    with pytest.raises(ExportError, match=f"needs {' and '.join(missing)}: pip install -e '.\\[onnx\\]'"):
        export.check_packages()


def test_planes_too_large_for_the_memory_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")

    monkeypatch.setattr(export, "to_onnx", full)
    with pytest.raises(ExportError, match="not enough memory for planes of 4x3"):
        export.export(Larger(), ("a", "b"), (4, 3))
