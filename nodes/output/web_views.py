"""The pictures of output.web: of each view the newest frame alone, encoded when somebody looks and once for all."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import cv2
import numpy as np

from nodes.pictures import image_file, image_of
from pipeline.frame import Frame

SHARE = 0.005  # of the counts of 16 bits that may lie beyond black and white, at either end
FOLLOW_SECONDS = 1.0  # time constant of the limits of 16 bits
MIN_SPAN = 32  # counts; a flat scene shall not be all noise, nor divide by zero


class Newest(NamedTuple):
    """What a view shows."""

    frame: Frame
    arrived_ns: int
    """On the monotonic clock."""


class View:
    """The newest frame of one stream: a slot, no queue.

    `put` is called in the node's thread and never waits; all else runs in the server's event loop.

    Args:
        name: of the input.
        pool: of one thread, in which pictures are encoded: watching costs no more than one core.
        quality: of JPEG, 1..100.
        max_side: longest side of the pictures to watch, in px.
    """

    def __init__(self, name: str, pool: ThreadPoolExecutor, quality: int, max_side: int) -> None:
        self.name, self.quality, self.max_side = name, quality, max_side
        self.newest: Newest | None = None
        self.watchers = 0
        self._pool = pool
        self._stretch = Stretch()
        self._encoded: tuple[Frame, asyncio.Future[bytes]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    def serve_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """The event loop to tell of new frames."""
        self._loop = loop

    def put(self, frame: Frame, now_ns: int) -> None:
        """Show a frame from now on."""
        self.newest = Newest(frame, now_ns)
        if self.watchers and self._loop is not None:
            with suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._tell)

    async def next_jpeg(self, after: Frame | None) -> tuple[Newest, bytes]:
        """The newest frame as JPEG to watch, as soon as it is another one than `after`.

        Whoever is slow gets the newest one next, and never knows of those between.
        """
        while (newest := self.newest) is None or newest.frame is after:
            await self._news.wait()
        if self._encoded is None or self._encoded[0] is not newest.frame:
            future = asyncio.get_running_loop().run_in_executor(self._pool, self._jpeg, newest.frame)
            self._encoded = newest.frame, future
        return newest, await asyncio.shield(self._encoded[1])  # others may wait for it as well

    async def snapshot(self, suffix: str) -> bytes | None:
        """The newest frame in full size; None if none came yet.

        Args:
            suffix: ".png", in which 16 bits stay as they are; or ".jpg", in which they are as they are watched.
        """
        if self.newest is None:
            return None
        job = self._png if suffix == ".png" else self._full_jpeg
        return await asyncio.get_running_loop().run_in_executor(self._pool, job, self.newest.frame)

    def _tell(self) -> None:
        """Wake all who wait for a frame."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    # In the thread of the pool:

    def _jpeg(self, frame: Frame) -> bytes:
        return image_file(".jpg", smaller(self._seen(frame), self.max_side), self.quality)

    def _full_jpeg(self, frame: Frame) -> bytes:
        return image_file(".jpg", self._seen(frame), self.quality)

    def _png(self, frame: Frame) -> bytes:
        return image_file(".png", image_of(frame))

    def _seen(self, frame: Frame) -> np.ndarray:
        """(H, W) or (H, W, 3) uint8, as it is watched."""
        image = image_of(frame)
        return self._stretch(image, frame.timestamp_ns) if image.dtype == np.uint16 else image


class Stretch:
    """Counts of 16 bits to 8 for the eye: two percentiles to black and white, which follow the scene slowly.

    For watching alone; a picture to keep has its gain from the pipeline.
    """

    def __init__(self) -> None:
        self._limits: np.ndarray | None = None
        self._time_ns = 0

    def __call__(self, counts: np.ndarray, time_ns: int) -> np.ndarray:
        """(H, W) uint16, taken at a time, to (H, W) uint8."""
        some = counts[:: 1 + counts.shape[0] // 256, :: 1 + counts.shape[1] // 256]
        now = np.quantile(some, (SHARE, 1 - SHARE))
        if self._limits is None:
            self._limits = now
        follow = 1 - math.exp(-abs(time_ns - self._time_ns) / (FOLLOW_SECONDS * 1e9))
        self._limits, self._time_ns = self._limits + follow * (now - self._limits), time_ns
        low, high = self._limits
        if high - low < MIN_SPAN:
            low, high = (low + high - MIN_SPAN) / 2, (low + high + MIN_SPAN) / 2
        return np.clip((counts.astype(np.float32) - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)


def smaller(image: np.ndarray, max_side: int) -> np.ndarray:
    """With its longest side no longer than that, in its shape."""
    rows, columns = image.shape[:2]
    scale = max_side / max(rows, columns)
    if scale >= 1:
        return image
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    scaled: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return scaled
