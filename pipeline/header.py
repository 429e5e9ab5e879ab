"""Header: the fields of a message, read from JSON that anybody may have written. Pure.

Every field is checked as it is read: its type, its range, and of text each character, for what is read here goes on to
logs, names of files and web pages. `docs/wire.md` has the rules; nothing but `WireError` is ever raised.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

MOST_HEADER_BYTES = 1 << 16
MOST_PAYLOAD_BYTES = 1 << 28  # of 8K in 24 bits there are 100 MB
MOST_SIDE = 16384  # pixels
MOST_ENTRIES = 64  # of a mapping
MOST_TEXT = 256  # characters
MOST_NAME_BYTES = 255  # in UTF-8: what file systems take
MOST_NS = (1 << 62) - 1  # 146 years; the sum or difference of two of these still fits 64 bits
MOST_REAL = 1e12  # of milliseconds and microseconds: beyond any of ours, and exact as a float

STREAM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # no "..", and nothing that a shell takes for an option
STATE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
HEXADECIMAL = re.compile(r"[0-9a-f]{16}")
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Never in text: control characters and line separators (a line of a log can be forged with them), what turns the
direction of writing (text that reads otherwise than it is), the byte order mark, and lone surrogates (no UTF-8)."""

Buffer = bytes | memoryview

TELL = reprlib.Repr()  # never deeper and never longer, whatever came
TELL.maxlevel, TELL.maxstring, TELL.maxlong, TELL.maxother = 2, 60, 60, 60


class WireError(ValueError):
    """A message that is none of this format. One line: which field, what came, what is legal."""


