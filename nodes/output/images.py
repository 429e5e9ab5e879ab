"""output.images: one image a frame, or one image."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from nodes.pictures import IMAGE_SUFFIXES, check_target, image_of, reason, write_image
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame
from pipeline.node import Node

log = logging.getLogger("streamfuse")


class ImagesOutput(Node):
    """Write each frame as an image. An image is complete or not there.

    Args:
        path: a folder, made if its parent is there, for files named as the source's or `000000.png` and on; or, with
            the suffix of an image, the one file for the one frame that comes.
        format: of the files in a folder. 16-bit frames need png or tiff.
        quality: of JPEG, 1 to 100.
    """

    def __init__(self, path: Path, format: Literal["png", "jpg", "tiff"] = "png", quality: int = 95) -> None:
        if not 1 <= quality <= 100:
            raise ConfigError(f"setting 'quality' is {quality}; legal is 1 to 100")
        self.path, self.suffix, self.quality = path, f".{format}", quality
        self.single = path.suffix.lower() in IMAGE_SUFFIXES
        self._written = self._lost = 0

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        try:
            folder = self.path.is_dir()
            other = self.path.exists() and not folder
        except OSError as error:  # a name too long, or a folder that may not be looked into
            raise OutputError(f"{self.path}: cannot be written: {reason(error)}") from error
        self.single = self.single and not folder
        if other and not self.single:
            legal = ", ".join(sorted(IMAGE_SUFFIXES))
            raise OutputError(f"{self.path}: is a file; give a folder, or the name of an image ({legal})")
        check_target(self.path / "image" if folder else self.path)

    def process(self, frame: Frame) -> None:
        if self.single and self._written:
            raise OutputError(f"{self.path}: holds one image, and a second frame came; give a folder")
        path = self.path if self.single else self._path_in_folder(frame)
        try:
            write_image(path, image_of(frame), self.quality)
        except OutputError as error:
            if not self.in_live_mode:
                raise
            self._lost += 1  # a full disk is no reason to stop the picture
            if self._lost == 1:
                log.warning("%s: images are lost until there is room again: %s", self.name, error)
            return
        self._written += 1

    def report(self) -> dict[str, Any]:
        notes = {"notes": {"not_written": self._lost}} if self._lost else {}
        return ({"path": str(self.path)} if self._written else {}) | notes

    def _path_in_folder(self, frame: Frame) -> Path:
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: the folder cannot be made: {reason(error)}") from error
        name = frame.name or f"{frame.sequence:06d}"
        return (
            self.path / f"{name.replace('/', '_')}{self.suffix}"
        )  # a name may come from afar: never out of the folder
