"""output.video: what is written is what came, at its times and in its colours."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nodes.output.video import VideoOutput
from nodes.pictures import MATRICES, plane_of
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import ColorMatrix, ColorRange, PixelFormat
from tests.nodes.capture.media import (
    bgr_of,
    flat_frame,
    make_frame,
    make_picture,
    open_files,
    read_whole,
    resident_mb,
    times_ms,
    write,
    yuv_of,
)

LOSSLESS = {"crf": 0, "preset": "ultrafast"}
KINDS = [("a.mp4", "h264"), ("a.mov", "h264"), ("a.mkv", "h264"), ("a.mkv", "ffv1")]
FORMATS: list[PixelFormat] = ["gray8", "gray16", "yuv420p", "bgr24"]
SIZES = [(64, 48), (641, 479), (41, 29), (1, 7), (1, 479), (1, 1)]
MATRIX_NAMES: list[ColorMatrix] = ["bt601", "bt709", "bt2020"]
RANGES: list[ColorRange] = ["limited", "full"]


# Pixels


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_ffv1_keeps_every_format_and_size_bit_exact(
    tmp_path: Path, pixel_format: PixelFormat, size: tuple[int, int]
) -> None:
    frames = [make_frame(number, pixel_format, size) for number in range(2)]
    write(tmp_path / "a.mkv", frames, codec="ffv1")
    copies = read_whole(tmp_path / "a.mkv")
    assert [(copy.pixel_format, copy.size) for copy in copies] == [(pixel_format, size)] * 2
    assert all(np.array_equal(copy.data, frame.data) for copy, frame in zip(copies, frames, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("size", SIZES)
def test_h264_repeats_the_last_column_and_row_of_odd_sizes(
    tmp_path: Path, suffix: str, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    frame = make_frame(0, "yuv420p", size)
    write(tmp_path / f"a{suffix}", [frame], **LOSSLESS)
    (copy,) = read_whole(tmp_path / f"a{suffix}")
    more = size[0] % 2, size[1] % 2
    assert copy.size == (size[0] + more[0], size[1] + more[1])
    assert np.array_equal(copy.planes[0], np.pad(frame.planes[0], [(0, more[1]), (0, more[0])], "edge"))
    assert all(np.array_equal(*pair) for pair in zip(copy.planes[1:], frame.planes[1:], strict=True))
    assert ("even sizes only" in caplog.text) == any(more)


@pytest.mark.parametrize("color_range", RANGES)
def test_gray_in_h264_is_luma_bit_exact_without_colour(tmp_path: Path, color_range: ColorRange) -> None:
    frame = make_frame(0, "gray8", (41, 29), color_range=color_range)
    write(tmp_path / "a.mp4", [frame], **LOSSLESS)
    (copy,) = read_whole(tmp_path / "a.mp4")
    assert np.array_equal(copy.planes[0][:29, :41], frame.data)
    assert all(np.unique(plane).tolist() == [128] for plane in copy.planes[1:])
    assert copy.color_range == color_range


@pytest.mark.parametrize("matrix", MATRIX_NAMES)
@pytest.mark.parametrize("size", [(64, 48), (41, 29)])
def test_rgb_in_h264_is_yuv_by_the_book(tmp_path: Path, matrix: ColorMatrix, size: tuple[int, int]) -> None:
    for number, bgr in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50), (255, 255, 255)]):
        data = np.full((*size[::-1], 3), bgr, np.uint8)
        path = tmp_path / f"{number}.mp4"
        write(path, [make_frame(0, "bgr24", size, color_matrix=matrix, data=data)], **LOSSLESS)
        (copy,) = read_whole(path)
        assert (copy.color_range, copy.color_matrix) == ("limited", matrix)
        for plane, wanted in zip(copy.planes, yuv_of(bgr, matrix), strict=True):
            assert np.abs(plane - wanted).max() <= 2


# Range and matrix


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "h264"), ("a.mov", "h264"), ("a.mkv", "h264"), ("a.mkv", "ffv1")]
)
@pytest.mark.parametrize("color_range", RANGES)
@pytest.mark.parametrize("matrix", MATRIX_NAMES)
def test_range_and_matrix_are_written_and_read_back(
    tmp_path: Path, name: str, codec: str, color_range: ColorRange, matrix: ColorMatrix
) -> None:
    write(tmp_path / name, [make_frame(0, color_range=color_range, color_matrix=matrix)], codec=codec)
    with av.open(str(tmp_path / name)) as container:
        picture = next(container.decode(video=0))
        assert picture.color_range == (2 if color_range == "full" else 1)
        assert MATRICES[picture.colorspace] == matrix
    (copy,) = read_whole(tmp_path / name)
    assert (copy.color_range, copy.color_matrix) == (color_range, matrix)


@pytest.mark.parametrize(("color_range", "matrix"), [("full", "bt601"), ("limited", "bt709"), ("full", "bt2020")])
def test_a_later_frame_of_other_range_or_matrix_is_brought_to_the_first_ones(
    tmp_path: Path, color_range: ColorRange, matrix: ColorMatrix
) -> None:
    first = flat_frame(100, 90, 160, (64, 48), "limited", "bt601")
    later = flat_frame(100, 90, 160, (64, 48), color_range, matrix)
    write(tmp_path / "a.mp4", [first, replace(later, timestamp_ns=40_000_000)], **LOSSLESS)
    copies = [[int(plane[0, 0]) for plane in copy.planes] for copy in read_whole(tmp_path / "a.mp4")]
    assert copies[0] == [100, 90, 160]
    assert copies[1] == pytest.approx(yuv_of(bgr_of(100, 90, 160, color_range, matrix), "bt601"), abs=1.2)


def test_a_later_gray_frame_of_other_range_is_brought_to_the_first_ones(tmp_path: Path) -> None:
    for name, codec in [("a.mp4", "h264"), ("a.mkv", "ffv1")]:
        data = np.full((48, 64), 100, np.uint8)
        frames = [make_frame(n, "gray8", color_range=r, data=data) for n, r in enumerate(["limited", "full"])]
        write(tmp_path / name, frames, codec=codec, crf=0)
        copies = read_whole(tmp_path / name)
        assert [copy.planes[0][0, 0] for copy in copies] == [100, round(16 + 100 * 219 / 255)]


# Times


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    "times",
    [
        pytest.param([0, 10e6, 55.5e6, 1e9, 1.0011e9], id="uneven"),
        pytest.param([7.3e9, 7.34e9, 8e9], id="a late start"),
        pytest.param([0, 1e9, 20e9, 100e9], id="gaps"),
        pytest.param([432_000e9, 432_000.04e9], id="five days up"),
        pytest.param([n * 1e9 * 1001 / 30_000 for n in range(40)], id="30000/1001"),
        pytest.param([n * 1e6 for n in range(20)], id="1000 a second"),
    ],
)
def test_times_are_kept(tmp_path: Path, suffix: str, times: list[float]) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, (make_frame(number, timestamp_ns=round(time)) for number, time in enumerate(times)))
    tick = 1e9 / (1000 if suffix == ".mkv" else 90_000)
    assert [f.timestamp_ns for f in read_whole(path)] == pytest.approx(times, abs=tick / 2 + 1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_of_one_time_are_a_tick_apart(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, (make_frame(number, timestamp_ns=time) for number, time in enumerate([0, 0, 0, 80_000_000])))
    tick_ms = 1 if suffix == ".mkv" else 1 / 90
    assert times_ms(read_whole(path)) == pytest.approx([0, tick_ms, 2 * tick_ms, 80], abs=1e-6)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_before_zero_are_moved_together_and_told(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, (make_frame(number, timestamp_ns=number * 500_000_000 - 10**9) for number in range(4)))
    assert times_ms(read_whole(path)) == [0, 500, 1000, 1500]
    assert "times begin at -1.000 s; they are moved to begin at 0" in caplog.text


@pytest.mark.parametrize("rate", [None, Fraction(1, 60), Fraction(30_000, 1001), Fraction(90_000)])
def test_any_nominal_rate_will_do(tmp_path: Path, rate: Fraction | None) -> None:
    write(tmp_path / "a.mp4", (make_frame(number, frame_rate=rate) for number in range(5)))
    assert times_ms(read_whole(tmp_path / "a.mp4")) == [0, 40, 80, 120, 160]


def test_frames_are_stored_in_the_order_they_are_shown_with_a_key_frame_often(tmp_path: Path) -> None:
    data = make_frame(0, size=(16, 16)).data
    frames = (make_frame(n, size=(16, 16), data=data, frame_rate=Fraction(90_000)) for n in range(250))
    write(tmp_path / "a.mp4", frames, preset="slow")
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert all(packet.dts == packet.pts for packet in packets)
    assert sum(packet.is_keyframe for packet in packets) >= 3  # each begins a fragment, so it bounds what a kill loses


# Settings


@pytest.mark.parametrize(
    ("name", "codec", "message"),
    [
        ("a.webm", "auto", r"h264 goes into \.mp4 or \.mov or \.mkv"),
        ("a.mp4", "ffv1", r"ffv1 goes into \.mkv"),
        ("a", "h264", r"setting 'path' is 'a': h264 goes into"),
    ],
)
def test_a_file_that_cannot_hold_the_codec_is_refused(name: str, codec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoOutput(Path(name), codec=codec)  # type: ignore[arg-type]


def test_a_suffix_in_capitals_and_a_name_with_a_colon_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("12:30.MP4"), [make_frame()])
    assert len(read_whole(Path("12:30.MP4"))) == 1


def test_more_quality_makes_a_larger_file(tmp_path: Path) -> None:
    picture = make_picture(0, "yuv420p", (64, 48))
    data = np.concatenate([plane_of(plane, picture, index).reshape(-1) for index, plane in enumerate(picture.planes)])
    for crf in (10, 40):
        write(tmp_path / f"{crf}.mp4", [make_frame(data=data.copy())], crf=crf)
    assert (tmp_path / "10.mp4").stat().st_size > 1.5 * (tmp_path / "40.mp4").stat().st_size


# Memory


def test_writing_keeps_memory_flat_and_files_closed(tmp_path: Path) -> None:
    frames = [make_frame(number, size=(320, 240)) for number in range(4)]
    files, sizes = open_files(), []
    for turn in range(8):
        node = VideoOutput(tmp_path / f"{turn % 2}.mp4", crf=40, preset="ultrafast")
        node.open({})
        for number in range(60):  # 480 frames of 115 kB: 55 MB, were they kept
            node.process(make_frame(number, size=(320, 240), data=frames[number % 4].data))
        node.close()
        sizes.append(resident_mb())
    assert sizes[-1] - sizes[2] < 10
    assert open_files() == files


def test_frames_that_do_not_fit_leave_one_line(tmp_path: Path) -> None:
    for other in (make_frame(1, size=(32, 48)), make_frame(1, "gray8")):
        with pytest.raises(
            OutputError, match="a video keeps one size and format: it began with 64x48 yuv420p, now"
        ) as e:
            write(tmp_path / "a.mp4", [make_frame(), other])
        assert "\n" not in str(e.value)
