"""Between our frames and the pictures of PyAV and OpenCV; shared by the nodes that read and write files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation

from pipeline.errors import OutputError, SourceError
from pipeline.frame import MATRIX_CODES, ColorMatrix, ColorRange, Frame, PixelFormat, half

AV_FORMATS: dict[PixelFormat, str] = {"gray8": "gray", "gray16": "gray16le", "yuv420p": "yuv420p", "bgr24": "bgr24"}
JPEG = (".jpg", ".jpeg")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
LIMITED, FULL = 1, 2  # AVCOL_RANGE_MPEG and _JPEG
# H.273 table 4. FCC (4) is BT.601 to the second decimal, SMPTE 240M (7) is nearly BT.709.
MATRICES: dict[int, ColorMatrix] = {
    **{1: "bt709", 7: "bt709"},
    **{4: "bt601", 5: "bt601", 6: "bt601"},
    **{9: "bt2020", 10: "bt2020"},
}
DEEP_GRAY = {f"gray{bits}{order}" for bits in (9, 10, 12, 14, 16) for order in ("le", "be")}
# swscale's short cuts from YUV to RGB are off by up to 3 levels in 255, this way by half of one.
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

# What OpenCV says of a bad file on several lines, we say in one.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def color_range_of(picture: av.VideoFrame) -> ColorRange:
    """The range a decoder reports; where it says nothing, as everybody assumes: YUV limited, gray and RGB full."""
    name = picture.format.name
    if name.startswith(("gray", "ya")):
        return "limited" if picture.color_range == LIMITED else "full"
    if picture.color_range == FULL or name.startswith(("yuvj", "mono", "pal")) or picture.format.is_rgb:
        return "full"
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
    """The pixels of a decoded picture as a frame's data, in memory of its own; converted only where the format differs.

    Range and matrix stay as they are. Gray of 9 to 16 bits keeps its numbers, whatever their scale.
    """
    wanted, name = AV_FORMATS[pixel_format], picture.format.name
    same = (
        name == wanted or (name == "yuvj420p" and wanted == "yuv420p") or (wanted == "gray16le" and name in DEEP_GRAY)
    )
    if not same:
        side = FULL if color_range_of(picture) == "full" else LIMITED
        picture = picture.reformat(format=wanted, src_color_range=side, dst_color_range=side)
    planes = [plane_of(plane, picture, index) for index, plane in enumerate(picture.planes)]
    if pixel_format == "yuv420p":
        return np.concatenate([plane.reshape(-1) for plane in planes])
    pixels = planes[0].astype(np.uint16 if pixel_format == "gray16" else np.uint8)  # a copy, in the host's byte order
    return pixels.reshape(picture.height, picture.width, 3) if pixel_format == "bgr24" else pixels


def plane_of(plane: Any, picture: av.VideoFrame, index: int) -> np.ndarray:
    """A plane as (rows, values) without the padding at the end of each line, a view where possible."""
    name = picture.format.name
    dtype = np.dtype("<u2" if name.endswith("le") else ">u2" if name.endswith("be") else np.uint8)
    rows, columns = picture.height, picture.width
    if index and name.startswith("yuv"):
        rows, columns = half(rows), half(columns)
    values = columns * (3 if name == "bgr24" else 1)
    lines = np.frombuffer(plane, dtype).reshape(-1, abs(plane.line_size) // dtype.itemsize)
    if plane.line_size < 0:  # stored from the bottom up
        lines = lines[::-1]
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
    step = 3 if frame.pixel_format == "bgr24" else 1  # values a pixel
    for index, (plane, source) in enumerate(zip(picture.planes, frame.planes, strict=True)):
        target = plane_of(plane, picture, index)
        lines = source.reshape(source.shape[0], -1)
        rows, values = lines.shape
        target[:rows, :values] = lines
        if target.shape[1] > values:
            target[:rows, values:] = lines[:, -step:]
        target[rows:] = target[rows - 1]
    picture.color_range = FULL if frame.color_range == "full" else LIMITED
    if frame.pixel_format == "yuv420p":
        picture.colorspace = MATRIX_CODES[frame.color_matrix]
    return picture


def image_of(frame: Frame) -> np.ndarray:
    """A frame as OpenCV writes and shows images: (H, W) uint8 or uint16, or (H, W, 3) uint8 BGR, full range.

    Counts of 16 bits stay as they are.
    """
    if frame.pixel_format == "yuv420p":
        side = FULL if frame.color_range == "full" else LIMITED
        picture = picture_of(frame)  # which carries the matrix
        rgb = picture.reformat(format="bgr24", src_color_range=side, dst_color_range=FULL, interpolation=EXACT)
        return array_of(rgb, "bgr24")
    return gray_in(frame, "full") if frame.pixel_format == "gray8" else frame.data


def gray_in(frame: Frame, color_range: ColorRange) -> np.ndarray:
    """The (H, W) uint8 of a gray8 frame, brought to a range; swscale would take it for full, whatever it is told."""
    if frame.color_range == color_range:
        return frame.data
    gray = frame.data.astype(np.float32)
    brought = (gray - 16) * (255 / 219) if color_range == "full" else gray * (219 / 255) + 16
    return np.clip(np.rint(brought), 0, 255).astype(np.uint8)


def read_image(path: Path) -> tuple[np.ndarray, bool]:
    """An image file as (H, W) uint8 or uint16 or (H, W, 3) uint8 BGR, and whether it had an alpha channel (left out).

    Raises:
        ValueError: not to be read, not an image, or pixels that are neither 8 nor 16 bits.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {reason(error)}") from error
    # JPEG has no alpha but may say which way is up, which only the reading without alpha heeds.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if data.startswith(b"\xff\xd8") else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # empty, or more pixels than OpenCV takes
        image = None
    if image is None:
        raise ValueError("not an image that can be read, or cut short")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels are {image.dtype}; legal are uint8 and uint16, so convert it first")
    alpha = image.ndim == 3 and image.shape[2] in (2, 4)
    if alpha:
        gray = image.shape[2] == 2 or (data.startswith(b"\x89PNG") and data[25] == 4)  # OpenCV makes colour of it
        image = image[:, :, 0] if gray else image[:, :, :3]
    if image.ndim == 3 and image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)  # colour is worked on in 8 bits
    return np.ascontiguousarray(image), alpha


