"""Between our frames and the pictures of PyAV and OpenCV: ranges, matrices, odd sizes and bits."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from nodes.pictures import (
    array_of,
    color_matrix_of,
    color_range_of,
    image_of,
    picture_of,
    pixel_format_of,
    plane_of,
)
from pipeline.frame import ColorMatrix, ColorRange, PixelFormat
from tests.nodes.capture.media import bgr_of, flat_frame, make_frame, make_picture

SIZES = [(64, 48), (41, 29), (1, 7), (7, 1), (1, 1), (641, 479)]
FORMATS: list[PixelFormat] = ["gray8", "gray16", "yuv420p", "bgr24"]


# Frames and pictures


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_a_frame_becomes_a_picture_and_a_frame_again_bit_exact(
    pixel_format: PixelFormat, size: tuple[int, int]
) -> None:
    frame = make_frame(1, pixel_format, size)
    picture = picture_of(frame)
    assert pixel_format_of(picture) == pixel_format
    assert np.array_equal(array_of(picture, pixel_format), frame.data)


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_padding_to_even_repeats_the_last_column_and_row(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    frame = make_frame(2, pixel_format, size)
    picture = picture_of(frame, pad_to_even=True)
    width, height = size
    assert (picture.width, picture.height) == (width + width % 2, height + height % 2)
    for index, (plane, source) in enumerate(zip(picture.planes, frame.planes, strict=True)):
        pixels = plane_of(plane, picture, index).reshape(plane.height, plane.width, -1)
        rows, columns = source.shape[:2]
        wanted = np.pad(
            source.reshape(rows, columns, -1), [(0, plane.height - rows), (0, plane.width - columns), (0, 0)], "edge"
        )
        assert np.array_equal(pixels, wanted)


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_the_array_of_a_picture_is_memory_of_its_own(pixel_format: PixelFormat) -> None:
    picture = picture_of(make_frame(3, pixel_format))
    array = array_of(picture, pixel_format)
    before = array.copy()
    for plane in picture.planes:
        np.frombuffer(plane, np.uint8)[:] = 77
    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("pix_fmt", "tag", "color_range"),
    [
        ("gray", 0, "full"),
        ("gray", 1, "limited"),
        ("gray", 2, "full"),
        ("gray10le", 1, "limited"),
        ("ya8", 0, "full"),
        ("yuv420p", 0, "limited"),
        ("yuv420p", 2, "full"),
        ("yuvj420p", 0, "full"),
        ("nv12", 2, "full"),
        ("yuva420p", 0, "limited"),
        ("bgr24", 0, "full"),
        ("gbrp", 0, "full"),
    ],
)
def test_the_range_is_what_the_decoder_says_or_what_everybody_assumes(pix_fmt: str, tag: int, color_range: str) -> None:
    picture = av.VideoFrame(4, 4, pix_fmt)
    picture.color_range = tag
    assert color_range_of(picture) == color_range


@pytest.mark.parametrize(
    ("code", "height", "matrix"),
    [
        *[(1, 4, "bt709"), (4, 4, "bt601"), (5, 4, "bt601"), (6, 4, "bt601"), (7, 4, "bt709")],
        *[(9, 4, "bt2020"), (10, 4, "bt2020"), (2, 719, "bt601"), (2, 720, "bt709"), (0, 4, "bt601")],
    ],
)
def test_the_matrix_is_what_the_decoder_says_or_goes_by_the_height(code: int, height: int, matrix: str) -> None:
    picture = av.VideoFrame(4, height, "yuv420p")
    picture.colorspace = code
    assert color_matrix_of(picture) == matrix


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "yuv411p", "yuv440p", "nv12", "nv21", "yuva420p"])
@pytest.mark.parametrize("tag", [1, 2])
@pytest.mark.parametrize("code", [1, 6, 9])
def test_other_yuv_keeps_its_luma_bit_exact_and_its_chroma_colour(pix_fmt: str, tag: int, code: int) -> None:
    def paint(rows: np.ndarray, plane: int, number: int) -> None:
        rows[:] = 150 if plane else np.arange(rows.size).reshape(rows.shape) * 7 % 256

    picture = make_picture(0, pix_fmt, (64, 48), paint)
    picture.color_range, picture.colorspace = tag, code
    luma = plane_of(picture.planes[0], picture, 0).copy()
    data = array_of(picture, "yuv420p")
    assert np.array_equal(data[: 64 * 48].reshape(48, 64), luma)
    assert np.unique(data[64 * 48 :]).tolist() == [150]


@pytest.mark.parametrize("tag", [1, 2])
def test_ten_bit_yuv_is_rounded_to_eight(tag: int) -> None:
    picture = av.VideoFrame(64, 48, "yuv420p10le")
    values = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) % 1024
    for index, plane in enumerate(picture.planes):
        plane_of(plane, picture, index)[:] = 600 if index else values
    picture.color_range = tag
    data = array_of(picture, "yuv420p").astype(int)
    scale = 255 / 1023 if tag == 2 else 1 / 4
    assert np.abs(data[: 64 * 48].reshape(48, 64) - np.minimum(values * scale, 255)).max() <= 1
    assert np.abs(data[64 * 48 :] - 600 / 4).max() <= 1


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
@pytest.mark.parametrize("order", ["le", "be"])
def test_deep_gray_keeps_its_numbers(bits: int, order: str) -> None:
    name = f"gray{bits}{order}"
    counts = np.random.default_rng(bits).integers(0, 2**bits, (29, 41), np.uint16)
    picture = av.VideoFrame(41, 29, name)
    plane_of(picture.planes[0], picture, 0)[:] = counts
    assert pixel_format_of(picture) == "gray16"
    assert np.array_equal(array_of(picture, "gray16"), counts)


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_a_picture_stored_from_the_bottom_up_comes_the_right_way_up(pixel_format: PixelFormat) -> None:
    frame = make_frame(4, pixel_format, (40, 30))
    picture = picture_of(frame)
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=40, height=30, format=picture.format.name, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("vflip"), graph.add("buffersink")).configure()
    flipped = graph.vpush(picture) or graph.vpull()
    assert flipped.planes[0].line_size < 0
    planes = replace(frame, data=array_of(flipped, pixel_format)).planes
    assert all(np.array_equal(plane, wanted[::-1]) for plane, wanted in zip(planes, frame.planes, strict=True))


# Colour


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("color_range", ["limited", "full"])
@pytest.mark.parametrize("size", [(64, 48), (41, 29), (1, 1)])
def test_the_image_of_yuv_is_right_within_a_level(
    matrix: ColorMatrix, color_range: ColorRange, size: tuple[int, int]
) -> None:
    for y, u, v in np.random.default_rng(0).integers(0, 256, (25, 3)):
        image = image_of(flat_frame(y, u, v, size, color_range, matrix))
        assert image.shape == (size[1], size[0], 3)
        assert np.abs(image - bgr_of(y, u, v, color_range, matrix)).max() <= 1


def test_the_image_of_gray_of_limited_range_is_stretched_and_clipped() -> None:
    data = np.array([[0, 16, 126, 235, 255]], np.uint8)
    frame = make_frame(0, "gray8", (5, 1), color_range="limited", data=data)
    assert image_of(frame).tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize("pixel_format", ["gray8", "gray16", "bgr24"])
def test_the_image_of_full_range_is_the_frame_itself(pixel_format: PixelFormat) -> None:
    frame = make_frame(0, pixel_format)
    assert image_of(frame) is frame.data
