"""Palettes: which colours, in which planes, and what of a picture is painted in them."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from nodes.fusion.palettes import LUMA_PARTS, PALETTES, Palette, bgr_table, coloured, hotness, overlay, yuv_table
from pipeline.frame import ColorMatrix, ColorRange, Frame, PixelFormat

SIZES = [(64, 48), (65, 47), (1, 1), (2, 3), (640, 2)]
RANGES: list[ColorRange] = ["limited", "full"]
MATRICES: list[ColorMatrix] = ["bt601", "bt709", "bt2020"]


def planes(data: np.ndarray, size: tuple[int, int], pixel_format: PixelFormat = "yuv420p") -> tuple[np.ndarray, ...]:
    return Frame(data.copy(), pixel_format, size, 0, "pts", 0, "test").planes


def gradient(size: tuple[int, int] = (256, 8)) -> np.ndarray:
    """(H, W) uint8: 0 to 255 from left to right."""
    width, height = size
    return np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))


def picture(size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """Data of a yuv420p frame of limited range, of something in colour."""
    width, height = size
    cells = (width + 1) // 2 * ((height + 1) // 2)
    luma = np.random.default_rng(0).integers(16, 236, width * height, dtype=np.uint8)
    return np.concatenate([luma, np.full(cells, 110, np.uint8), np.full(cells, 140, np.uint8)])


def thermal(object_level: int = 230, around: int = 60, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """(H, W) uint8: something of a tenth of the sides in the middle of what is all the same."""
    width, height = size
    image = np.full((height, width), around, np.uint8)
    image[height // 2 - height // 20 : height // 2 + height // 20, width // 2 - 8 : width // 2 + 8] = object_level
    return image


# Tables:


@pytest.mark.parametrize("palette", PALETTES)
def test_a_palette_has_a_colour_for_every_level_and_no_jump(palette: Palette) -> None:
    table = bgr_table(palette)
    assert (table.shape, table.dtype) == ((256, 3), np.uint8)
    assert np.abs(np.diff(table.astype(int), axis=0)).max() <= 10
    assert len(np.unique(table, axis=0)) > 200


@pytest.mark.parametrize("palette", ["white-hot", "ironbow", "lava", "sepia"])
def test_hotter_is_never_darker(palette: Palette) -> None:
    lightness = cv2.cvtColor((bgr_table(palette)[None] / 255).astype(np.float32), cv2.COLOR_BGR2Lab)[0, :, 0]
    assert np.diff(lightness).min() >= -1e-3
    assert lightness[0] < 3
    assert lightness[-1] > 90
    for matrix in MATRICES[:2]:  # those that palettes are shown in
        assert np.diff(yuv_table(palette, "limited", matrix)[:, 0].astype(int)).min() >= 0


def test_white_hot_is_the_picture_as_it_is_and_black_hot_its_inversion() -> None:
    assert np.array_equal(bgr_table("white-hot"), np.repeat(np.arange(256)[:, None], 3, axis=1))
    assert np.array_equal(bgr_table("black-hot"), 255 - bgr_table("white-hot"))


def test_hot_and_cold_have_the_colours_that_they_are_known_by() -> None:
    def hue(palette: Palette, level: int) -> str:
        return "bgr"[int(np.argmax(bgr_table(palette)[level]))]

    for palette, cold, hot in (("ironbow", "b", "r"), ("rainbow", "b", "r"), ("arctic", "b", "r"), ("lava", "r", "r")):
        assert (hue(palette, 40), hue(palette, 230)) == (cold, hot), palette
    assert hue("rainbow", 128) == "g"


@pytest.mark.parametrize("palette", PALETTES)
def test_a_table_may_not_be_written_to(palette: Palette) -> None:
    for table in (bgr_table(palette), yuv_table(palette, "full", "bt601")):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("color_range", RANGES)
@pytest.mark.parametrize("color_matrix", MATRICES)
def test_yuv_is_the_same_colour_in_any_range_and_matrix(
    palette: Palette, color_range: ColorRange, color_matrix: ColorMatrix
) -> None:
    y, u, v = yuv_table(palette, color_range, color_matrix).T.astype(float)
    if color_range == "limited":
        assert y.min() >= 16
        assert y.max() <= 235
        y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    else:
        u, v = u - 128, v - 128
    kr, kb = LUMA_PARTS[color_matrix]
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    assert np.abs(np.stack([blue, green, red], axis=1) - bgr_table(palette)).max() <= 2.5


@pytest.mark.parametrize("palette", PALETTES)
def test_bt601_of_full_range_is_that_of_jpeg(palette: Palette) -> None:
    y, v, u = cv2.cvtColor(bgr_table(palette)[None], cv2.COLOR_BGR2YCrCb)[0].T
    assert np.abs(yuv_table(palette, "full", "bt601") - np.stack([y, u, v], axis=1).astype(int)).max() <= 1


# A whole picture in colour:


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("palette", PALETTES)
def test_a_picture_of_any_size_is_coloured(palette: Palette, size: tuple[int, int]) -> None:
    luma = np.full(size[::-1], 180, np.uint8)
    luma.flags.writeable = False
    for color_range in RANGES:
        wanted = yuv_table(palette, color_range, "bt709")[180]
        made = planes(coloured(luma, palette, color_range, "bt709"), size)
        assert [set(plane.flat) for plane in made] == [{level} for level in wanted]


def test_white_hot_has_no_colour_and_the_luma_that_came() -> None:
    luma = gradient()
    y, u, v = planes(coloured(luma, "white-hot", "full"), (256, 8))
    assert np.array_equal(y, luma)
    assert set(u.flat) | set(v.flat) == {128}
    y, _, _ = planes(coloured(luma, "black-hot", "full"), (256, 8))
    assert np.array_equal(y, 255 - luma)
    y, _, _ = planes(coloured(luma, "white-hot", "limited"), (256, 8))
    assert (y.min(), y.max()) == (16, 235)


def test_luma_of_limited_range_has_the_whole_palette() -> None:
    luma = np.array([[0, 16, 235, 255]], np.uint8)
    y, _, _ = planes(coloured(luma, "ironbow", "limited", "bt709", "limited"), (4, 1))
    table = yuv_table("ironbow", "limited", "bt709")[:, 0]
    assert y.tolist() == [[table[0], table[0], table[255], table[255]]]
    luma = np.arange(16, 236, dtype=np.uint8)[None]
    y, _, _ = planes(coloured(luma, "white-hot", "limited", "bt709", "limited"), (220, 1))
    assert np.array_equal(y, luma)


def test_an_edge_has_the_mean_of_its_colours_and_none_in_between() -> None:
    luma = np.full((4, 4), 255, np.uint8)
    luma[:, 0] = 0  # blue beside red; half way in the rainbow is green
    _, u, v = planes(coloured(luma, "rainbow", "full", "bt601"), (4, 4))
    cold, hot = yuv_table("rainbow", "full", "bt601")[[0, 255]].astype(float)
    assert u[0, 0] == pytest.approx((cold[1] + hot[1]) / 2, abs=1)
    assert v[0, 0] == pytest.approx((cold[2] + hot[2]) / 2, abs=1)


# What is hot, painted over a picture:


@pytest.mark.parametrize("level", [0, 100, 255])
def test_where_all_is_the_same_nothing_is_painted(level: int) -> None:
    data = picture()
    assert np.array_equal(overlay(data, (160, 120), np.full((120, 160), level, np.uint8), "lava"), data)


def test_something_hot_is_painted_and_the_rest_stays_as_it_is() -> None:
    data, infrared = picture(), thermal()
    data.flags.writeable = infrared.flags.writeable = False
    made = planes(overlay(data, (160, 120), infrared, "lava"), (160, 120))
    y, u, v = planes(data, (160, 120))
    heart = slice(28, 32), slice(38, 42)
    assert np.abs(made[1][heart].astype(int) - yuv_table("lava", "limited", "bt709")[round(230 * 0.85), 1]).max() <= 4
    assert made[2][heart].min() > 155, "red"
    spots = infrared > 60
    outside = cv2.dilate(spots.astype(np.uint8), np.ones((7, 7))) == 0
    assert np.array_equal(made[0][outside], y[outside])
    assert np.array_equal(made[1][outside[::2, ::2]], u[outside[::2, ::2]])
    assert np.array_equal(made[2][outside[::2, ::2]], v[outside[::2, ::2]])
    assert np.corrcoef(made[0][spots], y[spots])[0, 1] > 0.9, "the picture is to be seen under the paint"


def test_something_warm_in_the_lower_half_of_the_range_is_not_hot() -> None:
    assert hotness(thermal(120, 20), 24).max() == 0
    assert hotness(thermal(230, 20), 24).max() == 128


def test_the_threshold_says_how_far_hot_stands_out() -> None:
    for threshold in (10, 40, 80):
        assert hotness(thermal(200, 200 - threshold), threshold).max() == 0
        assert hotness(thermal(200, max(0, 200 - threshold - 60)), threshold).max() > 100


def test_paint_comes_softly_as_something_gets_hotter() -> None:
    shown = [overlay(picture(), (160, 120), thermal(level), "ironbow").astype(int) for level in range(60, 256, 2)]
    assert max(np.abs(after - before).max() for before, after in pairwise(shown)) <= 12
    hot = [int(hotness(thermal(level), 24).max()) for level in range(60, 256)]
    assert all(later >= earlier for earlier, later in pairwise(hot))
    assert (hot[0], hot[-1]) == (0, 128)


def test_noise_of_the_sensor_does_not_sprinkle_paint() -> None:
    random = np.random.default_rng(0)
    noise = np.clip(random.normal(150, 10, (120, 160)), 0, 255).astype(np.uint8)
    assert hotness(noise, 24).max() <= 4
    noise[60, 80] = 255
    assert hotness(noise, 24).max() <= 16


def test_what_comes_into_one_corner_does_not_change_the_paint_in_another() -> None:
    infrared = np.roll(thermal(), (40, 60), axis=(0, 1))  # below on the right
    before = overlay(picture(), (160, 120), infrared, "arctic")
    infrared[:20, :30] = 255
    after = overlay(picture(), (160, 120), infrared, "arctic")
    assert not np.array_equal(before, after)
    for plane_before, plane_after in zip(planes(before, (160, 120)), planes(after, (160, 120)), strict=True):
        height, width = plane_before.shape
        corner = slice(3 * height // 4, None), slice(3 * width // 4, None)
        assert np.array_equal(plane_before[corner], plane_after[corner])


def test_what_is_near_and_large_is_painted_all_over() -> None:
    infrared = np.full((120, 160), 60, np.uint8)
    infrared[30:, 60:100] = 230  # three quarters of the height, a quarter of the width
    assert hotness(infrared, 24)[35:, 65:95].min() >= 120


@pytest.mark.parametrize("size", [(160, 120), (161, 121), (320, 240), (1280, 720)])
@pytest.mark.parametrize("infrared_size", [(160, 120), (321, 241)])
def test_infrared_of_another_size_is_painted_where_it_belongs(
    size: tuple[int, int], infrared_size: tuple[int, int]
) -> None:
    infrared = thermal(size=infrared_size)
    infrared[: infrared_size[1] // 4] = 250
    infrared[:, infrared_size[0] // 4 :] = 60  # hot: above on the left
    data = picture(size)
    made = overlay(data, size, infrared, "ironbow")
    assert made.shape == data.shape
    changed = np.abs(planes(made, size)[0].astype(int) - planes(data, size)[0])
    width, height = size
    assert changed[: height // 10, : width // 6].max() > 10
    assert changed[:, width // 2 :].max() == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (640, 2)])
def test_the_smallest_pictures_are_taken(size: tuple[int, int]) -> None:
    data = picture(size)
    for infrared in (np.full((1, 1), 255, np.uint8), thermal()):
        assert overlay(data, size, infrared, "lava").shape == data.shape
