"""The colour of a fused frame: each task's rule, on pictures whose right answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from nodes.fusion.chroma import DARK, LIT, fused_range, with_chroma
from nodes.tasks import INPUTS
from pipeline.frame import ColorRange, Frame, PixelFormat, half
from tests import media

SIZES = [(64, 48), (65, 47), (1, 9), (9, 1), (1, 1)]
RED, BLUE, GREY = (100, 200), (210, 110), (128, 128)  # (U, V)
RANGES: list[ColorRange] = ["limited", "full"]

Chroma = tuple[int, int]
Level = int | np.ndarray


def frame(
    data: np.ndarray, pixel_format: PixelFormat, size: tuple[int, int], color_range: ColorRange = "full"
) -> Frame:
    return Frame(data, pixel_format, size, 0, "pts", 0, "camera", color_range)


def planes_of(chroma: Chroma | np.ndarray) -> np.ndarray:
    """A single (U, V) as (2, 1, 1), which goes with planes of any size; planes as they are."""
    planes = np.asarray(chroma)
    return planes.reshape(2, 1, 1) if planes.ndim == 1 else planes


def yuv(
    luma: Level, chroma: Chroma | np.ndarray, size: tuple[int, int] = media.SIZE, color_range: ColorRange = "full"
) -> Frame:
    """A level or an (H, W) of luma; one (U, V) for the whole picture, or (2, h, w)."""
    width, height = size
    planes = np.broadcast_to(planes_of(chroma).astype(np.uint8), (2, half(height), half(width)))
    whole = np.broadcast_to(np.asarray(luma, np.uint8), (height, width))
    return frame(np.concatenate([whole.reshape(-1), planes.reshape(-1)]), "yuv420p", size, color_range)


def gray(luma: Level, size: tuple[int, int] = media.SIZE, color_range: ColorRange = "full") -> Frame:
    width, height = size
    return frame(np.broadcast_to(np.asarray(luma, np.uint8), (height, width)).copy(), "gray8", size, color_range)


def gray16(size: tuple[int, int] = media.SIZE) -> Frame:
    return frame(np.full(size[::-1], 20_000, np.uint16), "gray16", size)


def bgr(luma: Level, chroma: Chroma, size: tuple[int, int] = media.SIZE) -> Frame:
    width, height = size
    whole = np.broadcast_to(np.asarray(luma, np.uint8), (height, width))
    ycrcb = cv2.merge([whole.copy(), *(np.full((height, width), level, np.uint8) for level in chroma[::-1])])
    return frame(cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2BGR), "bgr24", size)


def luma_of(picture: Frame, size: tuple[int, int]) -> np.ndarray:
    """As the node hands it over: 8 bits, of the fused size."""
    if picture.pixel_format == "gray16":
        luma = (picture.data >> 8).astype(np.uint8)
    elif picture.pixel_format == "bgr24":
        luma = np.ascontiguousarray(cv2.cvtColor(picture.data, cv2.COLOR_BGR2YCrCb)[:, :, 0])
    else:
        luma = picture.planes[0]
    resized: np.ndarray = luma if picture.size == size else np.asarray(cv2.resize(luma, size), np.uint8)
    resized.flags.writeable = False
    return resized


def fuse(task: str, *frames: Frame, fused: Level | None = None) -> Frame:
    """The result as a frame, which checks shape and dtype; the fused luma is the last frame's where none is given."""
    size = frames[-1].size
    lumas = [luma_of(each, size) for each in frames]
    plane = lumas[-1] if fused is None else np.broadcast_to(np.asarray(fused, np.uint8), size[::-1]).copy()
    plane.flags.writeable = False
    before = [each.copy() for each in (plane, *lumas, *(each.data for each in frames))]
    data, pixel_format = with_chroma(task, frames, lumas, plane)
    after = (plane, *lumas, *(each.data for each in frames))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), "an input was written to"
    assert data.flags.c_contiguous
    made_range = "full" if pixel_format == "bgr24" else fused_range(frames[-1])
    made = frame(data, pixel_format, size, made_range)
    if pixel_format != "bgr24":
        assert np.array_equal(made.planes[0], plane), "fused luma goes through as it is"
    return made


def chroma_of(picture: Frame) -> np.ndarray:
    """(2, h, w) int, U then V."""
    if picture.pixel_format == "bgr24":
        _, v, u = cv2.split(cv2.cvtColor(picture.data, cv2.COLOR_BGR2YCrCb))
        return np.stack([u, v]).astype(int)
    return np.stack(picture.planes[1:]).astype(int)


