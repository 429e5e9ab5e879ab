"""The nodes: what stands behind `type:` in a config. A class is imported when a config names it, and not before."""

from __future__ import annotations

import importlib
from functools import partial

from pipeline.config import NodeTypes
from pipeline.node import Node

CLASSES = {
    "capture.bracket": "Bracket",
    "capture.camera": "CameraCapture",
    "capture.pattern": "PatternCapture",
    "capture.stream": "StreamCapture",
    "capture.video": "VideoCapture",
    "capture.zmq": "ZmqCapture",
    "fusion.fuse": "Fuse",
    "output.images": "ImagesOutput",
    "output.memory": "MemoryOutput",
    "output.sheet": "SheetOutput",
    "output.stream": "StreamOutput",
    "output.video": "VideoOutput",
    "output.web": "WebOutput",
    "output.zmq": "ZmqOutput",
}


def find(type_name: str) -> type[Node]:
    """The class of a node type."""
    found: type[Node] = getattr(importlib.import_module(f"nodes.{type_name}"), CLASSES[type_name])
    return found


TYPES: NodeTypes = {name: partial(find, name) for name in CLASSES}
