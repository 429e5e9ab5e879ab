"""output.images: one image a frame, or one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2

from nodes.pictures import IMAGE_SUFFIXES, check_target, image_of, write_whole
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame
from pipeline.node import Node


class ImagesOutput(Node):
    """Write each frame as an image. An image is complete or not there.

    Args:
        path: a folder, made if its parent is there, for files named as the source's or `000000.png` and on; or, with the
            suffix of an image, the one file for the one frame that comes.
        format: of the files in a folder. 16-bit frames need png or tiff.
        quality: of JPEG, 1 to 100.
    """

    def __init__(self, path: Path, format: Literal["png", "jpg", "tiff"] = "png", quality: int = 95) -> None:
        if not 1 <= quality <= 100:
            raise ConfigError(f"setting 'quality' is {quality}; legal is 1 to 100")
        self.path, self.suffix, self.quality = path, f".{format}", quality
        self.single = path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()
        self._written = 0

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        check_target(self.path / "a file" if self.path.is_dir() else self.path)

    def process(self, frame: Frame) -> None:
        if self.single and self._written:
            raise OutputError(f"{self.path}: holds one image, and a second frame came; give a folder")
        if not self.single:
            self.path.mkdir(exist_ok=True)
        path = self.path if self.single else self.path / f"{frame.name or f'{frame.sequence:06d}'}{self.suffix}"
        write_image(path, frame, self.quality)
        self._written += 1

    def report(self) -> dict[str, Any]:
        return {"path": str(self.path)} if self._written else {}


def write_image(path: Path, frame: Frame, quality: int) -> None:
    """Encode as the suffix says, and write.

    Raises:
        OutputError: it cannot be written, or the format cannot hold it.
    """
    image, suffix = image_of(frame), path.suffix.lower()
    if image.dtype.itemsize == 2 and suffix not in (".png", ".tif", ".tiff"):
        raise OutputError(f"{path}: {suffix} cannot hold 16 bits; write .png or .tiff")
    ok, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise OutputError(f"{path}: OpenCV cannot write {suffix} here")
    write_whole(path, data.tobytes())
