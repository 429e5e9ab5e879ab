"""`run.py view`: the nodes behind its options, and what it says once a second."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nodes import shorthand, viewing
from nodes.viewing import Wanted, Watch
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame, Fusion
from pipeline.node import EndOfStream, Node

ADDRESS = "tcp://127.0.0.1:5555"
FUSION = Fusion("held", 0, {"infrared": 0, "visible": 0})


def frame(**changes: Any) -> Frame:
    data = np.zeros((48, 64), np.uint8)
    return Frame(**{**dict.fromkeys(("timestamp_ns", "sequence"), 0), **FRAME, "data": data, **changes})


FRAME: dict[str, Any] = {"pixel_format": "gray8", "size": (64, 48), "timestamp_source": "device", "stream": "view"}


# The nodes:


def test_without_options_the_newest_frame_is_kept_and_nothing_else() -> None:
    assert viewing.tree(Wanted(ADDRESS)) == {
        "view": {"type": "capture.zmq", "address": ADDRESS},
        "newest": {"type": "output.memory", "inputs": "view", "keep": 1},
    }


def test_stream_keys_and_delivery_go_to_the_source(tmp_path: Path) -> None:
    nodes = viewing.tree(Wanted(ADDRESS, stream="fused", lossless=True, keys=tmp_path, client="gate"))
    assert nodes["view"] == {
        "type": "capture.zmq",
        "address": ADDRESS,
        "stream": "fused",
        "delivery": "lossless",
        "keys": str(tmp_path),
        "client": "gate",
    }
    assert "client" not in viewing.tree(Wanted(ADDRESS, keys=tmp_path))["view"]  # the only one that is there


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("night.mkv", {"type": "output.video", "codec": "auto"}),
        ("night.MP4", {"type": "output.video", "codec": "auto"}),
        ("night", {"type": "output.images"}),
        ("now.png", {"type": "output.images"}),
    ],
)
def test_the_name_says_as_what_to_save(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    path = tmp_path / name
    assert viewing.tree(Wanted(ADDRESS, save=path))["save"] == {"inputs": "view", "path": str(path), **settings}


def test_the_videos_are_those_that_fusing_writes() -> None:
    assert viewing.VIDEO_SUFFIXES == shorthand.VIDEO_SUFFIXES


def test_a_folder_is_a_folder_whatever_its_name_ends_in(tmp_path: Path) -> None:
    for name in ("night.mkv", "now.png", "other.txt"):
        (tmp_path / name).mkdir()
        wanted = Wanted(ADDRESS, save=tmp_path / name)
        assert viewing.tree(wanted)["save"]["type"] == "output.images"
        assert wanted.most_frames is None


def test_one_image_is_of_one_frame_and_that_is_the_end(tmp_path: Path) -> None:
    assert Wanted(ADDRESS, save=tmp_path / "now.png").most_frames == 1
    assert Wanted(ADDRESS, save=tmp_path / "night.mkv").most_frames is None
    assert Wanted(ADDRESS, save=tmp_path / "night.mkv", frames=5).most_frames == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save": Path("now.png"), "frames": 2}, "--save now.png: holds one image"),
        ({"save": Path("now.png"), "lossless": True}, "--save now.png: holds one image"),
        ({"save": Path("night.avi")}, r"--save night.avi: .avi is nothing that we write; legal are .*\.mkv.*\.png"),
        ({"lossless": True, "frames": 2}, "--frames: is for streams that go on"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        viewing.tree(Wanted(ADDRESS, **options))


def test_the_page_is_served_at_the_port_that_is_wanted() -> None:
    assert viewing.tree(Wanted(ADDRESS, web=0))["page"] == {
        "type": "output.web",
        "inputs": {"view": "view"},
        "views": ["view"],
        "port": 0,
    }


class Counting(Node):
    """A source whose frames are numbered, with nothing between two of them."""

    def __init__(self, first: int = 0) -> None:
        self.next, self.idle = first, False

    def process(self) -> Frame | None:
        self.idle = not self.idle
        if self.idle:
            return None
        self.next += 1
        return frame(sequence=self.next - 1)


def test_a_source_ends_after_so_many_frames_and_keeps_its_settings() -> None:
    known: dict[str, Callable[[], type[Node]]] = {"capture.zmq": lambda: Counting, "output.memory": lambda: Node}
    types = viewing.types(known, 3)
    assert types["output.memory"]() is Node
    source: Any = types["capture.zmq"]()(first=7)  # type: ignore[call-arg]
    given = [source.process() for _ in range(6)]
    assert [each.sequence for each in given if each] == [7, 8, 9]
    with pytest.raises(EndOfStream):
        source.process()
    assert viewing.types(known, None) is known


# The line:


class Pipeline:
    """What the watch asks of one."""

    def __init__(self) -> None:
        self.gauges = {"connected": 0.0, "sessions": 0.0}
        self.drops: Counter[tuple[str, str]] = Counter()
        self.ages: list[float] = []
        self.kept: list[Frame] = []
        view = self.step(channel=None, gauges=lambda: self.gauges, stats=SimpleNamespace(emitted=0))
        newest = self.step(stats=SimpleNamespace(age_ms=self.ages), node=SimpleNamespace(frames=self.kept))
        self.steps = {"view": view, "newest": newest, "save": self.step()}
        for step in self.steps.values():
            step.ready.set()

    def step(self, **has: Any) -> Any:
        channel = SimpleNamespace(drops=lambda: self.drops)
        return SimpleNamespace(**{"ready": threading.Event(), "channel": channel, **has})

    def receive(self, frame: Frame, *ages_ms: float) -> None:
        self.gauges["connected"] = 1.0
        self.gauges["sessions"] = self.gauges["sessions"] or 1.0
        self.steps["view"].stats.emitted += len(ages_ms) or 1
        self.ages.extend(ages_ms)
        self.kept[:] = [frame]


Lines = Callable[..., list[str]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Shows a pipeline at a moment; the lines it gives."""
    caplog.set_level(logging.INFO, logger="streamfuse")
    watches: dict[Wanted, Watch] = {}

    def show(pipeline: Any, at: float, wanted: Wanted = Wanted(ADDRESS)) -> list[str]:  # noqa: B008
        caplog.clear()
        watch = watches.setdefault(wanted, Watch(wanted))
        watch._now = lambda: at
        watch.show(pipeline)
        return [record.message.removeprefix("view: ") for record in caplog.records]

    return show


