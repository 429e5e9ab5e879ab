"""Training: the same every time, resumable, and told plainly when it cannot be."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from models import catalog
from models.training import ConfigError, Trainer, TrainingConfig, read_config, train

Make = Callable[..., TrainingConfig]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Configs of tiny runs on synthetic pairs."""
    rng = np.random.default_rng(0)
    for source in ("infrared", "visible"):
        (tmp_path / "data" / source).mkdir(parents=True)
        for n in range(3):
            cv2.imwrite(str(tmp_path / "data" / source / f"{n}.png"), rng.integers(0, 256, (48, 56), dtype=np.uint8))

    def config(run: str = "run", **changes: Any) -> TrainingConfig:
        settings: dict[str, Any] = {
            "task": "infrared",
            "data": tmp_path / "data",
            "weights": tmp_path / run / "weights.safetensors",
            "run": tmp_path / run,
            "loss": {"intensity": 1.0, "structure": 1.0},
            "seed": 5,
            "steps": 6,
            "batch": 2,
            "crop": 32,
            "jitter": 0.1,
            "learning_rate": 1e-3,
            "log_every": 2,
            "checkpoint_every": 3,
        }
        return TrainingConfig.model_validate(settings | changes)

    return config


def quiet(_: str) -> None:
    """Training's progress is not what is tested."""


def same(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_same_config_gives_the_same_weights_and_another_seed_others(make: Make) -> None:
    first = train(make("one"), device="cpu", say=quiet)
    assert same(first, train(make("two"), device="cpu", say=quiet))
    assert not same(first, train(make("three", seed=6), device="cpu", say=quiet))


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(make: Make) -> None:
    whole = train(make("whole"), device="cpu", say=quiet)
    config = make("parts")
    trainer = Trainer(config, "cpu")
    config.run.mkdir()
    for _ in range(4):
        trainer.advance()
        if trainer.step == 3:
            trainer.save_checkpoint()
    lines: list[str] = []
    assert same(whole, train(config, device="cpu", say=lines.append))
    assert "step 3 of 6" in lines[0]


def test_a_finished_run_is_not_trained_again_unless_it_is_told_to_restart(make: Make) -> None:
    config = make()
    train(config, device="cpu", say=quiet)
    lines: list[str] = []
    train(config, device="cpu", say=lines.append)
    assert len(lines) == 1
    train(config, device="cpu", restart=True, say=lines.append)
    assert "step 0 of 6" in lines[1]


def test_a_checkpoint_of_another_config_is_refused(make: Make) -> None:
    train(make(), device="cpu", say=quiet)
    with pytest.raises(catalog.ModelError, match=r"of another config; give --restart"):
        train(make(batch=3), device="cpu", say=quiet)


def test_a_damaged_checkpoint_is_told(make: Make) -> None:
    config = make()
    config.run.mkdir()
    (config.run / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(catalog.ModelError, match=r"checkpoint\.pt: cannot be read.*--restart"):
        train(config, device="cpu", say=quiet)


def test_the_log_has_the_mean_of_each_term_over_each_stretch(make: Make) -> None:
    config = make()
    train(config, device="cpu", say=quiet)
    with (config.run / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    for row in rows:
        assert float(row["loss"]) == pytest.approx(float(row["intensity"]) + float(row["structure"]), abs=2e-5)


def test_progress_says_the_loss_and_the_time_left(make: Make) -> None:
    lines: list[str] = []
    train(make(), device="cpu", say=lines.append)
    assert lines[0].startswith("cadnif for infrared: 3 pairs")
    assert "step 4/6" in lines[2]
    assert "loss" in lines[2]
    assert lines[2].endswith("left")


def test_weights_say_where_they_come_from(make: Make) -> None:
    config = make()
    with safe_open(train(config, device="cpu", say=quiet), framework="pt") as file:
        about = file.metadata()
    assert about["model"] == "cadnif"
    assert about["seed"] == "5"
    assert about["steps"] == "6"
    assert about["config"] == config.digest()
    assert about["commit"]


def test_training_lowers_the_loss(make: Make) -> None:
    trainer = Trainer(make(steps=20, jitter=0.0, learning_rate=3e-3), "cpu")
    losses = [trainer.advance()["loss"] for _ in range(20)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_late_in_the_run_the_statistics_of_normalisation_stay(make: Make) -> None:
    trainer = Trainer(make(steps=4, freeze_after=0.5), "cpu")

    def statistics() -> torch.Tensor:
        return torch.cat([value for key, value in trainer.model.state_dict().items() if "running" in key])

    trainer.advance()
    early = statistics()
    trainer.advance()
    late = statistics()
    assert not torch.equal(early, late)
    trainer.advance()
    assert torch.equal(late, statistics())


def test_the_learning_rate_warms_up_and_falls_to_the_final_one(make: Make) -> None:
    trainer = Trainer(make(steps=1000, final_learning_rate=1e-5), "cpu")
    rates = []
    for trainer.step in (0, 99, 100, 550, 1000):
        rates.append(trainer.learning_rate())
    assert rates[0] == pytest.approx(1e-5)
    assert rates[1:3] == [1e-3, 1e-3]
    assert rates[3] == pytest.approx((1e-3 + 1e-5) / 2)
    assert rates[4] == pytest.approx(1e-5)


def test_a_loss_that_is_not_finite_ends_the_run(make: Make) -> None:
    trainer = Trainer(make(), "cpu")
    next(trainer.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(catalog.ModelError, match="step 0: the loss is nan"):
        trainer.advance()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: infrared", "data: Field required"),
        ("- a list", "a training config is a mapping"),
        ("task: [", "cannot be read as YAML"),
    ],
)
def test_a_config_that_is_wrong_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_an_unknown_loss_setting_or_override_is_told() -> None:
    path = Path(__file__).parents[2] / "configs" / "training" / "infrared.yaml"
    assert read_config(path, ["steps=7"]).steps == 7
    for override, message in (
        ("loss={brightness: 1}", "there is no loss term 'brightness'"),
        ("stepps=7", "stepps: Extra inputs"),
        ("steps", "written setting=value"),
        ("steps=0", "greater than 0"),
        ("steps={", "not valid YAML"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_config(path, [override])