def image_format(image: np.ndarray) -> PixelFormat:
    """Of an image as `read_image` gives it."""
    if image.ndim == 3:
        return "bgr24"
    return "gray16" if image.dtype.itemsize == 2 else "gray8"


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in natural order; hidden files are none.

    Raises:
        SourceError: there is none, or two have one name but for the suffix.
    """
    paths = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not paths:
        raise SourceError(f"{folder}: no image in this folder; legal are {', '.join(sorted(IMAGE_SUFFIXES))}")
    paths.sort(key=natural)
    names: dict[str, Path] = {}
    for path in paths:
        other = names.setdefault(path.stem, path)
        if other is not path:
            raise SourceError(
                f"{folder}: {other.name} and {path.name} have one name, by which images are paired and written; "
                "rename or move one of them"
            )
    return paths


def natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Key for sorting names as people count: 2 before 10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts], path.name


def check_target(path: Path) -> None:
    """A file can be made here, or we say why not.

    Raises:
        OutputError: the folder is missing or not to be written to.
    """
    folder = path.parent
    try:
        if not folder.is_dir():
            raise OutputError(f"{path}: there is no folder {str(folder)!r}; make it first, or write elsewhere")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; give the name of a file")
        taken = path.exists()
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error
    if not os.access(folder, os.W_OK) or (taken and not os.access(path, os.W_OK)):
        raise OutputError(f"{path}: no permission to write here; write elsewhere, or change the permissions")


def reason(error: Exception) -> str:
    """Why it failed, in the system's words."""
    return str(getattr(error, "strerror", None) or error)


def write_image(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """Encode as the suffix says, and write whole.

    Args:
        path: ends in one of IMAGE_SUFFIXES.
        image: (H, W) uint8 or uint16, the latter for .png and .tiff alone, or (H, W, 3) uint8 BGR.
        quality: of JPEG, 1..100.

    Raises:
        OutputError: it cannot be written, or the format cannot hold it.
    """
    suffix = path.suffix.lower()
    if image.dtype == np.uint16 and suffix not in (".png", ".tif", ".tiff"):
        raise OutputError(f"{path}: {suffix} cannot hold 16 bits; write png or tiff")
    try:
        data = image_file(suffix, image, quality)
    except ValueError as error:
        raise OutputError(f"{path}: {error}; write tiff, or something smaller") from error
    write_whole(path, data)


def image_file(suffix: str, image: np.ndarray, quality: int = 95) -> bytes:
    """An image as the bytes of a file.

    Args:
        suffix: one of IMAGE_SUFFIXES.
        image: (H, W) uint8 or uint16, the latter for .png and .tiff alone, or (H, W, 3) uint8 BGR.
        quality: of JPEG, 1..100.

    Raises:
        ValueError: it is too large for the format.
    """
    try:
        ok, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in JPEG else [])
    except cv2.error:  # which of the two it does depends on its version
        ok = False
    if not ok:
        raise ValueError(f"{image.shape[1]}x{image.shape[0]} is too large for {suffix}")
    return data.tobytes()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name first, then give it the final one: it is complete or not there.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error
