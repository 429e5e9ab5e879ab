"""output.video in live mode: recordings in pieces, and a disk that fails, which stops them and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from nodes.output.recording import Disk
from nodes.output.video import VideoOutput
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame
from pipeline.pipeline import Pipeline
from tests.nodes.capture.media import SHARED, files_no_larger_than, make_frame, open_files, read, read_whole, times_ms
from tests.pipeline.fakes import run

BOOT_NS = 432_000_000_000_000  # the host has been up for five days
THERMAL = sorted((SHARED / "thermal16").glob("*.mkv"))
DATED = r"night-\d{8}-\d{6}(-\d+)?\.mkv"


class Recorder(VideoOutput):
    """A node in a live pipeline, with a clock and a disk of the test's."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(path, **{"preset": "ultrafast", **settings})
        self.name, self.clock_s, self.free = "record", 0.0, 1e6
        self.running = SimpleNamespace(mode="live")  # type: ignore[assignment]
        self.open({})

    def now(self) -> float:
        return self.clock_s

    def free_mb(self) -> float:
        return self.free

    def take(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.process(frame)
            self.clock_s += 0.04


def live_frames(count: int, first: int = 0, **how: Any) -> list[Frame]:
    """25 a second, with times of the host's clock."""
    stamps = {number: BOOT_NS + number * 40_000_000 for number in range(first, first + count)}
    return [make_frame(number, timestamp_ns=stamp, **how) for number, stamp in stamps.items()]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))


def names(folder: Path) -> list[str]:
    return [path.name for path in files(folder)]


def first_is_key(path: Path) -> bool:
    with av.open(str(path)) as container:
        return next(packet for packet in container.demux(video=0) if packet.size).is_keyframe


# Files


@pytest.mark.parametrize("name", ["night.mkv", "night.mp4"])
def test_times_begin_at_zero(tmp_path: Path, name: str) -> None:
    node = Recorder(tmp_path / name)
    node.take(live_frames(3))
    node.close()
    assert times_ms(read_whole(tmp_path / name)) == [0, 40, 80]
    assert node.report() == {"path": str(tmp_path / name), "notes": {}}


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_a_new_file_begins_every_so_many_seconds_and_each_plays_by_itself(tmp_path: Path, codec: str) -> None:
    node = Recorder(tmp_path / "night.mkv", segment_s=1, codec=codec)
    node.take(live_frames(60))
    node.close()
    assert all(re.fullmatch(DATED, name) for name in names(tmp_path))
    copies = [read_whole(path) for path in files(tmp_path)]
    assert [len(copy) for copy in copies] == [25, 25, 10]
    assert all(times_ms(copy)[:2] == [0, 40] for copy in copies)
    assert all(map(first_is_key, files(tmp_path)))
    assert node.report()["notes"] == {"files": 3}
    assert node.report()["path"] == str(tmp_path / "night*.mkv")


def test_a_new_file_begins_after_so_many_megabytes(tmp_path: Path) -> None:
    node = Recorder(tmp_path / "night.mkv", segment_mb=0.2, codec="ffv1")
    node.take(live_frames(20, size=(160, 120)))  # noise: 29 kB each
    node.close()
    sizes = [path.stat().st_size for path in files(tmp_path)]
    assert len(sizes) == 3
    assert all(0.2e6 <= size < 0.26e6 for size in sizes[:-1])
    assert sum(len(read_whole(path)) for path in files(tmp_path)) == 20
    assert node.gauges()["megabytes"] == pytest.approx(sum(sizes) / 1e6, abs=0.01)


