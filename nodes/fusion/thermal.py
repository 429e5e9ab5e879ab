"""From 16-bit counts of a radiometric sensor to the 8 bits that networks and eyes work in."""

from __future__ import annotations

import numpy as np

MIN_SPAN = 32  # counts; a flat scene shall not be all noise, nor divide by zero


class LinearGain:
    """Stretch the counts between two percentiles over 0..255, the same way for all pixels of a frame.

    The limits follow the scene slowly, so that an object coming in does not make the whole picture jump.

    Args:
        share: of the pixels left out at either end, 0..0.5.
        follow: how far the limits go towards those of the newest frame at each frame, 0..1.
    """

    def __init__(self, share: float = 0.005, follow: float = 0.1) -> None:
        self.share, self.follow = share, follow
        self._limits: np.ndarray | None = None

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """(H, W) uint16 to (H, W) uint8."""
        now = np.quantile(
            counts[:: 1 + counts.shape[0] // 512, :: 1 + counts.shape[1] // 512], (self.share, 1 - self.share)
        )
        self._limits = now if self._limits is None else self._limits + self.follow * (now - self._limits)
        low, high = self._limits
        if high - low < MIN_SPAN:
            low, high = (low + high - MIN_SPAN) / 2, (low + high + MIN_SPAN) / 2
        return np.clip((counts.astype(np.float32) - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)
