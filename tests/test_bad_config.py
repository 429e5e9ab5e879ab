"""The network or the config is wrong: one clear line and the exit code, before anything opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import media
from tests.conftest import Command, Fusing, WeightsOf


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_unknown_model_or_task_is_refused_with_the_legal_ones(fuse: Fusing, tmp_path: Path) -> None:
    recording = media.write_recording(tmp_path, 1)
    outcome = fuse(*recording, "--model", "cadniff")
    assert outcome.code == 2
    assert "'cadniff'" in outcome.error
    assert "Did you mean 'cadnif'?" in outcome.error
    outcome = fuse(*recording, "--model", "yolo")
    assert outcome.code == 2
    assert "'yolo'. There is: cadnif, realtime." in outcome.error
    outcome = fuse(*recording, "--task", "ultraviolet")
    assert outcome.code == 2
    assert "'ultraviolet'" in outcome.error
    assert "exposure" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


def test_a_task_without_weights_is_refused(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.catalog.WEIGHTS", tmp_path)
    words = ("fuse", *media.write_recording(tmp_path, 1), "-o", tmp_path / "out.mkv", "--task", "exposure")
    for model, says in (([], "realtime"), (["--model", "cadnif"], "cadnif")):
        outcome = command(*words, *model)
        assert outcome.code == 2
        assert f"no weights of '{says}' for task 'exposure'" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(("model", "other"), [("cadnif", "realtime"), ("realtime", "cadnif")])
def test_weights_of_another_model_than_the_one_asked_for_are_refused(
    command: Command, weights_of: WeightsOf, tmp_path: Path, model: str, other: str
) -> None:
    words = ("fuse", *media.write_recording(tmp_path, 1), "-o", tmp_path / "out.mkv", "--weights", weights_of(model))
    outcome = command(*words, "--model", other)
    assert outcome.code == 2
    assert f"weights of '{model}', but '{other}' is asked for" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


def test_three_exposures_with_weights_for_two_sources_are_refused(
    command: Command, weights_of: WeightsOf, tmp_path: Path
) -> None:
    words = ("fuse", *[media.write_image(tmp_path / f"{name}.png", media.scene()) for name in "abc"])
    out = tmp_path / "out.png"
    outcome = command(*words, "-o", out, "--task", "exposure", "--weights", weights_of("realtime"))
    assert outcome.code == 2
    assert "3 planes; this network was built for two" in outcome.error
    assert not out.exists()


def test_a_third_source_is_refused_where_the_task_has_two(fuse: Fusing, tmp_path: Path) -> None:
    paths = [media.write_image(tmp_path / f"{name}.png", media.scene()) for name in "abc"]
    outcome = fuse(*paths, to=tmp_path / "out.png")
    assert outcome.code == 2
    assert "c.png: task 'infrared' has two sources; three are for --task exposure" in outcome.error
    assert not (tmp_path / "out.png").exists()


def cut_short(path: Path) -> None:
    whole = media.write_weights(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such weights file"),
    "cut short": (cut_short, "not a readable safetensors file"),
    "text": (lambda path: path.write_text("weights"), "not a readable safetensors file"),
    "tensor missing": (lambda path: media.write_changed_weights(path, out__bias=None), "of another architecture"),
    "tensor added": (lambda path: media.write_changed_weights(path, extra=torch.zeros(1)), "of another architecture"),
    "other shape": (
        lambda path: media.write_changed_weights(path, out__bias=torch.zeros(2)),
        "of another architecture",
    ),
    "NaN": (lambda path: media.write_changed_weights(path, out__bias=torch.tensor([torch.nan])), "NaN"),
    "infinite": (lambda path: media.write_changed_weights(path, out__bias=torch.tensor([torch.inf])), "infinity"),
}


@pytest.mark.parametrize(("spoil", "says"), SPOILED.values(), ids=SPOILED.keys())
def test_weights_that_are_of_no_use_are_named_with_the_reason(
    command: Command, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoilt = tmp_path / "spoilt.safetensors"
    spoil(spoilt)
    recording = media.write_recording(tmp_path, 1)
    outcome = command("fuse", *recording, "-o", tmp_path / "out.mkv", "--weights", spoilt)
    assert outcome.code == 2
    assert "spoilt.safetensors" in outcome.error
    assert says in outcome.error
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so cuda is no mistake")
def test_cuda_without_a_gpu_is_refused_with_what_to_use(fuse: Fusing, tmp_path: Path) -> None:
    outcome = fuse(*media.write_recording(tmp_path, 1), "--device", "cuda")
    assert outcome.code == 4
    assert "'cuda'" in outcome.error
    assert "use device: cpu" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


def test_a_precision_that_the_device_does_not_have_is_refused(fuse: Fusing, tmp_path: Path) -> None:
    outcome = fuse(*media.write_recording(tmp_path, 1), "--device", "cpu", "--precision", "fp16")
    assert outcome.code == 4
    assert "'fp16'" in outcome.error


# The config:

CONFIG_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown type": ({"save": {"type": "output.vidoe"}}, "Did you mean 'output.video'?"),
    "no type": ({"save": {"type": None}}, "Node 'save' needs a 'type'"),
    "unknown setting": ({"fuse": {"modle": "cadnif"}}, "has no setting 'modle'. Did you mean 'model'?"),
    "unknown input": ({"fuse": {"inputs": {"infrared": "thermal", "visibel": "rgb"}}}, "Did you mean 'visible'?"),
    "input missing": ({"fuse": {"inputs": {"infrared": "thermal"}}}, "Node 'fuse' needs its input 'visible'"),
    "input from nowhere": ({"save": {"inputs": "fues"}}, "Did you mean 'fuse'?"),
    "wrong type": ({"fuse": {"max_skew_ms": "near"}}, "setting 'max_skew_ms' is 'near'"),
    "out of bounds": ({"fuse": {"max_skew_ms": -1}}, "setting 'max_skew_ms' is -1"),
    "not one of these": ({"fuse": {"device": "tpu"}}, "setting 'device' is 'tpu'"),
    "unknown model": ({"fuse": {"model": "cadnef"}}, "setting 'model' is 'cadnef'. Did you mean 'cadnif'?"),
    "neither model": ({"fuse": {"model": "yolo"}}, "setting 'model' is 'yolo'. There is: cadnif, realtime."),
    "exposures of infrared": ({"fuse": {"exposures": 3}}, "it is for task 'exposure' alone"),
    "four exposures": ({"fuse": {"task": "exposure", "exposures": 4}}, "setting 'exposures' is 4"),
    "third exposure missing": (
        {"fuse": {"task": "exposure", "exposures": 3, "inputs": {"under": "thermal", "over": "rgb"}}},
        "Node 'fuse' needs its input 'middle'",
    ),
    "one exposure too many": (
        {"fuse": {"task": "exposure", "inputs": {"under": "thermal", "middle": "thermal", "over": "rgb"}}},
        "'middle'",
    ),
    "neither steady nor not": ({"fuse": {"steady": "rather"}}, "setting 'steady' is 'rather'"),
    "unknown task": ({"fuse": {"task": "thermal"}}, "setting 'task' is 'thermal'"),
    "unknown reference": ({"fuse": {"reference": "rgb"}}, "setting 'reference' is 'rgb'"),
    "a circle": ({"fuse": {"inputs": {"infrared": "thermal", "visible": "fuse"}}}, "circle"),
    "written over": ({"copy": {"type": "output.video", "inputs": "fuse", "path": "x.mkv"}}, "would write over"),
}


@pytest.mark.parametrize("words", [["run"], ["check"]], ids=["run", "check"])
@pytest.mark.parametrize(("changes", "says"), CONFIG_MISTAKES.values(), ids=CONFIG_MISTAKES.keys())
def test_a_mistake_in_a_config_is_answered_before_anything_opens(
    command: Command, tmp_path: Path, words: list[str], changes: dict[str, Any], says: str
) -> None:
    # The recordings are not there, which would be the next mistake: nothing was opened.
    config = media.write_config(tmp_path / "fuse.yaml", tmp_path / "none", **changes)
    if "copy" in changes:
        config.write_text(config.read_text().replace(str(tmp_path / "fused.mkv"), "./x.mkv"))
    outcome = command(*words, config)
    assert outcome.code == 2
    assert says in outcome.error
    assert left_in(tmp_path) == {"fuse.yaml"}


BAD_YAML: dict[str, tuple[bytes, str]] = {
    "does not parse": (b"rgb: {type: capture.video, path: x.mkv\n", "not valid YAML"),
    "one name twice": (b"rgb: {type: output.memory}\nrgb: {type: output.memory}\n", "'rgb' stands here twice"),
    "nothing": (b"", "got nothing"),
    "a list": (b"- rgb\n- thermal\n", "got a list"),
    "a node without settings": (b"rgb: capture.video\n", "node 'rgb' must be a mapping"),
    "a tag that would run code": (b"rgb: !!python/object/apply:os.system [id]\n", "not valid YAML"),
    "no text": (b"\xff\xfe\x00rgb", "not UTF-8"),
}


@pytest.mark.parametrize(("text", "says"), BAD_YAML.values(), ids=BAD_YAML.keys())
def test_a_file_that_is_no_config_is_named(command: Command, tmp_path: Path, text: bytes, says: str) -> None:
    config = tmp_path / "odd.yaml"
    config.write_bytes(text)
    for words in ([], ["check"]):
        outcome = command(*words, config)
        assert outcome.code == 2
        assert "odd.yaml" in outcome.error
        assert says in outcome.error


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("fuse.precison=fp32", "Did you mean 'precision'?"),
        ("fuze.precision=fp32", "Did you mean 'fuse'?"),
        ("fp32", "node.setting=value"),
        ("fuse.model={", "not valid YAML"),
    ],
)
def test_a_mistake_in_an_override_is_answered(
    command: Command, weights: Path, tmp_path: Path, override: str, says: str
) -> None:
    outcome = command(media.write_config(tmp_path / "fuse.yaml", weights), override)
    assert outcome.code == 2
    assert says in outcome.error
