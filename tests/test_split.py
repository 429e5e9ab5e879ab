"""A pipeline split over several is the same as one: the same frames, times, names and states."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nodes
from nodes.output.memory import MemoryOutput
from pipeline.config import build
from pipeline.errors import OutputError
from pipeline.frame import Frame
from pipeline.pipeline import Pipeline
from tests import media
from tests.nodes.zmq_ends import wait_until
from tests.pipeline.fakes import Running
from tests.programs import started, write_tree

Tree = dict[str, dict[str, Any]]

TOLD = (
    *("pixel_format", "size", "timestamp_ns", "timestamp_source", "sequence", "color_range", "color_matrix"),
    *("frame_rate", "name", "exposure_us", "fusion"),
)
INPUTS = {"infrared": "thermal", "visible": "rgb"}


def publish(source: str, folder: Path, **settings: Any) -> dict[str, Any]:
    address = f"ipc://{folder}/{source}.link"
    return {"type": "output.zmq", "inputs": source, "address": address, "delivery": "lossless", **settings}


def receive(source: str, folder: Path, **settings: Any) -> dict[str, Any]:
    return {"type": "capture.zmq", "address": f"ipc://{folder}/{source}.link", "delivery": "lossless", **settings}


def whole_tree(sources: tuple[Path, Path], weights: Path, last: Mapping[str, Any]) -> Tree:
    """Two recordings, fused, and what becomes of the fused frames."""
    return {
        "thermal": {"type": "capture.video", "path": str(sources[0])},
        "rgb": {"type": "capture.video", "path": str(sources[1])},
        "fuse": {"type": "fusion.fuse", "inputs": INPUTS, "weights": str(weights)},
        "last": {"inputs": "fuse", **last},
    }


def split(tree: Tree, folder: Path) -> list[Tree]:
    """The same in three: one reads, one fuses, one keeps."""
    sources = {name: tree[name] for name in ("thermal", "rgb")}
    return [
        {**sources, **{f"publish_{name}": publish(name, folder) for name in sources}},
        {**{name: receive(name, folder) for name in sources}, "fuse": tree["fuse"], "publish": publish("fuse", folder)},
        {"fused": receive("fuse", folder), "last": {**tree["last"], "inputs": "fused"}},
    ]


def run_all(pipelines: list[Pipeline]) -> None:
    """Side by side, to their ends; the first failure is raised."""
    for running in [Running(pipeline) for pipeline in pipelines]:
        assert running.end().broken == []


def kept(pipeline: Pipeline) -> list[Frame]:
    node = pipeline.steps["last"].node
    assert isinstance(node, MemoryOutput)
    return list(node.frames)


def assert_same(ours: list[Frame], theirs: list[Frame]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.data, other.data)
        assert one.data.dtype == other.data.dtype
        assert {key: getattr(one, key) for key in TOLD} == {key: getattr(other, key) for key in TOLD}


@pytest.mark.parametrize("kind", ["videos", "folders"])
def test_a_recorded_pipeline_in_three_gives_the_same_frames(tmp_path: Path, weights: Path, kind: str) -> None:
    if kind == "videos":
        sources = media.write_recording(tmp_path, 12)
    else:
        sources = media.write_folders(tmp_path, [f"street {number}" for number in range(12)])
    tree = whole_tree(sources, weights, {"type": "output.memory"})
    whole, parts = build(tree, nodes.TYPES), [build(part, nodes.TYPES) for part in split(tree, tmp_path)]
    run_all([whole])
    run_all(parts)
    frames = kept(whole)
    assert len(frames) == 12
    assert {frame.fusion and frame.fusion.state for frame in frames} == {"fused"}
    assert_same(kept(parts[-1]), frames)
    assert {frame.stream for frame in kept(parts[-1])} == {"fused"}


def test_two_consumers_of_one_recording_both_get_all_of_it(tmp_path: Path) -> None:
    path, _ = media.write_recording(tmp_path, 40)
    first: Tree = {
        "thermal": {"type": "capture.video", "path": str(path)},
        "publish": publish("thermal", tmp_path, consumers=2),
        "last": {"type": "output.memory", "inputs": "thermal"},
    }
    second: Tree = {"in": receive("thermal", tmp_path), "last": {"type": "output.memory", "inputs": "in"}}
    pipelines = [build(tree, nodes.TYPES) for tree in (first, second, second)]
    run_all(pipelines)
    for pipeline in pipelines[1:]:
        assert_same(kept(pipeline), kept(pipelines[0]))


def test_a_live_pipeline_in_two_hands_on_frames_with_their_capture_times(tmp_path: Path) -> None:
    camera = {"type": "capture.pattern", "view": "infrared", "size": [64, 48], "fps": 100}
    first = build({"cam": camera, "publish": publish("cam", tmp_path, delivery="latest")}, nodes.TYPES)
    last = {"type": "output.memory", "inputs": "in"}
    second = build({"in": receive("cam", tmp_path, delivery="latest"), "last": last}, nodes.TYPES)
    consumer, publisher = Running(second), Running(first)  # whoever is there first
    wait_until(lambda: second.steps["last"].stats.emitted >= 20)
    for running in (publisher, consumer):
        running.pipeline.stop()
        assert running.end().broken == []
    times = [frame.timestamp_ns for frame in kept(second)]
    steps_ns = [after - before for before, after in itertools.pairwise(times)]
    assert all(step_ns > 0 and step_ns % 10_000_000 == 0 for step_ns in steps_ns)  # of the camera's beat
    assert {frame.timestamp_source for frame in kept(second)} == {"device"}
    assert all(age_ms >= 0 for age_ms in second.steps["last"].stats.age_ms)


def test_a_failure_in_one_part_fails_the_others_too(tmp_path: Path) -> None:
    """Half a recording is never taken for a whole one."""
    path, _ = media.write_recording(tmp_path, 40)
    first: Tree = {
        "thermal": {"type": "capture.video", "path": str(path)},
        "publish": publish("thermal", tmp_path, timeout_s=1),
    }
    second: Tree = {
        "in": receive("thermal", tmp_path),
        "hand_on": publish("in", tmp_path, timeout_s=0.3),  # to nobody
    }
    publisher, consumer = (Running(build(tree, nodes.TYPES)) for tree in (first, second))
    with pytest.raises(OutputError, match="0 of 1 lossless consumers came"):
        consumer.end()
    with pytest.raises(OutputError, match="lossless consumer is gone"):
        publisher.end()


@pytest.mark.slow
def test_programs_that_leave_at_once_have_sent_and_written_all_of_a_recording(tmp_path: Path) -> None:
    """They do not take themselves apart, and what is still to be sent then would be lost."""
    path, _ = media.write_recording(tmp_path, 20)
    save = {"type": "output.video", "inputs": "in", "path": str(tmp_path / "split.mkv"), "codec": "ffv1"}
    trees: dict[str, Tree] = {
        "capture": {"thermal": {"type": "capture.video", "path": str(path)}, "publish": publish("thermal", tmp_path)},
        "record": {"in": receive("thermal", tmp_path), "save": save},
    }
    with ExitStack() as programs:
        running = []
        for name, tree in trees.items():
            (folder := tmp_path / name).mkdir()
            config = write_tree(folder / f"{name}.yaml", tree)
            running.append(programs.enter_context(started(folder, config, "--json", "-")))
        outcomes = [program.end() for program in running]
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.err for outcome in outcomes]
    assert json.loads(outcomes[-1].out)["nodes"]["save"]["emitted"] == 20
    whole, parted = media.decoded(path), media.decoded(tmp_path / "split.mkv")
    assert len(whole) == len(parted) == 20
    for one, other in zip(whole, parted, strict=True):
        assert one.pts * one.time_base == other.pts * other.time_base
        assert np.array_equal(one.to_ndarray(), other.to_ndarray())
