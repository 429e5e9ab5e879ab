"""A hostile peer: whatever comes, it is a legal message or a WireError, and takes little memory and time."""

from __future__ import annotations

import json
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import pytest

from pipeline import wire
from pipeline.frame import PixelFormat, layout
from pipeline.header import UNSEEN
from pipeline.wire import About, Buffer, ByeMessage, FrameMessage, Message, StatsMessage, WantMessage, WireError
from tests.pipeline.messages import MADE, header, parts

ROUNDS, EACH = 10, 1000
KINDS = sorted(MADE)
FACTOR = 64  # most bytes of memory for a byte of a header: an empty list of 2 characters is an object of 56 bytes
SPARE = 1 << 16

HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.0, 7.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf")),
    *(2**31, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, 16384, 16385),
    *("", "0", "frame", "raw", "gray8", "O", "|V8", "<U99", "..", ".", "/", "../../etc/passwd", "C:\\x"),
    *("a\nb", "a\0b", "\x1b[2J", "\u202e", "\u2028", "\ud800", "\udfff", "<script>", "%s%n{0}", "__class__"),
    *("x" * 257, "x" * 20_000, "é" * 200),
    *([], [[]], {}, {"": 1}, {"a": {}}, [0, 0], [1, 1], [-1, -1], [1e9, 1], [2**40, 2**40], [16384, 16384], [1] * 5000),
    *({"a\n": 1}, {"a": -1}, {"a": 1e999}, {str(number): 1 for number in range(65)}, {"k" * 300: 1}),
]
RAW = [
    *("NaN", "-Infinity", "1e999", "-1e999", "9" * 4300, "9" * 4301, "-" + "9" * 60_000, "0" * 50, "0x10", "01"),
    *("[" * 500 + "]" * 500, "[" * 30_000, '{"a":' * 900 + "1" + "}" * 900, "[{}" + ",{}" * 15_000 + "]", "+1", "1_0"),
    *('"\\ud800"', '"\\x"', '"\n"', "'a'", '"a" "b"', '"\\u12"', "undefined", "", "1 1", "/**/1", "1.", ".5", "--1"),
    *("[1,]", '{"a":1,"a":2}'),
]


def some_bytes(dice: random.Random, most: int) -> bytes:
    return dice.randbytes(dice.randrange(most + 1))


def of_random_bytes(dice: random.Random) -> list[Buffer]:
    return [some_bytes(dice, 300) for _ in range(dice.choice((0, 1, 2, 3, 3, 3, 3, 4, 50)))]


