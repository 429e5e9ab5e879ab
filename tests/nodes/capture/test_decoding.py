"""Decoding on a GPU: the same frames as from the CPU, or the CPU, which says why."""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from nodes import nvidia
from nodes.capture import decoding
from nodes.capture.decoding import Decoding, is_worth_it
from nodes.capture.recording import Recording
from nodes.capture.stream import StreamCapture
from nodes.capture.video import VideoCapture
from nodes.pictures import plane_of
from pipeline.errors import DeviceError, SourceError
from pipeline.frame import Frame
from tests.conftest import Command
from tests.nodes.capture.gpu import Gpus, on_gpu, plug_in, unplug
from tests.nodes.capture.media import make_picture, make_video, read, read_whole
from tests.nodes.capture.rtsp import SIZE, RtspCamera
from tests.nodes.capture.test_stream import in_order, take, wait_until, watching

Said = Callable[[], Any]
UNKNOWN = av.error.UnknownError(0, "CUDA is gone")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Of a machine with a GPU that is not there; "auto" tries it on small and short videos, too."""
    monkeypatch.setattr(decoding, "LEAST_PIXELS", 1)
    monkeypatch.setattr(decoding, "LEAST_WORK", 1)
    return plug_in(monkeypatch)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """`said()` is what was logged, as level and message."""
    caplog.set_level(logging.INFO, "streamfuse")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


def make(path: Path, count: int = 30, pix_fmt: str = "yuv420p", size: tuple[int, int] = (66, 50), **how: Any) -> Path:
    make_video(path, count, pix_fmt, size, **how)
    return path


def live_recording(path: Path) -> Recording:
    """As `capture.video` reads it with pace: realtime, once it has a first frame."""
    how = Decoding("auto")
    how.open("camera", goes_on=True)
    return Recording(path, Fraction(25), how)


def assert_same(frames: list[Frame], expected: list[Frame]) -> None:
    assert len(frames) == len(expected)
    for one, other in zip(frames, expected, strict=True):
        assert np.array_equal(one.data, other.data)
        for name in ("pixel_format", "size", "timestamp_ns", "sequence", "color_range", "color_matrix", "frame_rate"):
            assert getattr(one, name) == getattr(other, name), name


# Where the GPU decodes


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_frames_of_the_gpu_are_those_of_the_cpu(
    tmp_path: Path, gpus: Gpus, pix_fmt: str, b_frames: int, suffix: str
) -> None:
    path = make(tmp_path / f"a.{suffix}", pix_fmt=pix_fmt, b_frames=b_frames)
    frames = read_whole(path)
    assert gpus.pictures == 30
    assert_same(frames, read_whole(path, hwaccel="none"))
    assert gpus.pictures == 30


@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("colorspace", [1, 2, 6])
def test_range_and_matrix_are_kept_where_told_and_where_not(
    tmp_path: Path, gpus: Gpus, color_range: int, colorspace: int
) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.color_range, stream.codec_context.colorspace = color_range, colorspace
        for number in range(5):
            picture = make_picture(number, "yuv420p", (64, 48))
            picture.pts, picture.color_range, picture.colorspace = number, color_range, colorspace
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frames = read_whole(tmp_path / "a.mkv", hwaccel="cuda")
    assert gpus.pictures == 5
    assert_same(frames, read_whole(tmp_path / "a.mkv", hwaccel="none"))
    assert frames[0].color_range == ("full" if color_range == 2 else "limited")


def test_that_the_gpu_decodes_is_said_once(tmp_path: Path, gpus: Gpus, said: Said) -> None:
    read_whole(make(tmp_path / "a.mp4"))
    assert said() == [("INFO", "camera: decoding on the GPU")]
    assert len(gpus.made) == 1


def test_how_a_file_wants_to_be_turned_is_told_of_each_frame_though_the_gpu_does_not_know(
    tmp_path: Path, gpus: Gpus
) -> None:
    path = make(tmp_path / "phone.mp4", 4)
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    head, mark, tail = path.read_bytes().partition(b"tkhd")
    path.write_bytes(head + mark + tail.replace(upright, turned, 1))
    _, node, error = read(path)
    assert (error, gpus.pictures) == (None, 4)
    assert node.report()["notes"] == {"rotations_left_out": 4}


def test_each_round_of_a_loop_comes_from_a_decoder_of_its_own(tmp_path: Path, gpus: Gpus, said: Said) -> None:
    recording = live_recording(make(tmp_path / "a.mp4", 3))
    first, second = list(recording.open()), list(recording.open())
    recording.close()
    assert_same(second, first)
    assert [gpu.pictures for gpu in gpus.made] == [3, 3]
    assert said() == [("INFO", "camera: decoding on the GPU")]


def test_ten_bits_of_any_width_are_eight_of_the_cpu(gpus: Gpus) -> None:
    """FFmpeg's conversion of P010 by several threads is not: this fails once in seven widths with them."""
    for width in range(16, 80, 2):
        picture = av.VideoFrame(width, 50, "yuv420p10le")
        for index, plane in enumerate(picture.planes):
            rows = plane_of(plane, picture, index)
            rows[:] = np.random.default_rng(width).integers(0, 1024, rows.shape)
        assert decoding.is_same(decoding.as_by_cpu(on_gpu(picture)), picture), width


