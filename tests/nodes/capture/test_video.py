"""capture.video: formats, images, opening and closing."""

from __future__ import annotations

import gc
import itertools
import logging
import struct
import warnings
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from nodes.capture.video import VideoCapture
from nodes.pictures import plane_of
from pipeline.errors import SourceError
from pipeline.frame import PixelFormat
from tests.nodes.capture.media import (
    SHARED,
    make_frame,
    make_picture,
    make_video,
    open_files,
    read,
    read_whole,
    resident_mb,
    times_ms,
    write,
)

THERMAL = sorted((SHARED / "thermal16").glob("*.mkv"))


def make_images(folder: Path, *names: str, size: tuple[int, int] = (8, 6)) -> None:
    """Images, each of one gray that tells its place in the list."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full(size[::-1], 10 * number, np.uint8))


# Formats


@pytest.mark.parametrize(
    ("pix_fmt", "pixel_format", "color_range"),
    [
        ("gray", "gray8", "full"),
        ("gray10le", "gray16", "full"),
        ("gray16le", "gray16", "full"),
        ("ya8", "gray8", "full"),
        ("yuv420p", "yuv420p", "limited"),
        ("yuv422p", "yuv420p", "limited"),
        ("yuv444p", "yuv420p", "limited"),
        ("yuv420p10le", "yuv420p", "limited"),
        ("bgr0", "bgr24", "full"),
        ("gbrp10le", "bgr24", "full"),
    ],
)
@pytest.mark.parametrize("size", [(64, 48), (41, 29)])
def test_every_format_comes_as_the_one_of_ours_that_keeps_most(
    tmp_path: Path, pix_fmt: str, pixel_format: PixelFormat, color_range: str, size: tuple[int, int]
) -> None:
    make_video(tmp_path / "a.mkv", 3, pix_fmt, size, codec="ffv1")
    frames = read_whole(tmp_path / "a.mkv")
    assert [frame.pixel_format for frame in frames] == [pixel_format] * 3
    assert [frame.size for frame in frames] == [size] * 3
    assert {frame.color_range for frame in frames} == {color_range}
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert {(frame.stream, frame.timestamp_source, frame.frame_rate) for frame in frames} == {("camera", "pts", 25)}


@pytest.mark.parametrize(
    ("pix_fmt", "pixel_format"), [("gray", "gray8"), ("gray12le", "gray16"), ("yuv420p", "yuv420p")]
)
@pytest.mark.parametrize("size", [(64, 48), (41, 29)])
def test_gray_and_yuv420p_come_bit_exact(
    tmp_path: Path, pix_fmt: str, pixel_format: PixelFormat, size: tuple[int, int]
) -> None:
    def paint(rows: np.ndarray, plane: int, number: int) -> None:
        rows[:] = np.random.default_rng((number, plane)).integers(0, 256, rows.shape)
        if pix_fmt == "gray12le":
            rows[:, 1::2] %= 16  # of each two bytes the second is the higher

    pictures = [make_picture(number, pix_fmt, size, paint) for number in range(3)]
    wanted = [[plane_of(plane, p, index).copy() for index, plane in enumerate(p.planes)] for p in pictures]
    make_video(tmp_path / "a.mkv", pictures, pix_fmt, size, codec="ffv1")
    for frame, planes in zip(read_whole(tmp_path / "a.mkv"), wanted, strict=True):
        assert frame.pixel_format == pixel_format
        assert all(np.array_equal(*pair) for pair in zip(frame.planes, planes, strict=True))


def test_rgb_comes_bit_exact_also_stored_from_the_bottom_up(tmp_path: Path) -> None:
    for name in ("a.avi", "a.nut"):
        pictures = [make_picture(number, "bgr24", (64, 48)) for number in range(2)]
        wanted = [plane_of(p.planes[0], p, 0).reshape(48, 64, 3).copy() for p in pictures]
        make_video(tmp_path / name, pictures, "bgr24", codec="rawvideo")
        frames = read_whole(tmp_path / name)
        assert all(np.array_equal(frame.data, image) for frame, image in zip(frames, wanted, strict=True))


def test_full_range_of_motion_jpeg_is_kept(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", 2, "yuvj422p", codec="mjpeg")
    assert [(f.pixel_format, f.color_range) for f in read_whole(tmp_path / "a.mkv")] == [("yuv420p", "full")] * 2


def test_an_alpha_channel_is_left_out_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_video(tmp_path / "a.mkv", 3, "yuva420p", codec="ffv1")
    frames, node, error = read(tmp_path / "a.mkv")
    assert error is None
    assert [frame.pixel_format for frame in frames] == ["yuv420p"] * 3
    assert node.report()["notes"] == {"alpha_channels_left_out": 3}
    assert [record.message for record in caplog.records] == [
        f"camera: {tmp_path / 'a.mkv'} has an alpha channel, which is left out"
    ]


def test_a_turned_recording_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "phone.mp4"
    make_video(path, 2)
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    head, mark, tail = path.read_bytes().partition(b"tkhd")
    path.write_bytes(head + mark + tail.replace(upright, turned, 1))
    _, node, error = read(path)
    assert error is None
    assert node.report()["notes"] == {"rotations_left_out": 2}
    assert "asks to be shown turned by -90 degrees, and is not turned" in caplog.text


def test_decoded_frames_keep_their_pixels_while_more_are_decoded(tmp_path: Path) -> None:
    for name, codec, pix_fmt in [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "ffv1", "gray16le"),
        ("a.nut", "rawvideo", "bgr24"),
    ]:
        make_video(tmp_path / name, 20, pix_fmt, codec=codec)
        kept = read_whole(tmp_path / name)
        node = VideoCapture(tmp_path / name)
        node.open({})
        at_once = []
        while len(at_once) < len(kept):
            frame = node.process()
            assert frame is not None
            at_once.append(frame.data.copy())
        node.close()
        assert all(np.array_equal(frame.data, data) for frame, data in zip(kept, at_once, strict=True))
        assert not any(np.shares_memory(a.data, b.data) for a, b in itertools.pairwise(kept))


# Images


def test_a_folder_comes_in_natural_order_at_its_rate(tmp_path: Path) -> None:
    make_images(tmp_path, "1.png", "2.png", "10.png")
    frames, node, error = read(tmp_path, fps=4)
    assert error is None
    assert [int(frame.data[0, 0]) for frame in frames] == [0, 10, 20]
    assert [frame.name for frame in frames] == ["1", "2", "10"]
    assert times_ms(frames) == [0, 250, 500]
    assert {frame.frame_rate for frame in frames} == {4}
    assert node.expected_frames == 3


@pytest.mark.parametrize("fps", [0.001, 23.976, 29.97, 1000])
def test_any_legal_rate_of_a_folder_gives_rising_times(tmp_path: Path, fps: float) -> None:
    make_images(tmp_path, *(f"{number}.png" for number in range(4)))
    assert np.diff(times_ms(read_whole(tmp_path, fps=fps))) == pytest.approx([1000 / fps] * 3, rel=1e-6)


def test_one_image_is_one_frame_without_a_name(tmp_path: Path) -> None:
    make_images(tmp_path, "a.png")
    (frame,) = read_whole(tmp_path / "a.png")
    assert (frame.name, frame.frame_rate, frame.timestamp_ns) == (None, None, 0)


def test_two_images_of_one_name_in_a_folder_are_refused(tmp_path: Path) -> None:
    make_images(tmp_path, "a.png", "a.jpg", "b.png")
    frames, _, error = read(tmp_path)
    assert not frames
    assert "a.jpg and a.png have one name" in str(error)


def test_an_image_that_cannot_be_read_ends_the_folder_with_its_name(tmp_path: Path) -> None:
    make_images(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    frames, _, error = read(tmp_path)
    assert [frame.name for frame in frames] == ["1"]
    assert str(error) == f"{tmp_path / '2.png'}: not an image that can be read, or cut short"


def test_images_of_all_sorts_keep_their_format(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shapes = {"1.png": ((6, 8), "uint8"), "2.tiff": ((6, 8), "uint16"), "3.jpg": ((6, 8, 3), "uint8")}
    shapes |= {"4.png": ((6, 8, 4), "uint8"), "5.png": ((6, 8, 4), "uint8"), "6.png": ((1, 1), "uint8")}
    for name, (shape, dtype) in shapes.items():
        cv2.imwrite(str(tmp_path / name), np.ones(shape, dtype))
    frames, node, error = read(tmp_path)
    assert error is None
    assert [frame.pixel_format for frame in frames] == ["gray8", "gray16", "bgr24", "bgr24", "bgr24", "gray8"]
    assert frames[-1].size == (1, 1)
    assert node.report()["notes"] == {"alpha_channels_left_out": 2}
    assert len(caplog.records) == 1


# Opening and closing


def test_open_knows_the_size_and_decodes_the_first_frame_only(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", 3, size=(41, 29), codec="ffv1", pix_fmt="gray")
    node = VideoCapture(tmp_path / "a.mkv")
    node.open({})
    assert node.size == (41, 29)
    node.close()


def test_closing_is_safe_at_any_time_and_leaves_nothing_open(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", 20)
    (tmp_path / "b.mkv").write_bytes(b"no video")
    before = open_files()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path, frames in [("a.mkv", 0), ("a.mkv", 5), ("b.mkv", 0), ("c.mkv", 0)]:
            node = VideoCapture(tmp_path / path)
            node.close()
            try:
                node.open({})
                for _ in range(frames):
                    node.process()
            except SourceError:
                pass
            node.close()
            node.abort()
            node.close()
        gc.collect()
    assert open_files() == before


def test_reading_keeps_memory_flat(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", (make_frame(number, size=(320, 240)) for number in range(40)), preset="ultrafast")
    sizes = []
    for _ in range(12):  # 480 frames of 115 kB: 55 MB, were they kept
        read_whole(tmp_path / "a.mkv")
        sizes.append(resident_mb())
    assert sizes[-1] - sizes[3] < 10


# Real recordings


@pytest.mark.skipif(not THERMAL, reason=f"the shared recordings are not in {SHARED / 'thermal16'}")
def test_radiometric_recordings_come_bit_exact_and_go_back_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for path in THERMAL:
        frames = read_whole(path)
        with av.open(str(path)) as container:
            pictures = list(container.decode(video=0))
            for frame, picture in zip(frames, pictures, strict=True):
                assert frame.pixel_format == "gray16"
                assert np.array_equal(frame.data, picture.to_ndarray())
        write(tmp_path / "copy.mkv", frames, codec="ffv1")
        copy = read_whole(tmp_path / "copy.mkv")
        assert times_ms(copy) == times_ms(frames)
        assert all(np.array_equal(a.data, b.data) for a, b in zip(copy, frames, strict=True))
