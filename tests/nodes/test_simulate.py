"""`--simulate`: the ready configs run without hardware; and `--for`, which ends a live run."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import nodes
from nodes.console import Timer
from nodes.simulate import Tree, simulated
from pipeline import config
from pipeline.errors import ConfigError
from tests.conftest import Command
from tests.pipeline.fakes import Endless, Running, Sink, line

ROOT = Path(__file__).resolve().parents[2]
READY = ["night_vision", "thermal_lepton", "hdr_bracket", "rtsp_pair"]


def fusing(first: str = "thermal", second: str = "rgb", **fuse: Any) -> Tree:
    return {
        first: {"type": "capture.camera", "device": 0},
        second: {"type": "capture.camera", "device": 1},
        "page": {"type": "output.web", "inputs": {"fused": "fuse", "visible": first}, "views": ["fused", "visible"]},
        "fuse": {"type": "fusion.fuse", "inputs": {"infrared": first, "visible": second}, **fuse},
    }


def pattern_of(tree: Tree, name: str) -> dict[str, Any]:
    settings = simulated(tree, nodes.TYPES)[name]
    assert settings["type"] == "capture.pattern"
    return settings


def test_each_camera_shows_what_the_fusion_wants_of_it_whatever_else_it_feeds() -> None:
    tree = fusing()
    assert pattern_of(tree, "thermal")["view"] == "infrared"
    assert pattern_of(tree, "rgb")["view"] == "visible"


def test_the_tree_that_is_given_stays_as_it_is_and_other_nodes_come_through() -> None:
    tree = fusing()
    before = copy.deepcopy(tree)
    after = simulated(tree, nodes.TYPES)
    assert tree == before
    assert list(after) == list(tree)
    assert (after["fuse"], after["page"]) == (tree["fuse"], tree["page"])


def test_size_rate_and_format_are_those_of_the_camera() -> None:
    tree = fusing()
    tree["thermal"] |= {"size": [160, 120], "fps": 9, "pixel_format": "gray16", "offset_ms": 12}
    assert pattern_of(tree, "thermal") == {
        "type": "capture.pattern",
        "view": "infrared",
        "size": [160, 120],
        "fps": 9,
        "pixel_format": "gray16",
    }
    assert pattern_of(tree, "rgb") == {
        "type": "capture.pattern",
        "view": "visible",
        "size": [640, 480],
        "fps": 30.0,
    }


def test_network_streams_are_replaced_too() -> None:
    tree = fusing()
    tree["rgb"] = {"type": "capture.stream", "url": "rtsp://user:secret@camera.local/visible"}
    assert pattern_of(tree, "rgb")["view"] == "visible"


def test_frames_from_another_process_are_replaced_if_they_are_live() -> None:
    tree = fusing()
    tree["rgb"] = {"type": "capture.zmq", "address": "tcp://127.0.0.1:5555"}
    assert pattern_of(tree, "rgb")["view"] == "visible"
    tree["rgb"]["delivery"] = "lossless"
    assert simulated(tree, nodes.TYPES)["rgb"] == tree["rgb"]


@pytest.mark.parametrize(("exposures", "views"), [(2, ["under", "over"]), (3, ["under", "middle", "over"])])
def test_a_camera_before_a_bracket_alternates(exposures: int, views: list[str]) -> None:
    tree: Tree = {
        "camera": {"type": "capture.camera"},
        "cam": {"type": "capture.bracket", "inputs": "camera", "exposures": exposures},
        "fuse": {"type": "fusion.fuse", "task": "exposure", "inputs": {"under": "cam.under", "over": "cam.over"}},
    }
    assert pattern_of(tree, "camera")["bracket"] == views


def test_a_node_in_between_does_not_hide_what_is_wanted() -> None:
    tree = fusing()
    tree["every"] = {"type": "some.filter", "inputs": "thermal"}
    tree["fuse"]["inputs"]["infrared"] = "every"
    del tree["page"]
    assert pattern_of(tree, "thermal")["view"] == "infrared"


def test_two_cameras_that_take_one_exposure_each_show_these() -> None:
    tree = fusing(task="exposure")
    tree["fuse"]["inputs"] = {"under": "thermal", "over": "rgb"}
    del tree["page"]
    assert [pattern_of(tree, name)["view"] for name in ("thermal", "rgb")] == ["under", "over"]


def test_a_mistake_in_what_is_replaced_is_told_all_the_same() -> None:
    tree = fusing()
    tree["rgb"]["devise"] = 1
    with pytest.raises(ConfigError, match=r"Node 'rgb' .*'devise'. Did you mean 'device'"):
        simulated(tree, nodes.TYPES)


def test_a_config_without_cameras_is_refused() -> None:
    legal = r"--simulate: there is no live capture\.camera, capture\.stream or capture\.zmq in"
    with pytest.raises(ConfigError, match=legal):
        simulated({"a": {"type": "capture.video", "path": "a.mkv"}}, nodes.TYPES)


# The ready configs:


def test_all_ready_configs_are_tested() -> None:
    using = {path.stem for path in (ROOT / "configs").glob("*.yaml") if "capture." in path.read_text()}
    assert using - {"demo"} >= set(READY)


@pytest.mark.parametrize("name", READY)
def test_a_ready_config_opens_with_who_it_is_for_and_builds_as_it_is(name: str) -> None:
    path = ROOT / "configs" / f"{name}.yaml"
    comment = [row for row in path.read_text(encoding="utf-8").splitlines()[:6] if row.startswith("# ")]
    assert 3 <= len(comment) <= 6
    assert comment[0].startswith("# For ")
    assert any(f"python run.py configs/{name}.yaml" in row for row in comment)
    assert config.build(config.read(path), nodes.TYPES).mode == "live"


@pytest.mark.parametrize("name", READY)
def test_a_ready_config_opens_when_simulated(name: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    outcome = command("check", f"configs/{name}.yaml", "--simulate", "page.port=0")
    assert outcome.code == 0, outcome.err
    assert "ready to run, live mode" in outcome.out


# Ending by itself:


def write_live(folder: Path) -> Path:
    path = folder / "live.yaml"
    path.write_text(
        "camera: {type: capture.camera, size: [64, 48], fps: 100}\nkeep: {type: output.memory, inputs: camera}\n"
    )
    return path


def test_a_live_run_ends_by_itself_in_good_order(command: Command, tmp_path: Path) -> None:
    outcome = command(write_live(tmp_path), "--simulate", "--for", "0.5", "--json", "-")
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert summary["nodes"]["keep"]["emitted"] > 0
    assert summary["broken"] == []


@pytest.mark.parametrize("words", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_refused(command: Command, tmp_path: Path, words: str) -> None:
    outcome = command(write_live(tmp_path), "--simulate", f"--for={words}")
    assert outcome.code == 2
    assert "not a number of seconds" in outcome.error


def test_a_recording_is_not_cut_short(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "recorded.yaml"
    path.write_text(f"a: {{type: capture.video, path: {tmp_path}/a.mkv}}\nb: {{type: output.memory, inputs: a}}\n")
    outcome = command(path, "--for", "5")
    assert outcome.code == 2
    assert "--for" in outcome.error


def test_the_time_counts_from_when_all_is_open() -> None:
    camera, sink, now_s = Endless(), Sink(), 0.0
    pipeline, timer = line(camera, sink), Timer(5.0)
    timer._now = lambda: now_s
    timer.look(pipeline)  # nothing is open yet
    now_s = 100.0
    timer.look(pipeline)
    assert not pipeline.stopping
    running = Running(pipeline)
    assert sink.called["process"].wait(20)
    timer.look(pipeline)
    now_s = 104.9
    timer.look(pipeline)
    assert not pipeline.stopping
    now_s = 105.0
    timer.look(pipeline)
    assert pipeline.stopping
    assert running.end().broken == []