# Where it does not


def test_without_a_driver_nothing_is_tried_and_nothing_is_said(
    tmp_path: Path, gpus: Gpus, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    unplug(monkeypatch)
    assert len(read_whole(make(tmp_path / "a.mp4"))) == 30
    assert len(read_whole(make(tmp_path / "b.mkv", codec="ffv1"))) == 30
    assert (said(), gpus.made) == ([], [])


def test_none_does_not_ask_for_a_gpu(tmp_path: Path, gpus: Gpus, said: Said) -> None:
    read_whole(make(tmp_path / "a.mp4"), hwaccel="none")
    assert (said(), gpus.made) == ([], [])


@pytest.mark.parametrize(
    ("size", "frames", "worth"),
    [((1920, 1080), 5000, True), ((1920, 1080), 20, False), ((640, 512), 5000, False), ((3840, 2160), 30, True)],
)
def test_small_pictures_and_short_recordings_are_not_worth_a_gpu(
    size: tuple[int, int], frames: int, worth: bool
) -> None:
    class Stream:
        class codec_context:
            width, height = size

        duration, average_rate, time_base = None, 25, None

    stream = Stream()
    for stream.frames in (frames, 0):
        if not stream.frames:
            stream.duration, stream.time_base = frames * 40, 0.001
        assert is_worth_it(stream) == worth


def test_a_stream_that_turns_out_small_goes_to_the_cpu_without_a_word(
    tmp_path: Path, gpus: Gpus, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setattr(decoding, "is_worth_it", lambda _: True)
    monkeypatch.setattr(decoding, "LEAST_PIXELS", 10_000)
    path = make(tmp_path / "a.mp4")
    frames = read_whole(path)
    assert (gpus.pictures, said()) == (1, [])
    assert_same(frames, read_whole(path, hwaccel="none"))


def test_a_codec_that_is_not_for_the_gpu_is_said(tmp_path: Path, gpus: Gpus, said: Said) -> None:
    read_whole(make(tmp_path / "a.mkv", codec="ffv1"))
    assert said() == [
        ("INFO", "camera: decoding on the CPU: ffv1 is not for the GPU, which is for H.264, H.265, VP8, VP9")
    ]
    assert gpus.made == []


def broken(_: int, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
    """Of every picture, one bit."""
    for picture in pictures:
        np.frombuffer(picture.planes[1], np.uint8)[3] ^= 1
    return pictures


def by_cpu(_: int, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
    """As FFmpeg gives them where the GPU does not take the stream."""
    return [decoding.as_by_cpu(picture).reformat(format="yuv444p") for picture in pictures]


def nothing(_: int, __: list[av.VideoFrame]) -> list[av.VideoFrame]:
    return []


def late(number: int, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
    for picture in pictures:
        picture.pts += 1
    return pictures


def gone(number: int, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
    raise UNKNOWN


FAULTS = [
    (broken, "of h264 High 66x50 yuv420p, the GPU makes other pictures"),
    (late, "of h264 High 66x50 yuv420p, the GPU makes other pictures"),
    (by_cpu, "the GPU does not take h264 High 66x50 yuv420p"),
    (nothing, "the GPU gives no picture"),
    (gone, "the GPU fails while it decodes"),
]


@pytest.mark.parametrize(("fault", "why"), FAULTS)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_what_the_gpu_cannot_do_the_cpu_does_from_the_first_frame_on_and_says_so_once(
    tmp_path: Path, gpus: Gpus, said: Said, fault: Any, why: str, b_frames: int
) -> None:
    path = make(tmp_path / "a.mp4", b_frames=b_frames, options={"preset": "medium"})
    gpus.fault = fault
    frames = read_whole(path)
    assert_same(frames, read_whole(path, hwaccel="none"))
    [(level, line)] = said()
    assert (level, line.startswith(f"camera: decoding on the CPU: {why}")) == ("INFO", True), line


def test_a_gpu_that_never_gives_a_picture_is_not_waited_for_for_ever(
    tmp_path: Path, gpus: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MOST_HELD", 5)
    gpus.fault = nothing
    assert len(read_whole(make(tmp_path / "a.mp4"))) == 30
    assert gpus.made[0].packets == 5


def test_a_gpu_without_memory_left_for_a_decoder_is_a_reason(
    tmp_path: Path, gpus: Gpus, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    def full(_: str) -> Any:
        raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr(nvidia, "decoder", full)
    assert len(read_whole(make(tmp_path / "a.mp4"))) == 30
    assert said() == [("INFO", "camera: decoding on the CPU: the GPU has no decoder for h264 (Cannot allocate memory)")]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_gray_as_h264_comes_as_the_cpu_gives_it(tmp_path: Path, gpus: Gpus, name: str) -> None:
    path = make(tmp_path / name, pix_fmt="gray")

    def no_chroma(_: int, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
        for picture in pictures:
            np.frombuffer(picture.planes[1], np.uint8)[:] = 0
        return pictures

    gpus.fault = no_chroma
    frames = read_whole(path)
    assert_same(frames, read_whole(path, hwaccel="none"))
    assert all((plane == 128).all() for plane in frames[0].planes[1:])


# Faults on the way


def fails_after(packets: int) -> Any:
    def fault(number: int, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
        return pictures if number <= packets else gone(number, pictures)

    return fault


def test_a_gpu_that_fails_within_a_recording_ends_the_run_in_one_line(tmp_path: Path, gpus: Gpus) -> None:
    gpus.fault = fails_after(15)
    frames, _, error = read(make(tmp_path / "a.mp4"))
    assert len(frames) == 15
    assert isinstance(error, DeviceError)
    assert "set hwaccel: none" in str(error)
    assert "\n" not in str(error)


def test_live_the_cpu_goes_on_from_the_next_key_frame_where_a_gpu_failed(
    tmp_path: Path, gpus: Gpus, said: Said
) -> None:
    groups_of_12 = {"preset": "veryfast", "x264-params": "scenecut=0"}
    path = make(tmp_path / "a.mp4", options=groups_of_12)
    expected = read_whole(path, hwaccel="none")
    gpus.fault = fails_after(15)
    recording = live_recording(path)
    frames: list[Frame] = []
    with pytest.raises(SourceError, match="damaged"):  # of a recording, where frames are missing
        deque(map(frames.append, recording.open()))
    assert [frame.timestamp_ns // 40_000_000 for frame in frames] == [*range(15), *range(24, 30)]
    assert all(np.array_equal(frame.data, expected[frame.timestamp_ns // 40_000_000].data) for frame in frames)
    assert len(list(recording.open())) == 30
    recording.close()
    assert len(gpus.made) == 1  # it is not trusted again
    failures = [line for level, line in said() if level == "WARNING"]
    assert failures == ["camera: decoding on the CPU: the GPU fails while it decodes (CUDA is gone)"]


def test_a_packet_that_the_gpu_cannot_decode_is_damage(tmp_path: Path, gpus: Gpus) -> None:
    def fault(number: int, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
        if number == 9:
            raise av.error.InvalidDataError(1, "bad data")
        return pictures

    gpus.fault = fault
    frames, _, error = read(make(tmp_path / "a.mkv"))
    assert len(frames) == 29
    assert "damaged in 1 place" in str(error)


# Asked for


@pytest.mark.parametrize("why", [nvidia.NO_DRIVER, "the driver's libnvcuvid.so.1 is not there"])
def test_cuda_that_is_not_there_is_refused_before_anything_is_read(
    tmp_path: Path, gpus: Gpus, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    unplug(monkeypatch, why)
    for node in (
        VideoCapture(make(tmp_path / "a.mp4"), hwaccel="cuda"),
        VideoCapture(tmp_path / "a.mp4", hwaccel="cuda", pace="realtime"),
        StreamCapture("rtsp://127.0.0.1:9/", hwaccel="cuda"),
    ):
        node.name = "camera"
        with pytest.raises(DeviceError) as caught:
            node.open({})
        node.close()
        assert str(caught.value) == f"Node 'camera': hwaccel is 'cuda', but {why}; set hwaccel: none"


def test_cuda_that_is_not_there_is_exit_code_4(
    tmp_path: Path, gpus: Gpus, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    unplug(monkeypatch)
    video = make(tmp_path / "a.mp4")
    config = tmp_path / "a.yaml"
    config.write_text(
        f"camera: {{type: capture.video, path: {video}, hwaccel: cuda}}\n"
        f"save: {{type: output.video, inputs: camera, path: {tmp_path / 'b.mkv'}}}\n"
    )
    outcome = command(config)
    assert outcome.code == 4
    assert "there is no NVIDIA driver" in outcome.error


@pytest.mark.parametrize("pace", ["full", "realtime"])
def test_cuda_for_what_only_the_cpu_decodes_is_refused(tmp_path: Path, gpus: Gpus, pace: Any) -> None:
    _, _, error = read(make(tmp_path / "a.mkv", codec="ffv1"), hwaccel="cuda", pace=pace)
    assert isinstance(error, DeviceError)
    assert "ffv1 is not for the GPU" in str(error)
    make_video(tmp_path / "a.png", 1, "rgb24", codec="png")
    _, _, error = read(tmp_path / "a.png", hwaccel="cuda", pace=pace)
    assert isinstance(error, DeviceError)
    assert "images are decoded by the CPU alone" in str(error)


def test_cuda_for_a_recording_that_the_gpu_does_not_take_is_refused(tmp_path: Path, gpus: Gpus) -> None:
    gpus.fault = by_cpu
    _, _, error = read(make(tmp_path / "a.mp4"), hwaccel="cuda")
    assert isinstance(error, DeviceError)
    assert "the GPU does not take h264" in str(error)


# Streams


def test_a_stream_is_decoded_on_the_gpu(gpus: Gpus, said: Said) -> None:
    with RtspCamera() as camera, watching(camera.url) as node:
        frames = take(node, 12)
    assert gpus.pictures >= 12
    assert in_order(frames)
    assert {frame.timestamp_source for frame in frames[2:]} == {"pts"}
    assert {(frame.pixel_format, frame.size, frame.stream) for frame in frames} == {("yuv420p", SIZE, "camera")}
    assert frames[5].planes[0].std() > 20
    assert ("INFO", "camera: decoding on the GPU") in said()


@pytest.mark.parametrize("hwaccel", ["auto", "cuda"])
def test_a_stream_that_the_gpu_does_not_take_comes_from_the_cpu_over_all_connections(
    gpus: Gpus, said: Said, hwaccel: Any
) -> None:
    gpus.fault = by_cpu
    with RtspCamera() as camera, watching(camera.url, hwaccel=hwaccel) as node:
        take(node, 5)
        camera.stop()
        wait_until(lambda: node.gauges()["reconnects"] == 1)
        camera.start()
        wait_until(lambda: node.gauges()["connected"])
        take(node, 5)
    lines = [line for line in said() if "decoding on the CPU: the GPU does not take h264" in line[1]]
    assert [level for level, _ in lines] == ["INFO" if hwaccel == "auto" else "WARNING"]


def test_a_stream_goes_on_when_the_gpu_fails(gpus: Gpus, said: Said) -> None:
    gpus.fault = fails_after(8)
    with RtspCamera() as camera, watching(camera.url) as node:
        frames = take(node, 30)
        assert node.gauges()["reconnects"] == 0
        camera.stop()
        wait_until(lambda: node.gauges()["reconnects"] == 1)
        camera.start()
        frames += take(node, 10)
    assert in_order(frames)
    assert len(gpus.made) == 1  # it is not trusted again
    [line] = [line for level, line in said() if level == "WARNING" and "GPU" in line]
    assert "decoding on the CPU: the GPU fails while it decodes" in line


def test_a_decoder_whose_node_said_none_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> None:
        raise AssertionError("the GPU was asked for")

    monkeypatch.setattr(nvidia, "why_no_gpu", asked)
    monkeypatch.setattr(nvidia, "why_no_decoding", asked)
    Decoding("none").open("camera")
    Decoding("auto").open("camera")


# On a GPU


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx264", "yuv420p"), ("libx264", "yuvj420p"), ("libx264", "gray"), ("libx265", "yuv420p10le")],
)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_real_gpu_gives_the_frames_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said, codec: str, pix_fmt: str, b_frames: int
) -> None:
    assert nvidia.why_no_decoding() is None
    monkeypatch.setattr(decoding, "LEAST_WORK", 1)
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    path = make(tmp_path / "a.mkv", 30, pix_fmt, (1920, 1080), codec=codec, options=options, b_frames=b_frames)
    assert_same(read_whole(path), read_whole(path, hwaccel="none"))
    if pix_fmt != "gray":  # whose chroma is as each decoder likes
        assert said() == [("INFO", "camera: decoding on the GPU")]
