"""Small synthetic recordings, and what reads and writes them, for the tests of capture and output."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from nodes.capture.video import VideoCapture
from nodes.output.video import VideoOutput
from pipeline.errors import StreamfuseError
from pipeline.frame import ColorMatrix, ColorRange, Frame, PixelFormat, half, layout
from pipeline.node import EndOfStream

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
WEIGHTS: dict[ColorMatrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}  # Kr and Kb of the matrices

Paint = Callable[[np.ndarray, int, int], None]


def moving(rows: np.ndarray, plane: int, number: int) -> None:
    """Paint a plane's (H, W) bytes: a slope that moves with the frame's number, and noise, so that no two are alike."""
    y, x = np.mgrid[: rows.shape[0], : rows.shape[1]]
    noise = np.random.default_rng((number, plane)).integers(0, 20, rows.shape)
    rows[:] = (3 * x + 2 * y + 7 * number + noise) % 256


def make_picture(number: int, pix_fmt: str, size: tuple[int, int], paint: Paint = moving) -> av.VideoFrame:
    picture = av.VideoFrame(*size, pix_fmt)
    for index, plane in enumerate(picture.planes):
        paint(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size), index, number)
    return picture


def make_video(
    path: Path,
    pictures: Iterable[av.VideoFrame] | int = 10,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    rate: int = 25,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    b_frames: int = 0,
) -> None:
    """Write a file the way others do, without our own nodes. H.264 in groups of 12."""
    if isinstance(pictures, int):
        pictures = [make_picture(number, pix_fmt, size) for number in range(pictures)]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.gop_size = 12
        stream.codec_context.options = options or ({"preset": "veryfast"} if codec == "libx264" else {})
        for number, picture in enumerate(pictures):
            if picture.pts is None:
                picture.pts, picture.time_base = number, 1 / Fraction(rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def add_audio(container: Any, stream: Any, seconds: float) -> None:
    """Silence."""
    for number in range(int(seconds * 48_000 / 1024)):
        sound = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
        sound.sample_rate, sound.pts = 48_000, number * 1024
        for plane in sound.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(sound))
    container.mux(stream.encode(None))


def make_frame(
    number: int = 0,
    pixel_format: PixelFormat = "yuv420p",
    size: tuple[int, int] = (64, 48),
    timestamp_ns: int | None = None,
    color_range: ColorRange = "full",
    color_matrix: ColorMatrix = "bt601",
    data: Any = None,
    **more: Any,
) -> Frame:
    """A frame of noise, 25 a second."""
    shape, dtype = layout(pixel_format, size)
    if data is None:
        data = np.random.default_rng(number).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    when = number * 40_000_000 if timestamp_ns is None else timestamp_ns
    more = {"frame_rate": Fraction(25)} | more
    return Frame(data, pixel_format, size, when, "pts", number, "test", color_range, color_matrix, **more)


def flat_frame(y: int, u: int, v: int, size: tuple[int, int], color_range: ColorRange, matrix: ColorMatrix) -> Frame:
    """yuv420p of one colour."""
    width, height = size
    chroma = half(width) * half(height)
    data = np.repeat(np.array([y, u, v], np.uint8), [width * height, chroma, chroma])
    return make_frame(0, "yuv420p", size, color_range=color_range, color_matrix=matrix, data=data)


def bgr_of(y: float, u: float, v: float, color_range: ColorRange, matrix: ColorMatrix) -> np.ndarray:
    """(3,) float BGR in 0..255 of a colour in 8-bit YUV, by the book (H.273, 8.3)."""
    red, blue = WEIGHTS[matrix]
    full = color_range == "full"
    luma = y / 255 if full else (y - 16) / 219
    cb, cr = ((c - 128) / (255 if full else 224) for c in (u, v))
    b, r = luma + 2 * (1 - blue) * cb, luma + 2 * (1 - red) * cr
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.clip(255 * np.array([b, g, r]), 0, 255)


def yuv_of(bgr: Iterable[float], matrix: ColorMatrix) -> np.ndarray:
    """(3,) float YUV of limited range of a colour in 8-bit BGR, by the book."""
    red, blue = WEIGHTS[matrix]
    b, g, r = (value / 255 for value in bgr)
    luma = red * r + (1 - red - blue) * g + blue * b
    return np.array([16 + 219 * luma, 128 + 112 * (b - luma) / (1 - blue), 128 + 112 * (r - luma) / (1 - red)])


def read(path: Path, **settings: Any) -> tuple[list[Frame], VideoCapture, StreamfuseError | None]:
    """All frames of a file, the node that gave them, closed, and what it said at the end."""
    node = VideoCapture(path, **settings)
    node.name = "camera"
    frames: list[Frame] = []
    try:
        node.open({})
        while True:
            if (frame := node.process()) is not None:
                frames.append(frame)
    except EndOfStream:
        return frames, node, None
    except StreamfuseError as error:
        return frames, node, error
    finally:
        node.close()


def read_whole(path: Path, **settings: Any) -> list[Frame]:
    frames, _, error = read(path, **settings)
    assert error is None, error
    return frames


def write(path: Path, frames: Iterable[Frame], **settings: Any) -> VideoOutput:
    """Write frames to the end, or give up as the engine would."""
    node = VideoOutput(path, **settings)
    node.name = "record"
    try:
        node.open({})
        for frame in frames:
            node.process(frame)
        node.close()
    except BaseException:
        node.abort()
        raise
    return node


@contextmanager
def limited(what: int, limit: int) -> Iterator[None]:
    """A limit of the system on this process, e.g. resource.RLIMIT_FSIZE."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def files_no_larger_than(size: int) -> AbstractContextManager[None]:
    """No file grows beyond so many bytes: as on a full disk."""
    return limited(resource.RLIMIT_FSIZE, size)


def no_more_open_files() -> AbstractContextManager[None]:
    """No file can be opened, neither an older one nor a new one."""
    lowest_free = os.dup(1)
    os.close(lowest_free)
    return limited(resource.RLIMIT_NOFILE, lowest_free)


def open_files() -> int:
    """How many files this process has open; 0 where that is not told."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def resident_mb() -> float:
    """Memory of this process that is in use, in MB."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc to read the size of the process from")
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6


def times_ms(frames: Iterable[Frame]) -> list[float]:
    return [frame.timestamp_ns / 1e6 for frame in frames]
