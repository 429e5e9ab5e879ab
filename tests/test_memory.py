"""A process that fuses for long keeps nothing of what is done."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.frame import Frame
from tests import media
from tests.conftest import Command, WeightsOf

ROOT = Path(__file__).resolve().parents[1]
MAX_GROWTH = 20 << 20  # bytes, after the first pass


def live_frames() -> int:
    gc.collect()
    return sum(type(thing) is Frame for thing in gc.get_objects())


@pytest.mark.parametrize("model", media.NETWORKS)
def test_nothing_of_a_run_stays_behind(command: Command, weights_of: WeightsOf, tmp_path: Path, model: str) -> None:
    weights, recording = weights_of(model), media.write_recording(tmp_path, 4)
    frames, threads = live_frames(), threading.active_count()
    for _ in range(2):
        assert command("fuse", *recording, "-o", tmp_path / "fused.mp4", "--weights", weights).code == 0
        assert (live_frames(), threading.active_count()) == (frames, threads)


AGAIN_AND_AGAIN = """
import sys
from pathlib import Path
import run

resident = []
for _ in range(3):
    assert run.main(["--quiet", *sys.argv[1:]]) == 0
    resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
print(resident)
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", media.NETWORKS)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc/self/statm is Linux's")
def test_fusing_a_recording_again_and_again_takes_no_more_memory(
    weights_of: WeightsOf, tmp_path: Path, model: str
) -> None:
    weights = weights_of(model)
    size = (240, 180)  # large enough for tensors of megabytes, which the C library treats in another way
    infrared = media.write_video(tmp_path / "infrared.mkv", (media.heat(n, size) for n in range(3)))
    visible = media.write_video(tmp_path / "visible.mkv", (media.scene(n, size) for n in range(3)))
    words = ["fuse", infrared, visible, "-o", tmp_path / "fused.mp4", "--weights", weights, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", AGAIN_AND_AGAIN, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    resident = json.loads(done.stdout)
    assert resident[-1] - resident[0] < MAX_GROWTH
