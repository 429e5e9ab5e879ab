"""output.memory: keeps the last frames."""

from __future__ import annotations

import pytest

from nodes.output.memory import MemoryOutput
from tests.nodes.capture.media import make_frame


@pytest.mark.parametrize(("keep", "left"), [(None, [0, 1, 2]), (2, [1, 2]), (5, [0, 1, 2])])
def test_the_last_frames_are_kept(keep: int | None, left: list[int]) -> None:
    node = MemoryOutput(keep)
    for number in range(3):
        node.process(make_frame(number))
    assert [frame.sequence for frame in node.frames] == left
