"""Weights: kept with what is needed to build their network, and refused when they are not right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import catalog
from models.catalog import ModelError
from tests import media

OPTIONS = {"auxiliary": "released", "normalisation": "frozen"}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    catalog.save(path, catalog.build("cadnif", OPTIONS), "cadnif", "infrared", OPTIONS, seed="0")
    return path


def spoil(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> Path:
    usual = {"model": "cadnif", "task": "infrared", "options": '{"auxiliary": "released"}'}
    save_file(tensors, path, usual | metadata)
    return path


def test_what_was_saved_is_loaded_with_its_options(weights: Path) -> None:
    model = catalog.load(weights, model="cadnif")
    assert not model.training
    saved = load_file(weights)
    assert model.state_dict().keys() == saved.keys()
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    assert "context_first.query.weight" not in saved  # the released form


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"'cadnlf'; there is: cadnif, realtime\. Did you mean 'cadnif'\?"):
        catalog.build("cadnlf")
    with pytest.raises(ModelError, match=r"there is: cadnif, realtime\. Did you mean 'realtime'\?"):
        catalog.build("realtme")


def test_the_networks_are_those_that_are_written_about() -> None:
    assert list(catalog.MODELS) == media.NETWORKS
    assert catalog.DEFAULT == "realtime"
    assert list(catalog.TASKS) == [task for task, _ in media.TASK_INPUTS]


@pytest.mark.parametrize("name", media.NETWORKS)
def test_a_network_knows_its_name(name: str, tmp_path: Path) -> None:
    assert catalog.name_of(catalog.build(name)) == name
    path = media.write_weights(tmp_path / "weights.safetensors", model=name)
    assert catalog.name_of(catalog.load(path)) == name


def test_the_options_of_a_network_come_back_with_its_weights(tmp_path: Path) -> None:
    options = {"channels": 8, "blocks": 1, "symmetric": True, "choice": True}
    path = media.write_weights(tmp_path / "weights.safetensors", "focus", "realtime", **options)
    model = catalog.load(path, model="realtime")
    saved = load_file(path)
    assert model.state_dict().keys() == saved.keys() == catalog.build("realtime", options).state_dict().keys()
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    plane = torch.zeros(1, 1, 8, 8)
    assert model(plane, plane, plane).shape == plane.shape, "three of a symmetric one"


def test_weights_of_another_network_are_told(weights: Path) -> None:
    with pytest.raises(ModelError, match="these are weights of 'cadnif', but 'realtime' is asked for"):
        catalog.load(weights, model="realtime")


def test_weights_that_do_not_come_with_us_are_answered_with_those_that_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    for name in ("realtime-focus", "cadnif-infrared"):
        (tmp_path / f"{name}.safetensors").touch()
    assert catalog.shipped("cadnif", "infrared") == tmp_path / "cadnif-infrared.safetensors"
    with pytest.raises(
        ModelError, match=r"no weights of 'cadnif' for task 'focus'.*there are: cadnif-infrared, realtime-focus$"
    ):
        catalog.shipped("cadnif", "focus")
    with pytest.raises(ModelError, match="Did you mean 'cadnif'"):
        catalog.shipped("cadnife", "focus")
    with pytest.raises(ModelError, match="there is no task 'sonar'"):
        catalog.shipped("cadnif", "sonar")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such weights file"):
        catalog.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 1000, 0.9])
def test_a_file_cut_short_is_told(weights: Path, keep: float) -> None:
    data = weights.read_bytes()
    weights.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        catalog.load(weights)


def test_a_file_of_other_bytes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 5000)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        catalog.load(path)


def test_weights_of_somebody_else_are_told(weights: Path) -> None:
    spoil(weights, load_file(weights), model="resnet")
    with pytest.raises(ModelError, match="not weights of this project"):
        catalog.load(weights)


def test_another_architecture_is_told_with_the_first_tensor_that_does_not_fit(weights: Path) -> None:
    tensors = load_file(weights)
    spoil(weights, {key: value for key, value in tensors.items() if key != "out.bias"})
    with pytest.raises(ModelError, match=r"of another architecture: 1 tensors do not fit, the first is 'out\.bias'"):
        catalog.load(weights)
    spoil(weights, tensors | {"out.weight": torch.zeros(1, 32, 3, 3)})
    with pytest.raises(ModelError, match=r"out\.weight"):
        catalog.load(weights)


def test_options_that_do_not_fit_the_network_are_told(weights: Path) -> None:
    for options in ('{"auxiliary": "none"}', '{"depth": 3}', "[1]", "{"):
        spoil(weights, load_file(weights), options=options)
        with pytest.raises(ModelError, match="its metadata"):
            catalog.load(weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_told(weights: Path, value: float) -> None:
    tensors = load_file(weights)
    tensors["squeeze.conv.weight"][3, 5] = value
    spoil(weights, tensors)
    with pytest.raises(ModelError, match=r"squeeze\.conv\.weight holds values that are not finite"):
        catalog.load(weights)


def test_every_weights_file_that_ships_loads_and_has_a_card() -> None:
    shipped = sorted(catalog.WEIGHTS.glob("*.safetensors"))
    assert shipped
    for path in shipped:
        catalog.load(path)
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        for word in ("Data", "Training", "Metrics", "Terms"):
            assert f"## {word}" in card, f"{path.stem}: the card lacks {word}"


@pytest.mark.parametrize("options", [{"chanels": 16}, {"channels": "a"}, {"channels": 0}, {"blocks": -1}], ids=str)
def test_options_that_build_nothing_are_told(options: dict[str, object]) -> None:
    with pytest.raises(catalog.ModelError, match="do not build 'realtime'"):
        catalog.build("realtime", options)
