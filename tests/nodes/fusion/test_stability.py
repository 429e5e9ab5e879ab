"""How steady a fused video is: measured on clips whose change is known, and never with a whole clip in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.steady import State
from nodes.capture.video import VideoCapture
from nodes.fusion import stability
from nodes.fusion.network import Network
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Node
from tests import media

HEIGHT, WIDTH = 24, 32


def grey(*levels: int) -> Iterator[np.ndarray]:
    """A clip of even pictures."""
    return (np.full((HEIGHT, WIDTH), level, np.uint8) for level in levels)


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """`clip("a", 1, 2)` is a lossless video of two even frames, grey 1 and grey 2."""

    def write(name: str, *levels: int, **how: object) -> Path:
        how = {"pixel_format": "gray", "full_range": True} | how
        return media.write_video(tmp_path / f"{name}.mkv", grey(*levels), **how)  # type: ignore[arg-type]

    return write


class Flickering(Network):
    """The average of the sources, and 8 levels more in every second frame: no weights, no time."""

    def __init__(self) -> None:
        self.device, self.precision, self.calls = torch.device("cpu"), "fp32", 0

    def compute(self, *planes: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return sum(planes) / len(planes) + (8 * 2 / 255 if self.calls % 2 == 0 else 0)


# A fused video:


def test_flicker_in_a_fused_video_is_told_beside_the_controls(clip: Callable[..., Path]) -> None:
    still = clip("still", 100, 100, 100, 100)
    fused = clip("fused", 100, 104, 100, 104)
    result = stability.measure(VideoCapture, still, still, fused=fused, networks={})
    assert result["frames"] == 4
    assert list(result["methods"]) == ["average", "maximum", str(fused)]
    assert result["methods"]["average"] == {"unexplained_change": 0, "unexplained_change_16": 0}
    assert result["methods"][str(fused)]["unexplained_change"] == pytest.approx(4)
    assert f"| {fused} | 4.000 | - |" in stability.table(result)


def test_a_fused_video_named_as_a_control_is_has_a_row_of_its_own(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = clip("still", 100, 100)
    fused = clip("fused", 100, 104).rename(tmp_path / "average")
    monkeypatch.chdir(tmp_path)
    methods = stability.measure(VideoCapture, still, still, fused=Path("average"), networks={})["methods"]
    assert list(methods) == ["average", "maximum", str(fused)]
    assert methods["average"]["unexplained_change"] == 0
    assert methods[str(fused)]["unexplained_change"] == pytest.approx(4)


def test_the_first_16_frames_are_told_for_themselves(clip: Callable[..., Path]) -> None:
    still = clip("still", *[100] * 18)
    fused = clip("fused", *[100] * 16, 134, 134)
    row = stability.measure(VideoCapture, still, still, fused=fused, networks={})["methods"][str(fused)]
    assert row["unexplained_change_16"] == 0
    assert row["unexplained_change"] == pytest.approx(34 / 17)


def test_limited_range_is_brought_to_full_first(clip: Callable[..., Path]) -> None:
    """From 16 to 235 is from black to white: as much as the full-range source shows, so nothing is unexplained."""
    full = clip("full", 0, 255)
    limited = clip("limited", 0, 255, pixel_format="yuv420p", full_range=False)
    frames = [next(stability.lumas(VideoCapture(path), "x")) for path in (full, limited)]
    assert [frame.max() for frame in frames] == [0, 0]
    result = stability.measure(VideoCapture, full, full, fused=limited, networks={})
    assert result["methods"][str(limited)]["unexplained_change"] == 0
    result = stability.measure(VideoCapture, limited, limited, fused=full, networks={})
    assert result["methods"][str(full)]["unexplained_change"] == 0


def test_colour_is_judged_by_its_luma_and_16_bits_through_the_gain_of_the_fusion(tmp_path: Path) -> None:
    colours = [np.full((HEIGHT, WIDTH, 3), (0, 255, 0), np.uint8)] * 2
    colour = media.write_video(tmp_path / "colour.mkv", colours, pixel_format="bgr0", full_range=True)
    assert np.unique(next(stability.lumas(VideoCapture(colour), "x"))) == [150]  # 0.587 of 255
    slope = np.tile(np.linspace(2600, 3200, WIDTH).astype(np.uint16), (HEIGHT, 1))
    deep = media.write_video(tmp_path / "deep.mkv", [slope] * 2, pixel_format="gray16le")
    found = next(stability.lumas(VideoCapture(deep), "x"))
    assert found.dtype == np.uint8
    assert found.min() < 10 < 245 < found.max()


def test_as_many_frames_are_taken_as_wanted(clip: Callable[..., Path]) -> None:
    long, short = clip("long", *range(9)), clip("short", *range(5))
    assert stability.measure(VideoCapture, long, short, networks={}, limit=4)["frames"] == 4


# What does not fit:


def test_videos_of_unequal_length_say_which_ended_and_where(clip: Callable[..., Path]) -> None:
    long, short = clip("long", 1, 2, 3), clip("short", 1, 2)
    for videos in ((long, short), (short, long)):
        with pytest.raises(SourceError, match=r"short.mkv ends after 2 frames and \S*long.mkv goes on"):
            stability.measure(VideoCapture, *videos, networks={})


def test_videos_of_unequal_size_are_named_with_it(clip: Callable[..., Path], tmp_path: Path) -> None:
    small = media.write_video(tmp_path / "small.mkv", [media.heat(n, (16, 12)) for n in range(2)])
    with pytest.raises(SourceError, match=r"large.mkv is 32x24, \S*small.mkv is 16x12: videos to be judged must have"):
        stability.measure(VideoCapture, clip("large", 1, 2), small, networks={})


@pytest.mark.parametrize("size", [(31, 24), (32, 23), (31, 23)])
def test_the_padding_of_odd_sizes_is_cut_off_a_fused_video(tmp_path: Path, size: tuple[int, int]) -> None:
    columns, rows = size
    still, padded = (np.full(shape, 100, np.uint8) for shape in ((rows, columns), (24, 32)))
    flickering = np.full_like(padded, 200)
    flickering[:rows, :columns] = 100  # all that changes is the padding
    how: dict[str, Any] = {"pixel_format": "gray", "full_range": True}
    source = media.write_video(tmp_path / "source.mkv", [still] * 2, **how)
    fused = media.write_video(tmp_path / "fused.mkv", [padded, flickering], **how)
    methods = stability.measure(VideoCapture, source, source, fused=fused, networks={})["methods"]
    assert methods[str(fused)]["unexplained_change"] == 0


@pytest.mark.parametrize("size", [(34, 24), (32, 25), (33, 25), (31, 24), (30, 24)])
def test_what_is_no_such_padding_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    even = media.write_video(tmp_path / "even.mkv", [media.heat(n, (32, 24)) for n in range(3)])
    odd = media.write_video(tmp_path / "odd.mkv", [media.heat(n, (31, 23)) for n in range(3)])
    fused = media.write_video(tmp_path / "fused.mkv", [media.heat(n, size) for n in range(3)])
    for source in (even, odd):
        with pytest.raises(SourceError, match="videos to be judged must have one size"):
            stability.measure(VideoCapture, source, source, fused=fused, networks={})
    with pytest.raises(SourceError, match="videos to be judged must have one size"):
        stability.measure(VideoCapture, odd, even, networks={})  # of the sources none is padded


def test_a_single_frame_has_no_change_to_measure(clip: Callable[..., Path]) -> None:
    with pytest.raises(SourceError, match="only 1 frame"):
        stability.measure(VideoCapture, clip("a", 1), clip("b", 1), networks={})


# Streaming:


class Endless(Node):
    """A source of many frames that counts those that are still alive."""

    made, alive, most, closed = 0, 0, 0, 0

    def __init__(self, path: Path) -> None:
        self.left = 40

    def process(self) -> Frame | None:  # type: ignore[override]
        if not self.left:
            raise EndOfStream
        self.left -= 1
        frame = Counted(self.left)
        Endless.most = max(Endless.most, Endless.alive)
        return Frame(frame, "gray8", (WIDTH, HEIGHT), 0, "pts", 0, "test")

    def close(self) -> None:
        Endless.closed += 1


class Counted(np.ndarray):
    def __new__(cls, level: int) -> Counted:
        Endless.alive += 1
        return np.full((HEIGHT, WIDTH), level, np.uint8).view(cls)

    def __del__(self) -> None:
        if self.base is not None and self.shape == (HEIGHT, WIDTH):
            Endless.alive -= 1


def test_frames_are_streamed_and_the_sources_closed() -> None:
    Endless.alive = Endless.most = Endless.closed = 0
    stability.measure(Endless, Path("a"), Path("b"), fused=Path("c"), networks={})
    assert Endless.most <= 9  # a few of each of three clips, not 40
    assert Endless.closed == 3


def test_sources_are_closed_after_an_error_too(clip: Callable[..., Path]) -> None:
    Endless.closed = 0
    captures = iter([Endless, VideoCapture, Endless])
    with pytest.raises(SourceError, match="ends after 2 frames"):
        stability.measure(lambda path: next(captures)(path), Path("a"), clip("b", 1, 2), fused=Path("c"), networks={})
    assert Endless.closed == 2


# Networks:


def test_a_network_is_run_as_the_fusion_node_runs_it(network: Network) -> None:
    steadied, state = stability.Steadied(network, True), None
    differences: list[float] = []
    for number in range(3):
        planes = media.heat(number), np.ascontiguousarray(media.scene(number)[:, :, 1])
        expected, state = network.fuse(planes, ("full", "full"), "full", state, steadily=True)
        plain, _ = network.fuse(planes, ("full", "full"), "full")
        steady, not_steady = steadied(*planes)
        assert np.array_equal(steady, expected)
        assert np.array_equal(not_steady, plain)
        differences.append(float(np.abs(steady.astype(float) - plain).mean()))
    assert isinstance(state, State)
    assert steadied.smear() == pytest.approx(sum(differences) / 3)
    assert steadied.smear() > 0


def test_flicker_of_a_network_is_held_back_and_the_cost_told(clip: Callable[..., Path]) -> None:
    still = clip("still", *[100] * 6)
    network = Flickering()
    methods = stability.measure(VideoCapture, still, still, networks={"net": network})["methods"]
    assert network.calls == 6  # once a frame, for both
    assert methods["net, not steady"]["unexplained_change"] == pytest.approx(8)
    assert methods["net"]["unexplained_change"] < 1
    assert 3 < methods["net"]["smear"] < 5  # half of the frames are 8 levels off
    assert "smear" not in methods["net, not steady"]


def test_without_steadiness_there_is_one_row_and_no_smear(clip: Callable[..., Path]) -> None:
    still = clip("still", *[100] * 4)
    result = stability.measure(VideoCapture, still, still, networks={"net": Flickering()}, steadily=False)
    assert list(result["methods"]) == ["average", "maximum", "net"]
    assert result["methods"]["net"]["unexplained_change"] == pytest.approx(8)
    assert "| net | 8.000 | - |" in stability.table(result)


def test_each_clip_of_a_network_begins_anew(clip: Callable[..., Path]) -> None:
    network = Flickering()
    dark, bright = clip("dark", 20, 20), clip("bright", 200, 200)
    stability.measure(VideoCapture, dark, dark, networks={"net": network})
    methods = stability.measure(VideoCapture, bright, bright, networks={"net": network})["methods"]
    assert methods["net"]["smear"] < 5  # and not held at the dark clip's level