def off(picture: Frame, chroma: Chroma | np.ndarray) -> int:
    """Largest distance of any U or V from what it should be."""
    return int(np.abs(chroma_of(picture) - planes_of(chroma)).max())


def noise(number: int, size: tuple[int, int] = media.SIZE, around: int = 128, width: int = 256) -> np.ndarray:
    """(2, h, w) uint8 of cells."""
    low = around - width // 2
    shape = 2, half(size[1]), half(size[0])
    return np.random.default_rng(number).integers(low, low + width, shape).astype(np.uint8)


def halves(left: int, right: int, size: tuple[int, int] = media.SIZE) -> np.ndarray:
    plane = np.full(size[::-1], left, np.uint8)
    plane[:, size[0] // 2 :] = right
    return plane


# All tasks:


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("color_range", RANGES)
@pytest.mark.parametrize("task", INPUTS)
def test_colour_that_all_sources_agree_on_stays(task: str, size: tuple[int, int], color_range: ColorRange) -> None:
    chroma = noise(0, size)
    sources = [yuv(luma, chroma, size, color_range) for luma in (90, 140)]
    made = fuse(task, *sources, fused=120)
    assert made.pixel_format == "yuv420p"
    assert off(made, chroma) == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", INPUTS)
def test_a_bgr24_picture_fused_with_itself_is_itself(task: str, size: tuple[int, int]) -> None:
    image = media.scene(size=size)
    made = fuse(task, *(frame(image.copy(), "bgr24", size) for _ in range(2)))
    assert made.pixel_format == "bgr24"
    # Y, Cr and Cb are rounded, and blue is 1.773 Cb away from Y: two levels.
    assert np.abs(made.data.astype(int) - image).max() <= 2
    assert off(made, chroma_of(frame(image, "bgr24", size))) <= 1


@pytest.mark.parametrize("task", INPUTS)
def test_grey_alone_gives_grey(task: str) -> None:
    for first, last in ((gray(90), gray(60)), (gray16(), gray(60)), (gray(60), gray16())):
        made = fuse(task, first, last, fused=77)
        assert (made.pixel_format, set(made.data.flat)) == ("gray8", {77})


@pytest.mark.parametrize("task", INPUTS)
def test_still_input_gives_still_colour(task: str) -> None:
    sources = [yuv(media.heat(number), noise(number)) for number in range(2)]
    assert np.array_equal(fuse(task, *sources).data, fuse(task, *sources).data)


def test_the_format_is_that_of_the_sources_that_give_colour() -> None:
    grey, planar, packed = gray(99), yuv(99, RED), bgr(99, RED)
    first_and_last: list[tuple[Sequence[Frame], str, str]] = [
        ((packed, grey), "gray8", "bgr24"),
        ((planar, grey), "gray8", "yuv420p"),
        ((packed, planar), "yuv420p", "bgr24"),
        ((planar, packed), "bgr24", "bgr24"),
        ((grey, planar), "yuv420p", "yuv420p"),
        ((gray16(), packed), "bgr24", "bgr24"),
    ]
    for frames, of_the_last, of_all in first_and_last:
        for task in INPUTS:
            wanted = of_all if task in ("exposure", "focus") else of_the_last
            assert fuse(task, *frames).pixel_format == wanted, (task, frames)


def test_a_task_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="no task 'sonar'; there is: infrared, exposure, focus, medical"):
        fuse("sonar", gray(1), gray(2))


# Infrared:


