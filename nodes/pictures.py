"""Between our frames and the pictures of PyAV and OpenCV; shared by the nodes that read and write files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from pipeline.errors import OutputError
from pipeline.frame import MATRIX_CODES, ColorMatrix, ColorRange, Frame, PixelFormat

AV_FORMATS: dict[PixelFormat, str] = {"gray8": "gray", "gray16": "gray16le", "yuv420p": "yuv420p", "bgr24": "bgr24"}
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
LIMITED, FULL = 1, 2  # AVCOL_RANGE_MPEG and _JPEG
MATRICES: dict[int, ColorMatrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}  # H.273 table 4


def color_range_of(picture: av.VideoFrame) -> ColorRange:
    """The range a decoder reports; where it says nothing, as everybody assumes: YUV limited, gray and RGB full."""
    name = picture.format.name
    if picture.color_range == FULL or name.startswith(("yuvj", "gray", "mono", "ya", "pal")) or picture.format.is_rgb:
        return "full" if not (name.startswith("gray") and picture.color_range == LIMITED) else "limited"
    return "limited"


def color_matrix_of(picture: av.VideoFrame) -> ColorMatrix:
    """The matrix a decoder reports; where it says nothing, BT.709 from 720 lines up, BT.601 below."""
    return MATRICES.get(int(picture.colorspace), "bt709" if picture.height >= 720 else "bt601")


def pixel_format_of(picture: av.VideoFrame) -> PixelFormat:
    """The format of ours that keeps most of a decoded picture."""
    name = picture.format.name
    if name.startswith(("gray", "ya")):
        return "gray16" if picture.format.components[0].bits > 8 else "gray8"
    if name.startswith("mono"):
        return "gray8"
    return "bgr24" if picture.format.is_rgb or name == "pal8" else "yuv420p"


def array_of(picture: av.VideoFrame, pixel_format: PixelFormat) -> np.ndarray:
    """The pixels of a decoded picture as a frame's data, copied once; converted only where the format differs.

    Range and matrix stay as they are. Gray of 9 to 16 bits keeps its numbers, whatever their scale.
    """
    wanted = AV_FORMATS[pixel_format]
    name = picture.format.name
    same = name == wanted or (name == "yuvj420p" and wanted == "yuv420p")
    deep_gray = wanted == "gray16le" and name.startswith("gray") and name.endswith("le") and "f" not in name
    if not (same or deep_gray):
        full = color_range_of(picture) == "full"
        side = FULL if full else LIMITED
        picture = picture.reformat(format=wanted, src_color_range=side, dst_color_range=side)
    planes = [plane_of(plane, picture, index) for index, plane in enumerate(picture.planes)]
    if pixel_format == "yuv420p":
        return np.concatenate([plane.reshape(-1) for plane in planes])
    return planes[0].reshape(picture.height, picture.width, 3) if pixel_format == "bgr24" else planes[0].copy()


def plane_of(plane: Any, picture: av.VideoFrame, index: int) -> np.ndarray:
    """A plane as (rows, values) without the padding at the end of each line, a view where possible."""
    dtype = np.dtype("<u2") if picture.format.name.endswith("le") else np.dtype(np.uint8)
    # PyAV rounds the size of chroma planes down in places, the codec rounds up: count from the picture.
    rows, columns = picture.height, picture.width
    if index and picture.format.name.startswith("yuv"):
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    values = columns * (3 if picture.format.name == "bgr24" else 1)
    lines = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return lines[:rows, :values]


def picture_of(frame: Frame, pad_to_even: bool = False) -> av.VideoFrame:
    """A frame as a picture for an encoder, tagged with its range and matrix.

    Args:
        frame: the frame.
        pad_to_even: repeat the last column and row of odd sizes.
    """
    width, height = frame.size
    if pad_to_even:
        width, height = width + width % 2, height + height % 2
    picture = av.VideoFrame(width, height, AV_FORMATS[frame.pixel_format])
    for index, (plane, source) in enumerate(zip(picture.planes, frame.planes, strict=True)):
        target = plane_of(plane, picture, index)
        target.flags.writeable = True
        lines = source.reshape(source.shape[0], -1)
        step = 3 if frame.pixel_format == "bgr24" else 1
        target[: lines.shape[0], : lines.shape[1]] = lines
        target[: lines.shape[0], lines.shape[1] :] = lines[:, -step:]
        target[lines.shape[0] :] = target[lines.shape[0] - 1]
    picture.color_range = FULL if frame.color_range == "full" else LIMITED
    if frame.pixel_format == "yuv420p":
        picture.colorspace = MATRIX_CODES[frame.color_matrix]
    return picture


def image_of(frame: Frame) -> np.ndarray:
    """A frame as OpenCV writes and shows images: (H, W) uint8 or uint16, or (H, W, 3) uint8 BGR, full range."""
    if frame.pixel_format == "yuv420p":
        picture = picture_of(frame).reformat(
            format="bgr24",
            src_colorspace=MATRIX_CODES[frame.color_matrix],
            src_color_range=FULL if frame.color_range == "full" else LIMITED,
            dst_color_range=FULL,
        )
        return array_of(picture, "bgr24")
    if frame.pixel_format == "gray8" and frame.color_range == "limited":
        stretched = (frame.data.astype(np.float32) - 16) * (255 / 219)
        return np.clip(np.rint(stretched), 0, 255).astype(np.uint8)
    return frame.data


def read_image(path: Any) -> tuple[np.ndarray, bool]:
    """An image file as (H, W) uint8 or uint16 or (H, W, 3) uint8 BGR, and whether it had an alpha channel (left out).

    Raises:
        ValueError: not an image, or pixels that are neither 8 nor 16 bits.
    """
    # JPEG has no alpha but may say which way is up, which only the reading of colour heeds.
    jpeg = str(path).lower().endswith((".jpg", ".jpeg"))
    image = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if jpeg else cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("not an image that can be read, or cut short")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels are {image.dtype}; legal are 8 and 16 bits")
    channels = 1 if image.ndim == 2 else image.shape[2]
    alpha = channels in (2, 4)
    if channels == 2:
        image = image[:, :, 0]
    elif channels == 4:
        image = image[:, :, :3]
    if image.ndim == 3 and image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)  # colour is worked on in 8 bits
    return np.ascontiguousarray(image), alpha


def check_target(path: Path) -> None:
    """A file can be made here, or we say why not.

    Raises:
        OutputError: the folder is missing or not to be written to.
    """
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no folder {str(folder)!r}; make it first, or write elsewhere")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path}: no permission to write here")


def reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name first, then give it the final one: it is complete or not there.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
