"""The command line, from words to files and exit codes."""

from __future__ import annotations

import io
import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import catalog
from models.training import Trainer
from tests import media
from tests.conftest import Command


def planes(picture: Any) -> list[np.ndarray]:
    """Y, U and V of a decoded yuv420p picture."""
    width, height = picture.width, picture.height
    flat = picture.to_ndarray().reshape(-1)
    chroma = ((width + 1) // 2) * ((height + 1) // 2)
    return np.split(flat, [width * height, width * height + chroma])


# run, and the word left out:


def test_a_config_fuses_two_recordings_frame_by_frame(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 5, start=3)
    outcome = command(media.write_config(tmp_path / "fuse.yaml", weights))
    assert outcome.code == 0
    fused = tmp_path / "fused.mkv"
    assert media.times_s(fused) == media.times_s(tmp_path / "visible.mkv") == [0.12, 0.16, 0.2, 0.24, 0.28]
    assert {(frame.width, frame.height) for frame in media.decoded(fused)} == {media.SIZE}


@pytest.mark.parametrize("words", [["-q"], ["run"], ["run", "--quiet"], ["--quiet", "run"]], ids=" ".join)
def test_quiet_stands_before_or_behind_the_command(
    command: Command, weights: Path, tmp_path: Path, words: list[str]
) -> None:
    media.write_recording(tmp_path, 1)
    outcome = command(*words, media.write_config(tmp_path / "fuse.yaml", weights))
    assert outcome.code == 0
    assert outcome.out == ""
    assert (outcome.err == "") == (words != ["run"])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_shows_progress_towards_the_expected_frames_unless_quiet(
    command: Command, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    media.write_folders(tmp_path, ["1", "2", "3"])
    folders = {name: {"path": str(tmp_path / folder)} for name, folder in (("thermal", "infrared"), ("rgb", "visible"))}
    config = media.write_config(tmp_path / "fuse.yaml", weights, **folders)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert command(config, *["--quiet"] * quiet).code == 0
    assert ("/3 [" in terminal.getvalue()) == (not quiet)


def test_what_a_signal_does_is_as_before_when_a_run_is_over(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 1)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert command(media.write_config(tmp_path / "fuse.yaml", weights)).code == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_overrides_stand_before_or_behind_options(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 1)
    config = media.write_config(tmp_path / "fuse.yaml", weights)
    first, second = tmp_path / "first.mkv", tmp_path / "second.mkv"
    assert command(config, f"save.path={first}", "--json", "-", f"save.path={second}", "save.codec=ffv1").code == 0
    assert not first.exists()
    assert media.decoded(second)[0].format.name == "yuv420p"
    assert not (tmp_path / "fused.mkv").exists()


def test_the_summary_says_what_became_of_every_frame(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 3)
    outcome = command(media.write_config(tmp_path / "fuse.yaml", weights), "--json", "-")
    summary = json.loads(outcome.out, parse_constant=pytest.fail)
    assert {name: node["emitted"] for name, node in summary["nodes"].items()} == dict.fromkeys(
        ("thermal", "rgb", "fuse", "save"), 3
    )
    assert summary["broken"] == []
    assert f"save     3 frames -> {tmp_path / 'fused.mkv'}" in outcome.err


def test_a_failed_run_gives_its_summary_as_json_of_numbers_only(
    command: Command, weights: Path, tmp_path: Path
) -> None:
    config = media.write_config(tmp_path / "fuse.yaml", weights)
    summary = tmp_path / "summary.json"
    assert command(config, "--json", summary).code == 3
    assert json.loads(summary.read_text(), parse_constant=pytest.fail)["nodes"]["save"]["p50_ms"] is None


def test_a_summary_that_cannot_be_written_is_refused_before_the_work(
    command: Command, weights: Path, tmp_path: Path
) -> None:
    media.write_recording(tmp_path, 1)
    config = media.write_config(tmp_path / "fuse.yaml", weights)
    before = config.read_text()
    for target in (tmp_path / "missing" / "summary.json", tmp_path, config, "/dev/null"):
        outcome = command(config, "--json", target)
        assert outcome.code == 5
        assert str(target) in outcome.error
    assert config.read_text() == before
    assert Path("/dev/null").is_char_device()
    assert not (tmp_path / "fused.mkv").exists()


def test_check_says_that_a_config_is_ready_and_writes_nothing(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 2)
    outcome = command("check", media.write_config(tmp_path / "fuse.yaml", weights))
    assert outcome.code == 0
    assert outcome.out.endswith("fuse.yaml: ready to run, recorded mode, nodes: thermal, rgb, fuse, save\n")
    assert {path.name for path in tmp_path.iterdir()} == {"fuse.yaml", "infrared.mkv", "visible.mkv"}


def test_check_says_what_would_be_in_the_way(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 1)
    config = media.write_config(tmp_path / "fuse.yaml", weights)
    assert "nowhere" in command("check", config, f"save.path={tmp_path}/nowhere/fused.mkv").error
    assert "gone.mkv" in command("check", config, f"rgb.path={tmp_path}/gone.mkv").error
    assert "gone.safetensors" in command("check", config, "fuse.weights=gone.safetensors").error


# fuse:


def test_two_images_become_one(command: Command, weights: Path, tmp_path: Path) -> None:
    infrared, visible = media.write_pair(tmp_path)
    out = tmp_path / "fused.png"
    assert command("fuse", infrared, visible, "-o", out, "--weights", weights).code == 0
    fused = media.read_image(out)
    assert fused.shape == (48, 64, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"infrared.png", "visible.png", "fused.png"}


def test_two_folders_become_a_folder_with_the_same_names(command: Command, weights: Path, tmp_path: Path) -> None:
    names = ["1", "2", "10", "night 3"]
    folders = media.write_folders(tmp_path, names)
    (folders[0] / "notes.txt").write_text("no image, and no matter")
    (folders[1] / "._1.png").write_bytes(b"what some systems leave beside a file")
    assert command("fuse", *folders, "-o", tmp_path / "fused", "--weights", weights).code == 0
    assert {path.name for path in (tmp_path / "fused").iterdir()} == {f"{name}.png" for name in names}
    # Each from its own pair: the tenth is not taken for the second.
    pair = [folder / "10.png" for folder in folders]
    assert command("fuse", *pair, "-o", tmp_path / "ten.png", "--weights", weights).code == 0
    alone, among = (media.read_image(path) for path in (tmp_path / "ten.png", tmp_path / "fused" / "10.png"))
    assert np.array_equal(alone, among)


def test_two_folders_become_a_video_of_so_many_images_a_second(command: Command, weights: Path, tmp_path: Path) -> None:
    folders = media.write_folders(tmp_path, ["a", "b", "c"])
    out = tmp_path / "fused.mp4"
    assert command("fuse", *folders, "-o", out, "--weights", weights, "--fps", "10").code == 0
    assert media.times_s(out) == [0.0, 0.1, 0.2]


@pytest.mark.parametrize("name", ["fused.mp4", "fused.mkv", "fused.mov"])
def test_two_videos_become_a_video_with_count_times_and_size_kept(
    command: Command, weights: Path, tmp_path: Path, name: str
) -> None:
    recording = media.write_recording(tmp_path, 5)
    outcome = command("fuse", *recording, "-o", tmp_path / name, "--weights", weights)
    assert outcome.code == 0
    assert outcome.out == ""
    assert media.times_s(tmp_path / name) == [0.0, 0.04, 0.08, 0.12, 0.16]
    assert {(frame.width, frame.height) for frame in media.decoded(tmp_path / name)} == {media.SIZE}


@pytest.mark.parametrize("full_range", [False, True])
def test_the_colour_of_the_visible_video_is_kept_to_the_bit(
    command: Command, weights: Path, tmp_path: Path, full_range: bool
) -> None:
    infrared, visible = media.write_recording(tmp_path, 3, full_range=full_range)
    out = tmp_path / "fused.mkv"
    assert command("fuse", infrared, visible, "-o", out, "--weights", weights, "--codec", "ffv1").code == 0
    for fused, seen in zip(media.decoded(out), media.decoded(visible), strict=True):
        assert fused.color_range == seen.color_range
        assert all(np.array_equal(a, b) for a, b in zip(planes(fused)[1:], planes(seen)[1:], strict=True))
        assert not np.array_equal(planes(fused)[0], planes(seen)[0])


def test_two_videos_become_a_folder_of_images(command: Command, weights: Path, tmp_path: Path) -> None:
    recording = media.write_recording(tmp_path, 2)
    assert command("fuse", *recording, "-o", tmp_path / "fused", "--weights", weights).code == 0
    assert {path.name for path in (tmp_path / "fused").iterdir()} == {"000000.png", "000001.png"}


def test_videos_of_different_rate_are_paired_by_time(command: Command, weights: Path, tmp_path: Path) -> None:
    infrared = media.write_video(tmp_path / "infrared.mkv", (media.heat(n) for n in range(8)), fps=50)
    visible = media.write_video(tmp_path / "visible.mkv", (media.scene(n) for n in range(4)))
    out = tmp_path / "fused.mkv"
    outcome = command("fuse", infrared, visible, "-o", out, "--weights", weights, "--json", "-")
    assert outcome.code == 0
    assert media.times_s(out) == media.times_s(visible)
    assert json.loads(outcome.out)["nodes"]["fuse"]["dropped"] == {"infrared surplus": 4}


@pytest.mark.parametrize("task", ["exposure", "focus", "medical"])
def test_other_tasks_fuse_by_the_names_of_their_inputs(command: Command, tmp_path: Path, task: str) -> None:
    weights = media.write_weights(tmp_path / "task.safetensors", task)
    pair = media.write_pair(tmp_path)
    outcome = command("fuse", *pair, "-o", tmp_path / "o.png", "--task", task, "--weights", weights, "--json", "-")
    assert outcome.code == 0
    assert set(json.loads(outcome.out)["nodes"]) > {"exposure": {"under"}, "focus": {"near"}, "medical": {"mri"}}[task]


# train:


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Path]:
    """A config of a training so short that it teaches nothing."""
    media.write_folders(tmp_path / "pairs", ["1", "2"])
    config = tmp_path / "training.yaml"
    settings = {
        "task": "infrared",
        "data": str(tmp_path / "pairs"),
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


def test_training_writes_weights_that_fuse(command: Command, tmp_path: Path, training: Path) -> None:
    outcome = command("train", training)
    assert outcome.code == 0
    trained = tmp_path / "trained.safetensors"
    assert outcome.out == f"{trained}\n"
    assert "step 2/2" in outcome.err
    assert command("fuse", *media.write_pair(tmp_path), "-o", tmp_path / "o.png", "--weights", trained).code == 0


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
    [("steps=0", "steps"), ("stepz=3", "stepz"), ("steps", "setting=value"), ("data=nowhere", "nowhere")],
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
    assert [line.split(" | ")[0] for line in table[2:]] == ["| average", "| maximum", "| cadnif fp32"]


def test_eval_judges_ready_images_and_draws_a_sheet(command: Command, tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2"])
    sheet, figures = tmp_path / "sheet.png", tmp_path / "figures.json"
    outcome = command("eval", infrared, visible, "--fused", visible, "--sheet", sheet, "--json", figures)
    assert outcome.code == 0
    assert outcome.out.startswith("| method |")
    judged = json.loads(figures.read_text(), parse_constant=pytest.fail)
    assert judged["pairs"] == 2
    assert judged["names"] == ["1", "2"]
    assert set(judged["means"]) == {"average", "maximum", str(visible)}
    assert media.read_image(sheet).shape[1] == 5 * 320  # two sources, two controls, one to be judged


def test_eval_writes_only_json_to_standard_output(command: Command, tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1"])
    outcome = command("eval", infrared, visible, "--fused", visible, "--json", "-")
    assert json.loads(outcome.out, parse_constant=pytest.fail)["task"] == "infrared"


def test_eval_takes_a_data_set_with_both_sources_in_it(command: Command, tmp_path: Path) -> None:
    _, visible = media.write_folders(tmp_path / "set", ["1", "2"])
    outcome = command("eval", tmp_path / "set", "--fused", visible, "--json", "-")
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


# bench:


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained weights in place of those that come with the project: they are as fast."""
    media.write_weights(tmp_path / "shipped" / "cadnif-infrared.safetensors")
    monkeypatch.setattr("models.catalog.WEIGHTS", tmp_path / "shipped")


@pytest.mark.usefixtures("shipped")
def test_bench_gives_its_figures_as_json(command: Command) -> None:
    outcome = command("bench", "--frames", "1", "--size", "64x48", "--json", "-")
    assert outcome.code == 0
    figures = json.loads(outcome.out, parse_constant=pytest.fail)
    assert figures["size"] == [64, 48]
    assert figures["frames"] == 1
    assert set(figures["latency_ms"]) == {"upload", "compute", "download", "total", "plain_torch"}
    numbers = [ms for stage in figures["latency_ms"].values() for ms in stage.values()]
    numbers += [figures["frames_per_second"], figures["faster_than_plain_torch_fp32"]]
    assert all(math.isfinite(number) and number > 0 for number in numbers)


@pytest.mark.usefixtures("shipped")
def test_bench_tells_a_person_the_conditions_and_the_speed(command: Command) -> None:
    out = command("bench", "--frames", "1", "--size", "32x24", "--precision", "fp32").out
    assert "cadnif 32x24 fp32 on" in out
    assert "frames/s" in out


@pytest.mark.parametrize("option", ["--size=640", "--size=0x480", "--size=640x480x3", "--frames=0", "--frames=-1"])
def test_bench_refuses_what_cannot_be_measured(command: Command, option: str) -> None:
    outcome = command("bench", option)
    assert outcome.code == 2
    assert option.partition("=")[0] in outcome.error


# Words:


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "COMMAND"),
        (["fusee"], "'fusee'"),
        (["fuse", "a", "b"], "-o"),
        (["fuse", "a", "-o", "c"], "B"),
        (["fuse", "a", "b", "-o", "c", "--fps", "often"], "--fps"),
        (["fuse", "a", "b", "-o", "c", "--prec", "fp32"], "--prec"),
        (["fuse", "a", "b", "-o", "c", "d"], "unrecognized arguments: d"),
        (["run", "a.yaml", "--josn", "-"], "--josn"),
        (["bench", "fuse.precision=fp32"], "fuse.precision=fp32"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_the_words_is_told_in_one_line(command: Command, words: list[str], says: str) -> None:
    outcome = command(*words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err == f"{outcome.error}\n"
    assert says in outcome.error
    assert "--help" in outcome.error


@pytest.mark.parametrize("words", [[], ["run"], ["fuse"], ["check"], ["train"], ["eval"], ["bench"]])
def test_every_command_has_help(command: Command, capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command(*words, "--help")
    assert left.value.code == 0
    assert "usage: run.py" in capfd.readouterr().out
