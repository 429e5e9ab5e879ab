"""JPEG and PNG become frames, unless the file promises another picture than the message."""

from __future__ import annotations

import builtins
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.frame import Frame, PixelFormat
from pipeline.wire import About, Encoding, FrameMessage, WireError, unpack
from streamfuse import decoding
from streamfuse.decoding import JPEG_SCAN, MOST_SCANS, decoded
from tests.streamfuse.publisher import packed

SIZE = (40, 24)
SHAPES: dict[PixelFormat, tuple[int, ...]] = {"gray8": (24, 40), "gray16": (24, 40), "bgr24": (24, 40, 3)}


def image(pixel_format: PixelFormat, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A slope: JPEG hardly changes it."""
    slope = np.add.outer(np.arange(size[1]), np.arange(size[0]))
    if pixel_format == "gray16":
        return (slope * 900).astype(np.uint16)
    gray = (slope * 3).astype(np.uint8)
    return gray if pixel_format == "gray8" else np.dstack([gray, gray // 2, 255 - gray])


def file_of(pixels: np.ndarray, encoding: str, *options: int) -> bytes:
    suffix = ".jpg" if encoding == "jpeg" else ".png"
    return cv2.imencode(suffix, pixels, list(options))[1].tobytes()


def message(pixel_format: PixelFormat, encoding: Encoding, payload: bytes) -> FrameMessage:
    """As it comes, with the frame as it is announced."""
    shape, dtype = SHAPES[pixel_format], np.uint16 if pixel_format == "gray16" else np.uint8
    frame = Frame(np.zeros(shape, dtype), pixel_format, SIZE, 5, "device", 3, "fused")
    found = unpack(packed(frame, About(encoding, payload)))
    assert isinstance(found, FrameMessage)
    return found


def decode(pixel_format: PixelFormat, encoding: Encoding, payload: bytes) -> Frame:
    found = message(pixel_format, encoding, payload)
    return decoded(found.frame, found)


@pytest.mark.parametrize("pixel_format", SHAPES)
def test_png_comes_out_bit_by_bit(pixel_format: PixelFormat) -> None:
    pixels = image(pixel_format)
    frame = decode(pixel_format, "png", file_of(pixels, "png"))
    assert np.array_equal(frame.data, pixels)
    assert (frame.sequence, frame.timestamp_ns, frame.stream) == (3, 5, "fused")


@pytest.mark.parametrize("pixel_format", ["gray8", "bgr24"])
@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_comes_out_nearly_so(pixel_format: PixelFormat, progressive: int) -> None:
    payload = file_of(image(pixel_format), "jpeg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    frame = decode(pixel_format, "jpeg", payload)
    assert np.abs(frame.data.astype(int) - image(pixel_format)).max() <= 12


def test_a_jpeg_of_more_scans_than_anybody_makes_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payload = file_of(image("gray8"), "jpeg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last_scan = payload[payload.rindex(JPEG_SCAN) : -2]
    monkeypatch.setattr(decoding, "decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(WireError, match=r"the jpeg has \d+ scans; legal are up to 32"):
        decode("gray8", "jpeg", payload[:-2] + MOST_SCANS * last_scan + payload[-2:])


def test_a_raw_frame_is_handed_on_as_it_is() -> None:
    frame = Frame(image("gray8"), "gray8", SIZE, 5, "device", 3, "fused")
    found = unpack(packed(frame))
    assert isinstance(found, FrameMessage)
    assert decoded(found.frame, found) is found.frame


def test_a_jpeg_is_not_turned_as_its_exif_says() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    payload = file_of(image("gray8"), "jpeg")
    turned = payload[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + payload[2:]
    assert decode("gray8", "jpeg", turned).size == SIZE


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("size", [(41, 24), (40, 23), (24, 40), (12000, 12000)])
def test_a_file_of_another_size_is_refused_before_it_is_decoded(
    encoding: Encoding, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest is a bomb: a few bytes of it are enough, for its header promises the rest."""
    monkeypatch.setattr(decoding, "decode", lambda *_: pytest.fail("it was decoded"))
    bomb = png_of(*size) if encoding == "png" else jpeg_of(*size)
    with pytest.raises(WireError, match=f"is gray8 of {size[0]}x{size[1]}; the header says gray8 of 40x24"):
        decode("gray8", encoding, bomb)


def png_of(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return start + b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def jpeg_of(width: int, height: int) -> bytes:
    payload = bytearray(file_of(image("gray8"), "jpeg"))
    at = payload.index(b"\xff\xc0")
    payload[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(payload)


@pytest.mark.parametrize(
    ("announced", "encoding", "kind"),
    [("gray8", "png", "gray16"), ("gray16", "png", "gray8"), ("bgr24", "png", "gray8"), ("bgr24", "jpeg", "gray8")],
)
def test_a_file_of_another_format_is_refused(
    announced: PixelFormat, encoding: Encoding, kind: PixelFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(WireError, match=f"is {kind} of 40x24; the header says {announced}"):
        decode(announced, encoding, file_of(image(kind), encoding))


def test_a_png_with_transparency_is_no_format_of_ours() -> None:
    with pytest.raises(WireError, match="no format of ours"):
        decode("bgr24", "png", file_of(np.zeros((24, 40, 4), np.uint8), "png"))


def test_a_png_with_a_part_that_promises_gigabytes_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decoder makes room for a chunk before it reads it."""
    monkeypatch.setattr(decoding, "decode", lambda *_: pytest.fail("it was decoded"))
    bomb = bytearray(GOOD_PNG)
    bomb[GOOD_PNG.index(b"IDAT") - 4] = 0x7E
    with pytest.raises(WireError, match="no whole png"):
        decode("gray8", "png", bytes(bomb))


def test_an_animated_png_is_refused() -> None:
    at = GOOD_PNG.index(b"IDAT") - 4
    animated = GOOD_PNG[:at] + b"\0\0\0\x08acTL" + bytes(12) + GOOD_PNG[at:]
    with pytest.raises(WireError, match="acTL"):
        decode("gray8", "png", animated)


GOOD_JPEG, GOOD_PNG = file_of(image("gray8"), "jpeg"), file_of(image("gray8"), "png")


@pytest.mark.parametrize(
    ("encoding", "payload"),
    [
        ("jpeg", b"?"),
        ("jpeg", GOOD_PNG),
        ("jpeg", GOOD_JPEG[:-2]),
        ("jpeg", b"\xff\xd8\xff\xd9"),
        ("jpeg", b"\xff\xd8" + b"\xff\xe0\xff\xff" + b"\xff\xd9"),
        ("jpeg", b"\xff\xd8" + b"\xff\xe0\x00\x00" * 20 + b"\xff\xd9"),
        ("jpeg", GOOD_JPEG[:2] + b"\0" + GOOD_JPEG[2:]),
        ("jpeg", GOOD_JPEG.replace(b"\xff\xc0", b"\xff\xc3", 1)),
        ("png", b"?"),
        ("png", GOOD_JPEG),
        ("png", GOOD_PNG[:20]),
        ("png", GOOD_PNG[:40]),
        ("png", png_of(*SIZE)),
    ],
)
def test_what_is_damaged_is_one_error_and_no_picture(encoding: Encoding, payload: bytes) -> None:
    with pytest.raises(WireError) as caught:
        decode("gray8", encoding, payload)
    assert "\n" not in str(caught.value)


def test_random_damage_is_an_error_or_a_picture_of_the_right_size() -> None:
    rng = np.random.default_rng(3)
    for encoding, good in (("png", GOOD_PNG), ("jpeg", GOOD_JPEG)):
        for _ in range(150):
            payload = bytearray(good)
            payload[rng.integers(2, 60)] = rng.integers(256)
            try:
                frame = decode("gray8", encoding, bytes(payload))  # type: ignore[arg-type]
            except WireError:
                continue
            assert frame.data.shape == (24, 40)


def test_without_a_decoder_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SourceError, match="pip install opencv-python-headless"):
        decode("gray8", "png", GOOD_PNG)
