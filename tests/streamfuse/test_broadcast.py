"""One publisher, many subscribers: who is heard, what is dropped, what is held, and how it ends."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import numpy as np
import pytest
import zmq

from pipeline import wire
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame
from pipeline.wire import FrameMessage
from streamfuse import broadcast, keys
from streamfuse.broadcast import MOST_TOPICS, Broadcaster, Listener
from streamfuse.sockets import MOST_PARTS
from tests.pipeline.fakes import PATIENCE
from tests.streamfuse.peers import dialled, shake_hands
from tests.streamfuse.publisher import ANY_PORT, Publisher, packed, picture, wait_until

STREAMS = 30


@pytest.fixture(params=["tcp", "ipc"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return ANY_PORT if request.param == "tcp" else f"ipc://{tmp_path}/fused"


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """`Listener`, closed at the end of the test."""
    with ExitStack() as opened:
        yield lambda *given: opened.enter_context(closing(Listener(*given)))


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as publisher:
        yield publisher


def test_what_is_sent_arrives_by_tcp_and_by_ipc(address: str, listen: Callable[..., Listener]) -> None:
    with Publisher(address) as publisher:
        listener = listen(publisher.address, b"fused/")
        publisher.wait_for_listener()
        publisher.frame(picture(value=9))
        parts = listener.receive(PATIENCE)
        assert parts is not None
        message = wire.unpack(parts)
        assert isinstance(message, FrameMessage)
        assert message.frame.data.tolist() == [[9] * 4] * 2
        assert listener.receive(0) is None
    assert not address.startswith("ipc") or not Path(address.removeprefix("ipc://")).exists()


def test_who_wants_a_topic_is_heard_until_it_goes(publisher: Publisher, listen: Callable[..., Listener]) -> None:
    assert not publisher.link.heard(b"fused/frame")
    first, second = listen(publisher.address, b"fused/"), listen(publisher.address, b"fused/")
    publisher.wait_for_listener()
    assert not publisher.link.heard(b"fuse")
    assert not publisher.link.heard(b"visible/frame")
    first.close()
    wait_until(lambda: publisher.frame() or second.receive(0))
    assert publisher.link.heard(b"fused/frame")
    second.close()
    wait_until(lambda: not publisher.link.heard(b"fused/frame"))


def test_who_wants_everything_is_heard_for_everything(publisher: Publisher, listen: Callable[..., Listener]) -> None:
    listen(publisher.address, b"")
    wait_until(lambda: publisher.link.heard(b"anything/at all"))


def test_a_subscriber_with_endless_wishes_neither_blocks_the_publisher_nor_fills_it(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "MOST_TOPICS", 50)
    with zmq.Context.instance().socket(zmq.SUB) as greedy:
        greedy.linger = 0
        greedy.connect(publisher.address)
        for number in range(500):
            greedy.subscribe(f"{number}/")
        wait_until(lambda: publisher.link.heard(b"fused/frame"))  # in doubt they are heard
        assert len(publisher.link._topics) <= 50
    assert MOST_TOPICS > 1000


def test_who_comes_in_a_crowd_is_still_heard_when_the_crowd_has_gone(
    publisher: Publisher, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "MOST_TOPICS", 50)
    with zmq.Context.instance().socket(zmq.SUB) as crowd:
        crowd.linger = 0
        crowd.connect(publisher.address)
        for number in range(100):
            crowd.subscribe(f"{number}/")
        publisher.wait_for_listener()
        listener = listen(publisher.address, b"fused/")
        wait_until(lambda: publisher.frame() or listener.receive(0))
    wait_until(lambda: publisher.frame() or (publisher.link.heard(b"fused/frame"), publisher.link._topics)[1] == set())
    assert publisher.link.heard(b"fused/frame")


def test_what_a_subscriber_never_stops_saying_is_not_kept(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each look ZeroMQ takes in all that waits, without a limit; so little may wait, or it is 100 MB a second."""
    monkeypatch.setattr(broadcast, "MOST_NEWS", 1)
    said, sent = (b"\0\xc8" + b"x" * 200) * 300, 0
    with dialled(publisher.address) as talker:
        shake_hands(talker, b"SUB")
        talker.setblocking(False)
        for _ in range(1000):
            publisher.link.heard(b"fused/frame")
            with suppress(BlockingIOError):
                while sent < 64 << 20:
                    sent += talker.send(said[sent % len(said) :])
    assert sent < 32 << 20  # what fits into the buffers of the kernel


def test_what_subscribers_say_beside_subscriptions_is_ignored(publisher: Publisher) -> None:
    with zmq.Context.instance().socket(zmq.XSUB) as odd:
        odd.linger = 0
        odd.connect(publisher.address)
        for news in (b"", b"\2fused/", b"x" * 400, b"\0never subscribed", b"\1visible/"):
            odd.send(news)
        wait_until(lambda: publisher.link.heard(b"visible/frame"))
        assert not publisher.link.heard(b"fused/frame")


def test_a_frame_stats_and_a_goodbye_in_one_instant_all_arrive(
    publisher: Publisher, listen: Callable[..., Listener]
) -> None:
    listener = listen(publisher.address, b"fused/")
    publisher.wait_for_listener()
    noise = np.zeros((1080, 1920, 3), np.uint8)
    publisher.frame(Frame(noise, "bgr24", (1920, 1080), 0, "device", 0, "fused"))
    publisher.stats()
    publisher.bye()
    publisher.link.close()
    kinds = [bytes((listener.receive(PATIENCE) or [b"nothing"])[0]) for _ in range(3)]
    assert kinds == [b"fused/frame", b"fused/stats", b"fused/bye"]


