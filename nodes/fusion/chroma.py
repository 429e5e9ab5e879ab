"""The colour of a fused frame: the network fuses luma, and each task has its own rule for the chroma beside it.

Chroma is (2, h, w) uint8, U then V, no colour at 128; (h, w) are the cells it is worked out in: those of the 4:2:0
planes for a yuv420p result, the pixels for a bgr24 one. Nothing is kept from frame to frame, and every rule is smooth:
still input gives still colour, and no pixel jumps across a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from nodes.fusion.network import SCALES
from nodes.fusion.planes import in_range, luma_range, resized
from nodes.tasks import INPUTS
from pipeline.frame import ColorRange, Frame, PixelFormat, half

NEUTRAL = 128
# Value of no colour and the whole excursion: full range is 0..255 as in JPEG, limited 16..240 as in ITU-R BT.601.
CHROMA_SCALES: dict[ColorRange, tuple[float, float]] = {"full": (NEUTRAL, 255.0), "limited": (NEUTRAL, 224.0)}

SHARED = {"exposure", "focus"}  # tasks in which every source gives colour; in the others the last one alone does

# Levels of luma above black between which the colour of a visible frame sets in. Below, its chroma is mostly noise of
# the sensor: not seen as long as it is dark, but infrared may light up this very place in the fused luma.
DARK, LIT = 8, 40
GAIN_BITS = 7  # of its fraction: deviations times gain stay within int16
CALM_CELLS = 3  # side of the square in which luma counts as local: one noisy pixel shall not switch colour

SATURATION_NOISE = 1.0  # |U - 128| + |V - 128| that a grey thing has from noise and rounding
FOCUS_CELLS = 5  # side of the square in which sources are compared, and so width of the seam between them
LUMA_NOISE = 2.0  # mean absolute difference in luma, in levels, of two pictures that are the same but for noise


def with_chroma(
    task: str, frames: Sequence[Frame], lumas: Sequence[np.ndarray], fused: np.ndarray
) -> tuple[np.ndarray, PixelFormat]:
    """Fused luma with the chroma that the task takes from its sources.

    - infrared: that of the visible frame, fading out where that is too dark to have any.
    - exposure: the mean of the sources, weighted by saturation.
    - focus: that of the source whose luma is nearest to the fused one there.
    - medical: that of the last frame, as it is.

    Args:
        task: one of `nodes.tasks.INPUTS`.
        frames: N >= 2 frames in the order of the task's inputs, of any format; the last is of the fused size (W, H),
            the others may be of another one.
        lumas: of each frame (H, W) uint8, in the range of its frame; gray16 and bgr24 have luma of full range.
        fused: (H, W) uint8, in the range of `fused_range`.

    Returns:
        A frame's data, contiguous, and its format: bgr24 (H, W, 3) uint8, of full range, if a source that gives colour
        is bgr24; else yuv420p (H * W + 2 * ceil(H / 2) * ceil(W / 2),) uint8, in the range of `fused`, if one has
        colour; else gray8, which is `fused`.

    Raises:
        ValueError: there is no such task.
    """
    if task not in INPUTS:
        raise ValueError(f"there is no task {task!r}; there is: {', '.join(INPUTS)}")
    formats = {frame.pixel_format for frame in (frames if task in SHARED else frames[-1:])}
    own_range = fused_range(frames[-1])
    if "bgr24" in formats:
        u, v = _fused_chroma(task, frames, lumas, fused, fused.shape, "full")
        luma = in_range(fused, SCALES[own_range], SCALES["full"])
        return cv2.cvtColor(cv2.merge((luma, v, u)), cv2.COLOR_YCrCb2BGR), "bgr24"
    if "yuv420p" in formats:
        cells = half(fused.shape[0]), half(fused.shape[1])
        chroma = _fused_chroma(task, frames, lumas, fused, cells, own_range)
        return np.concatenate([fused.reshape(-1), chroma.reshape(-1)]), "yuv420p"
    return np.ascontiguousarray(fused), "gray8"


def fused_range(last: Frame) -> ColorRange:
    """Range of the luma fused from frames of which this is the last: its own if it has planes of chroma, else full."""
    return last.color_range if last.pixel_format == "yuv420p" else "full"


def calmed(chroma: np.ndarray, luma: np.ndarray, black: float) -> np.ndarray:
    """Chroma of a visible frame, fading to grey where it is dark.

    Args:
        chroma: (2, h, w) uint8.
        luma: (h, w) uint8 of the same frame.
        black: the luma of black, 0 or 16.

    Returns:
        (2, h, w) uint8: as it was where luma is at least `black + LIT`, neutral where it is at most `black + DARK`.
    """
    gain = cv2.LUT(cv2.blur(luma, (CALM_CELLS, CALM_CELLS)), ramp(black))
    calm: np.ndarray = (chroma.astype(np.int16) - NEUTRAL) * gain
    calm += (NEUTRAL << GAIN_BITS) + (1 << GAIN_BITS - 1)  # back to 128, and a half to round
    return (calm >> GAIN_BITS).astype(np.uint8)


def ramp(black: float) -> np.ndarray:
    """(256,) uint8: the gain of chroma in 128ths by local luma."""
    t = np.clip((np.arange(256) - black - DARK) / (LIT - DARK), 0, 1)
    smooth = t * t * (3 - 2 * t)  # no kink: no outline around the dark
    return np.rint(smooth * (1 << GAIN_BITS)).astype(np.uint8)


def saturation_weights(chromas: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Weight of each source by how colourful it is, after DeepFuse (Prabhakar et al., ICCV 2017).

    There U is weighted by |U - 128| and V by |V - 128|; here both by the sum, so that the hue of a mean lies between
    those of its sources. The noise is added to all alike, so that grey is the plain mean and not the noisiest source.
    The price: each grey partner takes up to one level of |U - 128| + |V - 128|.

    Args:
        chromas: N of (2, h, w) uint8.

    Returns:
        N of (h, w) float32, > 0.
    """
    deviations = [np.abs(chroma.astype(np.int16) - NEUTRAL) for chroma in chromas]
    return [np.add(u, v, dtype=np.float32) + np.float32(SATURATION_NOISE) for u, v in deviations]