def test_no_file_is_ever_replaced(tmp_path: Path) -> None:
    (tmp_path / "night.mkv").write_bytes(b"older")
    for turn in range(3):  # within one second
        node = Recorder(tmp_path / "night.mkv")
        node.take(live_frames(turn + 1))
        node.close()
    assert (tmp_path / "night.mkv").read_bytes() == b"older"
    assert [len(read_whole(path)) for path in files(tmp_path)[1:]] == [1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [{"size": (96, 80)}, {"pixel_format": "gray16"}, {"pixel_format": "bgr24"}],
    ids=["size", "depth", "colour"],
)
def test_a_change_of_size_or_format_begins_a_new_file(tmp_path: Path, change: dict[str, Any]) -> None:
    node = Recorder(tmp_path / "night.mkv", codec="ffv1")
    frames = live_frames(3) + live_frames(2, 3, **change) + live_frames(2, 5)
    node.take(frames)
    node.close()
    copies = [read_whole(path) for path in files(tmp_path)]
    assert [len(copy) for copy in copies] == [3, 2, 2]
    stored = [frame for copy in copies for frame in copy]
    assert all(np.array_equal(copy.data, frame.data) for copy, frame in zip(stored, frames, strict=True))


def test_gray_and_colour_share_a_file_of_h264_in_its_range(tmp_path: Path) -> None:
    node = Recorder(tmp_path / "night.mkv", crf=0)
    gray = np.full((48, 64), 255, np.uint8)
    node.take(live_frames(2, color_range="limited") + live_frames(2, 2, pixel_format="gray8", data=gray))
    node.close()
    copies = read_whole(tmp_path / "night.mkv")
    assert len(copies) == 4
    assert [int(plane[0, 0]) for plane in copies[3].planes] == [235, 128, 128]


def test_a_codec_that_cannot_hold_the_first_frame_is_an_error_and_a_later_one_is_left_out(tmp_path: Path) -> None:
    node = Recorder(tmp_path / "night.mkv")
    (deep,) = live_frames(1, pixel_format="gray16")
    with pytest.raises(OutputError, match="write codec: ffv1"):
        node.process(deep)
    node.take([*live_frames(2), deep, *live_frames(2, 3)])
    node.close()
    assert len(read_whole(tmp_path / "night.mkv")) == 4
    assert node.report()["notes"] == {"not recorded: format": 1}


def test_a_wrong_path_is_an_error_from_the_start(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        Recorder(tmp_path / "nowhere" / "night.mkv")


# Disks


def test_a_full_disk_stops_the_recording_and_not_the_run_and_it_goes_on_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Recorder(tmp_path / "night.mkv")
    before = open_files()
    with files_no_larger_than(60_000):
        node.take(live_frames(200))
    missed = node.gauges()["not_recorded"]
    assert missed > 100
    assert node.gauges()["recording"] == 0
    assert caplog.text.count("not recording") == 1
    assert "File too large" in caplog.text
    node.take(live_frames(300, 200))  # the next try is within these 12 s
    node.close()
    assert "recording again" in caplog.text
    kept = [read(path)[0] for path in files(tmp_path)]
    assert "night.partial.mkv" in names(tmp_path)
    assert all(len(copy) > 3 for copy in kept)
    missed = int(node.gauges()["not_recorded"])
    assert node.report()["notes"]["not recorded: disk_full"] == missed
    assert len(kept[-1]) > 200
    assert open_files() == before


def test_it_stops_before_the_disk_is_full_with_a_whole_file_and_goes_on_when_there_is_more_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Recorder(tmp_path / "night.mkv", min_free_mb=500)
    node.take(live_frames(10))
    node.free = 499
    node.take(live_frames(300, 10))  # looked at once a second
    assert node.gauges()["recording"] == 0
    node.free = 520  # on the brink
    node.take(live_frames(300, 310))
    assert len(names(tmp_path)) == 1
    node.free = 5000
    node.take(live_frames(300, 610))
    node.close()
    copies = [read_whole(path) for path in files(tmp_path)]
    assert [10 <= len(copies[0]) <= 36, len(copies)] == [True, 2]
    recorded = sum(len(copy) for copy in copies)
    assert node.gauges()["not_recorded"] == 910 - recorded
    assert caplog.text.count("not recording") == 1
    assert "has 499 MB free, of 500 wanted" in caplog.text


def test_a_folder_that_vanishes_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    node = Recorder(folder / "night.mkv")
    folder.rmdir()
    node.take(live_frames(5))
    assert "No such file or directory" in caplog.text
    folder.mkdir()
    node.take(live_frames(300, 5))
    node.close()
    assert len(read_whole(folder / "night.mkv")) > 40
    assert node.report()["notes"].keys() == {"not recorded: write_failed"}


def test_a_disk_that_fails_at_the_end_is_told_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Recorder(tmp_path / "night.mkv")
    node.take(live_frames(5))
    with files_no_larger_than((tmp_path / "night.mkv").stat().st_size + 10):
        node.close()
    assert "cannot be finished: File too large" in caplog.text
    assert names(tmp_path) == ["night.partial.mkv"]


def test_a_live_run_ends_well_with_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.pipeline.fakes import Source

    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Disk, "write", full)
    node = VideoOutput(tmp_path / "night.mkv")
    summary = run(Pipeline({"camera": Source(range(20), live=True), "record": node}, {"record": {"frame": "camera"}}))
    assert summary.broken == []
    record = summary.nodes["record"]
    assert record["emitted"] + sum(record["dropped"].values()) == 20
    assert record["notes"]["not recorded: disk_full"] == record["emitted"]


