"""A hostile publisher at the other end of a real connection: all of it is counted, and nothing of it kept."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq

import streamfuse
from pipeline import wire
from pipeline.wire import About, Buffer, ByeMessage, StatsMessage, WantMessage, WireError
from streamfuse.subscription import Subscription
from tests.pipeline.test_wire_fuzz import MAKERS
from tests.streamfuse.publisher import Publisher, head, packed, picture, wait_until

GROWTH_BYTES = 16 << 20  # of the process; that of one frame of 1080p is 3 MB


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """One whose messages all arrive: sending waits for room."""
    with Publisher() as publisher:
        publisher.link._socket.setsockopt(zmq.XPUB_NODROP, 1)
        yield publisher


@pytest.fixture
def subscription(publisher: Publisher) -> Iterator[Subscription]:
    with closing(streamfuse.subscribe(publisher.address)) as subscription:
        publisher.wait_for_listener()
        publisher.frame()
        wait_until(lambda: subscription.counts()["received"] == 1)
        yield subscription


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def kind_of(parts: list[Buffer]) -> str:
    """By which counter it is to be found."""
    try:
        message = wire.unpack(parts)
    except WireError:
        return "malformed"
    if isinstance(message, WantMessage):
        return "malformed"
    return {StatsMessage: "", ByeMessage: ""}.get(type(message), "received")


def test_ten_thousand_hostile_messages_are_counted_and_take_no_memory(
    publisher: Publisher, subscription: Subscription
) -> None:
    dice, expected = random.Random(1), {"malformed": 0, "received": 1, "": 0}
    made = [parts for _ in range(10_000) if (parts := dice.choice(MAKERS)(dice))]
    before = resident_bytes()
    for parts in made:
        expected[kind_of(parts)] += 1
        publisher.link._socket.send_multipart(parts)
    wait_until(lambda: subscription.counts()["malformed"] == expected["malformed"])
    publisher.frame()
    wait_until(lambda: subscription.counts()["received"] == expected["received"] + 1)
    assert resident_bytes() - before < GROWTH_BYTES
    assert subscription.counts()["malformed"] == expected["malformed"]
    assert subscription.connected


def test_each_message_of_another_session_clock_and_reason_takes_no_memory(
    publisher: Publisher, subscription: Subscription
) -> None:
    before = resident_bytes()
    for number in range(3000):
        changes = {"session": secrets.token_hex(8), "clock": f"clock {number}", "sent_ns": number * 10**14}
        about = About(drops={f"reason {number}": number})
        publisher.link._socket.send_multipart(packed(picture(number % 5), about, sequence=number % 7, **changes))
    wait_until(lambda: subscription.counts()["received"] == 3001)
    assert subscription.counts()["sessions"] == 3001
    assert len(subscription.dropped_upstream) <= 65
    assert resident_bytes() - before < GROWTH_BYTES
    frame = subscription.take(0)
    assert frame is not None
    wire.pack_frame(head(), frame.frame, About())  # can be sent on


def test_a_message_of_very_many_parts_is_one_that_is_malformed(
    publisher: Publisher, subscription: Subscription
) -> None:
    publisher.link._socket.send_multipart([b"fused/frame"] + [b""] * 100_000)
    wait_until(lambda: subscription.counts()["malformed"] == 1)
    publisher.frame()
    wait_until(lambda: subscription.counts()["received"] == 2)
