"""The classical fusions that a network has to beat: each a pure function of (stem, first, second) to the fused picture.

All pictures are (H, W) uint8 of one shape, 0..255; the stem, the pair's name, is of no use to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import cv2
import numpy as np

Fusing = Callable[[str, np.ndarray, np.ndarray], np.ndarray]
"""Of (stem, first, second), luma (H, W) uint8 each: the fused luma."""

Plane = np.ndarray  # (H, W) float32

PYRAMID_LEVELS = 4  # of detail, each half as large as the one before

# Of GFF, as its paper has them.
BASE_WINDOW = 31  # px: what this mean keeps is the base, the rest detail
SALIENCY_WINDOW, SALIENCY_SIGMA = 11, 5.0  # px
BASE_RADIUS, BASE_SMOOTHING = 45, 0.3  # px, and for a guide in 0..1
DETAIL_RADIUS, DETAIL_SMOOTHING = 7, 1e-6
TINY_WEIGHT = 1e-6  # where both weights are 0 the sources share alike


def controls_for(task: str) -> dict[str, Fusing]:
    """The controls by name, as the task wants them."""
    return {
        "average": average,
        "maximum": maximum,
        "Laplacian pyramid": partial(laplacian_pyramid, brightest_base=task == "infrared"),
        "GFF": guided_filter_fusion,
    }


def average(_: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean of both, a half rounded up."""
    return ((first.astype(np.uint16) + second + 1) // 2).astype(np.uint8)


def maximum(_: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The brighter of both at each pixel."""
    return np.maximum(first, second)


def laplacian_pyramid(_: str, first: np.ndarray, second: np.ndarray, *, brightest_base: bool) -> np.ndarray:
    """At each place and scale the detail of larger magnitude (Burt and Adelson 1983, Toet 1989).

    Args:
        first, second: the sources.
        brightest_base: the maximum of what is left at the coarsest scale, which keeps hot objects hot, not its mean.
    """
    (*details, base), (*others, other_base) = pyramid(first), pyramid(second)
    plane = np.maximum(base, other_base) if brightest_base else (base + other_base) / 2
    for detail, other in zip(reversed(details), reversed(others), strict=True):
        plane = enlarged(plane, detail) + np.where(np.abs(detail) >= np.abs(other), detail, other)
    return to_grey(plane)


def pyramid(picture: np.ndarray) -> list[Plane]:
    """Detail from fine to coarse, then the base that is left."""
    planes: list[Plane] = [picture.astype(np.float32)]
    for _ in range(PYRAMID_LEVELS):
        planes.append(cv2.pyrDown(planes[-1]))
    return [plane - enlarged(coarse, plane) for plane, coarse in pairwise(planes)] + planes[-1:]


def enlarged(coarse: Plane, like: Plane) -> Plane:
    return cv2.pyrUp(coarse, dstsize=like.shape[::-1])


def guided_filter_fusion(_: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """GFF: base and detail by weights that follow the edges of the sources (Li, Kang and Hu 2013).

    "Image fusion with guided filtering", IEEE Transactions on Image Processing 22(7): saliency of section III-B picks a
    source at each pixel, a guided filter of each source makes weights of the choice.
    """
    a, b = first.astype(np.float32), second.astype(np.float32)
    chosen = (saliency(a) >= saliency(b)).astype(np.float32)
    base_a, base_b = box_mean(a, BASE_WINDOW), box_mean(b, BASE_WINDOW)
    for_base = weights(a, b, chosen, BASE_RADIUS, BASE_SMOOTHING)
    for_detail = weights(a, b, chosen, DETAIL_RADIUS, DETAIL_SMOOTHING)
    base = for_base * base_a + (1 - for_base) * base_b
    return to_grey(base + for_detail * (a - base_a) + (1 - for_detail) * (b - base_b))


def saliency(plane: Plane) -> Plane:
    """Strength of the Laplacian around each pixel."""
    edges = np.abs(cv2.Laplacian(plane, cv2.CV_32F, ksize=1, borderType=cv2.BORDER_REFLECT))
    window = (SALIENCY_WINDOW, SALIENCY_WINDOW)
    return cv2.GaussianBlur(edges, window, SALIENCY_SIGMA)


def weights(a: Plane, b: Plane, chosen: Plane, radius: int, smoothing: float) -> Plane:
    """Weight of `a` at each pixel, 0..1; the rest is that of `b`."""
    of_a, of_b = (
        np.clip(guided_filter(guide, choice, radius, smoothing), 0, 1) + TINY_WEIGHT
        for guide, choice in ((a, chosen), (b, 1 - chosen))
    )
    return of_a / (of_a + of_b)


def guided_filter(guide: Plane, plane: Plane, radius: int, smoothing: float) -> Plane:
    """`plane` smoothed with the edges of `guide`, 0..255, kept (He, Sun and Tang 2013)."""
    guide, side = guide / 255, 2 * radius + 1
    mean, mean_guide = box_mean(plane, side), box_mean(guide, side)
    variance = box_mean(guide * guide, side) - mean_guide * mean_guide
    slope = (box_mean(guide * plane, side) - mean_guide * mean) / (variance + smoothing)
    return box_mean(slope, side) * guide + box_mean(mean - slope * mean_guide, side)


def box_mean(plane: Plane, side: int) -> Plane:
    return cv2.blur(plane, (side, side))


def to_grey(plane: np.ndarray) -> np.ndarray:
    """Rounded and clipped, never stretched."""
    return np.clip(np.rint(plane), 0, 255).astype(np.uint8)
