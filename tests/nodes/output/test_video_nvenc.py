"""output.video with NVENC: when it is taken, and what becomes of a recording where it fails."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from nodes import nvidia
from nodes.output import recording
from nodes.output.encoding import Look
from nodes.output.recording import open_encoder, try_gpu
from nodes.output.video import VideoOutput
from pipeline.errors import ConfigError, DeviceError
from tests.nodes.capture.media import make_frame, read_whole, write
from tests.nodes.output.test_video_live import Recorder, live_frames, names

NO_DEVICE = "the GPU does not encode (no capable device)"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the encoders that files were opened with; NVENC works, in that libx264 does it."""
    names: list[str] = []
    add_stream = recording.VideoFile._add_stream

    def add(self: Any, rate: Any) -> Any:
        names.append(self.encoder)
        self.encoder, asked = "libx264", self.encoder
        try:
            return add_stream(self, rate)
        finally:
            self.encoder = asked

    monkeypatch.setattr(nvidia, "why_no_encoding", lambda _: None)
    monkeypatch.setattr(recording.VideoFile, "_add_stream", add)
    return names


def unopenable(monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    """From now on, files with this encoder cannot be opened."""
    add_stream = recording.VideoFile._add_stream

    def add(self: Any, rate: Any) -> Any:
        if self.encoder == encoder:
            raise av.error.ExternalError(1, "no capable device")
        return add_stream(self, rate)

    monkeypatch.setattr(recording.VideoFile, "_add_stream", add)


@pytest.mark.parametrize("codec", ["auto", "h264"])
def test_recorded_results_do_not_depend_on_the_gpu(tmp_path: Path, opened: list[str], codec: str) -> None:
    write(tmp_path / "a.mp4", [make_frame(number) for number in range(3)], codec=codec)
    assert opened == ["libx264"]


def test_live_nvenc_is_taken_where_it_works_and_said(
    tmp_path: Path, opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamfuse")
    for number, codec in enumerate(["auto", "h264", "h264_nvenc", "ffv1"]):
        node = Recorder(tmp_path / f"{number}.mkv", codec=codec)
        node.take(live_frames(5))
        node.close()
        assert len(read_whole(tmp_path / f"{number}.mkv")) == 5
    assert opened == ["h264_nvenc", "libx264", "h264_nvenc", "ffv1"]


@pytest.mark.parametrize("live", [True, False])
def test_nvenc_that_is_asked_for_and_does_not_open_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    monkeypatch.setattr(nvidia, "why_no_encoding", lambda _: NO_DEVICE)
    node = VideoOutput(tmp_path / "a.mp4", codec="h264_nvenc")
    node.name, node.running = "record", SimpleNamespace(mode="live" if live else "recorded")  # type: ignore[assignment]
    with pytest.raises(DeviceError) as caught:
        node.open({})
    assert str(caught.value) == f"Node 'record': h264_nvenc does not open: {NO_DEVICE}; set codec: auto"
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("why", "said"), [(nvidia.NO_DRIVER, []), (NO_DEVICE, [f"record: encodes with libx264: {NO_DEVICE}"])]
)
def test_live_the_cpu_encodes_where_nvenc_does_not_and_says_why_if_there_is_a_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str, said: list[str]
) -> None:
    caplog.set_level(logging.INFO, "streamfuse")
    monkeypatch.setattr(nvidia, "why_no_encoding", lambda _: why)
    node = Recorder(tmp_path / "a.mkv")
    assert node.encoder == "libx264"
    assert [record.getMessage() for record in caplog.records] == said


def test_a_file_that_cannot_hold_h264_cannot_hold_that_of_nvenc(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="h264 goes into"):
        VideoOutput(tmp_path / "a.avi", codec="h264_nvenc")


def test_live_a_file_that_nvenc_does_not_open_is_written_by_the_cpu_without_loss(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unopenable(monkeypatch, "h264_nvenc")
    node = Recorder(tmp_path / "night.mkv")
    node.take(live_frames(10))
    node.close()
    assert names(tmp_path) == ["night.mkv"]
    assert len(read_whole(tmp_path / "night.mkv")) == 10
    assert node.gauges()["not_recorded"] == 0
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("record: ")
    assert line.endswith("64x48 yuv420p cannot be encoded: no capable device; going on with libx264")


def test_live_nvenc_that_fails_within_a_file_ends_it_and_the_cpu_begins_the_next_with_the_same_frame(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Recorder(tmp_path / "night.mkv")
    node.take(live_frames(10))
    assert node._file is not None

    class Broken:
        def encode(self, picture: Any) -> Any:
            raise av.error.ExternalError(1, "the GPU has fallen off the bus")

    node._file._stream = Broken()
    node.take(live_frames(10, first=10))
    node.close()
    assert opened == ["h264_nvenc", "libx264"]
    assert node.gauges()["not_recorded"] == 0
    aside = tmp_path / "night.partial.mkv"
    [later] = [path for path in tmp_path.iterdir() if path != aside]
    assert len(read_whole(later)) == 10
    assert len(read_whole(aside)) >= 9  # but for what the encoder still held


def test_live_nvenc_that_was_asked_for_is_not_replaced_but_tried_again(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unopenable(monkeypatch, "h264_nvenc")
    node = Recorder(tmp_path / "night.mkv", codec="h264_nvenc")
    node.take(live_frames(10))
    assert (node.encoder, node.gauges()["not_recorded"]) == ("h264_nvenc", 10)
    node.close()


class Context:
    """What an encoder is told."""

    name = "h264_nvenc"
    opened = False

    def open(self) -> None:
        self.opened = True


@pytest.mark.parametrize(("crf", "cq"), [(0, "1"), (18, "18"), (51, "51")])
def test_crf_and_preset_become_those_of_nvenc(crf: int, cq: str) -> None:
    context: Any = Context()
    look = Look((641, 480), "yuv420p", "full", "bt709")
    open_encoder(context, look, crf, "veryfast", Fraction(30), recording.MP4_CLOCK)
    assert context.opened
    assert context.options == {"rc": "vbr", "cq": cq, "preset": "p3", "delay": "0"}
    assert (context.width, context.height, context.pix_fmt) == (642, 480, "yuv420p")
    assert (context.color_range, context.colorspace) == (2, 1)
    assert (context.max_b_frames, context.gop_size, context.bit_rate) == (0, 30, 0)


def test_every_preset_has_one_of_nvenc_from_fast_to_slow() -> None:
    assert list(recording.PRESETS.values()) == [f"p{number}" for number in range(1, 8)]
    assert next(iter(recording.PRESETS)) == "ultrafast"


def test_ffmpeg_knows_the_options_that_nvenc_is_given() -> None:
    known = {option.name for option in av.CodecContext.create("h264_nvenc", "w").supported_options.private}
    assert {"rc", "cq", "preset", "delay", "tune", "zerolatency", "forced-idr"} <= known


@pytest.mark.cuda
def test_a_real_nvenc_writes_files_that_play(tmp_path: Path) -> None:
    if why := nvidia.why_no_encoding(lambda: try_gpu(18, "veryfast")):
        pytest.skip(why)  # also of a GPU that has CUDA: those for data centres have none
    for suffix in (".mp4", ".mkv"):
        node = Recorder(tmp_path / f"a{suffix}", codec="h264_nvenc")
        node.take(live_frames(60, size=(640, 480), color_range="limited", color_matrix="bt709"))
        node.close()
        frames = read_whole(tmp_path / f"a{suffix}")
        assert len(frames) == 60
        assert {(frame.color_range, frame.color_matrix) for frame in frames} == {("limited", "bt709")}
