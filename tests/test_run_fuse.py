"""`run.py fuse`: images, folders and videos, from paths to pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import media
from tests.conftest import Command, WeightsOf


def planes(picture: Any) -> list[np.ndarray]:
    """Y, U and V of a decoded yuv420p picture."""
    width, height = picture.width, picture.height
    flat = picture.to_ndarray().reshape(-1)
    chroma = ((width + 1) // 2) * ((height + 1) // 2)
    return np.split(flat, [width * height, width * height + chroma])


@pytest.fixture(params=media.NETWORKS)
def weights(request: pytest.FixtureRequest, weights_of: WeightsOf) -> Path:
    """Of each network in turn."""
    return weights_of(request.param)


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


def test_a_still_video_gives_a_still_video(command: Command, weights: Path, tmp_path: Path) -> None:
    infrared = media.write_video(tmp_path / "infrared.mkv", [media.heat()] * 4)
    visible = media.write_video(tmp_path / "visible.mkv", [media.scene()] * 4)
    out = tmp_path / "fused.mkv"
    assert command("fuse", infrared, visible, "-o", out, "--weights", weights, "--codec", "ffv1").code == 0
    first, *others = [frame.to_ndarray() for frame in media.decoded(out)]
    assert len(others) == 3
    assert all(np.array_equal(frame, first) for frame in others)


def test_the_network_is_that_of_the_weights_or_the_one_for_video(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.catalog.WEIGHTS", tmp_path / "shipped")
    for name in media.NETWORKS:
        media.write_weights(tmp_path / "shipped" / f"{name}-infrared.safetensors", model=name)
    words = ("fuse", *media.write_pair(tmp_path), "-o", tmp_path / "fused.png", "--json", "-")
    cadnif = tmp_path / "shipped" / "cadnif-infrared.safetensors"
    for options, used in (
        ([], "realtime"),
        (["--model", "realtime"], "realtime"),
        (["--model", "cadnif"], "cadnif"),
        (["--weights", cadnif], "cadnif"),
        (["--weights", cadnif, "--model", "cadnif"], "cadnif"),
    ):
        outcome = command(*words, *options)
        assert outcome.code == 0
        assert json.loads(outcome.out)["nodes"]["fuse"]["model"] == used
        assert f"fuse: {used} for infrared" in outcome.err


@pytest.mark.parametrize(("model", "options"), [("cadnif", {}), ("realtime", {"symmetric": True})])
def test_three_exposures_become_one(
    command: Command, weights_of: WeightsOf, tmp_path: Path, model: str, options: dict[str, Any]
) -> None:
    weights = ("--task", "exposure", "--weights", weights_of(model, **options))
    scenes = [(media.scene(n) * gain).astype(np.uint8) for n, gain in enumerate((0.3, 0.6, 1.0))]
    images = [media.write_image(tmp_path / f"{number}.png", scene) for number, scene in enumerate(scenes)]
    outcome = command("fuse", *images, "-o", tmp_path / "fused.png", *weights, "--json", "-")
    assert outcome.code == 0
    assert set(json.loads(outcome.out)["nodes"]) == {"under", "middle", "over", "fuse", "output"}
    three = media.read_image(tmp_path / "fused.png")
    assert command("fuse", *images[:2], "-o", tmp_path / "late.png", images[2], *weights).code == 0
    assert np.array_equal(media.read_image(tmp_path / "late.png"), three), "the third may stand behind -o"
    assert three.shape == (48, 64, 3)
    assert command("fuse", images[0], images[2], "-o", tmp_path / "fused.png", *weights).code == 0
    assert not np.array_equal(media.read_image(tmp_path / "fused.png"), three), "the middle one counts"

    videos = [media.write_video(tmp_path / f"{number}.mkv", [scene] * 3) for number, scene in enumerate(scenes)]
    assert command("fuse", *videos, "-o", tmp_path / "fused.mkv", *weights).code == 0
    assert media.times_s(tmp_path / "fused.mkv") == [0.0, 0.04, 0.08]


@pytest.mark.parametrize("task", ["exposure", "focus", "medical"])
def test_other_tasks_fuse_by_the_names_of_their_inputs(command: Command, tmp_path: Path, task: str) -> None:
    weights = media.write_weights(tmp_path / "task.safetensors", task)
    pair = media.write_pair(tmp_path)
    outcome = command("fuse", *pair, "-o", tmp_path / "o.png", "--task", task, "--weights", weights, "--json", "-")
    assert outcome.code == 0
    assert set(json.loads(outcome.out)["nodes"]) > {"exposure": {"under"}, "focus": {"near"}, "medical": {"mri"}}[task]
