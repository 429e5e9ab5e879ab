"""output.sheet: a row for each moment, a column for each stream."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from nodes.output.sheet import LABEL_HEIGHT, SheetOutput
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame, PixelFormat
from tests.nodes.capture.media import bgr_of, files_no_larger_than, flat_frame, make_frame


def gray(value: int, size: tuple[int, int] = (64, 48), at_s: float = 0.0) -> Frame:
    return make_frame(0, "gray8", size, round(at_s * 1e9), data=np.full(size[::-1], value, np.uint8))


def sheet(path: Path, *rows: dict[str, Frame], **settings: Any) -> SheetOutput:
    node = SheetOutput(path, columns=tuple(rows[0]), **{"width": 64} | settings)
    node.name = "sheet"
    node.open({})
    for row in rows:
        node.process(**row)
    node.close()
    return node


def pixels(path: Path) -> np.ndarray:
    """What is below the labels."""
    image: np.ndarray = cv2.imread(str(path))
    return image[LABEL_HEIGHT:]


def test_streams_stand_side_by_side_and_moments_below_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rows = [{"infrared": gray(10 * n, at_s=n), "visible": gray(10 * n + 5, at_s=n)} for n in range(5)]
    node = sheet(path, *rows, at_s=(3.0, 0.5))
    image = pixels(path)
    assert image.shape == (2 * 48, 2 * 64, 3)
    assert [[image[y, x, 0] for x in (32, 96)] for y in (24, 72)] == [[10, 15], [30, 35]]
    assert node.report() == {"path": str(path)}


def test_each_column_has_its_name_above(tmp_path: Path) -> None:
    sheet(tmp_path / "a.png", {"a": gray(0), "much too long a name": gray(0), "c": gray(0)})
    labels = cv2.imread(str(tmp_path / "a.png"))[:LABEL_HEIGHT]
    ink = [int(labels[:, 64 * column : 64 * (column + 1)].sum()) for column in range(3)]
    assert all(ink)
    sheet(tmp_path / "b.png", {"a": gray(0), "b": gray(0), "c": gray(0)})
    again = cv2.imread(str(tmp_path / "b.png"))[:LABEL_HEIGHT]
    assert np.array_equal(labels[:, 128:], again[:, 128:])  # a long name does not run into the next column


def test_pictures_of_other_shapes_stand_in_the_middle_of_a_row_of_one_height(tmp_path: Path) -> None:
    rows = {"wide": gray(100, (128, 32)), "square": gray(150, (64, 64)), "tall": gray(200, (10, 1000))}
    sheet(tmp_path / "a.png", rows)
    image = pixels(tmp_path / "a.png")[:, :, 0]
    assert image.shape == (128, 3 * 64)  # no more than twice as high as a column is wide
    wide, square, tall = (image[:, 64 * column : 64 * (column + 1)] for column in range(3))
    assert [np.flatnonzero(tile.any(axis=1))[[0, -1]].tolist() for tile in (wide, square, tall)] == [
        [56, 71],
        [32, 95],
        [0, 127],
    ]
    assert np.flatnonzero(tall.any(axis=0)).tolist() == [31]


@pytest.mark.parametrize("size", [(1, 479), (1, 1), (641, 1), (641, 479)])
def test_the_oddest_sizes_fit(tmp_path: Path, size: tuple[int, int]) -> None:
    sheet(tmp_path / "a.png", {"a": gray(90, size)})
    image = pixels(tmp_path / "a.png")
    assert image.shape[1] == 64
    assert image.shape[0] <= 128
    assert image.max() == 90


@pytest.mark.parametrize("pixel_format", ["gray8", "gray16", "yuv420p", "bgr24"])
def test_every_pixel_format_has_a_place(tmp_path: Path, pixel_format: PixelFormat) -> None:
    sheet(tmp_path / "a.png", {"a": make_frame(0, pixel_format, (41, 29)), "b": gray(0)})
    assert pixels(tmp_path / "a.png").any()


def test_counts_of_16_bits_are_stretched_and_a_hot_pixel_changes_nothing(tmp_path: Path) -> None:
    counts = np.repeat(np.linspace(3000, 3100, 64).astype(np.uint16)[None], 48, axis=0)
    hot = counts.copy()
    hot[0, 0] = 65_535
    frames = [make_frame(0, "gray16", data=data) for data in (counts, hot)]
    sheet(tmp_path / "a.png", {"plain": frames[0], "hot": frames[1]})
    plain, with_hot = np.hsplit(pixels(tmp_path / "a.png")[:, :, 0], 2)
    assert plain[24, [2, 61]].tolist() == pytest.approx([5, 250], abs=8)
    assert np.array_equal(plain[1:], with_hot[1:])


def test_a_flat_scene_of_16_bits_is_dark_and_no_error(tmp_path: Path) -> None:
    sheet(tmp_path / "a.png", {"a": make_frame(0, "gray16", data=np.full((48, 64), 3000, np.uint16))})
    assert not pixels(tmp_path / "a.png").any()


def test_colours_are_those_of_the_frame(tmp_path: Path) -> None:
    sheet(tmp_path / "a.png", {"a": flat_frame(120, 90, 150, (64, 48), "limited", "bt709")})
    assert np.abs(pixels(tmp_path / "a.png") - bgr_of(120, 90, 150, "limited", "bt709")).max() <= 1


def test_moments_that_never_came_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sheet(tmp_path / "a.png", {"a": gray(50)}, at_s=(0.0, 7.5))
    assert pixels(tmp_path / "a.png").shape[0] == 48
    assert "sheet: no frame came at or after 7.5 s" in caplog.text


def test_no_frames_make_no_sheet_and_keep_the_older_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"older")
    node = SheetOutput(path)
    node.open({})
    node.close()
    assert path.read_bytes() == b"older"
    assert node.report() == {}
    assert "no frame came at or after 0 s" in caplog.text


def test_giving_up_writes_nothing(tmp_path: Path) -> None:
    node = SheetOutput(tmp_path / "a.png", columns=("a",))
    node.open({})
    node.process(a=gray(50))
    for _ in range(2):
        node.abort()
        node.close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with files_no_larger_than(5_000), pytest.raises(OutputError, match="cannot be written: File too large"):
        sheet(tmp_path / "a.png", {"a": make_frame(0, "bgr24")})
    assert not list(tmp_path.iterdir())


def test_a_sheet_too_large_for_png_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, np.empty(0, np.uint8)))  # as OpenCV does from 2 ** 20 px on
    with pytest.raises(OutputError, match=r"64x72 is too large for \.png"):
        sheet(tmp_path / "a.png", {"a": gray(50)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": Path("a.jpg")}, r"a sheet is written as \.png"),
        ({"columns": ()}, "setting 'columns' is .*give at least one name"),
        ({"columns": ("a", "a")}, r"setting 'columns' is \['a', 'a'\].*each but once"),
        ({"at_s": ()}, "setting 'at_s' is .*give at least one moment"),
        ({"at_s": (float("nan"),)}, r"setting 'at_s' is \[nan\]"),
        ({"width": 15}, "setting 'width' is 15; legal is 16 to 4096 px"),
        ({"width": 10**9}, "legal is 16 to 4096 px"),
    ],
)
def test_settings_that_make_no_sheet_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SheetOutput(**{"path": Path("a.png")} | settings)


def test_its_inputs_are_its_columns(tmp_path: Path) -> None:
    assert SheetOutput(tmp_path / "a.png", columns=("near", "far")).inputs() == ("near", "far")


def test_a_folder_that_is_not_there_is_told_before_anything_flows(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        SheetOutput(tmp_path / "nowhere" / "a.png").open({})


def test_live_the_moments_count_from_the_first_frame(tmp_path: Path) -> None:
    node = SheetOutput(tmp_path / "a.png", ("a",), (0.0, 2.0))
    node.running = SimpleNamespace(mode="live")  # type: ignore[assignment]
    node.open({})
    for second in range(4):
        node.process(a=gray(50 * second, at_s=1000.0 + second))
    node.close()
    rows = pixels(tmp_path / "a.png")[:, :, 0]
    assert len(np.unique(rows[-40:])) == 1
    assert (rows[0, 0], rows[-1, -1]) == (0, 100)
