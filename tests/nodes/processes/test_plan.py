"""Several configs on one command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodes.processes.plan import Tree, jobs, merged, names, refuse_twice
from pipeline import config
from pipeline.errors import ConfigError

CAPTURE: Tree = {
    "camera": {"type": "capture.camera", "device": 0},
    "send": {"type": "output.zmq", "inputs": "camera", "address": "ipc://camera.ipc"},
}
RECORD: Tree = {
    "take": {"type": "capture.zmq", "address": "ipc://camera.ipc"},
    "save": {"type": "output.video", "inputs": "take", "path": "night.mkv"},
}
BOTH = {Path("capture.yaml"): CAPTURE, Path("record.yaml"): RECORD}


@pytest.mark.parametrize(
    ("paths", "short"),
    [
        (["configs/split/capture.yaml", "configs/split/fuse.yaml"], ["capture", "fuse"]),
        (["gate/capture.yaml", "yard/capture.yaml"], ["gate/capture", "yard/capture"]),
        (["a/gate/capture.yaml", "b/gate/capture.yaml", "fuse.yaml"], None),
        (["capture.yaml", "capture.yml"], ["capture.yaml", "capture.yml"]),
    ],
)
def test_processes_have_the_shortest_names_that_tell_them_apart(paths: list[str], short: list[str] | None) -> None:
    found = names([Path(path) for path in paths])
    assert len(set(found)) == len(paths)
    assert short is None or found == short


def test_the_same_config_twice_is_refused_by_whatever_name() -> None:
    with pytest.raises(ConfigError, match=r"configs/\.\./fuse\.yaml: is the same config as fuse.yaml"):
        refuse_twice(Path("configs/../fuse.yaml"), [Path("capture.yaml"), Path("fuse.yaml")])


def test_a_name_in_two_configs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Node 'take' is in record.yaml and in more.yaml: .* share no name"):
        merged(BOTH | {Path("more.yaml"): {"take": {"type": "capture.pattern"}}})


def test_an_override_reaches_the_config_that_has_the_node() -> None:
    trees = {path: {name: dict(node) for name, node in tree.items()} for path, tree in BOTH.items()}
    config.override(merged(trees), ["save.path=day.mkv"])
    assert trees[Path("record.yaml")]["save"]["path"] == "day.mkv"
    capture, record = jobs(trees, ["save.path=day.mkv", "send.encoding=png"], quiet=True)
    assert capture.words == ("run", "--quiet", "capture.yaml", "send.encoding=png")
    assert record.words == ("run", "--quiet", "record.yaml", "save.path=day.mkv")


def test_only_configs_with_cameras_are_simulated() -> None:
    capture, record = jobs(BOTH, [], simulate=True)
    assert "--simulate" in capture.words
    assert "--simulate" not in record.words, "it gets the pictures of the other process"


def test_who_has_no_source_but_other_processes_follows() -> None:
    pattern: Tree = {"camera": {"type": "capture.pattern"}, **RECORD}
    follows = [job.follows for job in jobs(BOTH | {Path("both.yaml"): pattern}, [])]
    assert follows == [False, True, False]
