"""Where it shall go is wrong: one clear line, the exit code, and nothing half-written under the final name."""

from __future__ import annotations

import errno
import io
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import media
from tests.conftest import Command, Fusing


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
