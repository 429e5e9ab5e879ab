"""What the repository promises to a newcomer: the demo's clip is whole, the examples of README and docs are true."""

from __future__ import annotations

import inspect
import re
import shlex
import threading
import time
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import pytest
import yaml

import nodes
import run
import streamfuse
from nodes import simulate
from nodes.commands import parse
from nodes.fusion.palettes import PALETTES
from pipeline import config, wire
from pipeline.config import setting_names
from pipeline.frame import Frame, TimestampSource
from pipeline.live_sync import HOLD_INTERVALS, LEAST_HOLD_NS
from pipeline.sync import Reason
from streamfuse.broadcast import Broadcaster
from streamfuse.clocks import clock

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIVE = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
ZMQ = (ROOT / "docs" / "zmq.md").read_text(encoding="utf-8")
CLIP = ROOT / "configs" / "demo"


def blocks(page: str, language: str = "") -> list[str]:
    """The fenced blocks of a language."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return found


def commands(page: str) -> list[list[str]]:
    """The words behind `python run.py` on every line of a block."""
    lines = [line for block in blocks(page) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("python run.py ")]


@pytest.mark.parametrize("stream", ["infrared", "visible"])
def test_the_bundled_clip_is_five_seconds_of_whole_video(stream: str) -> None:
    with av.open(str(CLIP / f"{stream}.mp4")) as container:
        frames = [(frame.width, frame.height, frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert len(frames) == 150
    assert {frame[:2] for frame in frames} == {(640, 480)}
    assert [round(time * 30) for _, _, time in frames] == list(range(150))


def test_the_bundled_clip_is_small_and_has_its_notice() -> None:
    assert sum(path.stat().st_size for path in CLIP.glob("*.mp4")) < 3_000_000
    assert "MIT License" in (CLIP / "LICENSE-M3SVD.txt").read_text()


def test_the_demo_is_ready_to_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert run.main(["--quiet", "check", "configs/demo.yaml"]) == 0
    assert "ready to run, recorded mode" in capsys.readouterr().out


def test_the_moving_picture_is_there_and_small() -> None:
    picture = ROOT / re.findall(r"!\[.*?\]\((.*?)\)", README)[0]
    assert 0 < picture.stat().st_size < 3_000_000


def test_every_config_in_the_readme_names_nodes_and_settings_that_exist() -> None:
    assert blocks(README, "yaml")
    for block in blocks(README, "yaml"):
        for name, settings in yaml.safe_load(block).items():
            known = {"type", "inputs", "queue_size", *setting_names(nodes.find(settings["type"]))}
            assert settings.keys() <= known, name


def test_the_readme_lists_every_node_with_every_setting() -> None:
    for name in nodes.CLASSES:
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}`"))
        for setting in setting_names(nodes.find(name)):
            assert f"`{setting}`" in row, f"{name}: {setting}"


def test_every_command_in_the_readme_is_one() -> None:
    named = set(re.findall(r"python run\.py (\w+) ", README))
    assert named
    with pytest.raises(SystemExit) as end:
        run.main(["--help"])
    assert end.value.code == 0
    for command in named:
        with pytest.raises(SystemExit) as end:
            run.main([command, "--help"])
        assert end.value.code == 0, command


def test_every_yaml_that_ships_parses() -> None:
    paths = sorted((ROOT / "configs").rglob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("page", [README, LIVE, ZMQ], ids=["README", "live", "zmq"])
def test_every_command_in_the_docs_is_understood_with_all_its_options(page: str) -> None:
    assert commands(page)
    for words in commands(page):
        parse(words)  # raises on an option that is none


@pytest.mark.parametrize("page", [LIVE, ZMQ], ids=["live", "zmq"])
def test_the_commands_in_the_docs_name_configs_nodes_and_settings_that_exist(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for options in map(parse, commands(page)):
        if hasattr(options, "configs"):
            for tree in run.read_trees(options).values():
                config.build(tree, nodes.TYPES)


def test_every_snippet_on_live_use_fits_the_config_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    night = config.read(ROOT / "configs" / "night_vision.yaml")
    assert len(blocks(LIVE, "yaml")) >= 5
    for block in blocks(LIVE, "yaml"):
        tree: dict[str, dict[str, Any]] = {**deepcopy(night), **yaml.safe_load(block)}
        assert config.build(tree, nodes.TYPES).mode == "live"


@pytest.mark.parametrize("name", ["night_vision", "thermal_lepton", "rtsp_pair", "hdr_bracket"])
def test_the_configs_for_live_use_are_told_of_and_can_be_tried_without_cameras(name: str) -> None:
    assert f"`configs/{name}.yaml`" in LIVE
    tree = simulate.simulated(config.read(ROOT / "configs" / f"{name}.yaml"), nodes.TYPES)
    assert config.build(tree, nodes.TYPES).mode == "live"


def test_the_page_on_live_use_tells_every_reason_and_palette_and_source_of_time() -> None:
    reasons = (*get_args(Reason), "interrupted", "ended", "error", "no_result")
    told = re.findall(r"^\| `(\w+)` \|", LIVE.partition("| reason |")[2], re.MULTILINE)
    assert sorted(told) == sorted(reasons)
    assert all(re.search(rf"\b{palette}\b", LIVE) for palette in PALETTES)
    assert all(f"`{source}`" in LIVE for source in get_args(TimestampSource))


def test_the_page_on_live_use_gives_the_defaults_that_are() -> None:
    rows = dict(re.findall(r"^\| `(max_\w+)` \| (.*?) \|", LIVE, re.MULTILINE))
    parameters = inspect.signature(nodes.find("fusion.fuse")).parameters
    assert rows.keys() == {"max_skew_ms", "max_hold_ms", "max_shutter_ms"}
    assert float(rows["max_shutter_ms"]) == parameters["max_shutter_ms"].default
    assert parameters["max_skew_ms"].default is None
    assert rows["max_hold_ms"].startswith(f"{LEAST_HOLD_NS / 1e6:.0f}, or three")
    assert parameters["max_hold_ms"].default is None
    assert HOLD_INTERVALS == 3


def test_every_setting_that_the_page_on_live_use_names_is_one() -> None:
    settings = {setting for name in nodes.CLASSES for setting in setting_names(nodes.find(name))}
    named = set(re.findall(r"`(\w+_(?:ms|s|px|mb|fps|format))`", LIVE)) | set(re.findall(r"`([a-z]\w*): [^`]*`", LIVE))
    assert len(named) > 5
    assert named - {"inputs"} <= settings


# Over ZeroMQ:


def test_every_snippet_on_zeromq_is_a_config_or_fits_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    night = config.read(ROOT / "configs" / "night_vision.yaml")
    assert len(blocks(ZMQ, "yaml")) >= 5
    for block in blocks(ZMQ, "yaml"):
        tree: dict[str, dict[str, Any]] = yaml.safe_load(block)
        whole = any("inputs" not in settings for settings in tree.values())
        config.build(tree if whole else {**deepcopy(night), **tree}, nodes.TYPES)


def test_the_client_in_the_docs_receives_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    said: list[str] = []

    def tell(*words: object) -> None:
        said.append(" ".join(map(str, words)))
        if len(said) == 2:
            raise Enough

    code = next(block for block in blocks(ZMQ, "python") if "streamfuse" in block)
    over = threading.Event()
    broadcaster = Broadcaster("tcp://127.0.0.1:0")
    thread = threading.Thread(target=publish, args=(broadcaster, over))
    thread.start()
    try:
        with pytest.raises(Enough):
            exec(code.replace("tcp://127.0.0.1:5555", broadcaster.address), {"print": tell})
    finally:
        over.set()
        thread.join()
    assert all(re.search(r"64x48 gray8.* ms old, \d+ frames between None", line) for line in said)


def publish(broadcaster: Broadcaster, over: threading.Event) -> None:
    """A stream named `visible`."""
    number = 0
    while not over.wait(0.01):
        if broadcaster.heard(b"visible/frame"):
            now_ns = time.monotonic_ns()
            frame = Frame(np.zeros((48, 64), np.uint8), "gray8", (64, 48), now_ns, "device", number, "visible")
            head = wire.Head("visible", "0123456789abcdef", number, clock(), now_ns, time.time_ns())
            broadcaster.send(wire.pack_frame(head, frame, wire.About()))
            number += 1
    broadcaster.close()


def test_the_page_on_zeromq_tells_all_that_the_client_takes_and_counts() -> None:
    table = ZMQ.partition("| `subscribe(...)` |")[2].partition("\n\n")[0]
    taken = inspect.signature(streamfuse.subscribe).parameters.keys() - {"address", "now"}
    assert taken <= set(re.findall(r"`(\w+)`", table))
    with streamfuse.subscribe("ipc:///tmp/nobody") as stream:
        assert all(f"`{name}`" in ZMQ for name in stream.counts())


def test_every_setting_that_the_page_on_zeromq_names_is_one() -> None:
    settings = {setting for name in nodes.CLASSES for setting in setting_names(nodes.find(name))}
    named = set(re.findall(r"`([a-z]\w*): [^`]*`", ZMQ))
    assert len(named) > 3
    assert named - {"view"} <= settings