def test_a_subscriber_that_takes_nothing_holds_up_neither_the_publisher_nor_another(
    publisher: Publisher, listen: Callable[..., Listener]
) -> None:
    stuck, other = listen(publisher.address, b"fused/"), listen(publisher.address, b"fused/")
    for listener in (stuck, other):
        wait_until(lambda listener=listener: publisher.frame() or listener.receive(0))  # type: ignore[misc]
    alive = []
    wait_until(lambda: other.receive(0.05) is None)
    for number in range(publisher.sequence, publisher.sequence + 30):
        pixels = np.zeros((1080, 1920, 3), np.uint8)
        publisher.frame(Frame(pixels, "bgr24", (1920, 1080), 0, "device", number, "fused"))
        alive.append(weakref.ref(pixels))
        del pixels
        parts = other.receive(PATIENCE)
        assert parts is not None
        message = wire.unpack(parts)
        assert message.head.sequence == number  # type: ignore[union-attr]
        del parts, message

    def held() -> int:
        gc.collect()
        return sum(data() is not None for data in alive)

    wait_until(lambda: held() <= 8, "the publisher keeps frames for one that takes none")
    stuck.close()
    wait_until(
        lambda: publisher.link.heard(b"fused/frame") and held() == 0, "the publisher keeps frames of one that is gone"
    )


def test_of_a_message_of_too_many_parts_only_so_many_are_kept_that_it_can_be_told(
    listen: Callable[..., Listener],
) -> None:
    with zmq.Context.instance().socket(zmq.PUB) as rogue:
        rogue.linger = 0
        port = rogue.bind_to_random_port("tcp://127.0.0.1")
        listener, found = listen(f"tcp://127.0.0.1:{port}", b""), []
        wait_until(
            lambda: rogue.send_multipart([b"fused/frame"] * 300) or found.append(listener.receive(0)) or found[-1]
        )
        assert len(found[-1]) == MOST_PARTS


def test_no_pixel_changes_on_its_way_while_thirty_streams_are_under_load(listen: Callable[..., Listener]) -> None:
    """The publisher lets go of each array at once, and its allocator takes the memory for the next one."""
    links = [Broadcaster(ANY_PORT) for _ in range(STREAMS)]
    listeners = [listen(link.address, b"cam") for link in links]
    poller, seen, wrong = threading.Event(), [0] * STREAMS, []

    def receive() -> None:
        while not poller.is_set():
            for number, listener in enumerate(listeners):
                parts = listener.receive(0)
                if parts is not None:
                    message = wire.unpack(parts)
                    assert isinstance(message, FrameMessage)
                    seen[number] += 1
                    if checksum(message.frame.data) != message.frame.name or message.frame.stream != f"cam{number}":
                        wrong.append((number, message.frame.sequence))
            time.sleep(0)

    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (8, 200 * 320 * 3 // 2), np.uint8)
    for number, link in enumerate(links):
        wait_until(lambda link=link, number=number: link.heard(b"cam%d/frame" % number))  # type: ignore[misc]
    thread = threading.Thread(target=receive)
    thread.start()
    try:
        for sequence in range(20):
            for number, link in enumerate(links):
                pixels = noise[rng.integers(8)] ^ np.uint8(sequence * 7 + number)
                frame = Frame(
                    pixels, "yuv420p", (320, 200), 0, "device", sequence, f"cam{number}", name=checksum(pixels)
                )
                link.send(packed(frame))
                del pixels, frame
        wait_until(lambda: all(count >= 3 for count in seen))
    finally:
        poller.set()
        thread.join()
        for each in links:
            each.close()
    assert wrong == []


def checksum(pixels: np.ndarray) -> str:
    return f"{np.bitwise_xor.reduce(pixels.view(np.uint32)):08x}{int(pixels.sum(dtype=np.uint64)):016x}"


def test_who_has_the_key_gets_frames_and_who_has_none_does_not(tmp_path: Path, listen: Callable[..., Listener]) -> None:
    keys.make(tmp_path / "keys")
    link = Broadcaster(ANY_PORT, tmp_path / "keys")
    right, none = listen(link.address, b"fused/", tmp_path / "keys"), listen(link.address, b"fused/")
    wait_until(lambda: link.heard(b"fused/frame"))
    link.send(packed(picture()))
    assert right.receive(PATIENCE) is not None
    assert none.receive(0) is None
    link.close()


def test_a_port_in_use_and_keys_that_are_not_there_are_told_and_leave_nothing_open(
    publisher: Publisher, tmp_path: Path
) -> None:
    opened = open_files()
    for _ in range(20):
        with pytest.raises(OutputError):
            Broadcaster(publisher.address)
        with pytest.raises(ConfigError):
            Broadcaster(ANY_PORT, tmp_path / "nothing")
        with pytest.raises(ConfigError):
            Listener(publisher.address, b"", tmp_path / "nothing")
        with pytest.raises(ConfigError):
            Listener("tcp://nowhere", b"")
    wait_until(lambda: open_files() <= opened + 3)


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_closing_twice_is_closing_once(publisher: Publisher) -> None:
    publisher.link.close()
    publisher.link.close()
    listener = Listener(publisher.address, b"")
    listener.close()
    listener.close()


def test_a_goodbye_to_a_subscriber_that_takes_nothing_is_not_waited_for_for_ever(
    publisher: Publisher, listen: Callable[..., Listener]
) -> None:
    listen(publisher.address, b"fused/")
    publisher.wait_for_listener()
    for number in range(20):
        large = Frame(np.zeros((1080, 1920, 3), np.uint8), "bgr24", (1920, 1080), 0, "device", number, "fused")
        publisher.frame(large)
    done = threading.Event()

    def leave() -> None:
        publisher.bye()
        publisher.link.close()
        done.set()

    threading.Thread(target=leave).start()
    assert done.wait(PATIENCE)
