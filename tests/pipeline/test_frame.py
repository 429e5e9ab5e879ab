"""Frames: shape and dtype fit the format, and nobody can change them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline.frame import MATRIX_CODES, Frame, Fusion, half, layout


def make(data: np.ndarray, pixel_format: str, size: tuple[int, int], **more: object) -> Frame:
    return Frame(data, pixel_format, size, 40_000_000, "pts", 1, "rgb", **more)


@pytest.mark.parametrize(
    ("pixel_format", "shape", "dtype"),
    [
        ("gray8", (479, 641), np.uint8),
        ("gray16", (479, 641), np.uint16),
        ("bgr24", (479, 641, 3), np.uint8),
        ("yuv420p", (641 * 479 + 2 * 321 * 240,), np.uint8),
    ],
)
def test_each_format_has_its_shape_and_dtype_for_odd_sizes_too(pixel_format, shape, dtype):
    assert layout(pixel_format, (641, 479)) == (shape, np.dtype(dtype))
    assert make(np.zeros(shape, dtype), pixel_format, (641, 479)).size == (641, 479)


def test_a_wrong_shape_is_refused_with_what_came_and_what_is_legal():
    with pytest.raises(ValueError, match=r"gray8 of 4x2 is \(2, 4\) uint8, got \(4, 2\) uint8"):
        make(np.zeros((4, 2), np.uint8), "gray8", (4, 2))


def test_a_wrong_dtype_is_refused():
    with pytest.raises(ValueError, match=r"gray16 of 4x2 is \(2, 4\) uint16, got \(2, 4\) uint8"):
        make(np.zeros((2, 4), np.uint8), "gray16", (4, 2))


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no pixel format 'rgb24'; there is: gray8, gray16, yuv420p, bgr24"):
        make(np.zeros((2, 4, 3), np.uint8), "rgb24", (4, 2))


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4)])
def test_a_frame_without_pixels_is_refused(size):
    with pytest.raises(ValueError, match="at least one pixel"):
        layout("gray8", size)


def test_nobody_can_change_a_frame():
    frame = make(np.zeros((2, 4), np.uint8), "gray8", (4, 2))
    with pytest.raises(ValueError, match="read-only"):
        frame.data[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.sequence = 2


def test_the_planes_of_yuv_are_views_in_their_place():
    data = np.arange(5 * 3 + 2 * 3 * 2, dtype=np.uint8)
    luma, u, v = make(data, "yuv420p", (5, 3)).planes
    assert luma.shape == (3, 5)
    assert u.shape == v.shape == (2, 3)
    assert (luma[0, 0], luma[2, 4], u[0, 0], v[0, 0], v[1, 2]) == (0, 14, 15, 21, 26)
    assert all(np.shares_memory(plane, data) for plane in (luma, u, v))


def test_other_formats_are_their_own_only_plane():
    frame = make(np.zeros((2, 4, 3), np.uint8), "bgr24", (4, 2))
    assert frame.planes == (frame.data,)


def test_chroma_is_half_rounded_up():
    assert [half(side) for side in (1, 2, 3, 640, 641)] == [1, 1, 2, 320, 321]


def test_a_frame_is_shown_without_its_pixels():
    fusion = Fusion("fused", 0, {"rgb": 0})
    frame = make(np.zeros((2, 4), np.uint8), "gray8", (4, 2), fusion=fusion)
    assert repr(frame) == "Frame(rgb #1, 4x2 gray8, 0.0400 s by pts)"


def test_frames_are_told_apart_by_identity_not_by_pixels():
    data = np.zeros((2, 4), np.uint8)
    first, second = make(data, "gray8", (4, 2)), make(data, "gray8", (4, 2))
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_the_matrix_codes_are_those_of_h273():
    assert dict(MATRIX_CODES) == {"bt601": 6, "bt709": 1, "bt2020": 9}
