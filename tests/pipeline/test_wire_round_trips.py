"""Whatever is legal comes as it went."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import get_args

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import wire
from pipeline.frame import ColorMatrix, ColorRange, Frame, Fusion, PixelFormat, TimestampSource
from pipeline.messages import MOST_RATE
from pipeline.wire import About, ByeMessage, Head, StatsMessage, WantMessage
from tests.pipeline.messages import data, same, unpacked

readable = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
words = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", fullmatch=True)
hexadecimals = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
times = st.integers(-wire.MOST_NS, wire.MOST_NS)
counts = st.integers(0, wire.MOST_NS)
reals = st.floats(0, 1e12)
many = st.dictionaries(readable, counts, max_size=5)
stages = st.dictionaries(readable, reals, max_size=5)
heads = st.builds(Head, words, hexadecimals, counts, readable, counts, counts)
fusions = st.builds(
    Fusion,
    st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,63}", fullmatch=True),
    counts,
    st.dictionaries(readable, times, max_size=4),
    st.just("") | readable,
)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    pixel_format: PixelFormat = draw(st.sampled_from(get_args(PixelFormat)))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    pixels = data(pixel_format, size)
    pixels = np.random.default_rng(draw(st.integers(0, 9))).integers(
        0, np.iinfo(pixels.dtype).max, pixels.shape, pixels.dtype, endpoint=True
    )
    return Frame(
        pixels,
        pixel_format,
        size,
        draw(times),
        draw(st.sampled_from(get_args(TimestampSource))),
        draw(counts),
        "",
        draw(st.sampled_from(get_args(ColorRange))),
        draw(st.sampled_from(get_args(ColorMatrix))),
        draw(st.none() | st.builds(Fraction, st.integers(1, MOST_RATE), st.integers(1, MOST_RATE))),
        draw(st.none() | readable.filter(lambda name: not set(name) & {"/", "\\"} and name not in (".", ".."))),
        draw(st.none() | reals),
        draw(st.none() | fusions),
    )


@settings(deadline=None)
@given(heads, frames(), many, stages)
def test_a_frame_comes_as_it_went(head: Head, given: Frame, drops: dict[str, int], stages_ms: dict[str, float]) -> None:
    message = unpacked(wire.pack_frame(head, given, About(drops=drops, stages_ms=stages_ms)))
    assert same(message.frame, replace(given, stream=head.stream))
    assert (message.head, message.encoding) == (head, "raw")
    assert (message.drops, message.stages_ms) == (drops, stages_ms)


@settings(deadline=None)
@given(st.builds(StatsMessage, heads, reals, counts, many, stages))
def test_stats_come_as_they_went(message: StatsMessage) -> None:
    assert wire.unpack(wire.pack_stats(message)) == message


@settings(deadline=None)
@given(st.builds(ByeMessage, heads, st.sampled_from(get_args(wire.Reason))))
def test_a_bye_comes_as_it_went(message: ByeMessage) -> None:
    assert wire.unpack(wire.pack_bye(message)) == message


@settings(deadline=None)
@given(
    st.builds(
        WantMessage, hexadecimals, st.just("") | hexadecimals, counts, st.integers(0, wire.MOST_ROOM), st.booleans()
    )
)
def test_a_want_comes_as_it_went(message: WantMessage) -> None:
    assert wire.unpack(wire.pack_want(message)) == message
