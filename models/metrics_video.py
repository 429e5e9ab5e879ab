"""The two measures of this project's own: hot objects kept, and change in a clip that its sources do not explain.

Also what every metric shares: the check of its images. `models.metrics` imports this file, never the reverse.
"""

from collections.abc import Iterable
from itertools import zip_longest

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]  # (H, W), 0 to 255
Plane = NDArray[np.float64]  # (H, W), 0.0 to 255.0

_HOT_REACH = 15  # px
_HOT_RING = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _HOT_REACH + 1, 2 * _HOT_REACH + 1))


def hot_parts(infrared: Grey, fused: Grey) -> list[tuple[int, float]]:
    """Hot objects of the infrared image as (area in px, share of its contrast that `fused` kept, clipped to -1..1.5).

    A hot object is a connected part (8-neighbour, 30 px or more) at or above the 98th percentile and 60, that stands
    out by 25 grey levels or more from the ring of 15 px around it. Both images (H, W) uint8. This project's own.
    """
    check(infrared=infrared, fused=fused)
    hot = (infrared >= max(float(np.percentile(infrared, 98)), 60.0)).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    parts = []
    for label in range(1, count):
        left, top, width, height, area = (int(value) for value in boxes[label])
        if area < 30:
            continue
        rows = slice(max(top - _HOT_REACH, 0), top + height + _HOT_REACH)
        columns = slice(max(left - _HOT_REACH, 0), left + width + _HOT_REACH)
        inside = labels[rows, columns] == label
        # The ring leaves out every hot pixel, its neighbours' too: it is to be background.
        ring = (cv2.dilate(inside.astype(np.uint8), _HOT_RING) > 0) & (hot[rows, columns] == 0)
        contrast = _contrast(infrared[rows, columns], inside, ring)
        if contrast >= 25:
            kept = _contrast(fused[rows, columns], inside, ring) / contrast
            parts.append((area, min(max(kept, -1.0), 1.5)))
    return parts


def hot_contrast(parts: Iterable[tuple[int, float]]) -> float:
    """Hot, -1 to 1.5, higher is better: mean kept contrast over parts (of one or many images) by area, NaN if none."""
    parts = list(parts)
    return ratio(sum(area * kept for area, kept in parts), sum(area for area, _ in parts))


def unexplained_change(fused_frames: Iterable[Grey], a_frames: Iterable[Grey], b_frames: Iterable[Grey]) -> float:
    """Change a frame that neither source shows (flicker), 0 to 255 grey levels, lower is better. This project's own.

    Three clips of equal length and shape, frames (H, W) uint8, read once and one at a time. NaN below two frames.
    """
    change = UnexplainedChange()
    for frames in zip_longest(fused_frames, a_frames, b_frames):
        if any(frame is None for frame in frames):
            ended = [name for name, frame in zip(("fused", "a", "b"), frames, strict=True) if frame is None]
            raise ValueError(
                f"clip {' and '.join(ended)} ended at frame {change.frames}, before the others; "
                "legal are three clips of equal length"
            )
        fused, a, b = frames
        change.add(a, b, fused)
    return change.means()[0] if change.frames else float("nan")


class UnexplainedChange:
    """`unexplained_change` of several fused clips of the same two sources at once, a frame at a time."""

    def __init__(self) -> None:
        self.frames = 0
        self._changes: list[list[float]] = []  # of each frame but the first: a value a fused clip
        self._before: list[Plane] = []

    def add(self, a: Grey, b: Grey, *fused: Grey) -> None:
        """The next frame of the sources and of each fused clip, (H, W) uint8, the clips always in the same order."""
        for picture in fused:
            check(a=a, b=b, fused=picture)
        images = [image.astype(np.float64) for image in (a, b, *fused)]
        smooth: list[Plane] = [np.asarray(cv2.GaussianBlur(plane, (0, 0), 1.5)) for plane in images]
        if self._before:
            if self._before[0].shape != smooth[0].shape:
                raise ValueError(
                    f"frame is {smooth[0].shape} after {self._before[0].shape}; legal is one shape for a clip"
                )
            steps = [np.abs(now - before) for now, before in zip(smooth, self._before, strict=True)]
            explained = np.maximum(steps[0], steps[1])
            self._changes.append([float(np.mean(np.maximum(step - explained, 0))) for step in steps[2:]])
        self._before = smooth
        self.frames += 1

    def means(self, frames: int | None = None) -> list[float]:
        """Of each fused clip, over the first `frames` (None: all); NaN below two frames."""
        changes = self._changes[: None if frames is None else max(frames - 1, 0)]
        clips = len(self._before) - 2
        return [ratio(sum(change[clip] for change in changes), len(changes)) for clip in range(clips)]


def check(**images: Grey) -> None:
    """Raise ValueError unless all are (H, W) uint8 of one shape, of one pixel or more; the names go in the message."""
    for name, image in images.items():
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 2 or not image.size:
            came = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"{name} is {came}; legal is an (H, W) uint8 numpy array of one pixel or more")
    if len({image.shape for image in images.values()}) > 1:
        shapes = ", ".join(f"{name} is {image.shape}" for name, image in images.items())
        raise ValueError(f"{shapes}; legal is one shape for all")


def planes(a: Grey, b: Grey, fused: Grey) -> list[Plane]:
    """The three images checked, as float64."""
    check(a=a, b=b, fused=fused)
    return [image.astype(np.float64) for image in (a, b, fused)]


def ratio(part: float, whole: float) -> float:
    """`part` / `whole`, and NaN where `whole` is 0: the metric is undefined there."""
    return float(part / whole) if whole else float("nan")


def _contrast(image: Grey, inside: NDArray[np.bool_], ring: NDArray[np.bool_]) -> float:
    return float(image[inside].mean() - image[ring].mean()) if ring.any() else 0.0
