"""output.images: each frame an image, complete or not there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from nodes.output.images import ImagesOutput
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame, PixelFormat
from tests.nodes.capture.media import bgr_of, files_no_larger_than, flat_frame, make_frame, make_picture, read_whole


def write(path: Path, *frames: Frame, **settings: object) -> ImagesOutput:
    node = ImagesOutput(path, **settings)  # type: ignore[arg-type]
    node.open({})
    for frame in frames:
        node.process(frame)
    node.close()
    return node


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("pixel_format", ["gray8", "gray16", "bgr24"])
@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("size", [(64, 48), (1, 7)])
def test_lossless_formats_keep_frames_bit_exact(
    tmp_path: Path, pixel_format: PixelFormat, format: str, size: tuple[int, int]
) -> None:
    frames = [make_frame(number, pixel_format, size) for number in range(2)]
    write(tmp_path / "out", *frames, format=format)
    assert names(tmp_path / "out") == [f"000000.{format}", f"000001.{format}"]
    copies = read_whole(tmp_path / "out")
    assert all(np.array_equal(copy.data, frame.data) for copy, frame in zip(copies, frames, strict=True))


def test_yuv_is_written_in_full_range_by_its_matrix(tmp_path: Path) -> None:
    write(tmp_path / "a.png", flat_frame(120, 90, 150, (41, 29), "limited", "bt709"))
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image.shape == (29, 41, 3)
    assert np.abs(image - bgr_of(120, 90, 150, "limited", "bt709")).max() <= 1


def test_files_are_named_as_the_sources_or_else_counted(tmp_path: Path) -> None:
    write(tmp_path / "out", make_frame(0, name="street 7"), make_frame(12, name=None))
    assert names(tmp_path / "out") == ["000012.png", "street 7.png"]


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "out", make_frame(0, name="../../evil"))
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == [".._.._evil.png"]


def test_better_jpeg_is_larger_and_nearer(tmp_path: Path) -> None:
    picture = make_picture(0, "gray", (64, 48))
    frame = make_frame(0, "gray8", data=np.frombuffer(picture.planes[0], np.uint8).reshape(48, -1)[:, :64].copy())
    sizes, errors = [], []
    for quality in (10, 95):
        write(tmp_path / f"{quality}.jpg", frame, quality=quality)
        sizes.append((tmp_path / f"{quality}.jpg").stat().st_size)
        image = cv2.imread(str(tmp_path / f"{quality}.jpg"), cv2.IMREAD_GRAYSCALE)
        errors.append(np.abs(image.astype(float) - frame.data).mean())
    assert sizes[1] > 1.5 * sizes[0]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_that_is_none_is_refused(quality: int) -> None:
    with pytest.raises(ConfigError, match=f"setting 'quality' is {quality}; legal is 1 to 100"):
        ImagesOutput(Path("a.jpg"), quality=quality)


def test_nothing_is_written_before_the_first_frame(tmp_path: Path) -> None:
    node = write(tmp_path / "out")
    assert names(tmp_path) == []
    assert node.report() == {}


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".webp", ".bmp", ".tif"])
def test_a_path_with_the_suffix_of_an_image_is_one_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    node = write(path, make_frame(0, "gray8"))
    assert read_whole(path)[0].size == (64, 48)
    assert node.report() == {"path": str(path)}
    with pytest.raises(OutputError, match="holds one image, and a second frame came; give a folder"):
        write(path, make_frame(0), make_frame(1))


def test_a_folder_with_the_suffix_of_an_image_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    write(tmp_path / "a.png", make_frame(0), make_frame(1))
    assert names(tmp_path / "a.png") == ["000000.png", "000001.png"]


@pytest.mark.parametrize(("path", "settings"), [("a.jpg", {}), ("a.webp", {}), ("out", {"format": "jpg"})])
def test_16_bits_do_not_go_into_8(tmp_path: Path, path: str, settings: dict[str, str]) -> None:
    with pytest.raises(OutputError, match="cannot hold 16 bits; write png or tiff"):
        write(tmp_path / path, make_frame(0, "gray16"), **settings)


def test_an_image_too_large_for_its_format_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"70000x1 is too large for \.jpg; write tiff, or something smaller"):
        write(tmp_path / "a.jpg", make_frame(0, "gray8", (70_000, 1)))
    assert names(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_only_complete_images(tmp_path: Path) -> None:
    frames = [make_frame(0, "gray8"), make_frame(1, "gray8", (640, 480))]
    with files_no_larger_than(20_000), pytest.raises(OutputError, match="cannot be written: File too large"):
        write(tmp_path / "out", *frames)
    assert names(tmp_path / "out") == ["000000.png"]
    assert len(read_whole(tmp_path / "out")) == 1


def test_a_place_where_nothing_can_be_written_is_told_before_anything_flows(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in [
        ("nowhere/out", "there is no folder"),
        ("nowhere/a.png", "there is no folder"),
        ("file", "is a file; give a folder, or the name of an image"),
        ("x" * 300, "cannot be written: File name too long"),
    ]:
        with pytest.raises(OutputError, match=message):
            ImagesOutput(tmp_path / path).open({})


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    node = ImagesOutput(tmp_path / "out")
    node.open({})
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="the folder cannot be made: File exists"):
        node.process(make_frame(0))


def test_closing_and_aborting_are_safe_at_any_time(tmp_path: Path) -> None:
    node = ImagesOutput(tmp_path / "out")
    for _ in range(2):
        node.close()
        node.abort()
    assert not any(tmp_path.iterdir())


def test_a_full_disk_costs_live_images_and_not_the_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = ImagesOutput(tmp_path / "out")
    node.running = SimpleNamespace(mode="live")  # type: ignore[assignment]
    node.open({})
    node.process(make_frame(0, "gray8", (64, 48)))
    with files_no_larger_than(100):
        node.process(make_frame(1, "gray8", (64, 48)))
        node.process(make_frame(2, "gray8", (64, 48)))
    node.process(make_frame(3, "gray8", (64, 48)))
    node.close()
    assert names(tmp_path / "out") == ["000000.png", "000003.png"]
    assert node.report()["notes"] == {"not_written": 2}
    assert caplog.text.count("images are lost until there is room again") == 1
