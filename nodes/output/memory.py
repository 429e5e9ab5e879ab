"""output.memory: keeps frames, for tests and for programs that build a pipeline themselves."""

from __future__ import annotations

from collections import deque
from typing import Annotated

from pydantic import Field

from pipeline.frame import Frame
from pipeline.node import Node


class MemoryOutput(Node):
    """Keep the last frames.

    Args:
        keep: how many, None for all.
    """

    def __init__(self, keep: Annotated[int, Field(ge=1)] | None = None) -> None:
        self.frames: deque[Frame] = deque(maxlen=keep)

    def process(self, frame: Frame) -> None:
        self.frames.append(frame)