@pytest.mark.parametrize(("color_range", "black"), [("full", 0), ("limited", 16)])
def test_the_visible_frame_keeps_its_colour_by_day_and_loses_it_in_the_dark(
    color_range: ColorRange, black: int
) -> None:
    heat = gray(200)
    for above, wanted in ((-black, GREY), (0, GREY), (DARK, GREY), (LIT, RED), (LIT + 100, RED)):
        visible = yuv(black + above, RED, color_range=color_range)
        assert off(fuse("infrared", heat, visible, fused=200), wanted) == 0, above
    # Half way up the ramp it is half the colour.
    assert off(fuse("infrared", heat, yuv(black + (DARK + LIT) // 2, RED, color_range=color_range)), (114, 164)) == 0


def test_colour_fades_in_without_a_jump() -> None:
    v = [chroma_of(fuse("infrared", gray(0), yuv(luma, RED)))[1].max() for luma in range(64)]
    steps = np.diff(v)
    assert steps.min() >= 0
    assert steps.max() <= 4  # of 72 levels over 32 of luma, at most 1.5 times the mean slope


def test_only_the_dark_part_loses_its_colour_however_bright_the_fused_luma_is() -> None:
    made = chroma_of(fuse("infrared", gray(200), yuv(halves(4, 100), noise(1)), fused=220))
    assert set(made[:, :, :15].flat) == {128}
    assert np.array_equal(made[:, :, 17:], noise(1)[:, :, 17:])


def test_one_bright_pixel_of_noise_does_not_bring_colour_into_the_dark() -> None:
    luma = np.zeros(media.SIZE[::-1], np.uint8)
    luma[20, 20] = 255
    assert off(fuse("infrared", gray(200), yuv(luma, RED)), GREY) == 0


def test_the_palette_of_a_thermal_camera_is_not_the_scene() -> None:
    for heat in (yuv(200, BLUE), bgr(120, BLUE)):
        assert off(fuse("infrared", heat, yuv(100, RED)), RED) == 0


@pytest.mark.parametrize("size", [media.SIZE, (65, 47)])
def test_a_dark_bgr24_picture_is_calmed_too(size: tuple[int, int]) -> None:
    image = bgr(halves(8, 100, size), (136, 140), size)
    made = fuse("infrared", gray(200, size), image, fused=120)
    dark, lit = np.split(made.data.astype(int), [size[0] // 2], axis=1)
    assert np.ptp(dark[:, :-4], axis=2).max() == 0
    assert np.abs(dark[:, :-4] - 120).max() == 0
    assert np.abs(chroma_of(frame(lit[:, 4:].astype(np.uint8), "bgr24", lit[:, 4:].shape[1::-1]))[1] - 140).max() <= 1


# Exposure:


def test_the_more_colourful_exposure_has_the_more_to_say() -> None:
    # |U - 128| + |V - 128| is 20 and 60, and one more for noise.
    made = chroma_of(fuse("exposure", yuv(40, (138, 138)), yuv(180, (158, 158))))
    expected = 128 + (21 * 10 + 61 * 30) / 82
    assert np.abs(made - expected).max() <= 0.5


@pytest.mark.parametrize("clipped", [0, 255])
def test_a_clipped_exposure_does_not_wash_the_colour_out(clipped: int) -> None:
    for sources in ((yuv(clipped, GREY), yuv(120, RED)), (yuv(120, RED), yuv(clipped, GREY)), (gray(9), yuv(9, RED))):
        assert off(fuse("exposure", *sources), RED) <= 1


def test_grey_exposures_have_a_grey_mean() -> None:
    assert off(fuse("exposure", yuv(40, GREY), yuv(200, GREY)), GREY) == 0
    assert off(fuse("exposure", gray(40), yuv(200, GREY)), GREY) == 0


def test_noise_of_a_grey_scene_is_not_blown_up() -> None:
    sources = [noise(number, around=128, width=5) for number in range(2)]
    made = chroma_of(fuse("exposure", *(yuv(100, chroma) for chroma in sources)))
    assert (made - 128).std() < 0.9 * min(chroma.std() for chroma in sources)
    assert abs(made.mean() - 128) < 0.2


def test_three_exposures_share() -> None:
    under, middle, over = yuv(10, GREY), yuv(100, RED), yuv(250, GREY)
    for order in ((under, middle, over), (middle, under, over), (under, over, middle)):
        assert off(fuse("exposure", *order), RED) <= 2
    three = chroma_of(fuse("exposure", yuv(10, (138, 118)), yuv(100, (138, 118)), yuv(250, (138, 118))))
    assert np.array_equal(np.unique(three[0]), [138])
    # 20, 20 and 40 of saturation, one more each.
    mean = 128 + (21 * 10 + 21 * 10 + 41 * 20) / 83
    made = chroma_of(fuse("exposure", yuv(10, (138, 138)), yuv(100, (138, 138)), yuv(250, (148, 148))))
    assert np.abs(made - mean).max() <= 0.5


def test_three_exposures_of_three_formats_and_sizes_give_one_picture() -> None:
    size = (65, 47)
    made = fuse("exposure", gray16((20, 30)), bgr(100, RED, (130, 94)), yuv(100, RED, size), fused=100)
    assert (made.pixel_format, made.size) == ("bgr24", size)
    assert off(made, RED) <= 2


# Focus:


@pytest.mark.parametrize("size", [media.SIZE, (65, 47)])
def test_each_pixel_has_the_colour_of_the_source_in_focus(size: tuple[int, int]) -> None:
    near, far = yuv(60, RED, size), yuv(150, BLUE, size)
    made = chroma_of(fuse("focus", near, far, fused=halves(60, 150, size)))
    left, right = made[:, :, :13], made[:, :, 19:]
    assert np.abs(left - planes_of(RED)).max() == 0
    assert np.abs(right - planes_of(BLUE)).max() == 0


def test_the_seam_is_soft() -> None:
    made = chroma_of(fuse("focus", yuv(60, RED), yuv(90, BLUE), fused=halves(60, 90)))[0, 10]
    assert np.all(np.diff(made) >= 0)
    assert len({level for level in made if level not in (RED[0], BLUE[0])}) >= 2


def test_noise_does_not_toss_the_colour_between_sources_that_are_alike() -> None:
    random = np.random.default_rng(0)
    lumas = [(100 + random.integers(-2, 3, media.SIZE[::-1])).astype(np.uint8) for _ in range(3)]
    made = chroma_of(fuse("focus", yuv(lumas[0], (120, 120)), yuv(lumas[1], (136, 136)), fused=lumas[2]))
    assert np.abs(made - 128).max() <= 4  # near the middle, and nowhere one or the other


def test_sources_of_different_range_are_compared_in_one() -> None:
    # Black is 0 in one and 16 in the other: the number of the grey source is nearer, its brightness is not.
    made = fuse("focus", yuv(0, RED), yuv(24, GREY, color_range="limited"), fused=16)
    assert off(made, (103, 191)) == 0  # RED in limited range: 224/255 of its distance from 128
    made = fuse("focus", yuv(16, (103, 191), color_range="limited"), yuv(8, GREY), fused=0)
    assert off(made, RED) <= 1


def test_what_is_sharp_in_a_grey_source_is_grey() -> None:
    made = fuse("focus", gray(60), yuv(200, RED), fused=60)
    assert off(made, GREY) == 0


# Medical:


def test_the_colour_of_the_other_modality_lies_over_the_mri() -> None:
    chroma = noise(3)
    for mri in (gray(200), yuv(200, BLUE), bgr(90, BLUE)):
        assert off(fuse("medical", mri, yuv(0, chroma), fused=200), chroma) == 0, "dark or not"
    tracer = bgr(halves(120, 90), RED)
    assert off(fuse("medical", gray(120), tracer, fused=120), RED) <= 1
    assert fuse("medical", gray(200), gray(10)).pixel_format == "gray8"


# Ranges and sizes:


@pytest.mark.parametrize("task", ["exposure", "focus"])
def test_limited_range_becomes_full_in_bgr24(task: str) -> None:
    limited, full = yuv(126, (153, 103), color_range="limited"), bgr(128, (156, 100))  # the same colour in both
    made = fuse(task, full, limited, fused=126)
    assert made.pixel_format == "bgr24"
    assert off(made, (156, 100)) <= 2
    assert np.abs(cv2.cvtColor(made.data, cv2.COLOR_BGR2YCrCb)[:, :, 0].astype(int) - 128).max() <= 1
    for level, whole in ((16, 0), (235, 255)):  # black and white
        ends = fuse(task, bgr(128, GREY), yuv(level, GREY, color_range="limited"))
        assert set(ends.data.flat) == {whole}


def test_a_grey_last_frame_of_limited_range_means_a_fused_one_of_full_range() -> None:
    grey = gray(24, color_range="limited")  # 9 of 255, and the first one's 0 is nearer to what was fused
    assert off(fuse("focus", yuv(0, RED), grey, fused=1), RED) <= 1
    assert off(fuse("focus", yuv(0, RED), grey, fused=9), GREY) <= 1
    bright = fuse("exposure", bgr(200, GREY), grey, fused=100)
    assert set(bright.data.flat) == {100}


@pytest.mark.parametrize("task", ["exposure", "focus"])
@pytest.mark.parametrize("first_size", [(32, 24), (128, 96), (33, 61), (1, 1)])
def test_a_first_frame_of_another_size_brings_its_colour(task: str, first_size: tuple[int, int]) -> None:
    for size in (media.SIZE, (65, 47)):
        for first in (yuv(100, RED, first_size), bgr(100, RED, first_size)):
            made = fuse(task, first, yuv(100, RED, size))
            assert made.size == size
            assert off(made, RED) <= (0 if made.pixel_format == "yuv420p" else 2)


def test_colour_of_a_smaller_frame_lies_where_it_should() -> None:
    small = np.full((2, 12, 16), 128, np.uint8)
    small[1, :, 8:] = 200
    made = chroma_of(fuse("exposure", yuv(100, small, (32, 24)), yuv(100, GREY)))[1]
    assert np.abs(made[:, :14] - 128).max() == 0
    assert np.abs(made[:, 18:] - 200).max() <= 1
