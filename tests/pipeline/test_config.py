"""Configs: every mistake is answered in one line before anything opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline import config
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.node import Node


class Camera(Node):
    def __init__(
        self,
        path: Path,
        size: tuple[int, int] = (640, 480),
        fps: float = 30,
        pace: Literal["full", "realtime"] = "full",
    ) -> None:
        if fps > 1000:
            raise ConfigError(f"setting 'fps' is {fps}; legal is up to 1000")
        self.path, self.frame_size, self.fps, self.live = path, size, fps, pace == "realtime"

    def process(self) -> Frame | None: ...


class Fuse(Node):
    def __init__(self, model: str = "cadnif", max_skew_ms: float | None = None, reference: str | None = None) -> None:
        self.model, self.max_skew_ms, self.reference = model, max_skew_ms, reference

    def process(self, infrared: Frame, visible: Frame) -> Frame | None: ...


class Record(Node):
    def process(self, frame: Frame) -> None: ...


def no_torch() -> type[Node]:
    raise ModuleNotFoundError("No module named 'torch'", name="torch")


TYPES = {
    "capture.video": lambda: Camera,
    "fusion.fuse": lambda: Fuse,
    "output.video": lambda: Record,
    "fusion.torch": no_torch,
}


def good() -> dict[str, dict[str, Any]]:
    return {
        "thermal": {"type": "capture.video", "path": "ir.mp4"},
        "rgb": {"type": "capture.video", "path": "vis.mp4", "fps": 25, "size": [1280, 720]},
        "fuse": {"type": "fusion.fuse", "inputs": {"infrared": "thermal", "visible": "rgb"}, "max_skew_ms": 17},
        "record": {"type": "output.video", "inputs": "fuse"},
    }


def mistake(tree: dict[str, dict[str, Any]]) -> str:
    """The message that a tree is answered with."""
    with pytest.raises(ConfigError) as caught:
        config.build(tree, TYPES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(node: str, settings: dict[Any, Any]) -> dict[str, dict[str, Any]]:
    """A good config with something wrong in one node."""
    tree = good()
    tree[node] |= settings
    return tree


def test_a_good_config_becomes_a_pipeline():
    pipeline = config.build(good(), TYPES)
    assert pipeline.mode == "recorded"
    rgb, fuse = pipeline.steps["rgb"].node, pipeline.steps["fuse"]
    assert isinstance(rgb, Camera)
    assert (rgb.name, rgb.path, rgb.frame_size, rgb.fps) == ("rgb", Path("vis.mp4"), (1280, 720), 25.0)
    assert fuse.sources == {"infrared": "thermal", "visible": "rgb"}
    assert pipeline.steps["record"].sources == {"frame": "fuse"}


def test_settings_that_are_left_out_have_the_constructors_defaults():
    node = config.build(good(), TYPES).steps["thermal"].node
    assert isinstance(node, Camera)
    assert (node.frame_size, node.fps) == ((640, 480), 30)


def test_one_input_may_be_written_with_its_name_too():
    tree = changed("record", {"inputs": {"frame": "fuse"}})
    assert config.build(tree, TYPES).steps["record"].sources == {"frame": "fuse"}


@pytest.mark.parametrize(
    ("node", "settings", "answer"),
    [
        ("fuse", {"type": "fusion.fues"}, "Node 'fuse': there is no type 'fusion.fues'. Did you mean 'fusion.fuse'?"),
        ("fuse", {"modle": "x"}, "Node 'fuse' (fusion.fuse) has no setting 'modle'. Did you mean 'model'?"),
        ("record", {"path": "x"}, "Node 'record' (output.video) has no setting 'path'. It has none."),
        (
            "fuse",
            {True: "x"},
            "Node 'fuse' (fusion.fuse) has no setting True. There is: max_skew_ms, model, reference.",
        ),
        ("record", {"inputs": "fues"}, "input 'frame' is from 'fues', which is no node. Did you mean 'fuse'?"),
        (
            "fuse",
            {"inputs": {"infrared": "thermal", "visble": "rgb"}},
            "Node 'fuse' has no input 'visble'. Did you mean 'visible'?",
        ),
        ("fuse", {"inputs": {"infrared": "thermal"}}, "Node 'fuse' needs its input 'visible': write inputs: "),
        ("fuse", {"inputs": None}, "Node 'fuse' needs its input 'infrared'"),
        ("fuse", {"inputs": "rgb"}, "Node 'fuse': 'inputs' is text; write inputs: {infrared: NODE, visible: NODE}"),
        ("fuse", {"inputs": ["thermal", "rgb"]}, "Node 'fuse': 'inputs' is a list; write inputs: {infrared: NODE, vis"),
        ("fuse", {"inputs": {"infrared": 1, "visible": "rgb"}}, "Node 'fuse': 'inputs' is a mapping; write inputs: {"),
        ("record", {"inputs": 3}, "Node 'record': 'inputs' is 3; write inputs: NODE"),
        ("rgb", {"inputs": "thermal"}, "Node 'rgb': 'inputs' is text; it has none"),
        ("rgb", {"inputs": {"frame": "thermal"}}, "Node 'rgb' has no input 'frame'. It has none."),
        ("rgb", {"path": None}, "Node 'rgb' (capture.video): setting 'path' is None: "),
        ("rgb", {"fps": "fast"}, "Node 'rgb' (capture.video): setting 'fps' is 'fast': input should be a valid number"),
        ("rgb", {"size": [640]}, "Node 'rgb' (capture.video): setting 'size' is [640]: "),
        ("rgb", {"size": ["w", 480]}, "setting 'size' is ['w', 480]: input should be a valid integer"),
        ("rgb", {"pace": "slow"}, "setting 'pace' is 'slow': input should be 'full' or 'realtime'"),
        ("rgb", {"fps": 2000}, "Node 'rgb' (capture.video): setting 'fps' is 2000.0; legal is up to 1000"),
        ("rgb", {"pace": "realtime"}, "Node 'rgb' is live and node 'thermal' is recorded"),
        (
            "fuse",
            {"reference": "visable"},
            "Node 'fuse': 'reference' is 'visable', which is none of its inputs. Did you",
        ),
        ("fuse", {"max_skew_ms": -1}, "Node 'fuse': 'max_skew_ms' is -1.0; legal is 0 and more"),
        ("fuse", {"max_skew_ms": float("nan")}, "Node 'fuse': 'max_skew_ms' is nan; legal is 0 and more"),
        ("fuse", {"queue_size": 1}, "Node 'fuse': 'queue_size' must be a whole number of at least 2, got 1"),
        ("fuse", {"queue_size": "8"}, "Node 'fuse': 'queue_size' must be a whole number of at least 2, got '8'"),
        ("fuse", {"queue_size": True}, "Node 'fuse': 'queue_size' must be a whole number of at least 2, got True"),
        ("rgb", {"queue_size": 8}, "Node 'rgb' has no queue, for it has no inputs: leave out 'queue_size'"),
        (
            "fuse",
            {"type": None},
            "Node 'fuse' needs a 'type', one of: capture.video, fusion.fuse, fusion.torch, output",
        ),
        ("fuse", {"type": ["fusion.fuse"]}, "Node 'fuse' needs a 'type', one of: "),
        ("fuse", {"type": "fusion.torch"}, "(fusion.torch) needs the package 'torch', which is not installed"),
    ],
)
def test_a_mistake_in_a_node_is_answered_with_what_is_legal(node, settings, answer):
    assert answer in mistake(changed(node, settings))


def test_a_setting_without_default_is_missed():
    tree = good()
    del tree["rgb"]["path"]
    assert mistake(tree) == "Node 'rgb' (capture.video): needs the setting 'path'"


def test_nodes_that_feed_each_other_are_named_in_the_order_of_the_arrows():
    tree = good()
    tree["again"] = {"type": "fusion.fuse", "inputs": {"infrared": "fuse", "visible": "rgb"}}
    tree["fuse"]["inputs"]["infrared"] = "again"
    answers = {
        f"Nodes feed each other in a circle: {a} -> {b} -> {a}" for a, b in (("fuse", "again"), ("again", "fuse"))
    }
    assert mistake(tree) in answers


def test_a_node_that_feeds_itself_is_a_circle():
    assert mistake(changed("fuse", {"inputs": {"infrared": "fuse", "visible": "rgb"}})).endswith(
        "a circle: fuse -> fuse"
    )


def test_a_node_that_gives_no_frames_feeds_nobody():
    tree = good()
    tree["copy"] = {"type": "output.video", "inputs": "record"}
    assert mistake(tree) == "Node 'copy': input 'frame' is from 'record', which gives no frames"


def test_the_queue_size_reaches_the_channel():
    channel = config.build(changed("fuse", {"queue_size": 3}), TYPES).steps["fuse"].channel
    assert channel is not None
    assert channel._capacity == 3


# Files


def read(tmp_path: Path, text: str | bytes) -> dict[str, dict[str, Any]]:
    path = tmp_path / "live.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.read(path)


def test_a_file_is_read_as_written(tmp_path):
    tree = read(tmp_path, "rgb: {type: capture.video, path: a.mp4}\nrecord: {type: output.video, inputs: rgb}\n")
    assert tree == {
        "rgb": {"type": "capture.video", "path": "a.mp4"},
        "record": {"type": "output.video", "inputs": "rgb"},
    }


def test_a_file_with_the_mark_that_windows_writes_is_read(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfrgb: {type: a}\n") == {"rgb": {"type": "a"}}


def test_settings_that_nodes_share_can_be_merged_and_changed(tmp_path):
    tree = read(tmp_path, "a: &base {type: t, fps: 25}\nb: {<<: *base, fps: 30}\n")
    assert tree["b"] == {"type": "t", "fps": 30}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("rgb: {type: a\nfuse: {type: b}\n", "live.yaml:2:5: not valid YAML: expected ',' or '}'"),
        ("rgb:\n  type: a\n\tfps: 3\n", "live.yaml:3:1: not valid YAML: found character '\\t'"),
        ("rgb: {type: a}\nfuse: {type: b}\nrgb: {type: c}\n", "live.yaml:3:1: not valid YAML: 'rgb' stands here twice"),
        ("rgb:\n  fps: 3\n  fps: 4\n", "live.yaml:3:3: not valid YAML: 'fps' stands here twice"),
        ("rgb: {type: a, {b: c}: d}\n", "live.yaml:1:16: not valid YAML: found unhashable key"),
        ("rgb: !python/object:os.system {}\n", "live.yaml:1:6: not valid YAML: could not determine a constructor"),
        ("rgb: {type: a, date: 2026-13-01}\n", "live.yaml: not valid YAML: month must be in 1..12"),
        ("rgb: \0\n", "live.yaml: not valid YAML: unacceptable character #x0000"),
        ("", "live.yaml: a config is a mapping of node names to their settings, got nothing"),
        ("# only a comment\n", "got nothing"),
        ("- rgb\n- fuse\n", "got a list"),
        ("hello\n", "got text"),
        ("{}\n", "got nothing"),
        ("rgb: capture.video\n", "live.yaml: node 'rgb' must be a mapping with a 'type', got text"),
        ("1: {type: a}\n", "live.yaml: node 1 must be a mapping"),
        (b"rgb: {type: \xff\xfe}\n", "live.yaml: cannot be read: not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_config_is_answered_with_its_place(tmp_path, text, answer):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file or directory"):
        config.read(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.read(tmp_path)


# Overrides


@pytest.mark.parametrize(
    ("assignment", "node", "setting", "value"),
    [
        ("fuse.model=realtime", "fuse", "model", "realtime"),
        ("rgb.fps=12.5", "rgb", "fps", 12.5),
        ("rgb.size=[320, 240]", "rgb", "size", [320, 240]),
        ("fuse.max_skew_ms=null", "fuse", "max_skew_ms", None),
        ("fuse.max_skew_ms=", "fuse", "max_skew_ms", None),
        ("record.inputs=rgb", "record", "inputs", "rgb"),
        ("rgb.path=a=b.mp4", "rgb", "path", "a=b.mp4"),
        ("rgb.path=tcp://127.0.0.1:5555", "rgb", "path", "tcp://127.0.0.1:5555"),
        ("rgb.path='%d.png'", "rgb", "path", "%d.png"),
    ],
)
def test_an_override_changes_one_setting(assignment, node, setting, value):
    tree = good()
    config.override(tree, [assignment])
    assert tree[node][setting] == value


@pytest.mark.parametrize(
    ("assignment", "answer"),
    [
        ("fues.model=x", "'fues.model=x': there is no node 'fues'. Did you mean 'fuse'?"),
        ("fuse.model", "'fuse.model': an override is written node.setting=value"),
        ("model=x", "'model=x': an override is written node.setting=value"),
        (".model=x", "an override is written node.setting=value"),
        ("fuse.=x", "an override is written node.setting=value"),
        ("rgb.path=%d.png", "'rgb.path=%d.png': the value is not valid YAML; put it in quotes"),
        ("rgb.size=[1", "'rgb.size=[1': the value is not valid YAML"),
        ("rgb.path=2026-13-01", "the value is not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_is_answered(assignment, answer):
    with pytest.raises(ConfigError) as caught:
        config.override(good(), [assignment])
    assert answer in str(caught.value)


def test_the_last_of_several_overrides_counts():
    tree = good()
    config.override(tree, ["fuse.model=a", "fuse.model=b"])
    assert tree["fuse"]["model"] == "b"


def test_a_wrong_name_in_an_override_is_answered_like_one_in_the_file():
    tree = good()
    config.override(tree, ["fuse.modle=x"])
    assert mistake(tree) == "Node 'fuse' (fusion.fuse) has no setting 'modle'. Did you mean 'model'?"
