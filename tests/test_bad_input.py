"""What comes in is wrong: one clear line, the exit code, and nothing half-written under the final name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodes.fusion.thermal import Agc
from tests import media
from tests.conftest import Command, Fusing


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["nothing.mkv", "nothing.png", "nothing", "n" * 300 + ".mkv", "two\nlines.mkv"])
def test_a_missing_file_is_named(fuse: Fusing, tmp_path: Path, name: str) -> None:
    infrared, _ = media.write_recording(tmp_path, 2)
    outcome = fuse(infrared, tmp_path / name)
    assert outcome.code == 3
    assert name[:7].replace("\n", "\\n") in outcome.error
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 40, bytes(4000)], ids=["empty", "text", "zeros"])
def test_a_file_that_is_not_a_video_is_named(fuse: Fusing, tmp_path: Path, content: bytes) -> None:
    _, visible = media.write_recording(tmp_path, 2)
    strange = tmp_path / "strange.mp4"
    strange.write_bytes(content)
    outcome = fuse(strange, visible)
    assert outcome.code == 3
    assert "strange.mp4" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


def test_a_file_that_is_not_an_image_is_named(fuse: Fusing, tmp_path: Path) -> None:
    infrared, visible = media.write_pair(tmp_path)
    visible.write_bytes(visible.read_bytes()[:60])
    outcome = fuse(infrared, visible, to=tmp_path / "out.png")
    assert outcome.code == 3
    assert "visible.png" in outcome.error
    assert left_in(tmp_path) == {"infrared.png", "visible.png"}


def test_a_truncated_video_is_fused_as_far_as_it_goes_and_the_loss_is_reported(fuse: Fusing, tmp_path: Path) -> None:
    infrared, visible = media.write_recording(tmp_path, 12)
    whole = infrared.read_bytes()
    infrared.write_bytes(whole[: len(whole) // 2])
    outcome = fuse(infrared, visible)
    assert outcome.code == 3
    assert "infrared.mkv" in outcome.error
    assert "cut short" in outcome.error
    assert 2 <= len(media.decoded(tmp_path / "out.mkv")) <= 10


def test_a_video_with_no_frames_is_refused(fuse: Fusing, tmp_path: Path) -> None:
    _, visible = media.write_recording(tmp_path, 2)
    hollow = media.write_hollow_video(tmp_path / "hollow.avi")
    outcome = fuse(hollow, visible)
    assert outcome.code == 3
    assert "hollow.avi" in outcome.error
    assert "not one frame" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


def test_a_folder_without_images_is_refused(fuse: Fusing, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    outcome = fuse(tmp_path / "a", tmp_path / "b")
    assert outcome.code == 3
    assert "no image" in outcome.error


def test_frames_beyond_the_end_of_a_shorter_stream_are_counted_and_reported(fuse: Fusing, tmp_path: Path) -> None:
    _, visible = media.write_recording(tmp_path, 9)
    shorter = media.write_video(tmp_path / "shorter.mkv", (media.heat(n) for n in range(5)))
    outcome = fuse(shorter, visible)
    assert outcome.code == 6
    assert "4 of 9 visible frames have no partner" in outcome.error
    assert len(media.decoded(tmp_path / "out.mkv")) == 5


def test_infrared_of_another_size_is_resampled_to_the_visible_frame(fuse: Fusing, tmp_path: Path) -> None:
    _, visible = media.write_recording(tmp_path, 2)
    small = media.write_video(tmp_path / "small.mkv", (media.heat(n, (40, 30)) for n in range(2)))
    assert fuse(small, visible).code == 0
    assert [(frame.width, frame.height) for frame in media.decoded(tmp_path / "out.mkv")] == [media.SIZE] * 2


def test_infrared_of_another_shape_is_fused_with_a_warning(fuse: Fusing, tmp_path: Path) -> None:
    _, visible = media.write_pair(tmp_path)
    square = media.write_image(tmp_path / "square.png", media.heat(size=(40, 40)))
    outcome = fuse(square, visible, "--quiet", to=tmp_path / "out.png")
    assert outcome.code == 0
    assert "stretched" in outcome.err


@pytest.mark.slow
def test_pictures_of_641x479_are_fused(fuse: Fusing, tmp_path: Path) -> None:
    assert fuse(*media.write_pair(tmp_path, (641, 479)), to=tmp_path / "out.png").code == 0
    assert media.read_image(tmp_path / "out.png").shape == (479, 641, 3)


@pytest.mark.parametrize(("codec", "size"), [("ffv1", (65, 47)), ("h264", (66, 48))])
def test_videos_of_odd_size_are_fused(fuse: Fusing, tmp_path: Path, codec: str, size: tuple[int, int]) -> None:
    paths = [
        media.write_video(tmp_path / f"{name}.mkv", [draw(0, (65, 47)), draw(1, (65, 47))])
        for name, draw in (("infrared", media.heat), ("visible", media.scene))
    ]
    assert fuse(*paths, "--codec", codec).code == 0
    assert [(frame.width, frame.height) for frame in media.decoded(tmp_path / "out.mkv")] == [size] * 2


@pytest.mark.parametrize("size", [(1, 48), (64, 1), (1, 1)])
def test_pictures_one_pixel_wide_are_fused(fuse: Fusing, tmp_path: Path, size: tuple[int, int]) -> None:
    assert fuse(*media.write_pair(tmp_path, size), to=tmp_path / "out.png").code == 0
    assert media.read_image(tmp_path / "out.png").shape == (size[1], size[0], 3)


def test_infrared_of_16_bits_goes_through_a_gain_that_is_spoken_of(fuse: Fusing, tmp_path: Path) -> None:
    _, visible = media.write_pair(tmp_path)
    counts = media.heat().astype(np.uint16) * 10 + 20_000
    deep = media.write_image(tmp_path / "deep.png", counts)
    outcome = fuse(deep, visible, to=tmp_path / "out.png")
    assert outcome.code == 0
    assert "infrared has 16 bits" in outcome.err
    shallow = media.write_image(tmp_path / "shallow.png", Agc()(counts, 0))
    assert fuse(shallow, visible, to=tmp_path / "same.png").code == 0
    assert np.array_equal(media.read_image(tmp_path / "out.png"), media.read_image(tmp_path / "same.png"))


def test_an_alpha_channel_is_left_out_with_a_warning(fuse: Fusing, tmp_path: Path) -> None:
    infrared, visible = media.write_pair(tmp_path)
    assert fuse(infrared, visible, to=tmp_path / "out.png").code == 0
    clear = np.dstack([media.scene(), np.zeros(media.SIZE[::-1], np.uint8)])
    outcome = fuse(infrared, media.write_image(visible, clear), "--quiet", to=tmp_path / "same.png")
    assert outcome.code == 0
    assert "alpha" in outcome.err
    assert np.array_equal(media.read_image(tmp_path / "out.png"), media.read_image(tmp_path / "same.png"))


def test_folders_with_names_that_do_not_pair_are_refused_before_anything_is_written(
    fuse: Fusing, tmp_path: Path
) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2", "3"])
    (infrared / "2.png").rename(infrared / "4.png")
    outcome = fuse(infrared, visible, to=tmp_path / "out")
    assert outcome.code == 3
    assert f"1 only in {infrared} (the first is '4')" in outcome.error
    assert f"1 only in {visible} (the first is '2')" in outcome.error
    assert not (tmp_path / "out").exists()


def test_folders_of_a_config_with_names_that_do_not_pair_are_refused(
    command: Command, weights: Path, tmp_path: Path
) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2", "3"])
    (infrared / "2.png").unlink()
    paths: dict[str, Any] = {"thermal": {"path": str(infrared)}, "rgb": {"path": str(visible)}}
    outcome = command(media.write_config(tmp_path / "fuse.yaml", weights, **paths))
    assert outcome.code == 3
    assert "image 2 is '3' for infrared and '2' for visible" in outcome.error
    assert "fused.mkv" not in left_in(tmp_path)


def test_a_third_folder_with_other_names_is_refused_before_anything_is_written(fuse: Fusing, tmp_path: Path) -> None:
    first, second = media.write_folders(tmp_path, ["1", "2"])
    third, _ = media.write_folders(tmp_path / "more", ["1", "3"])
    outcome = fuse(first, second, third, "--task", "exposure", to=tmp_path / "out")
    assert outcome.code == 3
    assert f"1 only in {third} (the first is '3')" in outcome.error
    assert not (tmp_path / "out").exists()


def test_an_exposure_that_ends_before_the_others_is_reported(fuse: Fusing, tmp_path: Path) -> None:
    first, second = media.write_recording(tmp_path, 5)
    middle = media.write_video(tmp_path / "middle.mkv", (media.scene(n) for n in range(3)))
    outcome = fuse(first, middle, second, "--task", "exposure")
    assert outcome.code == 6
    assert "2 of 5 over frames have no partner" in outcome.error
    assert len(media.decoded(tmp_path / "out.mkv")) == 3


def test_a_folder_with_two_images_of_one_name_is_refused(fuse: Fusing, tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2"])
    for folder in (infrared, visible):
        media.write_image(folder / "1.jpg", media.scene())
    outcome = fuse(infrared, visible, to=tmp_path / "out")
    assert outcome.code == 3
    assert "1.jpg and 1.png" in outcome.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kinds", [("recording", "pair"), ("folders", "recording"), ("pair", "folders")])
def test_two_inputs_of_different_kinds_are_refused(fuse: Fusing, tmp_path: Path, kinds: tuple[str, str]) -> None:
    made = {
        "recording": media.write_recording(tmp_path, 1),
        "pair": media.write_pair(tmp_path),
        "folders": media.write_folders(tmp_path / "folders", ["1"]),
    }
    outcome = fuse(made[kinds[0]][0], made[kinds[1]][1])
    assert outcome.code == 2
    assert "all must be of one kind" in outcome.error
