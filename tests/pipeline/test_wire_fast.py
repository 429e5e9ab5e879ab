"""The short way through a frame's header accepts what the long way does, and says the same."""

from __future__ import annotations

import dataclasses
import random

import numpy as np

from pipeline import wire
from pipeline.wire import Buffer, FrameMessage, Message, WireError
from tests.pipeline.messages import ABOUT, HEAD, frame
from tests.pipeline.test_wire_fuzz import HOSTILE, MAKERS

FRAMES = [
    wire.pack_frame(HEAD, frame(pixel_format, fusion=fusion), ABOUT)
    for pixel_format in ("gray8", "gray16", "bgr24", "yuv420p")
    for fusion in (None, frame().fusion)
]
PIECES = [
    *(b',"sequence":', b',"sequence":7', b',"sequence":7}', b'"x":{"a":1,"sequence":3},', b',"kind":"frame"', b"},{"),
    *(b',"size":[3,2]', b',"range":null', b"\n", b"\xef\xbb\xbf", b'\\u0073equence"', b"\xff", b'"', b"{", b"}", b","),
    *(f',"later":{value!r}'.encode("utf-8", "replace") for value in HOSTILE[:10]),
]


def long_way(parts: list[Buffer]) -> Message:
    message, kind = wire.unpacked_whole(parts, wire.MOST_PAYLOAD_BYTES)
    if parts[0] != wire.topic_of(message, kind):
        raise WireError("topic")
    return message


def outcome(read: object, parts: list[Buffer]) -> object:
    """All that the message says, by value and type; None if it is refused."""
    try:
        message = read(parts)  # type: ignore[operator]
    except WireError:
        return None
    if not isinstance(message, FrameMessage):
        return message
    data = np.asarray(message.frame.data)
    fields = [getattr(message.frame, field.name) for field in dataclasses.fields(message.frame) if field.name != "data"]
    said = [message.head, message.encoding, dict(message.drops), dict(message.stages_ms), *fields]
    return [*map(repr, said), bytes(message.payload), data.dtype, data.shape, data.tobytes()]


def spliced(dice: random.Random) -> list[Buffer]:
    """Beginnings that are known, with another's rest, or with something in between or within."""
    topic, header, payload = map(bytes, dice.choice(FRAMES))
    if dice.random() < 0.3:
        header = (
            header[: header.find(wire.MOVING)] + (other := bytes(dice.choice(FRAMES)[1]))[other.find(wire.MOVING) :]
        )
    for _ in range(dice.randrange(3)):
        at = dice.choice((header.find(wire.MOVING), dice.randrange(len(header)), dice.randrange(len(header))))
        header = header[:at] + dice.choice([*PIECES, header[at : at + 9]]) + header[at + dice.choice((0, 0, 1, 12)) :]
    return [topic, header, payload]


def test_both_ways_accept_the_same_headers_and_read_the_same_in_them() -> None:
    dice, believed = random.Random(2), 0
    for _ in range(6000):
        parts = spliced(dice) if dice.random() < 0.8 else dice.choice(MAKERS)(dice)
        if len(parts) != 3:
            continue
        expected = outcome(long_way, parts)
        for _ in ("as new", "as known"):
            assert outcome(wire.unpack, parts) == expected, parts
        believed += expected is not None
    assert believed > 1000
    assert wire.known.cache_info().hits > 1000
