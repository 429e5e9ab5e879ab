"""output.video: what is left on the disk, and under which name, when something goes wrong."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from nodes.output.video import VideoOutput
from pipeline.errors import OutputError
from tests.nodes.capture.media import (
    files_no_larger_than,
    make_frame,
    no_more_open_files,
    open_files,
    read,
    read_whole,
    write,
)

KINDS = [("a.mp4", "h264"), ("a.mov", "h264"), ("a.mkv", "h264"), ("a.mkv", "ffv1")]
ROOT = Path(__file__).resolve().parents[3]


def opened(path: Path, frames: int, codec: str = "auto") -> VideoOutput:
    """A node that has written so many frames of noise."""
    node = VideoOutput(path, codec=codec)  # type: ignore[arg-type]
    node.name = "record"
    node.open({})
    for number in range(frames):
        node.process(make_frame(number))
    return node


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_written_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"older")
    for finish in ("close", "abort"):
        node = opened(tmp_path / "a.mp4", 0)
        getattr(node, finish)()
        assert names(tmp_path) == ["a.mp4"]
        assert (tmp_path / "a.mp4").read_bytes() == b"older"
        assert node.report() == {}


def test_an_older_file_is_replaced_with_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(1_000_000))
    node = opened(tmp_path / "a.mp4", 1)
    assert (tmp_path / "a.mp4").stat().st_size < 1_000_000
    node.close()
    assert len(read_whole(tmp_path / "a.mp4")) == 1
    assert node.report() == {"path": str(tmp_path / "a.mp4")}


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_what_was_written_until_a_failure_plays_under_another_name(
    tmp_path: Path, name: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, aside = tmp_path / name, tmp_path / f"a.partial{Path(name).suffix}"
    aside.write_bytes(b"of an earlier failure")
    node = opened(path, 30, codec)
    node.abort()
    assert names(tmp_path) == [aside.name]
    frames = read_whole(aside)
    assert [frame.sequence for frame in frames] == list(range(30))
    if codec == "ffv1":
        assert all(np.array_equal(f.data, make_frame(f.sequence).data) for f in frames)
    assert node.report() == {"path": str(aside)}
    assert f"what was written until the failure is in {aside}" in caplog.text


def test_a_partial_file_that_cannot_be_renamed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.partial.mp4").mkdir()
    opened(tmp_path / "a.mp4", 3).abort()
    assert "is not whole, and cannot be renamed" in caplog.text


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_a_full_disk_is_one_line_and_leaves_what_plays(tmp_path: Path, name: str, codec: str) -> None:
    frames = (make_frame(number, size=(160, 120)) for number in range(500))
    with files_no_larger_than(400_000), pytest.raises(OutputError, match="File too large") as caught:
        write(tmp_path / name, frames, codec=codec)
    assert "\n" not in str(caught.value)
    aside = tmp_path / f"a.partial{Path(name).suffix}"
    assert names(tmp_path) == [aside.name]
    assert len(read(aside)[0]) >= 3


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_a_disk_that_is_full_at_the_end_leaves_nothing_under_the_final_name(
    tmp_path: Path, name: str, codec: str
) -> None:
    files = open_files()
    node = opened(tmp_path / name, 12, codec)
    with files_no_larger_than((tmp_path / name).stat().st_size + 10):
        with pytest.raises(OutputError, match="cannot be finished: File too large"):
            node.close()
        node.abort()
    assert name not in names(tmp_path)
    assert open_files() == files


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_a_disk_that_is_full_from_the_start_is_one_line(tmp_path: Path, name: str, codec: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        write(tmp_path / name, (make_frame(number) for number in range(300)), codec=codec)
    assert Path("/dev/full").exists()
    assert names(tmp_path) == [name]


def test_a_disk_without_room_for_the_head_leaves_no_file(tmp_path: Path) -> None:
    with files_no_larger_than(0), pytest.raises(OutputError, match="File too large"):
        write(tmp_path / "a.mkv", [make_frame()])
    assert names(tmp_path) == []


def test_a_frame_that_the_codec_cannot_hold_leaves_the_older_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"older")
    with pytest.raises(OutputError, match=r"h264 cannot hold gray16; write codec: ffv1 and a \.mkv path"):
        write(tmp_path / "a.mp4", [make_frame(0, "gray16")])
    with pytest.raises(OutputError, match="20000x2 gray8 cannot be encoded"):
        write(tmp_path / "a.mp4", [make_frame(0, "gray8", (20_000, 2))])
    assert (tmp_path / "a.mp4").read_bytes() == b"older"
    assert names(tmp_path) == ["a.mp4"]


def test_an_older_file_that_cannot_be_opened_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"older")
    with no_more_open_files(), pytest.raises(OutputError, match="cannot be written to: Too many open files"):
        write(tmp_path / "a.mp4", [make_frame()])
    assert (tmp_path / "a.mp4").read_bytes() == b"older"
    assert names(tmp_path) == ["a.mp4"]


def test_a_change_of_size_leaves_what_came_before_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="now came 32x48 yuv420p"):
        write(tmp_path / "a.mp4", [make_frame(0), make_frame(1), make_frame(2, size=(32, 48))])
    assert len(read_whole(tmp_path / "a.partial.mp4")) == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere/a.mp4", "there is no folder"), ("folder.mp4", "is a folder"), ("x" * 300 + ".mp4", "too long")],
)
def test_where_nothing_can_be_written_is_told_before_anything_flows(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match=message):
        VideoOutput(tmp_path / path).open({})


def test_a_folder_that_vanishes_before_the_first_frame_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    node = opened(folder / "a.mp4", 0)
    folder.rmdir()
    with pytest.raises(OutputError, match="cannot be written to: No such file or directory"):
        node.process(make_frame())
    node.abort()


def test_closing_and_aborting_are_safe_at_any_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = open_files()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for first in ("close", "abort"):
            for then in ("close", "abort"):
                for frames in (None, 0, 3):
                    path = tmp_path / "a.mp4"
                    node = VideoOutput(path) if frames is None else opened(path, frames)
                    getattr(node, first)()
                    getattr(node, then)()
                    assert path.exists() == (frames == 3 and first == "close")
                    path.unlink(missing_ok=True)
        node = VideoOutput(tmp_path / "nowhere" / "a.mp4")
        with pytest.raises(OutputError):
            node.open({})
        node.close()
        node.abort()
        gc.collect()
    assert open_files() == files


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_after_a_kill_all_but_the_last_seconds_are_there(tmp_path: Path, name: str, codec: str) -> None:
    script = (
        "import sys, time\n"
        "from tests.nodes.output.test_video_failures import Path, opened\n"
        "node = opened(Path(sys.argv[1]), 100, sys.argv[2])\n"
        "print('written', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / name), codec], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    frames = read_whole(tmp_path / name)  # and not an error: it is no loss that a recording ends where it ends
    assert 50 <= len(frames) <= 100
    assert [frame.timestamp_ns for frame in frames] == [number * 40_000_000 for number in range(len(frames))]
