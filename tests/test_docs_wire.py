"""The page on the wire format: its fields, limits and bytes are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline import wire
from pipeline.header import MOST_NAME_BYTES
from pipeline.messages import MOST_RATE
from tests.pipeline.messages import ABOUT, HEAD, MADE, frame, header, same, unpacked

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "wire.md").read_text(encoding="utf-8")


def from_hex_dump(dump: str) -> bytes:
    """The bytes of lines such as `0010  66 75 73 65 64 2f  fused/`."""
    rows = [re.fullmatch(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} ?){1,16}) +(.{1,16})", line) for line in dump.splitlines()]
    found = b""
    for row in rows:
        assert row is not None
        part = bytes.fromhex(row[2])
        assert int(row[1], 16) == len(found)
        assert row[3] == "".join(chr(byte) if 0x20 < byte < 0x7F else "." for byte in part)
        found += part
    return found


def test_the_message_in_the_docs_is_what_this_code_makes_and_reads() -> None:
    dumps = re.findall(r"^```hexdump\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)
    parts = [from_hex_dump(dump) for dump in dumps]
    assert parts == [bytes(part) for part in wire.pack_frame(HEAD, frame("gray16", name="0007"), ABOUT)]
    assert same(unpacked([*parts]).frame, frame("gray16", name="0007"))


@pytest.mark.parametrize("kind", MADE)
def test_the_page_lists_every_field_of_a_message(kind: str) -> None:
    section = PAGE.partition(f"### `{kind}`")[2].partition("\n### ")[0].partition("\n## ")[0]
    begin = PAGE.partition("### Every header")[2].partition("\n### ")[0]
    told = [re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for text in (begin, section)]
    begins = told[0] if kind != "want" else ["version", "kind"]
    assert sorted(header(kind)) == sorted([*begins, *told[1]])


def test_the_page_gives_the_limits_that_are() -> None:
    rows = {name: int(value) for name, value in re.findall(r"^\| `(MOST_\w+)` \| (\d+) \|", PAGE, re.MULTILINE)}
    known = {name: getattr(wire, name) for name in wire.__all__ if name.startswith("MOST_")}
    assert rows == known | {"MOST_NAME_BYTES": MOST_NAME_BYTES, "MOST_RATE": MOST_RATE}
