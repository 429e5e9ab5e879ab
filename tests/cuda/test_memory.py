"""Memory stays flat, on the card and on the host."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cuda.nodes import device_of, moments, open_node
from tests.nodes.fusion.test_on_device import all_of

pytestmark = [pytest.mark.cuda, pytest.mark.slow]

PAGE = 4096


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_over_two_thousand_frames_memory_is_flat() -> None:
    size = (640, 512)
    node = open_node(size, live=True)
    given = moments("infrared", size, count=50)
    for _ in range(4):
        all_of(node, given)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved(), resident()
    for _ in range(40):
        all_of(node, given)
    torch.cuda.synchronize()
    after = torch.cuda.memory_allocated(), torch.cuda.memory_reserved(), resident()
    device_of(node)
    assert after[0] <= before[0] + (1 << 20)
    assert after[1] == before[1]
    assert after[2] <= before[2] + (64 << 20)