def likeness_weights(lumas: Sequence[np.ndarray], fused: np.ndarray, cells: tuple[int, ...]) -> list[np.ndarray]:
    """Weight of each source by how near its luma is to the fused one: the fourth power of the inverse distance.

    At a tenth of the distance a source has nearly all; sources that are alike but for noise share, and do not flicker.

    Args:
        lumas: N of (H, W) uint8, in the range of `fused`.
        fused: (H, W) uint8.
        cells: (h, w) of the chroma.

    Returns:
        N of (h, w) float32, > 0 and at most 1.
    """
    weights = []
    for luma in lumas:
        distance = resized(cv2.absdiff(luma, fused), cells)  # compared in pixels: blur is lost in the mean of a cell
        distance = cv2.boxFilter(distance, cv2.CV_32F, (FOCUS_CELLS, FOCUS_CELLS))
        near = np.float32(LUMA_NOISE) / (distance + np.float32(LUMA_NOISE))
        weights.append(np.square(near * near))
    return weights


def weighted_mean(chromas: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of N (2, h, w) uint8 by N (h, w) float32 weights, rounded; where all agree it is what they agree on."""
    total = sum(weights[1:], start=weights[0])
    mean = np.zeros(chromas[0].shape, np.float32)
    for chroma, weight in zip(chromas, weights, strict=True):
        mean += chroma * (weight / total)
    return np.rint(mean, out=mean).astype(np.uint8)


def _fused_chroma(
    task: str,
    frames: Sequence[Frame],
    lumas: Sequence[np.ndarray],
    fused: np.ndarray,
    cells: tuple[int, ...],
    color_range: ColorRange,
) -> np.ndarray:
    """The task's rule: (2, h, w) uint8 in the given range, (h, w) as `cells`."""
    scales, wanted = [SCALES[luma_range(frame)] for frame in frames], SCALES[fused_range(frames[-1])]
    if task not in SHARED:
        own = _chroma(frames[-1], cells, color_range)
        return calmed(own, resized(lumas[-1], cells), scales[-1][0]) if task == "infrared" else own
    chromas = [_chroma(frame, cells, color_range) for frame in frames]
    if task == "exposure":
        return weighted_mean(chromas, saturation_weights(chromas))
    alike = [in_range(luma, scale, wanted) for luma, scale in zip(lumas, scales, strict=True)]
    return weighted_mean(chromas, likeness_weights(alike, fused, cells))


def _chroma(frame: Frame, cells: tuple[int, ...], color_range: ColorRange) -> np.ndarray:
    """Chroma of a frame of any format and size as (2, h, w) uint8; grey frames have none."""
    if frame.pixel_format in ("gray8", "gray16"):
        return np.full((2, *cells), NEUTRAL, np.uint8)
    if frame.pixel_format == "bgr24":
        _, v, u = cv2.split(cv2.cvtColor(frame.data, cv2.COLOR_BGR2YCrCb))
    else:
        _, u, v = frame.planes
    scales = CHROMA_SCALES[luma_range(frame)], CHROMA_SCALES[color_range]
    return np.stack([in_range(resized(plane, cells), *scales) for plane in (u, v)])
