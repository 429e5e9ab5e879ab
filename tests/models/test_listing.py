"""The list of weights: costs are counted, figures are read, and what has not been measured is said to be so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import catalog, listing
from models.catalog import ModelError
from models.realtime import Realtime
from tests import media


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Untrained weights for two tasks in place of those that come with the project."""
    monkeypatch.setattr("models.catalog.WEIGHTS", tmp_path)
    media.write_weights(tmp_path / "cadnif-infrared.safetensors")
    options = {"channels": 8, "blocks": 1}
    catalog.save(tmp_path / "realtime-medical.safetensors", Realtime(**options), "realtime", "medical", options)
    return tmp_path


def write_figures(folder: Path, **figures: Any) -> None:
    (folder / listing.FIGURES).write_text(json.dumps(figures))


def test_the_released_form_costs_241408_multiply_adds_a_pixel() -> None:
    network = catalog.build("cadnif", {"auxiliary": "released"})
    assert listing.multiply_adds_a_pixel(network) == 241_408


class Attending(nn.Module):
    """Every pixel is a token of one channel that attends to all: twice as many multiply-adds a pixel as pixels."""

    def __init__(self, heads: bool) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        tokens = [plane.flatten(2).transpose(1, 2) for plane in (first, second, second)]
        return F.scaled_dot_product_attention(*(x[:, None] if self.heads else x for x in tokens))


@pytest.mark.parametrize("heads", [False, True])
def test_attention_is_counted_whatever_kernel_would_run_it(heads: bool) -> None:
    assert listing.multiply_adds_a_pixel(Attending(heads), (6, 4)) == 2 * 24


def test_counting_leaves_the_network_as_it_was() -> None:
    network = Realtime(channels=8, blocks=1)
    listing.multiply_adds_a_pixel(network, (64, 48))
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_every_set_of_weights_has_a_row(shipped: Path) -> None:
    first, second = listing.rows()
    assert [tuple(row) for row in (first, second)] == [listing.COLUMNS] * 2
    assert (first["model"], first["task"]) == ("cadnif", "infrared")
    assert (second["model"], second["task"]) == ("realtime", "medical")
    weights = catalog.load(shipped / "realtime-medical.safetensors")
    assert second["parameters"] == sum(parameter.numel() for parameter in weights.parameters())
    assert second["size_kb"] == round((shipped / "realtime-medical.safetensors").stat().st_size / 1000)


@pytest.mark.usefixtures("shipped")
def test_without_figures_speed_and_quality_are_unknown() -> None:
    found = listing.rows()
    assert all(row["milliseconds"] is None and row["quality"] is None for row in found)
    assert all(line.endswith("| - | - |") for line in listing.table(found).splitlines()[2:])


def test_figures_are_told_where_there_are_some_and_quality_is_the_mean_over_the_sets(shipped: Path) -> None:
    sets = {name: {"means": {"realtime": {"VIF": vif, "Qabf": 0.5, "SSIM": 1.5}}} for name, vif in (("a", 1), ("b", 2))}
    write_figures(shipped, speed={"milliseconds": {"realtime-medical": 8.04}}, quality={"medical": sets})
    lines = listing.table(listing.rows()).splitlines()
    assert lines[2].endswith("| - | - |")
    assert lines[3].endswith("| 8.0 | VIF 1.500, Qabf 0.500, SSIM 1.500 |")


def test_damaged_weights_are_named(shipped: Path) -> None:
    path = shipped / "realtime-medical.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"realtime-medical\.safetensors: not a readable safetensors file"):
        listing.rows()


@pytest.mark.parametrize("text", ["{", "[]", "\0"])
def test_damaged_figures_are_named(shipped: Path, text: str) -> None:
    (shipped / listing.FIGURES).write_text(text)
    with pytest.raises(ModelError, match=r"figures\.json: not a "):
        listing.rows()


@pytest.mark.parametrize("task", catalog.TASKS)
def test_every_task_has_main_columns_that_it_is_judged_by(task: str) -> None:
    from models.metrics import evaluate_pair

    plane = torch.randint(0, 256, (48, 64), dtype=torch.uint8).numpy()
    assert set(listing.MAIN_COLUMNS[task]) <= evaluate_pair(plane, plane, plane, task).keys()
