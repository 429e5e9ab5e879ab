"""`--simulate`: a config with synthetic cameras in place of real ones, so that it can be tried without hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config import NodeTypes, make_node
from pipeline.errors import ConfigError

Tree = dict[str, dict[str, Any]]

REPLACED = ("capture.camera", "capture.stream", "capture.zmq")
SIZE, FPS = [640, 480], 30.0  # where the config leaves them to the camera
VIEWS = {"infrared": "infrared", "visible": "visible", "under": "under", "middle": "middle", "over": "over"}
VIEWS |= {"near": "visible", "far": "visible", "mri": "infrared", "other": "visible"}
BRACKETS = {2: ["under", "over"], 3: ["under", "middle", "over"]}


def simulated(tree: Tree, types: NodeTypes) -> Tree:
    """The tree of a config with `capture.pattern` in place of each camera and live network stream, under the same name.

    Sizes and rates are those of the config. What is shown is what the node that a camera feeds wants: the input
    `infrared` of a fusion gets warm bodies, `capture.bracket` exposures in turns. All show one street, at one time.

    Args:
        tree: as `pipeline.config.read` gives it; it is left as it is.
        types: the node types, to check the settings of what is replaced: no mistake is covered up.

    Raises:
        ConfigError: a mistake in those settings; or there is nothing to replace.
    """
    cameras = [name for name, settings in tree.items() if is_replaced(settings)]
    if not cameras:
        legal = f"{', '.join(REPLACED[:-1])} or {REPLACED[-1]}"
        raise ConfigError(f"--simulate: there is no live {legal} in this config; leave the option out")
    for name in cameras:
        make_node(name, tree[name], types)
    return {name: pattern(name, tree) if name in cameras else dict(settings) for name, settings in tree.items()}


def is_replaced(settings: Mapping[str, Any]) -> bool:
    """Whether a node is a camera, or takes a live stream from the network; with `delivery: lossless` it is none."""
    return settings.get("type") in REPLACED and settings.get("delivery") != "lossless"


def pattern(name: str, tree: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The synthetic camera in place of one."""
    camera = tree[name]
    settings = {
        "type": "capture.pattern",
        **shown(name, tree),
        "size": camera.get("size") or SIZE,
        "fps": camera.get("fps") or FPS,
    }
    if camera.get("pixel_format", "auto") != "auto":
        settings["pixel_format"] = camera["pixel_format"]
    # Inputs and queue_size are a mistake there; the pipeline says so.
    return settings | {key: camera[key] for key in ("inputs", "queue_size") if key in camera}


def shown(name: str, tree: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a camera sees, by the nearest node after it that tells, a fusion before others; else what is visible."""
    reached, seen = [name], {name}
    for source in reached:  # grows
        fed = sorted(fed_by(source, tree), key=lambda pair: tree[pair[0]].get("type") != "fusion.fuse")
        for consumer, key in fed:
            if tree[consumer].get("type") == "capture.bracket":
                return {"bracket": BRACKETS.get(tree[consumer].get("exposures", 2), BRACKETS[2])}
            if key in VIEWS:
                return {"view": VIEWS[key]}
            if consumer not in seen:
                seen.add(consumer)
                reached.append(consumer)
    return {"view": "visible"}


def fed_by(source: str, tree: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Nodes that a node feeds, each with the name of the input, "" where it has but one."""
    found = []
    for name, settings in tree.items():
        inputs = settings.get("inputs")
        given = {"": inputs} if isinstance(inputs, str) else inputs if isinstance(inputs, dict) else {}
        found += [(name, str(key)) for key, origin in given.items() if str(origin).partition(".")[0] == source]
    return found
