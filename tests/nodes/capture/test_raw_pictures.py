from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nodes.capture.device import Setup
from nodes.capture.raw_pictures import COLOUR, MADE_OF, Unpacker, format_for
from pipeline.frame import layout

SIZE = (10, 6)
W, H = SIZE
RANDOM = np.random.default_rng(1)
Y = RANDOM.integers(16, 236, (H, W), np.uint8)
U = RANDOM.integers(16, 241, (H // 2, W // 2), np.uint8)
V = RANDOM.integers(16, 241, (H // 2, W // 2), np.uint8)
PLANES = np.concatenate([plane.ravel() for plane in (Y, U, V)])


def packed(order: str) -> np.ndarray:
    """(H, 2 W) of 4:2:2 with the chroma of 4:2:0 on both of two lines."""
    lines = np.zeros((H, W // 2, 4), np.uint8)
    parts = {"0": Y[:, ::2], "1": Y[:, 1::2], "U": U.repeat(2, 0), "V": V.repeat(2, 0)}
    for place, letter in enumerate(order):
        lines[:, :, place] = parts[letter]
    return lines.reshape(H, 2 * W)


def stored(fourcc: str, padding: int) -> tuple[bytes, int]:
    """The picture as a camera stores it, and its bytes a line."""
    if fourcc in ("YUYV", "UYVY"):
        planes = [packed({"YUYV": "0U1V", "UYVY": "U0V1"}[fourcc])]
    elif fourcc == "YU12":
        planes = [Y, U, V]
    else:
        first, second = (U, V) if fourcc == "NV12" else (V, U)
        planes = [Y, np.stack([first, second], axis=2).reshape(H // 2, W)]
    line = planes[0].shape[1] + padding
    wide = [line, *(line // 2 for _ in planes[1:])] if fourcc == "YU12" else [line for _ in planes]
    return b"".join(np.pad(p, ((0, 0), (0, n - p.shape[1]))).tobytes() for p, n in zip(planes, wide, strict=True)), line


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("fourcc", [name for name in COLOUR if name not in ("BGR3", "RGB3")])
def test_colour_keeps_luma_to_the_bit_and_chroma_where_it_is(fourcc: str, padding: int) -> None:
    data, line = stored(fourcc, padding)
    given, size = Unpacker(Setup(fourcc, SIZE, line), "yuv420p").unpack(data)
    assert size == SIZE
    assert (given.shape, given.dtype) == layout("yuv420p", SIZE)
    np.testing.assert_array_equal(given[: W * H], Y.ravel())
    assert np.abs(given.astype(int) - PLANES).max() <= 1  # chroma of two lines is averaged
    gray, _ = Unpacker(Setup(fourcc, SIZE, line), "gray8").unpack(data)
    np.testing.assert_array_equal(gray, Y)


@pytest.mark.parametrize("fourcc", ["BGR3", "RGB3"])
def test_bgr_comes_as_it_is(fourcc: str) -> None:
    image = RANDOM.integers(0, 256, (H, W, 3), np.uint8)
    data = (image if fourcc == "BGR3" else image[:, :, ::-1]).tobytes()
    given, _ = Unpacker(Setup(fourcc, SIZE, 3 * W, "full"), "bgr24").unpack(data)
    np.testing.assert_array_equal(given, image)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize(
    ("fourcc", "stored_as"), [("Y16", "<u2"), ("Y16-BE", ">u2"), ("Y14", "<u2"), ("Y12", "<u2"), ("Y10", "<u2")]
)
def test_gray_of_more_than_eight_bits_keeps_its_numbers(fourcc: str, stored_as: str, padding: int) -> None:
    counts = RANDOM.integers(0, 65536 if "16" in fourcc else 1024, (H, W), np.uint16)
    data = np.pad(counts.astype(stored_as), ((0, 0), (0, padding // 2))).tobytes()
    given, _ = Unpacker(Setup(fourcc, SIZE, 2 * W + padding, "full"), "gray16").unpack(data)
    assert (given.shape, given.dtype) == layout("gray16", SIZE)
    np.testing.assert_array_equal(given, counts)


@pytest.mark.parametrize("padding", [0, 3])
def test_gray_comes_as_it_is(padding: int) -> None:
    data = np.pad(Y, ((0, 0), (0, padding))).tobytes()
    given, _ = Unpacker(Setup("GREY", SIZE, W + padding, "full"), "gray8").unpack(data)
    np.testing.assert_array_equal(given, Y)


def test_a_last_line_without_padding_is_enough() -> None:
    data = np.pad(Y, ((0, 0), (0, 3))).tobytes()[:-3]
    np.testing.assert_array_equal(Unpacker(Setup("GREY", SIZE, W + 3), "gray8").unpack(data)[0], Y)


@pytest.mark.parametrize("fourcc", ["YUYV", "NV12", "GREY", "Y16"])
def test_a_picture_that_is_cut_short_is_an_error(fourcc: str) -> None:
    wanted: Any = {"GREY": "gray8", "Y16": "gray16"}.get(fourcc, "yuv420p")
    with pytest.raises(ValueError, match="buffer"):
        Unpacker(Setup(fourcc, SIZE, W), wanted).unpack(bytes(W * H // 2))


def test_bgr_of_colour_heeds_the_matrix() -> None:
    red = {"bt601": (81, 90, 240), "bt709": (63, 102, 240)}  # limited range
    for matrix, (y, u, v) in red.items():
        data = bytes([y] * (W * H) + [u, v] * (W * H // 4))
        setup = Setup("NV12", SIZE, W, "limited", matrix)  # type: ignore[arg-type]
        given, _ = Unpacker(setup, "bgr24").unpack(data)
        assert np.abs(given.astype(int) - (0, 0, 255)).max() <= 3


def test_auto_keeps_what_the_camera_has() -> None:
    kept = {fourcc: format_for(fourcc, "auto") for fourcc in ("YUYV", "MJPG", "GREY", "Y16", "BGR3")}
    assert kept == {"YUYV": "yuv420p", "MJPG": "yuv420p", "GREY": "gray8", "Y16": "gray16", "BGR3": "bgr24"}
    assert set(MADE_OF["auto"]) >= {fourcc for made_of in MADE_OF.values() for fourcc in made_of}
