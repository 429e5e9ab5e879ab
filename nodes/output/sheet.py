"""output.sheet: a contact sheet, some moments of several streams side by side."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nodes.pictures import check_target, image_of, write_image
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.node import Node

log = logging.getLogger("streamfuse")

LABEL_HEIGHT = 24  # px
WIDTHS = range(16, 4097)  # px
TALLEST = 2  # times as high as the column is wide; higher pictures are made narrower


class SheetOutput(Node):
    """Write one PNG: a row for each moment, a column for each stream, with their names above.

    Args:
        path: the PNG file.
        columns: names of the inputs, from left to right.
        at_s: moments in seconds, live from the first frame on; each shows the first frames at or after it.
        width: of a column in px, 16 to 4096.
    """

    def __init__(
        self,
        path: Path,
        columns: tuple[str, ...] = ("infrared", "visible", "fused"),
        at_s: tuple[float, ...] = (0.0,),
        width: int = 320,
    ) -> None:
        if path.suffix.lower() != ".png":
            raise ConfigError(f"setting 'path' is {str(path)!r}: a sheet is written as .png")
        if not columns or len(set(columns)) < len(columns):
            raise ConfigError(f"setting 'columns' is {list(columns)}: give at least one name, and each but once")
        if not at_s or not all(map(math.isfinite, at_s)):
            raise ConfigError(f"setting 'at_s' is {list(at_s)}: give at least one moment, in seconds")
        if width not in WIDTHS:
            raise ConfigError(f"setting 'width' is {width}; legal is {WIDTHS[0]} to {WIDTHS[-1]} px")
        self.path, self.columns, self.width = path, columns, width
        self.at_ns = sorted(round(at * 1e9) for at in at_s)
        self._rows: list[np.ndarray] = []
        self._began_ns: int | None = None
        self._written = False

    def inputs(self) -> tuple[str, ...]:
        return self.columns

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        check_target(self.path)

    def process(self, **pictures: Frame) -> None:
        now = pictures[self.columns[-1]].timestamp_ns
        if self._began_ns is None:  # recordings begin at their own 0
            self._began_ns = now if self.in_live_mode else 0
        now -= self._began_ns
        if len(self._rows) < len(self.at_ns) and now >= self.at_ns[len(self._rows)]:
            self._rows.append(self._row([self._tile(pictures[name]) for name in self.columns]))

    def close(self) -> None:
        if self._written:
            return
        if missing := self.at_ns[len(self._rows) :]:
            log.warning("%s: no frame came at or after %g s, so there is no row of it", self.name, missing[0] / 1e9)
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        write_image(self.path, np.vstack([self._labels(), *rows]))
        self._written = True

    def abort(self) -> None:
        self._rows = []

    def report(self) -> dict[str, Any]:
        return {"path": str(self.path)} if self._written else {}

    def _tile(self, frame: Frame) -> np.ndarray:
        """(height, width, 3) uint8, the height after the frame's shape and the width no more than the column's."""
        image = image_of(frame)
        if image.dtype == np.uint16:
            low, high = np.percentile(image, (0.5, 99.5))  # so that a few hot pixels do not turn the rest black
            stretched = (image.astype(np.float32) - low) * (255 / max(1, high - low))
            image = np.clip(stretched, 0, 255).astype(np.uint8)
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        rows, columns = image.shape[:2]
        scale = min(self.width / columns, TALLEST * self.width / rows)
        size = max(1, round(columns * scale)), max(1, round(rows * scale))
        tile: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return tile

    def _row(self, tiles: list[np.ndarray]) -> np.ndarray:
        """Tiles side by side, each in the middle of its column, on black."""
        height = max(tile.shape[0] for tile in tiles)
        row = np.zeros((height, self.width * len(tiles), 3), np.uint8)
        for column, tile in enumerate(tiles):
            rows, columns = tile.shape[:2]
            top, left = (height - rows) // 2, column * self.width + (self.width - columns) // 2
            row[top : top + rows, left : left + columns] = tile
        return row

    def _labels(self) -> np.ndarray:
        bar = np.zeros((LABEL_HEIGHT, self.width * len(self.columns), 3), np.uint8)
        for column, name in enumerate(self.columns):
            cell = bar[:, column * self.width : (column + 1) * self.width]
            place = (6, LABEL_HEIGHT - 7)
            cv2.putText(cell, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        return bar
