"""Messages to bytes and back: golden bytes of every kind and pixel format, no copies, and what goes is legal."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest

from pipeline import wire
from pipeline.frame import Frame, PixelFormat
from pipeline.messages import ENCODED
from pipeline.wire import About, Buffer, WireError
from tests.pipeline.messages import (
    ABOUT,
    BYE,
    FUSION,
    HEAD,
    MADE,
    STATS,
    WANT,
    changed,
    data,
    encoded,
    frame,
    same,
    unpacked,
)

BEGIN = (
    b'{"version":1,"kind":"%s","stream":"fused","session":"0123456789abcdef",'
    b'"clock":"5f0c9a52-6e1d-4c58-9f1b-3a7e0d2b8c41 time:[4026531834]",'
)
SENT = b'"sequence":7,"sent_ns":5000000000,"sent_unix_ns":1790000000000000000,'
FRAME = BEGIN % b"frame" + (
    b'"timestamp_source":"device","exposure_us":8000.5,"frame_rate":[30000,1001],"state":"held","model":"realtime",'
    b'"pixel_format":"%s","size":[3,%d],"dtype":"%s","shape":[%s],"range":"limited","matrix":"bt709",'
    b'"encoding":"raw",' + SENT + b'"frame_sequence":9,"timestamp_ns":4960000000,"name":"0007 T\\u00fcr",'
    b'"skew_ns":3000000,"timestamps_ns":{"infrared":4963000000,"visible":4960000000},"payload_bytes":%d,'
    b'"drops":{"queue_full":2},"stages_ms":{"thermal":0.5,"fuse":12.25}}'
)

# Golden bytes:


@pytest.mark.parametrize(
    ("pixel_format", "height", "dtype", "shape", "payload"),
    [
        ("gray8", 2, b"uint8", b"2,3", bytes(range(1, 7))),
        ("gray16", 2, b"uint16", b"2,3", b"\x01\x01\x02\x01\x03\x01\x04\x01\x05\x01\x06\x01"),
        ("bgr24", 2, b"uint8", b"2,3,3", bytes(range(1, 19))),
        ("yuv420p", 2, b"uint8", b"10", bytes(range(1, 11))),  # 3x2 luma, two chroma planes of 2x1
        ("yuv420p", 3, b"uint8", b"17", bytes(range(1, 18))),  # 3x3 luma, two chroma planes of 2x2
    ],
)
def test_a_frame_is_these_bytes(
    pixel_format: PixelFormat, height: int, dtype: bytes, shape: bytes, payload: bytes
) -> None:
    made = wire.pack_frame(HEAD, frame(pixel_format, (3, height)), ABOUT)
    header = FRAME % (pixel_format.encode(), height, dtype, shape, len(payload))
    assert [bytes(part) for part in made] == [b"fused/frame", header, payload]
    assert same(unpacked(made).frame, frame(pixel_format, (3, height)))


def test_a_frame_of_which_little_is_known_has_null_in_place_of_it() -> None:
    bare = Frame(data("gray8", (1, 1)), "gray8", (1, 1), -5, "arrival", 0, "camera")
    _, header, payload = wire.pack_frame(replace(HEAD, stream="camera"), bare, About())
    assert bytes(header) == BEGIN.replace(b"fused", b"camera") % b"frame" + (
        b'"timestamp_source":"arrival","exposure_us":null,"frame_rate":null,"state":null,"model":null,'
        b'"pixel_format":"gray8","size":[1,1],"dtype":"uint8","shape":[1,1],"range":"full","matrix":"bt601",'
        b'"encoding":"raw",' + SENT + b'"frame_sequence":0,"timestamp_ns":-5,"name":null,"skew_ns":null,'
        b'"timestamps_ns":null,"payload_bytes":1,"drops":{},"stages_ms":{}}'
    )
    assert bytes(payload) == b"\x01"
    assert same(unpacked([b"camera/frame", header, payload]).frame, bare)


def test_stats_bye_and_want_are_these_bytes() -> None:
    stats = b'"uptime_s":61.5,"unheard":12,"drops":{"no_partner":3,"queue_full":40},"stages_ms":{"fuse":12.25}}'
    assert wire.pack_stats(STATS) == [b"fused/stats", BEGIN % b"stats" + SENT + stats, b""]
    assert wire.pack_bye(BYE) == [b"fused/bye", BEGIN % b"bye" + SENT + b'"reason":"end"}', b""]
    want = (
        b'{"version":1,"kind":"want","consumer":"fedcba9876543210","session":"0123456789abcdef",'
        b'"sequence":8,"room":4,"done":false}'
    )
    assert wire.pack_want(WANT) == [b"want", want, b""]


# Without copies:


@pytest.mark.parametrize("pixel_format", get_args(PixelFormat))
def test_no_pixel_is_copied_on_the_way_to_the_socket_and_from_it(pixel_format: PixelFormat) -> None:
    given = frame(pixel_format, (8, 6))
    made = wire.pack_frame(HEAD, given, About())
    assert np.shares_memory(np.frombuffer(made[2], np.uint8), given.data)
    assert np.shares_memory(unpacked(made).frame.data, given.data)


def test_a_frame_that_came_cannot_be_written_to() -> None:
    topic, header, payload = wire.pack_frame(HEAD, frame(), About())
    came = unpacked([topic, header, memoryview(bytearray(payload))]).frame
    with pytest.raises(ValueError, match="read-only"):
        came.data[0, 0] = 1


def test_sixteen_bits_at_an_odd_address_are_read_right() -> None:
    topic, header, payload = wire.pack_frame(HEAD, frame("gray16"), About())
    odd = memoryview(b"\x00" + bytes(payload))[1:]
    came = unpacked([topic, header, odd]).frame
    assert came.data.flags.aligned
    assert np.array_equal(came.data, frame("gray16").data)


def test_a_frame_that_is_no_block_of_memory_goes_as_one() -> None:
    wide = np.arange(24, dtype=np.uint8).reshape(2, 12)[:, ::2]
    came = unpacked(wire.pack_frame(HEAD, Frame(wide, "gray8", (6, 2), 0, "pts", 0, "fused"), About())).frame
    assert np.array_equal(came.data, wide)


# Encoded ones:


@pytest.mark.parametrize(("encoding", "formats"), ENCODED.items())
def test_an_encoded_frame_brings_its_bytes_and_an_empty_picture_of_the_right_shape(
    encoding: wire.Encoding, formats: tuple[PixelFormat, ...]
) -> None:
    for pixel_format in formats:
        given = frame(pixel_format, (8, 6))
        message = unpacked(wire.pack_frame(HEAD, given, About(encoding, b"as it is in a file")))
        assert (message.encoding, bytes(message.payload)) == (encoding, b"as it is in a file")
        assert (message.frame.data.shape, message.frame.data.dtype) == (given.data.shape, given.data.dtype)
        assert not message.frame.data.any()


def test_the_empty_picture_takes_no_room_however_large_it_is_said_to_be() -> None:
    data = unpacked(encoded("gray16", (8192, 8192), "png")).frame.data
    assert data.shape == (8192, 8192)
    assert data.strides == (0, 0)


@pytest.mark.parametrize(("pixel_format", "encoding"), [("gray16", "jpeg"), ("yuv420p", "jpeg"), ("yuv420p", "png")])
def test_what_an_encoding_cannot_hold_is_refused(pixel_format: PixelFormat, encoding: str) -> None:
    with pytest.raises(WireError, match=rf"^pixel_format is '{pixel_format}'; legal is 'gray8' or "):
        wire.unpack(encoded(pixel_format, (2, 2), encoding))


def test_a_picture_that_would_become_too_large_once_it_is_decoded_is_refused() -> None:
    with pytest.raises(
        WireError, match=r"^size is \[16384, 16384\]; legal is what has up to 268435456 bytes; .* 805306"
    ):
        wire.unpack(encoded("bgr24", (16384, 16384), "png"))
    with pytest.raises(WireError, match=r"^size is \[3, 2\]; legal is what has up to 5 bytes"):
        wire.unpack(encoded("gray8", (3, 2), "png"), most_payload_bytes=5)


# What is sent is legal:


def a_frame_with(**settings: Any) -> list[Buffer]:
    return wire.pack_frame(HEAD, frame(**settings), ABOUT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a\nb"}, r"^name is 'a\\nb'; legal is 1 to 255 bytes"),
        ({"name": "\udcff"}, r"^name is '\\udcff'; legal is "),  # a name of a file that is no UTF-8
        ({"exposure_us": float("nan")}, r"^exposure_us is nan; legal is a number of 0 to 1e\+12$"),
        ({"frame_rate": Fraction(0)}, r"^frame_rate is \[0, 1\]; legal is 2 whole numbers of 1 to 2147483647$"),
        ({"fusion": replace(FUSION, state="held!")}, r"^state is 'held!'; legal is a letter and"),
        ({"fusion": replace(FUSION, skew_ns=np.int64(3))}, r"^skew_ns is .*3.*; legal is a whole number of 0 to "),
    ],
)
def test_a_publisher_is_told_what_nobody_would_take(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WireError, match=message):
        a_frame_with(**settings)


def test_a_header_that_would_be_too_long_is_not_made() -> None:
    long = {f"{number:02d}" + "語" * 254: 1.0 for number in range(64)}
    with pytest.raises(WireError, match=r"^the header has \d{5,6} bytes; legal are up to 65536$"):
        wire.pack_frame(HEAD, frame(), About(stages_ms=long))


def test_an_encoded_frame_without_its_bytes_is_not_sent() -> None:
    with pytest.raises(WireError, match=r"^payload_bytes is 0; legal is a whole number of 1 to "):
        wire.pack_frame(HEAD, frame(), About("jpeg"))


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (lambda: wire.pack_stats(replace(STATS, unheard=-1)), r"^unheard is -1; legal is "),
        (lambda: wire.pack_bye(replace(BYE, head=replace(HEAD, session="1"))), r"^session is '1'; legal is 16 hexa"),
        (lambda: wire.pack_want(replace(WANT, room=2000)), r"^room is 2000; legal is a whole number of 0 to 1024$"),
    ],
)
def test_what_is_no_frame_is_held_to_the_rules_too(pack: Any, message: str) -> None:
    with pytest.raises(WireError, match=message):
        pack()


# The parts:


@pytest.mark.parametrize("count", [0, 1, 2, 4, 1000])
def test_a_message_has_three_parts(count: int) -> None:
    with pytest.raises(WireError, match=rf"^a message has 3 parts, topic, header and payload; got {count}$"):
        wire.unpack([b"fused/frame"] * count)


def test_the_topic_says_what_the_header_says() -> None:
    _, header, payload = MADE["frame"]
    for topic in (b"", b"fused", b"fused/stats", b"other/frame", b"fused/frame\n", b"fused/frame" * 1000):
        with pytest.raises(WireError, match=r"^topic is b'.{0,60}'; the header says b'fused/frame'$"):
            wire.unpack([topic, header, payload])


@pytest.mark.parametrize("kind", ["stats", "bye", "want"])
def test_only_frames_have_a_payload(kind: str) -> None:
    with pytest.raises(WireError, match=rf"^the payload of kind '{kind}' has 3 bytes; legal is none$"):
        wire.unpack([*MADE[kind][:2], b"abc"])


def test_a_payload_that_is_cut_short_is_no_frame() -> None:
    with pytest.raises(WireError, match=r"^payload_bytes is 6; legal is 5: so many came$"):
        wire.unpack([*MADE["frame"][:2], b"abcde"])


def test_a_payload_must_be_what_format_and_size_make() -> None:
    with pytest.raises(WireError, match=r"^payload_bytes is 6; legal is 8 of gray8 in this size$"):
        wire.unpack(changed("frame", size=[2, 4], shape=[4, 2]))
    with pytest.raises(WireError, match=r"^shape is \[3, 2\]; legal is \[2, 3\] of gray8 in 3x2$"):
        wire.unpack(changed("frame", shape=[3, 2]))


def test_a_reader_can_have_a_lower_limit_of_its_own() -> None:
    with pytest.raises(WireError, match=r"^payload_bytes is 6; legal is a whole number of 1 to 5$"):
        wire.unpack(MADE["frame"], most_payload_bytes=5)


def test_later_versions_may_add_fields_and_are_refused_when_they_change_what_is_there() -> None:
    assert wire.unpack(changed("bye", later={"a": [1, None, "x"]}, even_later=1.5)) == BYE
    with pytest.raises(WireError, match=r"^version is 2; legal is 1$"):
        wire.unpack(changed("bye", version=2))


def test_all_of_a_stream_begins_with_its_name_and_a_slash() -> None:
    assert wire.topic("fused", "stats") == b"fused/stats"
    assert all(bytes(MADE[kind][0]).startswith(b"fused/") for kind in ("frame", "stats", "bye"))