class Fields:
    """The fields of a header, each checked as it is read; those that nobody reads are ignored."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    @classmethod
    def parse(cls, header: Buffer) -> Fields:
        """From JSON.

        Raises:
            WireError: too long, no UTF-8, no JSON (RFC 8259: NaN and Infinity are none), no object, or a key twice.
        """
        if len(header) > MOST_HEADER_BYTES:
            raise WireError(f"the header has {len(header)} bytes; legal are up to {MOST_HEADER_BYTES}")
        try:
            fields = DECODER.decode(str(header, "utf-8"))
        except WireError:
            raise
        except (ValueError, RecursionError) as error:  # among them a number of thousands of digits, and ((((((((((((
            raise WireError("the header is not JSON in UTF-8") from error
        if not isinstance(fields, dict):
            raise WireError(f"the header is {told(fields)}; legal is a JSON object")
        return cls(fields)

    def has(self, name: str) -> bool:
        """Whether it is there and not null."""
        return self._fields.get(name) is not None

    def has_any(self, names: Set[str]) -> bool:
        """Whether one of them is there, be it null."""
        return not names.isdisjoint(self._fields)

    def are(self, names: Set[str]) -> bool:
        """Whether these are there and no others."""
        return names == self._fields.keys()

    def wrong(self, name: str, legal: str) -> WireError:
        came = told(self._fields[name]) if name in self._fields else "not there"
        return WireError(f"{name} is {came}; legal is {legal}")

    def number(self, name: str, least: int, most: int) -> int:
        value = self._fields.get(name)
        if not whole(value, least, most):
            raise self.wrong(name, f"a whole number of {least} to {most}")
        return int(value)  # type: ignore[arg-type]

    def numbers(self, name: str, count: int, least: int, most: int) -> list[int]:
        values = self._fields.get(name)
        if not isinstance(values, list) or len(values) != count or not all(whole(v, least, most) for v in values):
            raise self.wrong(name, f"{count} whole numbers of {least} to {most}")
        return values

    def real(self, name: str) -> float:
        value = self._fields.get(name)
        if not real(value):
            raise self.wrong(name, REAL)
        return float(value)  # type: ignore[arg-type]

    def one_of(self, name: str, legal: Iterable[Any]) -> Any:
        value = self._fields.get(name)
        if not any(type(value) is type(each) and value == each for each in legal):  # else 1 were true, and 1.0 one
            raise self.wrong(name, " or ".join(repr(each) for each in legal))
        return value

    def text(self, name: str, least: int = 1) -> str:
        """Text for people to read."""
        value = self._fields.get(name)
        if not readable(value, least):
            raise self.wrong(name, READABLE.format(least))
        return str(value)

    def file_name(self, name: str) -> str:
        """Text that may become the name of a file, less its suffix: it never leads out of the folder."""
        value = self._fields.get(name)
        if not readable(value, 1) or not fits_folder(str(value)):
            legal = (
                f"1 to {MOST_NAME_BYTES} bytes of text, no '/' or '\\' or control character in it, and not '.' or '..'"
            )
            raise self.wrong(name, legal)
        return str(value)

    def stream(self) -> str:
        return self._word("stream", STREAM_NAME, "1 to 64 of letters, digits, _ . and -, and neither . nor - first")

    def state(self) -> str:
        return self._word("state", STATE, "a letter and up to 63 letters, digits and _")

    def hexadecimal(self, name: str, or_empty: bool = False) -> str:
        if or_empty and self._fields.get(name) == "":
            return ""
        return self._word(name, HEXADECIMAL, "16 hexadecimal digits, 0-9 and a-f" + or_empty * ", or empty text")

    def _word(self, name: str, pattern: re.Pattern[str], legal: str) -> str:
        value = self._fields.get(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.wrong(name, legal)
        return value

    def counts(self, name: str) -> dict[str, int]:
        return self._entries(name, is_count, COUNT)

    def times(self, name: str) -> dict[str, int]:
        return self._entries(name, is_time, TIME)

    def reals(self, name: str) -> dict[str, float]:
        return {key: float(value) for key, value in self._entries(name, real, REAL).items()}

    def _entries(self, name: str, is_legal: Callable[[Any], bool], legal: str) -> dict[str, Any]:
        entries = self._fields.get(name)
        if not isinstance(entries, dict) or len(entries) > MOST_ENTRIES:
            raise self.wrong(name, f"an object of up to {MOST_ENTRIES} entries")
        for key, value in entries.items():
            if not readable(key, 1):
                raise WireError(f"a key of {name} is {told(key)}; legal is {READABLE.format(1)}")
            if not is_legal(value):
                raise WireError(f"{name}[{told(key)}] is {told(value)}; legal is {legal}")
        return entries


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Of a key twice every reader believes another one, so it is none."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise WireError("the header has a key twice")
    return fields


def no_number(text: str) -> float:
    raise WireError(f"the header has {text}, which is no JSON")


DECODER = json.JSONDecoder(object_pairs_hook=each_once, parse_constant=no_number)  # made once: it takes its time


def told(value: Any) -> str:
    """What came, for a message: printable, in one line, and not too much of it."""
    text = TELL.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def whole(value: Any, least: float, most: float) -> bool:
    return type(value) is int and least <= value <= most  # a bool is an int, too


def is_count(value: Any) -> bool:
    return whole(value, 0, MOST_NS)


def is_time(value: Any) -> bool:
    return whole(value, -MOST_NS, MOST_NS)


def real(value: Any) -> bool:
    """A number that is not negative, and finite: comparisons with NaN are false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_REAL


COUNT = f"a whole number of 0 to {MOST_NS}"
TIME = f"a whole number of {-MOST_NS} to {MOST_NS}"
REAL = f"a number of 0 to {MOST_REAL:g}"
READABLE = f"text of {{}} to {MOST_TEXT} characters, none of them a control character"


def readable(value: Any, least: int) -> bool:
    return isinstance(value, str) and least <= len(value) <= MOST_TEXT and not UNSEEN.search(value)


def fits_folder(name: str) -> bool:
    apart = name in (".", "..") or "/" in name or "\\" in name
    return not apart and len(name.encode()) <= MOST_NAME_BYTES
