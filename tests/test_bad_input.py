"""Whatever is wrong: one clear line, the exit code, and nothing half-written under the final name."""

from __future__ import annotations

import errno
import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import media
from tests.conftest import Command, Outcome

Fusing = Callable[..., Outcome]


@pytest.fixture
def fuse(command: Command, weights: Path, tmp_path: Path) -> Fusing:
    """`fuse(a, b)` is `run.py fuse a b -o out.mkv` in this test's folder; other options as given."""

    def do(first: object, second: object, *options: object, to: object = tmp_path / "out.mkv") -> Outcome:
        return command("fuse", first, second, "-o", to, "--weights", weights, *options)

    return do


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As if the disk were full after so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# What comes in:


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
    # Counts differ by a gain and an offset only, so they come to the 8 bits that the counts were made of, stretched.
    stretched = ((media.heat().astype(float) - 50) * 255 / 180 + 0.5).astype(np.uint8)
    shallow = media.write_image(tmp_path / "shallow.png", stretched)
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
    assert "both must be of one kind" in outcome.error


# Where it shall go:


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_a_missing_output_folder_is_named(fuse: Fusing, tmp_path: Path, name: str) -> None:
    outcome = fuse(*media.write_recording(tmp_path, 1), to=tmp_path / "missing" / name)
    assert outcome.code == 5
    assert f"no folder '{tmp_path / 'missing'}'" in outcome.error
    assert not (tmp_path / "missing").exists()


def test_an_output_folder_that_may_not_be_written_to_is_named(
    fuse: Fusing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    outcome = fuse(*media.write_recording(tmp_path, 1))
    assert outcome.code == 5
    assert "out.mkv: no permission" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("name", ["streamfuse.mkv", "streamfuse"])
def test_an_output_that_cannot_be_created_is_named(fuse: Fusing, tmp_path: Path, name: str) -> None:
    outcome = fuse(*media.write_folders(tmp_path, ["1", "2"]), to=f"/proc/{name}")
    assert outcome.code == 5
    assert f"/proc/{name}" in outcome.error


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_a_disk_that_is_full_leaves_no_video_under_the_final_name(fuse: Fusing, tmp_path: Path, name: str) -> None:
    noise = media.write_video(tmp_path / "noise.mkv", (media.noise(n) for n in range(6)))
    with no_file_larger_than(6000):
        outcome = fuse(noise, noise, to=tmp_path / name)
    assert outcome.code == 5
    assert name in outcome.error
    assert "File too large" in outcome.error
    assert name not in left_in(tmp_path)


def test_a_disk_that_is_full_does_not_cost_the_file_that_was_there(fuse: Fusing, tmp_path: Path) -> None:
    noise = media.write_image(tmp_path / "noise.png", media.noise())
    (tmp_path / "out.png").write_bytes(b"the fused picture of yesterday")
    with no_file_larger_than(6000):
        outcome = fuse(noise, noise, to=tmp_path / "out.png")
    assert outcome.code == 5
    assert (tmp_path / "out.png").read_bytes() == b"the fused picture of yesterday"
    assert left_in(tmp_path) == {"noise.png", "out.png"}


def test_a_device_that_is_full_is_named(fuse: Fusing, tmp_path: Path) -> None:
    (tmp_path / "out.mkv").symlink_to("/dev/full")
    outcome = fuse(*media.write_recording(tmp_path, 3))
    assert outcome.code == 5
    assert "out.mkv" in outcome.error
    assert "No space left" in outcome.error


def test_a_disk_that_is_full_leaves_only_whole_images(fuse: Fusing, tmp_path: Path) -> None:
    for folder in ("infrared", "visible"):
        media.write_image(tmp_path / folder / "1.png", media.scene())
        media.write_image(tmp_path / folder / "2.png", media.noise())
    with no_file_larger_than(6000):
        outcome = fuse(tmp_path / "infrared", tmp_path / "visible", to=tmp_path / "out")
    assert outcome.code == 5
    assert "2.png" in outcome.error
    assert left_in(tmp_path / "out") == {"1.png"}


class Full(io.StringIO):
    """A stream to a disk that is full."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_error_is_told_by_the_exit_code_where_even_the_log_has_no_room(
    fuse: Fusing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", Full())
    assert fuse(tmp_path / "nothing", tmp_path / "nothing", "--quiet").code == 3


def test_data_that_standard_output_has_no_room_for_are_not_taken_for_written(
    command: Command, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media.write_recording(tmp_path, 1)
    config = media.write_config(tmp_path / "fuse.yaml", weights)
    monkeypatch.setattr("sys.stdout", Full())
    outcome = command("check", config)
    assert outcome.code == 5
    assert "standard output" in outcome.error


def test_an_unknown_codec_is_refused_with_the_legal_ones(command: Command, fuse: Fusing, tmp_path: Path) -> None:
    recording = media.write_recording(tmp_path, 1)
    outcome = fuse(*recording, "--codec", "vp9")
    assert outcome.code == 2
    assert "'vp9'" in outcome.error
    assert "h264" in outcome.error
    config = media.write_config(tmp_path / "fuse.yaml", tmp_path, save={"codec": "vp9"})
    outcome = command(config)
    assert outcome.code == 2
    assert "Node 'save' (output.video): setting 'codec' is 'vp9'" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(("name", "codec"), [("out.avi", "auto"), ("out.mp4", "ffv1"), ("out.png", "auto")])
def test_an_output_that_the_codec_does_not_go_into_is_refused(
    fuse: Fusing, tmp_path: Path, name: str, codec: str
) -> None:
    outcome = fuse(*media.write_recording(tmp_path, 1), "--codec", codec, to=tmp_path / name)
    assert outcome.code == 2
    assert name in outcome.error
    assert name not in left_in(tmp_path)


def test_an_input_is_never_written_over(fuse: Fusing, tmp_path: Path) -> None:
    infrared, visible = media.write_recording(tmp_path, 1)
    before = visible.read_bytes()
    (tmp_path / "link.mkv").symlink_to(visible)
    for target in (visible, tmp_path / "link.mkv"):
        outcome = fuse(infrared, visible, to=target)
        assert outcome.code == 2
        assert "would write over" in outcome.error
    outcome = fuse(infrared, visible, "--json", visible)
    assert outcome.code == 5
    assert "visible.mkv" in outcome.error
    assert visible.read_bytes() == before


# The network:


def test_an_unknown_model_or_task_is_refused_with_the_legal_ones(fuse: Fusing, tmp_path: Path) -> None:
    recording = media.write_recording(tmp_path, 1)
    outcome = fuse(*recording, "--model", "cadniff")
    assert outcome.code == 2
    assert "'cadniff'" in outcome.error
    assert "Did you mean 'cadnif'?" in outcome.error
    outcome = fuse(*recording, "--task", "ultraviolet")
    assert outcome.code == 2
    assert "'ultraviolet'" in outcome.error
    assert "exposure" in outcome.error
    assert not (tmp_path / "out.mkv").exists()


def test_a_task_without_weights_is_refused(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.catalog.WEIGHTS", tmp_path)
    outcome = command("fuse", *media.write_recording(tmp_path, 1), "-o", tmp_path / "out.mkv", "--task", "exposure")
    assert outcome.code == 2
    assert "no weights of 'cadnif' for task 'exposure'" in outcome.error


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
