"""Palettes of thermal cameras: an infrared picture in colour, and the hot parts of it over a fused one."""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import cv2
import numpy as np

from nodes.fusion.chroma import CHROMA_SCALES
from nodes.fusion.network import SCALES
from nodes.fusion.planes import resized
from pipeline.frame import ColorMatrix, ColorRange, half

Palette = Literal["white-hot", "black-hot", "ironbow", "lava", "rainbow", "arctic", "sepia"]
PALETTES: tuple[Palette, ...] = get_args(Palette)

# Where a palette passes through which colour, from cold to hot, as sRGB. The two that are not here are grey: luma as it
# is, and the other way round. In ironbow, lava and sepia lightness never falls.
COLOURS: dict[Palette, tuple[tuple[float, int], ...]] = {
    "ironbow": (
        *((0, 0x000008), (0.16, 0x260A66), (0.36, 0x8A1291), (0.54, 0xD0335F)),
        *((0.72, 0xF2791F), (0.88, 0xFCC63A), (1, 0xFFFBE6)),
    ),
    "lava": ((0, 0x020202), (0.18, 0x3E0F12), (0.42, 0xA81E12), (0.66, 0xEE5A14), (0.84, 0xFDB52E), (1, 0xFFF9DF)),
    "rainbow": (
        *((0, 0x101A78), (0.18, 0x1F55E0), (0.36, 0x16B4DC), (0.52, 0x23BE55)),
        *((0.68, 0xD9DE2C), (0.84, 0xF58A1C), (1, 0xD8201E)),
    ),
    "arctic": ((0, 0x06102E), (0.3, 0x1F4FB0), (0.52, 0x6FA9DE), (0.68, 0xB9B7A2), (0.84, 0xF0B347), (1, 0xFFF2C4)),
    "sepia": ((0, 0x0A0603), (0.2, 0x3C2A18), (0.5, 0x957150), (1, 0xFBEFD8)),
}

GREYS: dict[Palette, int] = {"white-hot": 1, "black-hot": -1}  # with the direction in which they go

# Parts of luma that red and blue have, ITU-R BT.601, BT.709 and BT.2020; green has the rest.
LUMA_PARTS: dict[ColorMatrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}

# OKLab: Björn Ottosson, "A perceptual color space for image processing", 2020. Linear sRGB to cone responses, and
# their cube roots to lightness, green to red, blue to yellow.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)

HOT_FROM, HOT_FULL = 128, 192  # grey levels between which what stands out from around it begins to count as hot
SOFT = 40.0  # grey levels of standing out over which the paint sets in
AROUND = 0.5  # side of what is around, in sides of the picture
AROUND_CELLS = 96  # of the longer side in which that is worked out: it is smooth
PAINT_END = 0.85  # of the palette that full heat has: the very ends are near white, and no colour
PAINT_LUMA = 0.25  # of the palette's luma in the paint; the rest stays that of the picture
WHOLE = 128  # a weight of one
CALM_PIXELS = 3  # side of the square in which infrared counts as local: noise shall not sprinkle paint


def coloured(
    luma: np.ndarray,
    palette: Palette,
    color_range: ColorRange = "limited",
    color_matrix: ColorMatrix = "bt709",
    luma_range: ColorRange = "full",
) -> np.ndarray:
    """An infrared picture in the colours of a palette.

    Args:
        luma: (H, W) uint8, from cold to hot.
        palette: one of `PALETTES`.
        color_range: of the result.
        color_matrix: of the result.
        luma_range: of `luma`; that of `Agc` is full.

    Returns:
        Data of a yuv420p frame: (H * W + 2 * ceil(H / 2) * ceil(W / 2),) uint8. A chroma cell has the mean of its
        pixels' colours, not the colour of their mean.
    """
    table = yuv_table(palette, color_range, color_matrix)[positions(luma_range)]
    cells = half(luma.shape[0]), half(luma.shape[1])
    y, u, v = (cv2.LUT(luma, np.ascontiguousarray(table[:, plane])) for plane in range(3))
    return np.concatenate([y.ravel(), resized(u, cells).ravel(), resized(v, cells).ravel()])


def overlay(
    data: np.ndarray,
    size: tuple[int, int],
    infrared: np.ndarray,
    palette: Palette,
    color_range: ColorRange = "limited",
    color_matrix: ColorMatrix = "bt709",
    threshold: float = 24,
) -> np.ndarray:
    """Paint what is hot in the colours of a palette over a picture, which stays to be seen under it.

    All is a smooth function of the infrared picture, and nothing is measured over a whole frame but the gain that
    brought it to 8 bits: what is still stays still.

    Args:
        data: of a yuv420p frame, (H * W + 2 * ceil(H / 2) * ceil(W / 2),) uint8. It is not written to.
        size: (width, height) of it.
        infrared: (h, w) uint8, full range, registered to it; of any size.
        palette: one of `PALETTES`.
        color_range: of `data`.
        color_matrix: of `data`.
        threshold: grey levels by which something is hotter than what is around it before the paint sets in.

    Returns:
        Data of the painted frame, of the same shape.
    """
    width, height = size
    luma, cells = (height, width), (half(height), half(width))
    paint = yuv_table(palette, color_range, color_matrix)[np.rint(np.arange(256) * PAINT_END).astype(np.intp)]
    hot = hotness(infrared, threshold)
    weights = resized(cv2.convertScaleAbs(hot, alpha=PAINT_LUMA), luma), *[resized(hot, cells)] * 2
    planes, at = [], 0
    for plane, (shape, weight) in enumerate(zip((luma, cells, cells), weights, strict=True)):
        under = data[at : at + shape[0] * shape[1]].reshape(shape)
        over = resized(cv2.LUT(infrared, np.ascontiguousarray(paint[:, plane])), shape)
        planes.append(blended(under, over, weight).ravel())
        at += under.size
    return np.concatenate(planes)


