"""output.sheet: a contact sheet, some moments of several streams side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nodes.pictures import check_target, image_of, write_whole
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.node import Node

LABEL_HEIGHT = 24  # px


class SheetOutput(Node):
    """Write one PNG: a row for each moment, a column for each stream, with their names above.

    Args:
        path: the PNG file.
        columns: names of the inputs, from left to right.
        at_s: moments in seconds; each shows the first frames at or after it.
        width: of a column in px.
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
        if not columns or not at_s or width < 16:
            raise ConfigError("a sheet needs at least one column, one moment and a width of 16 px")
        self.path, self.columns, self.width = path, columns, width
        self.at_ns = sorted(round(at * 1e9) for at in at_s)
        self._rows: list[np.ndarray] = []

    def inputs(self) -> tuple[str, ...]:
        return self.columns

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        check_target(self.path)

    def process(self, **pictures: Frame) -> None:
        now = pictures[self.columns[-1]].timestamp_ns
        if len(self._rows) < len(self.at_ns) and now >= self.at_ns[len(self._rows)]:
            self._rows.append(np.hstack([self._tile(pictures[name]) for name in self.columns]))

    def close(self) -> None:
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        _, data = cv2.imencode(".png", np.vstack([self._labels(width), *rows]))
        write_whole(self.path, data.tobytes())

    def abort(self) -> None:
        self._rows = []

    def report(self) -> dict[str, Any]:
        return {"path": str(self.path)} if self.path.exists() else {}

    def _tile(self, frame: Frame) -> np.ndarray:
        """(height, width, 3) uint8, the height after the frame's shape."""
        image = image_of(frame)
        if image.dtype == np.uint16:
            low, high = int(image.min()), int(image.max())
            image = ((image.astype(np.float32) - low) * (255 / max(1, high - low))).astype(np.uint8)
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        height = max(1, round(image.shape[0] * self.width / image.shape[1]))
        tile: np.ndarray = cv2.resize(image, (self.width, height), interpolation=cv2.INTER_AREA)
        return tile

    def _labels(self, width: int) -> np.ndarray:
        bar = np.zeros((LABEL_HEIGHT, width, 3), np.uint8)
        for column, name in enumerate(self.columns):
            place = (column * self.width + 6, LABEL_HEIGHT - 7)
            cv2.putText(bar, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        return bar
