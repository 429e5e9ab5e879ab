"""The command line: `run`, `check`, and the words themselves."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path

import av
import numpy as np
import pytest

from nodes.fusion.network import Network
from tests import media
from tests.conftest import Command, WeightsOf


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


def test_a_config_may_have_changes_held_back_or_not(command: Command, weights_of: WeightsOf, tmp_path: Path) -> None:
    # Each visible frame brighter than the one before: the untrained network makes more of that than is explained.
    weights = weights_of("realtime")
    media.write_recording(tmp_path, 4)
    config = media.write_config(tmp_path / "fuse.yaml", weights, save={"codec": "ffv1"})
    network = Network(None, "infrared", weights, "cpu", "fp32")
    pairs = list(zip(*(media.decoded(tmp_path / f"{name}.mkv") for name in ("infrared", "visible")), strict=True))
    for steady in (True, False):
        how = ("fuse.precision=fp32", "fuse.device=cpu", f"fuse.steady={str(steady).lower()}")
        assert command(config, *how, "--quiet").code == 0
        differ = []
        for fused, pair in zip(media.decoded(tmp_path / "fused.mkv"), pairs, strict=True):
            alone, _ = network.fuse([luma(picture) for picture in pair], ("limited", "limited"), "limited")
            differ.append(not np.array_equal(luma(fused), alone))
        assert differ == [False] + [steady] * 3


def luma(picture: av.VideoFrame) -> np.ndarray:
    """(H, W) uint8 of a decoded yuv420p picture."""
    plane: np.ndarray = picture.to_ndarray()[: picture.height]
    return plane


def test_the_summary_says_what_became_of_every_frame(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 3)
    outcome = command(media.write_config(tmp_path / "fuse.yaml", weights), "--json", "-")
    summary = json.loads(outcome.out, parse_constant=pytest.fail)
    assert {name: node["emitted"] for name, node in summary["nodes"].items()} == dict.fromkeys(
        ("thermal", "rgb", "fuse", "save"), 3
    )
    assert (summary["nodes"]["fuse"]["model"], summary["nodes"]["fuse"]["task"]) == ("cadnif", "infrared")
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


def test_a_name_that_is_no_text_is_told_in_escapes(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 1)
    config = media.write_config(tmp_path / "fuse.yaml", weights).rename(tmp_path / "fus\udce9.yaml")
    assert "fus\\udce9.yaml: ready to run" in command("check", config).out
    assert "fus\\udce8.yaml: cannot be read" in command("check", tmp_path / "fus\udce8.yaml").error


def test_check_says_what_would_be_in_the_way(command: Command, weights: Path, tmp_path: Path) -> None:
    media.write_recording(tmp_path, 1)
    config = media.write_config(tmp_path / "fuse.yaml", weights)
    assert "nowhere" in command("check", config, f"save.path={tmp_path}/nowhere/fused.mkv").error
    assert "gone.mkv" in command("check", config, f"rgb.path={tmp_path}/gone.mkv").error
    assert "gone.safetensors" in command("check", config, "fuse.weights=gone.safetensors").error


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
        (["fuse", "a", "b", "c", "-o", "d", "e"], "unrecognized arguments: e"),
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
