"""Several configs on one command line, and those that come with the project."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run
from nodes.commands import parse
from pipeline import config
from tests import media
from tests.conftest import Command
from tests.programs import ROOT, frames_that_play, write_tree
from tests.several import CAMERA, live, started

SPLIT = ROOT / "configs" / "split"

# Before any process is started:


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["capture.yaml", "./capture.yaml"], "is the same config as"),
        (["capture.yaml", "again.yaml"], r"Node 'camera' is in .*capture.yaml and in .*again.yaml"),
        (["capture.yaml", "record.yaml", "svae.path=x.mkv"], "there is no node 'svae'. Did you mean 'save'"),
        (["capture.yaml", "record.yaml", "other.yaml"], "would write over .*night.mkv"),
        (["work.yaml", "record.yaml", "--simulate"], "--simulate: none of these configs has a camera"),
        (["capture.yaml", "missing.yaml"], "missing.yaml: cannot be read"),
    ],
)
def test_configs_that_do_not_go_together_are_told_in_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: str
) -> None:
    live(tmp_path)
    write_tree(tmp_path / "again.yaml", {"camera": CAMERA})
    write_tree(
        tmp_path / "other.yaml", {"more": {"type": "output.video", "path": str(tmp_path / "night.mkv"), "inputs": "x"}}
    )
    monkeypatch.chdir(tmp_path)
    outcome = command(*words)
    assert outcome.code == 2
    assert re.search(line, outcome.error)
    assert outcome.err.splitlines() == [outcome.error]


def test_several_configs_are_checked_one_after_the_other(command: Command, tmp_path: Path) -> None:
    configs = live(tmp_path)
    outcome = command("check", *configs)
    assert outcome.code == 0, outcome.err
    assert [line.partition(":")[0] for line in outcome.out.splitlines()] == [str(path) for path in configs]
    assert all("ready to run, live mode" in line for line in outcome.out.splitlines())


def test_configs_and_overrides_may_stand_in_any_order() -> None:
    options = parse(["a.yaml", "x.y=1", "b.yaml", "--for", "5", "c.yml", "p.path=d.yaml"])
    assert [str(path) for path in options.configs] == ["a.yaml", "b.yaml", "c.yml"]
    assert options.overrides == ["x.y=1", "p.path=d.yaml"]


def test_the_option_for_our_own_processes_is_refused_by_hand(command: Command, tmp_path: Path) -> None:
    outcome = command(live(tmp_path)[0], "--link", "0")
    assert outcome.code == 2
    assert "leave it out" in outcome.error


# The configs that come with the project:


def test_the_split_demo_has_the_settings_of_the_demo() -> None:
    whole = config.read(ROOT / "configs" / "demo.yaml")
    parts: dict[str, dict[str, Any]] = {}
    for name in ("capture", "fuse", "record"):
        parts |= config.read(SPLIT / f"{name}.yaml")
    own = {name: node for name, node in parts.items() if not node["type"].endswith(".zmq")}
    for name in ("infrared", "visible"):
        assert own.pop(name) == whole[name]
    same = {key: value for key, value in whole["fuse"].items() if key != "inputs"}
    assert {key: value for key, value in own.pop("fuse").items() if key != "inputs"} == same
    assert own.pop("save") | {"inputs": "", "path": ""} == whole["save"] | {"inputs": "", "path": ""}
    assert own == {}


@pytest.mark.slow
def test_the_split_demo_gives_the_same_frames_to_the_bit(tmp_path: Path, weights: Path) -> None:
    infrared, visible = media.write_recording(tmp_path, 20)
    common = [f"infrared.path={infrared}", f"visible.path={visible}", f"fuse.weights={weights}", "fuse.model="]
    whole, split = tmp_path / "whole.mkv", tmp_path / "split.mkv"
    ends = [
        f"{end}_{name}.address=ipc://{tmp_path}/{name}.ipc"
        for end in ("send", "take")
        for name in ("infrared", "visible", "fused")
    ]
    configs = [SPLIT / f"{name}.yaml" for name in ("capture", "fuse", "record")]
    with started(tmp_path, *configs, *common, *ends, f"save.path={split}", "save.codec=ffv1") as program:
        outcome = program.end()
    assert outcome.code == 0, outcome.err
    sheet = [f"sheet.path={tmp_path / 'sheet.png'}", "sheet.at_s=[0.1]"]
    words = [str(ROOT / "configs" / "demo.yaml"), *common, *sheet, f"save.path={whole}", "save.codec=ffv1"]
    assert run.main(["-q", *words]) == 0
    ours, theirs = media.decoded(split), media.decoded(whole)
    assert len(ours) == len(theirs) == 20
    for one, other in zip(ours, theirs, strict=True):
        assert (one.pts, one.time_base) == (other.pts, other.time_base)
        assert np.array_equal(one.to_ndarray(), other.to_ndarray())


@pytest.mark.slow
def test_the_live_split_fuses_records_and_shows(tmp_path: Path, weights_of: Callable[..., Path]) -> None:
    configs = [ROOT / "configs" / "split_live" / f"{name}.yaml" for name in ("capture", "fuse", "record")]
    links = {"send_visible": "v", "visible": "v", "send_thermal": "t", "thermal": "t", "send_fused": "f", "fused": "f"}
    words = [f"{node}.address=ipc://{tmp_path}/{name}.ipc" for node, name in links.items()]
    words += [f"camera_{name}.size=[64, 48]" for name in ("visible", "thermal")]
    words += [f"fuse.weights={weights_of('realtime')}", "page.port=0", f"record.path={tmp_path / 'lookout.mkv'}"]
    with started(tmp_path, *configs, *words, "--for", "2", "--json", "-") as program:
        outcome = program.end()
    assert outcome.code == 0, outcome.err
    assert "record  | page: the page is at http://127.0.0.1:" in outcome.err
    processes = json.loads(outcome.out)["processes"]
    assert processes["record"]["nodes"]["record"]["emitted"] == frames_that_play(*tmp_path.glob("lookout-*.mkv")) > 0
    assert sum(processes["fuse"]["nodes"]["fuse"]["states"].values()) > 0
