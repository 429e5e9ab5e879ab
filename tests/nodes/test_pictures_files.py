"""Image files read, folders listed, and targets checked and written whole."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from nodes.pictures import (
    check_target,
    images_in,
    read_image,
    write_whole,
)
from pipeline.errors import OutputError, SourceError
from tests.nodes.capture.media import files_no_larger_than


def png(width: int, height: int, depth: int, kind: int, pixel_bytes: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of up to 50 rows of random pixels. Kinds: 0 gray, 2 RGB, 3 palette, 4 and 6 gray and RGB with alpha."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = np.random.default_rng(0).integers(0, 256, (min(height, 50), 1 + width * pixel_bytes), np.uint8)
    rows[:, 0] = 0
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


PALETTE = (b"PLTE", bytes(range(256)) * 3)


@pytest.mark.parametrize(
    ("data", "shape", "dtype", "alpha"),
    [
        pytest.param(png(10, 8, 8, 0, 1), (8, 10), "uint8", False, id="gray"),
        pytest.param(png(10, 8, 16, 0, 2), (8, 10), "uint16", False, id="gray of 16 bits"),
        pytest.param(png(10, 8, 8, 2, 3), (8, 10, 3), "uint8", False, id="RGB"),
        pytest.param(png(10, 8, 16, 2, 6), (8, 10, 3), "uint8", False, id="RGB of 16 bits"),
        pytest.param(png(10, 8, 8, 3, 1, PALETTE), (8, 10, 3), "uint8", False, id="palette"),
        pytest.param(
            png(10, 8, 8, 3, 1, PALETTE, (b"tRNS", bytes(256))), (8, 10, 3), "uint8", True, id="clear palette"
        ),
        pytest.param(png(10, 8, 8, 4, 2), (8, 10), "uint8", True, id="gray with alpha"),
        pytest.param(png(10, 8, 16, 4, 4), (8, 10), "uint16", True, id="gray of 16 bits with alpha"),
        pytest.param(png(10, 8, 8, 6, 4), (8, 10, 3), "uint8", True, id="RGB with alpha"),
        pytest.param(png(10, 8, 16, 6, 8), (8, 10, 3), "uint8", True, id="RGB of 16 bits with alpha"),
    ],
)
def test_every_kind_of_png_is_read(
    tmp_path: Path, data: bytes, shape: tuple[int, ...], dtype: str, alpha: bool
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(data)
    image, had_alpha = read_image(path)
    assert (image.shape, image.dtype, had_alpha) == (shape, dtype, alpha)
    assert image.flags.c_contiguous


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_counts_of_16_bits_are_read_bit_exact(tmp_path: Path, suffix: str) -> None:
    counts = np.random.default_rng(0).integers(0, 65536, (29, 41), np.uint16)
    path = tmp_path / f"counts{suffix}"
    cv2.imwrite(str(path), counts)
    assert np.array_equal(read_image(path)[0], counts)


def test_a_jpeg_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.zeros((30, 50), np.uint8))
    # EXIF, big-endian: one entry, 0x112 (orientation), one short, 6 (turn right by 90 degrees).
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    plain = path.read_bytes()
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    assert read_image(path)[0].shape == (50, 30)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_a_tiff_of_other_numbers_is_refused_with_what_is_legal(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "heat.tiff"
    cv2.imwrite(str(path), np.zeros((8, 8), dtype))
    with pytest.raises(ValueError, match=rf"pixels are {dtype}; legal are uint8 and uint16"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp", ".webp"])
def test_an_image_cut_in_half_is_no_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="not an image that can be read, or cut short"):
        read_image(path)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello\n", id="text"),
        pytest.param(png(60_000, 60_000, 8, 0, 1), id="a bomb"),
    ],
)
def test_what_is_no_image_is_told_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not an image that can be read") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_an_image_that_is_not_there_is_told_in_the_systems_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file or directory"):
        read_image(tmp_path / "image.png")


# Folders


def test_images_of_a_folder_come_in_natural_order_without_hidden_files_and_folders(tmp_path: Path) -> None:
    for name in ("b1.png", "a10.png", "a2.PNG", "A1.jpg", "a010.png", "._a2.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    names = [path.name for path in images_in(tmp_path)]
    assert names == ["A1.jpg", "a2.PNG", "a010.png", "a10.png", "b1.png"]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "a.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"a\.jpg and a\.png have one name.*rename or move one of them$"):
        images_in(tmp_path)


def test_a_folder_without_images_is_refused_with_what_is_legal(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SourceError, match=r"no image in this folder; legal are \.bmp, \.jpeg"):
        images_in(tmp_path)


# Targets


def test_a_target_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*nowhere'; make it first"):
        check_target(tmp_path / "nowhere" / "out.mp4")


def test_a_target_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; give the name of a file"):
        check_target(tmp_path)


def test_a_target_with_too_long_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        check_target(tmp_path / ("x" * 300))


def test_a_target_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    with pytest.raises(OutputError, match="no permission to write here"):
        check_target(tmp_path / "out.mp4")


def test_an_older_target_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = tmp_path / "out.mp4"
    older.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: path != older)
    with pytest.raises(OutputError, match="no permission to write here"):
        check_target(older)


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    write_whole(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


def test_a_file_for_which_there_is_no_room_leaves_the_older_one(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with files_no_larger_than(20_000), pytest.raises(OutputError, match="cannot be written: File too large"):
        write_whole(tmp_path / "file", bytes(100_000))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_a_name_too_long_for_the_file_beside_it_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        write_whole(tmp_path / ("x" * 252), b"")
