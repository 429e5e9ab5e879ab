"""The planes of frames as the fusion works on them: their luma, its range and its size."""

from __future__ import annotations

import cv2
import numpy as np

from nodes.fusion.thermal import Agc
from pipeline.frame import ColorRange, Frame, half

COLOURED = ("yuv420p", "bgr24")


def luma_of(frame: Frame, gain: Agc) -> np.ndarray:
    """(H, W) uint8 in the range of `luma_range`; 16 bits go through the gain of their stream."""
    if frame.pixel_format == "gray16":
        return gain(frame.data, frame.timestamp_ns)
    if frame.pixel_format == "bgr24":
        return cv2.cvtColor(frame.data, cv2.COLOR_BGR2YCrCb)[:, :, 0]
    return frame.planes[0]


def luma_range(frame: Frame) -> ColorRange:
    """Range of the luma made of a frame: RGB and what an automatic gain brings to 8 bits fill all of it."""
    return "full" if frame.pixel_format in ("bgr24", "gray16") else frame.color_range


def in_range(plane: np.ndarray, before: tuple[float, float], after: tuple[float, float]) -> np.ndarray:
    """An (H, W) uint8 plane from one (zero, span) to another, clipped to 8 bits."""
    if before == after:
        return plane
    (zero, span), (new_zero, new_span) = before, after
    table = np.rint((np.arange(256) - zero) * (new_span / span) + new_zero)
    return cv2.LUT(plane, np.clip(table, 0, 255).astype(np.uint8))


def resized(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An (H, W) plane in another shape; that the last cell of an odd side is half outside is at most a pixel off."""
    if plane.shape == shape:
        return plane
    shrinks = shape[0] < plane.shape[0] or shape[1] < plane.shape[1]
    return cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def grey_like(frame: Frame, luma: np.ndarray) -> np.ndarray:
    """A frame's data without colour, of the format of another frame (gray8 for gray16).

    Args:
        frame: gives the format; its range is that of the luma.
        luma: (H, W) uint8, of the frame's size.
    """
    if frame.pixel_format == "bgr24":
        return cv2.merge((luma, luma, luma))
    return without_colour(luma) if frame.pixel_format == "yuv420p" else luma


def without_colour(luma: np.ndarray) -> np.ndarray:
    """(H, W) uint8 as the data of a yuv420p frame without colour."""
    chroma = 2 * half(luma.shape[0]) * half(luma.shape[1])
    return np.concatenate([luma.reshape(-1), np.full(chroma, 128, np.uint8)])
