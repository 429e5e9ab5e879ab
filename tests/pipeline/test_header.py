"""The fields of a header: each is checked, and the message says which it was, what came and what is legal."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest

from pipeline import wire
from pipeline.header import MOST_NAME_BYTES, Fields
from pipeline.wire import MOST_ENTRIES, MOST_HEADER_BYTES, MOST_NS, MOST_SIDE, MOST_TEXT, FrameMessage, WireError
from tests.pipeline.messages import BYE, MADE, changed, header, parts, same, unpacked

NO_NUMBERS = ("7", True, False, 7.0, [7], {}, "")
NO_COUNTS = (*NO_NUMBERS, -1, MOST_NS + 1, 10**4000)
NO_TIMES = (*NO_NUMBERS, -MOST_NS - 1, MOST_NS + 1)
NO_REALS = ("1.5", True, [1.5], {}, -0.001, 1.1e12, 10**400)
NO_TEXT = (
    7,
    True,
    ["a"],
    {},
    "a" * (MOST_TEXT + 1),
    "a\nb",
    "a\x1b[2J",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202eabc",
    "\ud800",
)
NO_WORD = (*NO_TEXT, "", " ", "a b", "a/b", "a\\b", "é", "a\n", "<b>", 'a"b', "a" * 65)
NO_SESSION = (*NO_WORD, "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg")
NO_CHOICE = (*NO_NUMBERS, "x", "RAW", " raw", 1, 0)
NO_ENTRIES = (7, True, "a", [], [["a", 1]], {str(number): 1 for number in range(MOST_ENTRIES + 1)})
NO_KEYS = ("", "a\nb", "\u2066", "\udfff", "k" * (MOST_TEXT + 1))


def entries(bad_values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*NO_ENTRIES, *({key: 1} for key in NO_KEYS), *({"key": value} for value in (*bad_values, None)))


ALL: dict[str, tuple[Any, ...]] = {
    "version": (*NO_COUNTS, 0, 2),
    "kind": (*NO_CHOICE, "frames", "Frame"),
    "stream": (*NO_WORD, "..", ".hidden", "-rf", "../up"),
    "session": NO_SESSION,
    "sequence": NO_COUNTS,
    "clock": (*NO_TEXT, ""),
    "sent_ns": NO_COUNTS,
    "sent_unix_ns": NO_COUNTS,
}
FRAME: dict[str, tuple[Any, ...]] = {
    "frame_sequence": NO_COUNTS,
    "timestamp_ns": NO_TIMES,
    "timestamp_source": NO_CHOICE,
    "exposure_us": NO_REALS,
    "frame_rate": ("30", 30, True, [], [30], [30, 0], [0, 1], [-30, -1], [30.0, 1], [1, 2, 3], [1 << 31, 1], [True, 1]),
    "name": (*NO_TEXT, "", ".", "..", "../../etc/cron.d/x", "/etc/passwd", "a/b", "..\\x", "a\\b", "é" * 128),
    "state": (*NO_WORD, "_fused", "1", "fused-held"),
    "skew_ns": NO_COUNTS,
    "timestamps_ns": entries(NO_TIMES),
    "model": NO_TEXT,
    "pixel_format": (*NO_CHOICE, "rgb24", "object"),
    "size": (
        "3x2",
        3,
        [],
        [3],
        [3, 2, 1],
        [0, 2],
        [3, -2],
        [3, MOST_SIDE + 1],
        [3.0, 2],
        [True, 2],
        ["3", 2],
        [1 << 70, 1],
    ),
    "dtype": (*NO_CHOICE, "uint16", "object", "O", "|O", "U4", "<u1"),
    "shape": ("2,3", 6, [], [6], [3, 2], [2, 3, 1], [0, 3], [-2, -3], [2.0, 3], [True, 3], [1 << 62, 1 << 62]),
    "range": (*NO_CHOICE, "tv"),
    "matrix": (*NO_CHOICE, "bt470", 6),
    "encoding": (*NO_CHOICE, "pickle"),
    "payload_bytes": (*NO_COUNTS, 0, 5, 7, wire.MOST_PAYLOAD_BYTES + 1),
    "drops": entries(NO_COUNTS),
    "stages_ms": entries(NO_REALS),
}
MAY_BE_NULL = {"exposure_us", "frame_rate", "name"}
FIELDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "frame": {**ALL, **FRAME},
    "stats": {
        **ALL,
        "uptime_s": NO_REALS,
        "unheard": NO_COUNTS,
        "drops": FRAME["drops"],
        "stages_ms": FRAME["stages_ms"],
    },
    "bye": {**ALL, "reason": (*NO_CHOICE, "END")},
    "want": {
        "version": ALL["version"],
        "kind": ALL["kind"],
        "consumer": (*NO_SESSION, ""),
        "session": tuple(bad for bad in NO_SESSION if bad != ""),
        "sequence": NO_COUNTS,
        "room": (*NO_COUNTS, 1025),
        "done": ("true", "", 0, 1, [], {}),
    },
}
EACH = [(kind, name) for kind, known in FIELDS.items() for name in known]


def refusal(message: list[Any]) -> str:
    """What is said of it: one line that a terminal and a log may have, and not a long one."""
    with pytest.raises(WireError) as refused:
        wire.unpack(message)
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 400
    return text


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_fields_may_stand_in_any_order(kind: str, name: str) -> None:
    fields = header(kind)
    expected = wire.unpack(parts(kind, dict(fields)))
    moved = {name: fields.pop(name)} | fields
    got = wire.unpack(parts(kind, moved))
    if isinstance(expected, FrameMessage) and isinstance(got, FrameMessage):
        assert same(got.frame, expected.frame)
        assert (got.head, got.drops, got.stages_ms) == (expected.head, expected.drops, expected.stages_ms)
    else:
        assert got == expected


def test_a_field_in_both_halves_of_a_header_is_there_twice() -> None:
    topic, text, payload = MADE["frame"]
    wire.unpack(MADE["frame"])  # its first half is known now
    for late in (b'"stream":"other"', b'"size":[3,2]', b'"version":1'):
        with pytest.raises(WireError, match="a key twice"):
            wire.unpack([topic, bytes(text)[:-1] + b"," + late + b"}", payload])


def test_what_looks_like_the_middle_of_a_header_and_is_none_deceives_nobody() -> None:
    fields = header("frame")
    inner = parts("frame", {"extra": {"a": 1, "sequence": 99}} | fields)
    assert unpacked(inner).head.sequence == 7
    text = parts("frame", {"extra": 'x","sequence":99,"y":"'} | fields)
    assert unpacked(text).head.sequence == 7


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_that_is_sent_is_tried_here(kind: str) -> None:
    assert {*header(kind)} == {*FIELDS[kind]}


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_a_field_with_anything_else_than_what_is_legal_is_named_with_what_came_and_what_is_legal(
    kind: str, name: str
) -> None:
    for bad in FIELDS[kind][name]:
        text = refusal(changed(kind, **{name: bad}))
        assert re.match(rf"(a key of )?{name}(\[[^]]+\])? is .+; legal is .+", text), (bad, text)


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_a_field_that_is_not_there_or_null_is_named(kind: str, name: str) -> None:
    fields = header(kind)
    del fields[name]
    for message, came in ((parts(kind, fields), "not there"), (changed(kind, **{name: None}), "None")):
        if name in MAY_BE_NULL:
            came_frame = wire.unpack(message)
            assert isinstance(came_frame, FrameMessage)
            assert getattr(came_frame.frame, name) is None
        elif name == "state":  # then it is no fused frame, and must not have what only those have
            assert refusal(message) == "model is 'realtime'; legal is null where state is null"
        else:
            assert refusal(message).startswith(f"{name} is {came}; legal is ")


def test_a_frame_without_a_state_was_not_fused() -> None:
    message = wire.unpack(changed("frame", state=None, skew_ns=None, timestamps_ns=None, model=None))
    assert isinstance(message, FrameMessage)
    assert message.frame.fusion is None


@pytest.mark.parametrize(
    "name",
    [
        "0007",
        "IMG 0007",
        "Straße",
        "夜-01",
        "2026-01-02T03:04:05",
        ".hidden",
        "...",
        "..a",
        "-x",
        "a" * 255,
        "'\"<$(x)>",
    ],
)
def test_a_name_may_be_whatever_a_file_is_called(name: str) -> None:
    message = wire.unpack(changed("frame", name=name))
    assert isinstance(message, FrameMessage)
    assert message.frame.name == name
    assert len(name.encode()) <= MOST_NAME_BYTES


@pytest.mark.parametrize("state", ["fused", "held", "visible_only", "under_only", "X2"])
def test_a_state_is_a_word(state: str) -> None:
    message = wire.unpack(changed("frame", state=state))
    assert isinstance(message, FrameMessage)
    assert message.frame.fusion is not None
    assert message.frame.fusion.state == state


def test_a_message_about_a_key_names_the_mapping_the_key_and_the_value() -> None:
    assert refusal(changed("stats", drops={"full": 1, "late": 1.5})) == (
        f"drops['late'] is 1.5; legal is a whole number of 0 to {MOST_NS}"
    )
    assert refusal(changed("stats", drops={"a\r\nERROR forged": 1})).startswith(
        r"a key of drops is 'a\r\nERROR forged'; legal is text of 1 to 256 characters, none of them a control character"
    )


def test_no_text_of_a_stranger_makes_a_second_line_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    forged = "x\nERROR root: all is lost\r\x1b[31m\u2028\u202e"
    for kind, name in EACH:
        for value in (forged, {forged: 1}, {"a": forged}, [forged], {forged * 9: {forged: [forged]}}):
            with pytest.raises(WireError) as refused:
                wire.unpack(changed(kind, **{name: value}))
            logging.getLogger("streamfuse").warning("refused: %s", refused.value)
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert len(caplog.records) == 5 * len(EACH)


# JSON:


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{}{}",
        b'{"version":1,}',
        b"{'version':1}",
        b"\xff\xfe",
        b'{"kind":"\xff"}',
        '{"version":1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"\x00" * 100,
        b"[" * MOST_HEADER_BYTES,
        b'{"a":' * (MOST_HEADER_BYTES // 5),
        b'{"a":%s}' % (b"9" * 60_000),
        b'{"a":"\n"}',
    ],
    ids=range(14),
)
def test_a_header_that_is_not_json_is_refused(text: bytes) -> None:
    assert refusal(parts("bye", text)) == "the header is not JSON in UTF-8"


@pytest.mark.parametrize("text", [b"null", b"[]", b"1", b'"x"', b"true", b"[[[[[[[[]]]]]]]]", b'[{"version":1}]'])
def test_a_header_that_is_no_object_is_refused(text: bytes) -> None:
    assert re.fullmatch(r"the header is .{1,30}; legal is a JSON object", refusal(parts("bye", text)))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_what_only_python_takes_for_json_is_refused(text: str) -> None:
    assert refusal(parts("bye", f'{{"version":1,"later":{text}}}')) == f"the header has {text}, which is no JSON"


def test_a_number_beyond_all_floats_is_no_number() -> None:
    text = json.dumps(header("stats")).replace("61.5", "1e999")
    assert refusal(parts("stats", text)).startswith("uptime_s is inf; legal is ")


@pytest.mark.parametrize("twice", ['{"version":1,"version":1}', '{"version":1,"later":{"a":1,"a":2}}'])
def test_a_key_twice_is_refused_wherever_it_is(twice: str) -> None:
    assert refusal(parts("bye", twice)) == "the header has a key twice"


def test_a_header_as_long_as_legal_is_read_and_one_byte_more_is_refused() -> None:
    text = json.dumps(header("bye")).encode()
    assert wire.unpack(parts("bye", text + b" " * (MOST_HEADER_BYTES - len(text)))) == BYE
    text += b" " * (MOST_HEADER_BYTES + 1 - len(text))
    assert refusal(parts("bye", text)) == "the header has 65537 bytes; legal are up to 65536"


@pytest.mark.parametrize("depth", [10, 100, 300, 600, 900, 2000])
def test_nesting_of_any_depth_is_told_in_one_short_line(depth: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        nest = opening * depth + "1" + closing * depth
        text = json.dumps(header("bye")).replace('"end"', nest)
        assert re.match("reason is .{1,80}; legal is|the header is not JSON", refusal(parts("bye", text)))


def test_text_may_be_written_as_it_is_or_escaped() -> None:
    for ascii_only in (True, False):
        text = json.dumps(header("frame") | {"name": "Tür 夜"}, ensure_ascii=ascii_only)
        message = wire.unpack(parts("frame", text))
        assert isinstance(message, FrameMessage)
        assert message.frame.name == "Tür 夜"


def test_the_fields_of_a_message_need_not_be_in_order() -> None:
    fields = dict(reversed(header("frame").items()))
    assert isinstance(wire.unpack(parts("frame", fields)), FrameMessage)


def test_a_field_that_nobody_asks_for_may_be_anything() -> None:
    assert Fields.parse(b'{"later":"\\ud800\\n","version":1}').number("version", 1, 1) == 1
    assert bytes(MADE["bye"][1]).isascii()