def with_parts_that_are_wrong(dice: random.Random) -> list[Buffer]:
    made = list(MADE[dice.choice(KINDS)])
    for _ in range(dice.randrange(1, 4)):
        place = dice.randrange(len(made) + 1)
        if dice.random() < 0.4:
            made.insert(place, some_bytes(dice, 40))
        elif place < len(made):
            other = bytes(made[place])
            made[place : place + 1] = dice.choice([[], [b""], [other, other], [other[: len(other) // 2]]])
    dice.shuffle(made) if dice.random() < 0.3 else None
    return made


def with_bytes_that_are_wrong(dice: random.Random) -> list[Buffer]:
    kind = dice.choice(KINDS)
    text = bytearray(MADE[kind][1])
    for _ in range(dice.randrange(1, 9)):
        start = dice.randrange(len(text))
        end = min(len(text), start + dice.choice((1, 1, 2, 20)))
        new = [b"", some_bytes(dice, 4), bytes(text[start:end]) * 2, bytes([text[start] ^ 1 << dice.randrange(8)])]
        text[start:end] = dice.choice(new)
    return parts(kind, bytes(text))


def with_fields_that_are_wrong(dice: random.Random) -> list[Buffer]:
    kind = dice.choice(["frame", *KINDS])
    fields = header(kind)
    for name in dice.sample([*fields], dice.randrange(1, 4)):
        fields[name] = dice.choice(HOSTILE)
        if dice.random() < 0.2:
            del fields[name]
    return parts(kind, fields)


def with_json_that_is_wrong(dice: random.Random) -> list[Buffer]:
    kind = dice.choice(KINDS)
    fields = header(kind)
    name = dice.choice([*fields, "later"])
    text = json.dumps(fields | {name: "@@"}).replace('"@@"', dice.choice(RAW))
    return parts(kind, text)


def with_a_key_twice(dice: random.Random) -> list[Buffer]:
    kind = dice.choice(KINDS)
    fields = header(kind)
    name = dice.choice([*fields])
    text = json.dumps(fields)[:-1] + f", {json.dumps(name)}: {json.dumps(dice.choice([fields[name], *HOSTILE]))}}}"
    return parts(kind, text)


def of_another_size(dice: random.Random) -> list[Buffer]:
    """Sizes, shapes, types and counts of bytes that fit each other here and there, and none or few of the bytes."""
    pixel_format: PixelFormat = dice.choice(get_args(PixelFormat))
    sides = (1, 2, 3, 5, 255, 4096, 16384, 16385, 65536, 2**31 - 1, 2**32, 2**62, 0, -1)
    size = (dice.choice(sides), dice.choice(sides))
    shape, dtype = layout(pixel_format, size) if min(size) > 0 else ((size[1], size[0]), "uint8")
    payload = some_bytes(dice, 200)
    whole = dice.choice([2, 1, 3]) * abs(size[0] * size[1])
    fields = header("frame") | {
        "pixel_format": pixel_format,
        "size": list(size),
        "shape": dice.choice([list(shape), list(shape), list(size), [whole], [1, *shape]]),
        "dtype": dice.choice([str(dtype), str(dtype), "float64", "uint16", "object"]),
        "payload_bytes": dice.choice([len(payload), len(payload), whole, 0, 2**62]),
        "encoding": dice.choice(["raw", "jpeg", "png"]),
    }
    return parts("frame", fields, payload)


def with_another_payload(dice: random.Random) -> list[Buffer]:
    kind = dice.choice(["frame", *KINDS])
    payload = dice.choice([b"", b"\0", bytes(5), bytes(7), bytes(6), bytes(100_000), bytes(memoryview(MADE[kind][1]))])
    return parts(kind, header(kind), dice.choice([payload, memoryview(payload), memoryview(bytearray(payload))]))


def of_another_kind(dice: random.Random) -> list[Buffer]:
    """A header under the topic, or with the kind, of another one."""
    kind, other = dice.choice(KINDS), dice.choice([*KINDS, "frames", "", "__init__"])
    topic = MADE[other][0] if other in MADE and dice.random() < 0.5 else f"fused/{other}".encode()
    return [topic, parts(kind, header(kind) | {"kind": dice.choice([kind, other])})[1], MADE[kind][2]]


MAKERS: list[Callable[[random.Random], list[Buffer]]] = [
    of_random_bytes,
    with_parts_that_are_wrong,
    with_bytes_that_are_wrong,
    with_fields_that_are_wrong,
    with_json_that_is_wrong,
    with_a_key_twice,
    of_another_size,
    with_another_payload,
    of_another_kind,
]


def pack_again(message: Message) -> list[Buffer]:
    if isinstance(message, FrameMessage):
        payload = b"" if message.encoding == "raw" else bytes(message.payload)
        about = About(message.encoding, payload, message.drops, message.stages_ms)
        return wire.pack_frame(message.head, message.frame, about)
    if isinstance(message, StatsMessage):
        return wire.pack_stats(message)
    return wire.pack_bye(message) if isinstance(message, ByeMessage) else wire.pack_want(message)


def texts(message: Message) -> list[str]:
    """All that goes on to logs, pages and files."""
    if isinstance(message, WantMessage):
        return [message.consumer, message.session]
    found = [message.head.stream, message.head.session, message.head.clock]
    if isinstance(message, FrameMessage | StatsMessage):
        found += [*message.drops, *message.stages_ms]
    if isinstance(message, FrameMessage):
        fusion = message.frame.fusion
        found += [message.frame.name or "", *((fusion.state, fusion.model, *fusion.timestamps_ns) if fusion else ())]
    return found


def check_believed(message: Message) -> None:
    """What is let through is legal in all: it can be sent again, and its text is harmless."""
    wire.unpack(pack_again(message))
    assert not any(UNSEEN.search(text) for text in texts(message))
    if isinstance(message, FrameMessage):
        frame = message.frame
        assert "/" not in (frame.name or "")
        assert frame.data.nbytes == len(message.payload) or message.encoding != "raw"
        assert not frame.data.flags.writeable


def outcome(message: list[Buffer]) -> Message | None:
    """What it is read as; None if it is refused, in one line and not a long one."""
    try:
        return wire.unpack(message)
    except WireError as error:
        line = str(error)
    assert line.isprintable()
    assert len(line) < 500
    return None


@pytest.mark.parametrize("number", range(ROUNDS))
def test_ten_thousand_malformed_messages_raise_nothing_else_and_take_no_memory(number: int) -> None:
    dice = random.Random(number)
    refused: Counter[str] = Counter()
    believed: list[Message] = []
    made = [(maker.__name__, maker(dice)) for maker in dice.choices(MAKERS, k=EACH)]
    outcome(made[0][1])  # what is loaded once is not held against the first
    tracemalloc.start()
    try:
        for name, message in made:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            result = outcome(message)
            peak = tracemalloc.get_traced_memory()[1] - before
            legal = FACTOR * min(wire.MOST_HEADER_BYTES, len(message[1]) if len(message) > 1 else 0) + SPARE
            assert peak <= legal, f"{name}: {peak} bytes of memory for {[len(part) for part in message]}"
            if result is None:
                refused[name] += 1
            else:
                believed.append(result)
    finally:
        tracemalloc.stop()
    for result in believed:
        check_believed(result)
    assert refused.keys() == {maker.__name__ for maker in MAKERS}  # each way to be wrong is seen through
    assert refused.total() > 0.8 * EACH
    assert believed  # and among them are some that are right by chance


@pytest.mark.parametrize("kind", KINDS)
def test_each_single_bit_of_a_header_may_be_wrong(kind: str) -> None:
    right = bytes(MADE[kind][1])
    refused = 0
    for place in range(len(right)):
        for bit in range(8):
            text = bytearray(right)
            text[place] ^= 1 << bit
            result = outcome(parts(kind, bytes(text)))
            refused += result is None
            if result is not None:
                check_believed(result)
    assert refused > 3 * len(right)


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_may_end_anywhere(kind: str) -> None:
    right = bytes(MADE[kind][1])
    assert not any(outcome(parts(kind, right[:end])) for end in range(len(right)))


def test_a_message_that_is_large_is_refused_before_it_is_looked_at() -> None:
    large = bytes(1 << 24)
    tracemalloc.start()
    try:
        for message in ([large] * 3, [b"fused/frame", large, b""], [large, *MADE["frame"][1:]], [large] * 4):
            assert outcome(message) is None
        assert outcome(parts("frame", header("frame"), large)) is None
        assert tracemalloc.get_traced_memory()[1] < SPARE
    finally:
        tracemalloc.stop()


def calls(message: list[Buffer]) -> int:
    """How many functions are called to read it, of Python and of C."""
    count = 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        outcome(message)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "grow",
    [
        lambda count: {"later": [[]] * count},
        lambda count: {"later": [{"a": 1}] * count},
        lambda count: {f"later{number}": number for number in range(count)},
        lambda count: {"drops": {f"{number}": 1 for number in range(count)}},
        lambda count: {"name": "a" * count},
        lambda count: {"clock": "\n" * count},
        lambda count: {"shape": [1] * count},
    ],
    ids=range(7),
)
def test_a_header_twice_as_long_takes_no_more_than_twice_the_work(grow: Callable[[int], dict[str, Any]]) -> None:
    small, large = (calls(parts("frame", header("frame") | grow(count))) for count in (1000, 2000))
    assert large <= 2 * small
