"""`run.py train`, `eval` and `bench`, on what teaches and shows nothing but is quick."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from models import catalog
from models.training import Trainer
from tests import media
from tests.conftest import Command


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Path]:
    """A config of a training so short that it teaches nothing."""
    media.write_folders(tmp_path / "pairs", ["1", "2"])
    config = tmp_path / "training.yaml"
    settings = {
        "model": "cadnif",
        "task": "infrared",
        "data": [str(tmp_path / "pairs")],
        "weights": str(tmp_path / "trained.safetensors"),
        "run": str(tmp_path / "run"),
        "loss": {"intensity": 1},
        "steps": 2,
        "batch": 1,
        "crop": 32,
        "learning_rate": 0.001,
        "log_every": 1,
        "checkpoint_every": 1,
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    yield config
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("model", media.NETWORKS)
def test_training_writes_weights_that_fuse(command: Command, tmp_path: Path, training: Path, model: str) -> None:
    outcome = command("train", training, f"model={model}")
    assert outcome.code == 0
    trained = tmp_path / "trained.safetensors"
    assert outcome.out == f"{trained}\n"
    assert "step 2/2" in outcome.err
    outcome = command("fuse", *media.write_pair(tmp_path), "-o", tmp_path / "o.png", "--weights", trained)
    assert outcome.code == 0
    assert f"fuse: {model} for infrared" in outcome.err


def test_training_goes_on_where_it_was_stopped(
    command: Command, tmp_path: Path, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("train", training).code == 0
    at_once = catalog.load(tmp_path / "trained.safetensors").state_dict()

    advance = Trainer.advance

    def stop_at_1(trainer: Trainer) -> dict[str, float]:
        if trainer.step == 1:
            raise KeyboardInterrupt
        return advance(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", stop_at_1)
        assert command("train", training, "--restart").code == 130
    outcome = command("train", training)
    assert outcome.code == 0
    assert "step 1 of 2" in outcome.err
    resumed = catalog.load(tmp_path / "trained.safetensors").state_dict()
    assert all(torch.equal(at_once[key], resumed[key]) for key in at_once)


def test_a_checkpoint_of_another_config_is_refused_and_restart_begins_anew(command: Command, training: Path) -> None:
    assert command("train", training).code == 0
    outcome = command("train", training, "seed=7")
    assert outcome.code == 2
    assert "--restart" in outcome.error
    assert command("train", training, "seed=7", "--restart").code == 0


@pytest.mark.parametrize(
    ("override", "says"),
    [("steps=0", "steps"), ("stepz=3", "stepz"), ("steps", "setting=value"), ("data=[nowhere]", "nowhere")],
)
def test_a_mistake_in_a_training_config_is_answered(command: Command, training: Path, override: str, says: str) -> None:
    outcome = command("train", training, override)
    assert outcome.code == 2
    assert says in outcome.error


def test_a_run_folder_that_cannot_be_made_is_named(command: Command, training: Path) -> None:
    outcome = command("train", training, "run=/proc/streamfuse")
    assert outcome.code == 5
    assert "/proc/streamfuse" in outcome.error


# eval:


def test_eval_judges_a_network_beside_the_controls(command: Command, weights: Path, tmp_path: Path) -> None:
    folders = media.write_folders(tmp_path, ["1", "2"])
    outcome = command("eval", *folders, "--weights", weights, "--precision", "fp32")
    assert outcome.code == 0
    table = outcome.out.splitlines()
    methods = ["average", "maximum", "Laplacian pyramid", "GFF", "cadnif fp32"]
    assert [line.split(" | ")[0] for line in table[2:]] == [f"| {method}" for method in methods]


def test_eval_judges_ready_images_and_draws_a_sheet(command: Command, tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2"])
    sheet, figures = tmp_path / "sheet.png", tmp_path / "figures.json"
    outcome = command("eval", infrared, visible, "--fused", visible, "--sheet", sheet, "--json", figures)
    assert outcome.code == 0
    assert outcome.out.startswith("| method |")
    judged = json.loads(figures.read_text(), parse_constant=pytest.fail)
    assert judged["pairs"] == 2
    assert judged["names"] == ["1", "2"]
    assert set(judged["means"]) == {"average", "maximum", "Laplacian pyramid", "GFF", str(visible)}
    assert media.read_image(sheet).shape[1] == 7 * 320  # two sources, four controls, one to be judged


def test_eval_names_a_folder_in_full_that_is_called_as_a_control_is(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1"])
    fused = visible.rename(tmp_path / "average")
    monkeypatch.chdir(tmp_path)
    outcome = command("eval", infrared, fused, "--fused", "average", "--json", "-")
    means = json.loads(outcome.out)["means"]
    assert list(means) == ["average", "maximum", "Laplacian pyramid", "GFF", str(fused)]
    assert means["average"] != means[str(fused)]


def test_eval_writes_only_json_to_standard_output(command: Command, tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1"])
    outcome = command("eval", infrared, visible, "--fused", visible, "--json", "-")
    assert json.loads(outcome.out, parse_constant=pytest.fail)["task"] == "infrared"


def test_eval_takes_a_data_set_with_both_sources_in_it(command: Command, tmp_path: Path) -> None:
    _, visible = media.write_folders(tmp_path / "set", ["1", "2"])
    outcome = command("eval", tmp_path / "set", "--fused", visible, "--json", "-")
    assert json.loads(outcome.out)["names"] == ["1", "2"]


def test_eval_takes_the_second_folder_behind_an_option_too(command: Command, tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2"])
    outcome = command("eval", infrared, "--fused", visible, "--json", "-", visible)
    assert json.loads(outcome.out)["names"] == ["1", "2"]


def test_eval_names_what_is_missing(command: Command, tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2"])
    (tmp_path / "fused").mkdir()
    cases: list[tuple[list[Any], int, str]] = [
        ([infrared, tmp_path / "nowhere"], 3, "nowhere"),
        ([infrared, visible, "--fused", tmp_path / "fused"], 3, "no fused image '1'"),
        ([infrared, visible, "--sheet", tmp_path / "nowhere" / "sheet.png"], 5, "nowhere"),
        ([infrared, visible, "--sheet", tmp_path / "sheet.jpg"], 2, "sheet.jpg"),
        ([infrared, visible, "--weights", tmp_path / "no.safetensors"], 2, "no.safetensors"),
    ]
    for arguments, code, says in cases:
        outcome = command("eval", *arguments)
        assert (outcome.code, outcome.out) == (code, "")
        assert says in outcome.error


# eval, of videos:


def test_eval_of_videos_tells_how_steady_a_network_is(command: Command, weights: Path, tmp_path: Path) -> None:
    videos = media.write_recording(tmp_path, 4)
    outcome = command("eval", *videos, "--weights", weights, "--precision", "fp32")
    assert outcome.code == 0
    assert "4 frames" in outcome.err
    rows = [line.strip("| ").split(" | ") for line in outcome.out.splitlines()]
    assert rows[0] == ["method", "unexplained change", "smear"]
    assert [row[0] for row in rows[2:]] == ["average", "maximum", "cadnif fp32", "cadnif fp32, not steady"]
    assert [row[2] == "-" for row in rows[2:]] == [True, True, False, True]


def test_eval_of_videos_judges_a_fused_one_and_writes_json(command: Command, tmp_path: Path) -> None:
    infrared, visible = media.write_recording(tmp_path, 4)
    outcome = command("eval", infrared, visible, "--fused", visible, "--json", "-")
    result = json.loads(outcome.out, parse_constant=pytest.fail)
    assert result["frames"] == 4
    assert list(result["methods"]) == ["average", "maximum", str(visible)]
    assert result["methods"][str(visible)]["unexplained_change"] == 0  # it changes as one of its sources does


def test_eval_judges_what_fuse_wrote_of_odd_sizes(command: Command, weights: Path, tmp_path: Path) -> None:
    infrared = media.write_video(tmp_path / "infrared.mkv", [media.heat(n, (63, 47)) for n in range(3)])
    visible = media.write_video(tmp_path / "visible.mkv", [media.scene(n, (63, 47)) for n in range(3)])
    fused = tmp_path / "fused.mp4"
    assert command("fuse", infrared, visible, "-o", fused, "--weights", weights).code == 0
    assert {(frame.width, frame.height) for frame in media.decoded(fused)} == {(64, 48)}
    outcome = command("eval", infrared, visible, "--fused", fused, "--json", "-")
    assert outcome.code == 0
    assert list(json.loads(outcome.out)["methods"]) == ["average", "maximum", str(fused)]


def test_eval_of_videos_can_leave_holding_back_out(command: Command, weights: Path, tmp_path: Path) -> None:
    videos = media.write_recording(tmp_path, 3)
    how = ("--weights", weights, "--precision", "fp32", "--json", "-")
    without = json.loads(command("eval", *videos, *how, "--no-steady").out)["methods"]
    assert list(without) == ["average", "maximum", "cadnif fp32"]
    both = json.loads(command("eval", *videos, *how).out)["methods"]
    assert without["cadnif fp32"] == both["cadnif fp32, not steady"]


def test_eval_says_what_videos_do_not_go_together_with(command: Command, tmp_path: Path) -> None:
    folders = media.write_folders(tmp_path / "images", ["1"])
    infrared, visible = media.write_recording(tmp_path, 3)
    short = media.write_video(tmp_path / "short.mkv", (media.heat(n) for n in range(2)))
    small = media.write_video(tmp_path / "small.mkv", (media.heat(n, (32, 24)) for n in range(3)))
    cases: list[tuple[list[Any], int, str]] = [
        ([infrared], 2, "give that of the second source as well"),
        ([infrared, folders[1]], 2, "all must be of one kind"),
        ([infrared, visible, "--fused", folders[0]], 2, "all must be of one kind"),
        ([infrared, visible, "--sheet", tmp_path / "sheet.png"], 2, "a sheet is for images"),
        ([infrared, visible, "--fused", visible, "--no-steady"], 2, "--no-steady"),
        ([*folders, "--no-steady"], 2, "--no-steady is for videos"),
        ([infrared, visible, "--fused", tmp_path / "nowhere.mkv"], 3, "nowhere.mkv"),
        ([infrared, visible, "--fused", short], 3, "short.mkv ends after 2 frames and"),
        ([infrared, visible, "--fused", small], 3, "small.mkv is 32x24"),
    ]
    for arguments, code, says in cases:
        outcome = command("eval", *arguments)
        assert (outcome.code, outcome.out) == (code, ""), arguments
        assert says in outcome.error


# bench:


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained weights in place of those that come with the project: they are as fast."""
    for name in media.NETWORKS:
        media.write_weights(tmp_path / "shipped" / f"{name}-infrared.safetensors", model=name)
    monkeypatch.setattr("models.catalog.WEIGHTS", tmp_path / "shipped")