# The switch


def test_recording_is_switched_off_and_on_while_it_runs(tmp_path: Path) -> None:
    node = Recorder(tmp_path / "night.mkv", record=False)
    control = node.controls()["record"]
    assert (control.kind, control.value) == ("switch", False)
    node.take(live_frames(5))
    assert names(tmp_path) == []
    for turn in range(2):
        node.change("record", True)
        node.take(live_frames(10, 10 + 20 * turn))
        assert node.gauges()["recording"] == 1
        node.change("record", False)
        node.take(live_frames(3, 20 + 20 * turn))
        assert node.gauges()["recording"] == 0
    assert [len(read_whole(path)) for path in files(tmp_path)] == [10, 10]
    node.close()
    assert node.gauges()["seconds"] == pytest.approx(0.72)
    assert node.gauges()["not_recorded"] == 0  # nobody wanted them
    assert node.report()["notes"] == {"not recorded: off": 11, "files": 2}


def test_switching_on_does_not_wait_for_the_next_try(tmp_path: Path) -> None:
    node = Recorder(tmp_path / "night.mkv")
    node.free = 0
    node.take(live_frames(3))
    node.free = 1e6
    node.change("record", True)
    node.take(live_frames(2, 3))
    node.close()
    assert len(read_whole(tmp_path / "night.mkv")) == 2


@pytest.mark.parametrize("setting", [{"segment_s": 60}, {"segment_mb": 100}, {"record": False}])
def test_what_is_for_live_pipelines_is_refused_in_others(tmp_path: Path, setting: dict[str, Any]) -> None:
    node = VideoOutput(tmp_path / "night.mkv", **setting)
    node.running = SimpleNamespace(mode="recorded")  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=f"setting '{next(iter(setting))}' is for live pipelines"):
        node.open({})
    assert node.controls() == {}


# 16 bits


def live_copy(frames: list[Frame], path: Path) -> list[Frame]:
    """Frames after they were recorded live without loss, and read again."""
    node = Recorder(path, codec="ffv1")
    node.take(replace(frame, timestamp_ns=BOOT_NS + frame.timestamp_ns) for frame in frames)
    node.close()
    return read_whole(path)


def test_counts_of_16_bits_are_recorded_bit_exact(tmp_path: Path) -> None:
    frames = [make_frame(number, "gray16", (160, 120)) for number in range(20)]
    copies = live_copy(frames, tmp_path / "night.mkv")
    assert [copy.pixel_format for copy in copies] == ["gray16"] * 20
    assert all(np.array_equal(copy.data, frame.data) for copy, frame in zip(copies, frames, strict=True))
    assert times_ms(copies) == times_ms(frames)


@pytest.mark.skipif(not THERMAL, reason="no thermal recordings in ../shared/data")
@pytest.mark.parametrize("path", THERMAL, ids=lambda path: path.stem)
def test_thermal_recordings_come_back_bit_exact(tmp_path: Path, path: Path) -> None:
    frames = read_whole(path)[:20]
    assert {frame.pixel_format for frame in frames} == {"gray16"}
    copies = live_copy(frames, tmp_path / "night.mkv")
    assert all(np.array_equal(copy.data, frame.data) for copy, frame in zip(copies, frames, strict=True))
