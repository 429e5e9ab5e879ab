"""`run.py view`: a stream is looked at, saved, and served; the program as a whole."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline import wire
from pipeline.frame import Frame
from streamfuse.broadcast import Broadcaster
from streamfuse.clocks import clock
from streamfuse.lossless import Giver
from tests import media
from tests.conftest import Command
from tests.programs import frames_that_play, started

STREAM, SESSION = "thermal", "00112233445566ff"
ANYWHERE = "tcp://127.0.0.1:0"
PIXELS = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21  # all 16 bits matter
FRAMES = 6  # of a recording
PAUSE_S = 0.01


def message(number: int, clock_name: str, timestamp_ns: int, pixel_format: str = "gray16") -> list[wire.Buffer]:
    data = PIXELS.copy() if pixel_format == "gray16" else media.heat(number)
    frame = Frame(data, pixel_format, media.SIZE, timestamp_ns, "device", number, STREAM)  # type: ignore[arg-type]
    head = wire.Head(STREAM, SESSION, number, clock_name, time.monotonic_ns(), time.time_ns())
    return list(wire.pack_frame(head, frame, wire.About()))


@contextmanager
def published(pixel_format: str = "gray16") -> Iterator[str]:
    """A live stream; gives its address."""
    with ExitStack() as stack:
        link, over = Broadcaster(ANYWHERE), threading.Event()

        def send() -> None:
            number = 0
            while not over.wait(PAUSE_S):
                if link.heard(wire.topic(STREAM, "frame")):
                    link.send(message(number, clock(), time.monotonic_ns(), pixel_format))
                    number += 1
            link.close()

        thread = threading.Thread(target=send)
        thread.start()
        stack.callback(thread.join)
        stack.callback(over.set)
        yield link.address


@contextmanager
def recorded() -> Iterator[str]:
    """A recording, delivered lossless; gives its address."""
    link = Giver(ANYWHERE, stream=STREAM, session=SESSION, clock=wire.PRESENTATION)

    def give() -> None:
        for number in range(FRAMES):
            link.give(message(number, wire.PRESENTATION, number * 40_000_000))
        link.end("end")
        link.close()

    thread = threading.Thread(target=give)
    thread.start()
    try:
        yield link.address
    finally:
        thread.join()


def test_so_many_frames_are_looked_at_and_the_summary_is_for_programs(command: Command) -> None:
    with published() as address:
        outcome = command("view", address, "--frames", 5, "--json", "-")
    summary = json.loads(outcome.out)
    assert (outcome.code, summary["mode"]) == (0, "live")
    assert summary["nodes"]["view"]["emitted"] == 5
    assert summary["nodes"]["view"]["age_p50_ms"] > 0
    assert f"view    5 frames <- {address}" in outcome.err


def test_one_image_has_all_bits_and_ends_the_look(command: Command, tmp_path: Path) -> None:
    with published() as address:
        outcome = command("view", address, "--stream", STREAM, "--save", tmp_path / "now.png")
    assert outcome.code == 0, outcome.err
    assert np.array_equal(media.read_image(tmp_path / "now.png"), PIXELS)


def test_a_folder_gets_an_image_a_frame(command: Command, tmp_path: Path) -> None:
    with published() as address:
        outcome = command("view", address, "--frames", 2, "--save", tmp_path / "now")
    assert outcome.code == 0, outcome.err
    assert len(list((tmp_path / "now").glob("*.png"))) == 2


def test_a_video_gets_what_is_not_dropped(command: Command, tmp_path: Path) -> None:
    with published("gray8") as address:
        outcome = command("view", address, "--frames", 8, "--save", tmp_path / "night.mkv", "--json", "-")
    assert outcome.code == 0, outcome.err
    save = json.loads(outcome.out)["nodes"]["save"]
    assert frames_that_play(tmp_path / "night.mkv") == save["emitted"] > 0


def test_a_recording_is_saved_frame_by_frame_and_bit_by_bit(command: Command, tmp_path: Path) -> None:
    with recorded() as address:
        outcome = command("view", address, "--lossless", "--save", tmp_path / "night.mkv", "--codec", "ffv1")
    assert outcome.code == 0, outcome.err
    frames = media.decoded(tmp_path / "night.mkv")
    assert media.times_s(tmp_path / "night.mkv") == pytest.approx([number * 0.04 for number in range(FRAMES)])
    assert all(np.array_equal(frame.to_ndarray(), PIXELS) for frame in frames)


def test_it_is_served_as_a_page(command: Command) -> None:
    with published() as address:
        outcome = command("view", address, "--web", 0, "--frames", 2)
    assert outcome.code == 0, outcome.err
    assert "page: the page is at http://127.0.0.1:" in outcome.err


def test_quiet_says_nothing_of_what_works(command: Command) -> None:
    with published() as address:
        outcome = command("--quiet", "view", address, "--frames", 2)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_a_stream_of_which_nothing_came_is_no_success(command: Command) -> None:
    with published() as address:
        outcome = command("view", address, "--stream", "visible", "--for", "0.1")
    assert outcome.code == 3
    assert f"{address}: no frame came" in outcome.error
    assert "Is its stream named 'visible'?" in outcome.error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["view", "127.0.0.1:5555"], "tcp://HOST:PORT"),
        (["view", "tcp://127.0.0.1:5555", "--web", "70000"], "'70000' is no port"),
        (["view", "tcp://127.0.0.1:5555", "--for", "5", "--lossless"], "--for: it is for live pipelines"),
        (["view", "tcp://127.0.0.1:5555", "--keys", "/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_opens(command: Command, words: list[str], message: str) -> None:
    outcome = command(*words)
    assert outcome.code == 2
    assert message in outcome.error


@pytest.mark.slow
def test_ctrl_c_ends_a_look_at_nothing(tmp_path: Path) -> None:
    with started(tmp_path, "view", f"ipc://{tmp_path}/nobody.ipc") as program:
        program.until_told("view: nothing comes (1 s); is a publisher running at this address?")
        assert program.interrupt().code == 130