def hotness(infrared: np.ndarray, threshold: float) -> np.ndarray:
    """Where a picture is hot: in the upper part of its range, and hotter than what is around.

    Args:
        infrared: (h, w) uint8, full range.
        threshold: grey levels above what is around where it begins.

    Returns:
        (h, w) uint8, 0..128: how hot.
    """
    height, width = infrared.shape
    cell = 1
    while max(height, width) > AROUND_CELLS * cell:
        cell *= 2  # divides the sides of most pictures, which makes it fast
    small = resized(infrared, (-(-height // cell), -(-width // cell)))
    kernel = tuple(1 + 2 * int(side * AROUND / 2) for side in small.shape[::-1])
    # Twice a box: a tent, which has no edge that could be seen in the paint.
    around = cv2.blur(cv2.blur(small, kernel, borderType=cv2.BORDER_REFLECT), kernel, borderType=cv2.BORDER_REFLECT)
    calm = cv2.blur(infrared, (CALM_PIXELS, CALM_PIXELS))
    stands_out = cv2.LUT(cv2.subtract(calm, resized(around, (height, width))), ramp(threshold, threshold + SOFT))
    return cv2.multiply(stands_out, cv2.LUT(calm, ramp(HOT_FROM, HOT_FULL)), scale=1 / WHOLE)


@cache
def ramp(low: float, high: float) -> np.ndarray:
    """(256,) uint8: 0 up to `low`, 128 from `high` on, without a kink."""
    t = np.clip((np.arange(256) - low) / (high - low), 0, 1)
    return read_only(t * t * (3 - 2 * t) * WHOLE)


def blended(under: np.ndarray, over: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(h, w) uint8: `under` where `weight` (0..128) is 0, `over` where it is 128; between them rounded by up to 1."""
    rest = (WHOLE - weight).astype(np.uint8)
    return cv2.add(cv2.multiply(over, weight, scale=1 / WHOLE), cv2.multiply(under, rest, scale=1 / WHOLE))


def positions(luma_range: ColorRange) -> np.ndarray:
    """(256,) intp: where in a palette each luma is."""
    black, span = SCALES[luma_range]
    return np.clip(np.rint((np.arange(256) - black) * (255 / span)), 0, 255).astype(np.intp)


@cache
def bgr_table(palette: Palette) -> np.ndarray:
    """(256, 3) uint8: the colours from cold to hot, BGR. Read-only.

    Between the colours of the palette they run straight in OKLab, so that equal steps look equal.
    """
    if palette in GREYS:
        return read_only(np.repeat(np.arange(256)[:: GREYS[palette], None], 3, axis=1))
    stops, codes = zip(*COLOURS[palette], strict=True)
    rgb = np.array([[code >> 16, code >> 8 & 255, code & 255] for code in codes]) / 255
    lab = np.cbrt(linear(rgb) @ TO_CONES.T) @ TO_LAB.T
    at = np.linspace(0, 1, 256)
    between = np.stack([np.interp(at, stops, channel) for channel in lab.T], axis=1)
    back = (between @ np.linalg.inv(TO_LAB).T) ** 3 @ np.linalg.inv(TO_CONES).T
    return read_only(255 * gamma(np.clip(back, 0, 1))[:, ::-1])


@cache
def yuv_table(palette: Palette, color_range: ColorRange, color_matrix: ColorMatrix) -> np.ndarray:
    """(256, 3) uint8: the same colours as Y, U and V. Read-only."""
    b, g, r = bgr_table(palette).T / 255
    red, blue = LUMA_PARTS[color_matrix]
    y = red * r + (1 - red - blue) * g + blue * b
    (black, span), (neutral, excursion) = SCALES[color_range], CHROMA_SCALES[color_range]
    u = neutral + excursion * (b - y) / (2 * (1 - blue))
    v = neutral + excursion * (r - y) / (2 * (1 - red))
    return read_only(np.stack([black + span * y, u, v], axis=1))


def read_only(table: np.ndarray) -> np.ndarray:
    """The same rounded to uint8; one for all, so nobody may write to it."""
    table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
    table.flags.writeable = False
    return table


def linear(rgb: np.ndarray) -> np.ndarray:
    """sRGB (IEC 61966-2-1) in 0..1 to light."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def gamma(light: np.ndarray) -> np.ndarray:
    """Light in 0..1 to sRGB."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
