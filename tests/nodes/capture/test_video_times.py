"""capture.video: presentation times, kept or repaired."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.nodes.capture.media import (
    make_picture,
    make_video,
    read,
    read_whole,
    times_ms,
)

# Times


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_reordered_frames_come_in_order_at_even_times(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = tmp_path / f"a{suffix}"
    make_video(path, 30, b_frames=b_frames)
    frames, node, error = read(path)
    assert error is None
    assert np.diff(times_ms(frames)) == pytest.approx([40] * 29)
    assert node.report()["notes"] == {}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_times_and_a_late_start_are_kept(tmp_path: Path, suffix: str) -> None:
    ticks = [90_000 * 7, 90_000 * 7 + 900, 90_000 * 7 + 90_090, 90_000 * 60, 90_000 * 61]
    pictures = [make_picture(number, "yuv420p", (64, 48)) for number in range(len(ticks))]
    for picture, pts in zip(pictures, ticks, strict=True):
        picture.pts, picture.time_base = pts, Fraction(1, 90_000)
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 90_000)
        stream.codec_context.max_b_frames = 0
        for picture in pictures:
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frames = read_whole(tmp_path / f"a{suffix}")
    exact = [round(pts * 1_000_000_000 / 90_000) for pts in ticks]
    assert [f.timestamp_ns for f in frames] == pytest.approx(exact, abs=0 if suffix == ".mp4" else 500_000)


def test_times_that_go_back_are_counted_on_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mkv"
    make_video(path, 5, codec="ffv1")
    at_120_ms, at_10_ms = b"\x81\0\x78", b"\x81\0\x0a"  # heads of blocks of track 1
    assert path.read_bytes().count(at_120_ms) == 1
    path.write_bytes(path.read_bytes().replace(at_120_ms, at_10_ms))
    frames, node, error = read(path)
    assert error is None
    assert times_ms(frames) == [0, 40, 80, 120, 160]
    assert node.report()["notes"] == {"timestamps_repaired": 1}
    assert "frames without a time or in disorder" in caplog.text


def test_a_stream_without_any_times_is_counted_at_its_rate(tmp_path: Path) -> None:
    make_video(tmp_path / "a.h264", 10)
    frames, node, error = read(tmp_path / "a.h264")
    assert error is None
    assert times_ms(frames) == [40 * number for number in range(10)]
    assert node.report()["notes"] == {"timestamps_repaired": 10}