def test_the_line_tells_rate_age_size_format_and_state_of_what_is_new(lines: Lines) -> None:
    pipeline = Pipeline()
    assert lines(pipeline, 10) == []
    pipeline.receive(frame(), 500.0)
    assert lines(pipeline, 10.9) == []
    pipeline.receive(frame(), 14.0, 13.0, 40.0)
    assert lines(pipeline, 12) == ["2.0 frames/s, 14 ms after capture (p99 500), 64x48 gray8"]
    pipeline.receive(frame(fusion=FUSION), 14.0, 13.0, 40.0)
    assert lines(pipeline, 13) == ["3.0 frames/s, 14 ms after capture (p99 40), 64x48 gray8, held"]


def test_a_recording_has_no_age(lines: Lines) -> None:
    pipeline = Pipeline()
    lines(pipeline, 0)
    pipeline.receive(frame())
    assert lines(pipeline, 1) == ["1.0 frames/s, 64x48 gray8"]


def test_losses_are_told_once_by_place(lines: Lines) -> None:
    pipeline = Pipeline()
    lines(pipeline, 0)
    pipeline.receive(frame())
    pipeline.gauges |= {"lost_in_transit": 2.0, "dropped_upstream": 3.0, "malformed": 1.0}
    pipeline.drops["frame", "queue_full"] = 4
    told = "2 lost on the way, 3 dropped before they were published, 1 messages that are none of ours, 4 dropped here"
    assert lines(pipeline, 1) == [f"1.0 frames/s, 64x48 gray8, {told}"]
    pipeline.receive(frame())
    assert lines(pipeline, 2) == ["1.0 frames/s, 64x48 gray8"]