@pytest.mark.usefixtures("shipped")
def test_bench_gives_its_figures_as_json(command: Command) -> None:
    outcome = command("bench", "--frames", "1", "--size", "64x48", "--json", "-")
    assert outcome.code == 0
    figures = json.loads(outcome.out, parse_constant=pytest.fail)
    assert figures["model"] == "realtime"
    assert figures["size"] == [64, 48]
    assert figures["frames"] == 1
    assert set(figures["latency_ms"]) == {"upload", "compute", "download", "total", "plain_torch"}
    numbers = [ms for stage in figures["latency_ms"].values() for ms in stage.values()]
    numbers += [figures["frames_per_second"], figures["faster_than_plain_torch_fp32"]]
    assert all(math.isfinite(number) and number > 0 for number in numbers)


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("options", "model"), [([], "realtime"), *(([f"--model={name}"], name) for name in media.NETWORKS)]
)
def test_bench_tells_a_person_the_conditions_and_the_speed(command: Command, options: list[str], model: str) -> None:
    out = command("bench", "--frames", "1", "--size", "32x24", "--precision", "fp32", *options).out
    assert f"{model} 32x24 fp32 on" in out
    assert "frames/s" in out


@pytest.mark.parametrize("option", ["--size=640", "--size=0x480", "--size=640x480x3", "--frames=0", "--frames=-1"])
def test_bench_refuses_what_cannot_be_measured(command: Command, option: str) -> None:
    outcome = command("bench", option)
    assert outcome.code == 2
    assert option.partition("=")[0] in outcome.error
