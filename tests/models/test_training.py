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
from models.training import ConfigError, Trainer, TrainingConfig, a_moment_later, read_config, train

Make = Callable[..., TrainingConfig]
CONFIGS = Path(__file__).parents[2] / "configs" / "training"


def draw(folder: Path, names: str) -> None:
    """Pictures of noise, each its own, of 48x56 px."""
    folder.mkdir(parents=True)
    for name in names:
        rng = np.random.default_rng(list(f"{folder.name}{name}".encode()))
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 256, (48, 56), dtype=np.uint8))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Configs of tiny runs on synthetic pairs."""
    draw(tmp_path / "data" / "infrared", "012")
    draw(tmp_path / "data" / "visible", "012")

    def config(run: str = "run", **changes: Any) -> TrainingConfig:
        settings: dict[str, Any] = {
            "model": "realtime",
            "task": "infrared",
            "data": [tmp_path / "data"],
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
    with pytest.raises(catalog.ModelError, match=r"of another config.*; give --restart"):
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


def test_the_log_of_a_run_that_goes_on_has_each_step_once(make: Make) -> None:
    config = make()  # whose checkpoints are of steps 3 and 6
    train(config, device="cpu", say=quiet)
    log = config.run / "loss.csv"
    whole = log.read_bytes()
    trainer = Trainer(config, "cpu")
    for _ in range(3):
        trainer.advance()
    trainer.save_checkpoint()  # as if it had been stopped at step 5
    train(config, device="cpu", say=quiet)
    assert [line.split(b",")[0] for line in log.read_bytes().splitlines()] == [b"step", b"2", b"4", b"6"]
    assert log.read_bytes().splitlines()[:2] == whole.splitlines()[:2]


def test_progress_says_the_loss_and_the_time_left(make: Make) -> None:
    lines: list[str] = []
    train(make(), device="cpu", say=lines.append)
    assert lines[0].startswith("realtime for infrared: 3 scenes")
    assert "step 4/6" in lines[2]
    assert "loss" in lines[2]
    assert lines[2].endswith("left")


def test_weights_say_where_they_come_from(make: Make) -> None:
    config = make()
    with safe_open(train(config, device="cpu", say=quiet), framework="pt") as file:
        about = file.metadata()
    assert about["model"] == "realtime"
    assert about["seed"] == "5"
    assert about["steps"] == "6"
    assert about["config"] == config.digest()
    assert about["commit"]


def test_training_lowers_the_loss(make: Make) -> None:
    trainer = Trainer(make(steps=20, jitter=0.0, learning_rate=3e-3), "cpu")
    losses = [trainer.advance()["loss"] for _ in range(20)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_late_in_the_run_the_statistics_of_normalisation_stay(make: Make) -> None:
    trainer = Trainer(make(model="cadnif", steps=4, freeze_after=0.5), "cpu")

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
    path = CONFIGS / "cadnif-infrared.yaml"
    assert read_config(path, ["steps=7"]).steps == 7
    for override, message in (
        ("loss={brightness: 1}", "there is no loss term 'brightness'"),
        ("stepps=7", "stepps: Extra inputs"),
        ("steps", "written setting=value"),
        ("steps=0", "greater than 0"),
        ("steps={", "not valid YAML"),
        ("data=[]", "data: List should have at least 1 item"),
        ("sources=1", "sources: Input should be greater than or equal to 2"),
        ("damage=1.5", "damage: Input should be less than or equal to 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_config(path, [override])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_committed_config_is_valid_and_makes_the_weights_of_its_name(path: Path) -> None:
    config = read_config(path)
    assert config.run == Path("runs", path.stem)
    if path.stem.endswith("-base"):  # which nothing is fused with: others begin with it
        assert config.weights == Path("runs", path.stem, "weights.safetensors")
    else:
        assert path.stem == f"{config.model}-{config.task}"
        assert config.weights == Path("models", "weights", f"{path.stem}.safetensors")
    if config.start:
        assert config.start in [read_config(base).weights for base in CONFIGS.glob(f"{config.model}*-base.yaml")]
    assert f"python run.py train configs/training/{path.name}\n" in path.read_text()
    catalog.build(config.model, config.options)
    assert config.sources == 2 or config.model == "cadnif" or config.options.get("symmetric")
    assert config.crop >= 64, "some terms of the loss look 41 px far"


def test_data_may_be_of_several_folders(make: Make, tmp_path: Path) -> None:
    for source in ("infrared", "visible"):
        draw(tmp_path / "more" / source, "ab")
    lines: list[str] = []
    train(make(data=[tmp_path / "data", tmp_path / "more"], steps=1), device="cpu", say=lines.append)
    assert lines[0].startswith("realtime for infrared: 5 scenes")


@pytest.mark.parametrize(
    ("task", "folders", "options"),
    [
        ("focus", {"sharp": "01", "sharp/more": "2"}, {"symmetric": True, "choice": True}),
        ("exposure", {"hall": "123", "door": "1234"}, {"symmetric": True}),
        ("medical", {"mri": "01", "pet": "01"}, {"symmetric": False}),
    ],
)
def test_each_task_trains_from_folders_of_its_own(
    make: Make, tmp_path: Path, task: str, folders: dict[str, str], options: dict[str, bool]
) -> None:
    for folder, names in folders.items():
        draw(tmp_path / "task" / folder, names)
    sources = 3 if task == "exposure" else 2
    config = make(options=options, task=task, data=[tmp_path / "task"], sources=sources, steps=8)
    weights = train(config, device="cpu", say=quiet)
    batches = Trainer(config, "cpu").batches
    assert {len(batches[step].inputs) for step in range(config.steps)} == set(range(2, sources + 1))
    fresh = Trainer(config, "cpu").model.state_dict()
    trained = catalog.load(weights, model="realtime").state_dict()
    assert not any(torch.equal(trained[key], fresh[key]) for key in fresh if key.startswith("rebuild"))
    with safe_open(weights, framework="pt") as file:
        assert file.metadata()["task"] == task


def test_the_right_choice_is_taught_where_it_is_known(make: Make, tmp_path: Path) -> None:
    draw(tmp_path / "sharp", "01")
    about = {"task": "focus", "data": [tmp_path / "sharp"], "options": {"symmetric": True, "choice": True}}
    trainer = Trainer(make(**about, loss={"intensity": 1.0}, choice=2.0, steps=12), "cpu")
    values = [trainer.advance() for _ in range(12)]
    assert all(row["loss"] == pytest.approx(row["intensity"] + row["choice"]) for row in values)
    assert values[0]["choice"] > 0
    assert Trainer(make(**about, loss={"intensity": 1.0}), "cpu").advance().keys() == {"loss", "intensity"}


@pytest.mark.parametrize("changes", [{}, {"task": "focus", "model": "cadnif"}])
def test_a_choice_to_be_taught_where_none_is_known_is_told(make: Make, changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="'choice' is for task focus"):
        make(choice=1.0, **changes)


def test_damage_is_done_to_what_is_seen(make: Make) -> None:
    damaged = Trainer(make(damage=1.0, jitter=0.0), "cpu").batches[0]
    whole = Trainer(make(jitter=0.0), "cpu").batches[0]
    assert not any(torch.equal(one, other) for one, other in zip(damaged.inputs[0], damaged.wanted[0], strict=True))
    assert torch.equal(damaged.inputs[1], damaged.wanted[1])
    assert torch.equal(whole.inputs[0], whole.wanted[0])


def test_training_may_start_from_weights(make: Make) -> None:
    first = train(make("one", steps=2), device="cpu", say=quiet)
    state = Trainer(make("two", start=first, seed=9), "cpu").model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in load_file(first).items())
    again = train(make("two", start=first, seed=9), device="cpu", say=quiet)
    assert not same(first, again)
    assert make("two", start=first).digest() != make("two").digest()


@pytest.mark.parametrize("setting", ["start", "teacher"])
def test_the_digest_is_of_what_is_in_the_weights_and_not_of_where_they_lie(
    make: Make, tmp_path: Path, setting: str
) -> None:
    taught: dict[str, Any] = {"loss_to_teacher": {"intensity": 1.0}} if setting == "teacher" else {}
    first, second = (train(make(str(seed), steps=1, seed=seed), device="cpu", say=quiet) for seed in (1, 2))
    elsewhere = tmp_path / "elsewhere.safetensors"
    elsewhere.write_bytes(first.read_bytes())
    config = make(**{setting: first}, **taught)
    train(config, device="cpu", say=quiet)
    digest = config.digest()
    assert make(**{setting: elsewhere}, **taught).digest() == digest
    first.write_bytes(second.read_bytes())
    assert config.digest() != digest
    with pytest.raises(catalog.ModelError, match="or of other weights in 'start' or 'teacher'; give --restart"):
        train(config, device="cpu", say=quiet)


def test_weights_replaced_while_a_run_learns_from_them_do_not_change_its_digest(make: Make) -> None:
    first, second = (train(make(str(seed), steps=1, seed=seed), device="cpu", say=quiet) for seed in (1, 2))
    config = make(start=first)
    digest, trainer = config.digest(), Trainer(config, "cpu")
    first.write_bytes(second.read_bytes())
    config.run.mkdir()
    trainer.finish()
    with safe_open(config.weights, framework="pt") as file:
        assert file.metadata()["config"] == digest


def test_weights_to_start_from_that_do_not_fit_are_told(make: Make, tmp_path: Path) -> None:
    first = train(make("one", steps=1), device="cpu", say=quiet)
    with pytest.raises(catalog.ModelError, match="these are weights of 'realtime', but 'cadnif' is asked for"):
        Trainer(make("two", start=first, model="cadnif"), "cpu")
    with pytest.raises(catalog.ModelError, match="no such weights file"):
        Trainer(make("two", start=tmp_path / "none.safetensors"), "cpu")


def test_weights_to_start_from_of_other_options_are_told(make: Make) -> None:
    first = train(make("one", steps=1), device="cpu", say=quiet)
    with pytest.raises(catalog.ModelError, match="of another architecture"):
        Trainer(make("two", start=first, options={"symmetric": True}), "cpu")


def test_steadiness_is_a_term_of_the_loss_and_shapes_the_weights(make: Make) -> None:
    without = train(make("without"), device="cpu", say=quiet)
    config = make("with", steadiness=10.0)
    first = train(config, device="cpu", say=quiet)
    with (config.run / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["steadiness"]) > 0 for row in rows)
    for row in rows:
        whole = sum(float(row[term]) for term in ("intensity", "structure", "steadiness"))
        assert float(row["loss"]) == pytest.approx(whole, abs=3e-5)
    assert not same(without, first)
    assert same(first, train(make("again", steadiness=10.0), device="cpu", say=quiet))


def test_a_moment_later_depends_on_seed_and_step_alone() -> None:
    planes = tuple(torch.rand(2, 2, 1, 32, 32) * 2 - 1)
    before = [plane.clone() for plane in planes]
    later = a_moment_later(planes, 3, 7)
    torch.manual_seed(1)
    again = a_moment_later(planes, 3, 7)
    assert all(torch.equal(one, other) for one, other in zip(later, again, strict=True))
    for seed, step in ((3, 8), (4, 7)):
        assert not torch.equal(later[0], a_moment_later(planes, seed, step)[0])
    for plane, now in zip(before, planes, strict=True):
        assert torch.equal(plane, now)
    for plane in later:
        assert plane.shape == (2, 1, 32, 32)
        assert plane.abs().max() <= 1


def test_a_moment_later_all_sources_have_moved_alike_by_up_to_two_pixels() -> None:
    body = torch.full((2, 1, 32, 32), -1.0)
    body[..., 10:20, 8:16] = 1
    moves = {(y, x): body.roll((y, x), dims=(2, 3)) > 0 for y in range(-2, 3) for x in range(-2, 3)}
    seen = set()
    for step in range(200):
        later = a_moment_later((body, body), 0, step)
        (move,) = [move for move, there in moves.items() if torch.equal(later[0] > -0.5, there)]
        assert torch.equal(later[1] > -0.5, moves[move])
        assert not torch.equal(*later), "gain and noise are of each sensor"
        seen.add(move)
    assert seen == moves.keys()


@pytest.mark.parametrize(("source", "least", "most"), [(0, 0.35, 0.6), (1, 0.03, 0.2)])
def test_a_moment_later_the_gain_is_a_little_off_or_jumps_up_to_twice_or_half(
    source: int, least: float, most: float
) -> None:
    plane = torch.full((400, 1, 24, 24), -0.5)
    later = a_moment_later((plane, plane), 0, 0)[source]
    gain = 2 * (1 + later.mean(dim=(1, 2, 3)))
    assert 0.49 < gain.min() < 0.6
    assert 1.7 < gain.max() < 2.03
    jumps = (gain.log().abs() > 0.06).float().mean()
    assert least < jumps < most
    noise = 127.5 * later.std(dim=(1, 2, 3))
    assert noise.min() < 0.3
    assert 2.7 < noise.max() < 3.2


def test_a_teachers_picture_stands_for_what_is_wanted(make: Make) -> None:
    teacher = train(make("teacher", steps=2), device="cpu", say=quiet)
    about: dict[str, Any] = {"loss": {}, "teacher": teacher, "loss_to_teacher": {"intensity": 3.0}}
    same = Trainer(make("same", **about, start=teacher, jitter=0.0), "cpu")
    assert same.advance()["intensity_to_teacher"] == pytest.approx(0, abs=1e-6)
    other = Trainer(make("other", **about, seed=9), "cpu")
    values = other.advance()
    assert values.keys() == {"loss", "intensity_to_teacher"}
    assert values["loss"] > 0.01


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"loss": {}}, "there is nothing to learn by"),
        ({"teacher": "t.safetensors"}, "'teacher' and 'loss_to_teacher' go together"),
        ({"loss_to_teacher": {"intensity": 1.0}}, "'teacher' and 'loss_to_teacher' go together"),
    ],
)
def test_a_loss_without_something_to_compare_with_is_told(make: Make, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**changes)