def test_a_restart_of_the_publisher_is_told_and_its_first_start_is_not(lines: Lines) -> None:
    pipeline = Pipeline()
    lines(pipeline, 0)
    pipeline.receive(frame())
    assert "anew" not in lines(pipeline, 1)[0]
    pipeline.receive(frame())
    pipeline.gauges["sessions"] = 2.0
    assert lines(pipeline, 2)[0].endswith("the publisher was started anew")


def test_when_nothing_comes_the_first_line_and_every_tenth_say_what_to_look_at(lines: Lines) -> None:
    pipeline = Pipeline()
    lines(pipeline, 0)
    said = [lines(pipeline, second)[0] for second in range(1, 12)]
    asking = "is a publisher running at this address? Does it need --lossless? Does it need --keys?"
    assert said[0] == f"nothing comes (1 s); {asking}"
    assert said[1:10] == [f"nothing comes ({second} s)" for second in range(2, 11)]
    assert said[10] == f"nothing comes (11 s); {asking}"


def test_the_hints_are_of_the_options_that_were_given(lines: Lines, tmp_path: Path) -> None:
    wanted = Wanted(ADDRESS, stream="fused", lossless=True, keys=tmp_path)
    pipeline = Pipeline()
    lines(pipeline, 0, wanted)
    said = lines(pipeline, 1, wanted)[0]
    of_keys = f"Has it keys, is {tmp_path}/server.key its own, and our key in its clients/?"
    assert said.endswith(f"Is its stream named 'fused'? Is its delivery lossless? {of_keys}")


def test_a_publisher_without_frames_is_told_from_one_that_is_gone(lines: Lines) -> None:
    pipeline = Pipeline()
    lines(pipeline, 0)
    pipeline.gauges["connected"] = 1.0
    assert lines(pipeline, 1) == ["nothing comes (1 s); the publisher is there, and has no frames"]
    pipeline.receive(frame())
    lines(pipeline, 2)
    pipeline.gauges["connected"] = 0.0
    assert lines(pipeline, 5) == ["nothing comes (3 s); the publisher is gone, waiting for it"]


def test_messages_of_another_kind_are_told_where_no_frame_comes(lines: Lines) -> None:
    pipeline = Pipeline()
    lines(pipeline, 0)
    pipeline.gauges["malformed"] = 30.0
    hint = "what is published there is none of our messages; is it output.zmq with format: streamfuse?"
    assert lines(pipeline, 1) == [f"nothing comes (1 s); {hint}, 30 messages that are none of ours"]


def test_frames_that_came_before_all_was_open_are_in_no_rate(lines: Lines) -> None:
    pipeline = Pipeline()
    for _ in range(6):
        pipeline.receive(frame())
    lines(pipeline, 0)
    pipeline.receive(frame())
    assert lines(pipeline, 1)[0].startswith("1.0 frames/s")


def test_time_counts_from_when_all_nodes_are_open(lines: Lines) -> None:
    pipeline = Pipeline()
    pipeline.steps["view"].ready.clear()
    assert lines(pipeline, 0) == lines(pipeline, 5) == []
    pipeline.steps["view"].ready.set()
    assert lines(pipeline, 6) == []
    assert lines(pipeline, 7)[0].startswith("nothing comes (1 s)")


def test_a_look_that_showed_nothing_is_no_success() -> None:
    pipeline: Any = Pipeline()
    with pytest.raises(SourceError, match=f"{ADDRESS}: no frame came: is a publisher running"):
        Watch(Wanted(ADDRESS)).refuse_nothing(pipeline)
    pipeline.receive(frame())
    Watch(Wanted(ADDRESS)).refuse_nothing(pipeline)
