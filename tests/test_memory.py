"""A process that fuses for long keeps nothing of what is done."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from pipeline.frame import Frame
from tests import media
from tests.conftest import Command

PASSES = 4
MAX_GROWTH = 20 << 20  # bytes, after the first pass; the acceptance of issue 2


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def live_frames() -> int:
    gc.collect()
    return sum(type(thing) is Frame for thing in gc.get_objects())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc/self/statm is Linux's")
def test_fusing_a_clip_again_and_again_keeps_no_frame_thread_or_memory(
    command: Command, weights: Path, tmp_path: Path
) -> None:
    recording = media.write_recording(tmp_path, 10)
    before, grown = live_frames(), []
    for _ in range(1 + PASSES):
        assert command("fuse", *recording, "-o", tmp_path / "fused.mp4", "--weights", weights).code == 0
        assert live_frames() == before
        grown.append((resident_bytes(), threading.active_count()))
    assert grown[-1][0] - grown[0][0] < MAX_GROWTH
    assert grown[-1][1] == grown[0][1]
