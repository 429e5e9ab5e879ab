"""Judging: the right pairs, the controls beside, and plain words for what does not fit."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from models import evaluation, metrics
from models.data import DataError, read_luma


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for source in ("a", "b"):
        (tmp_path / source).mkdir()
        for name in ("one", "two"):
            image = cv2.GaussianBlur(rng.integers(0, 256, (64, 80), dtype=np.uint8), (0, 0), 2)
            cv2.imwrite(str(tmp_path / source / f"{name}.png"), image)
    return tmp_path / "a", tmp_path / "b"


def test_means_are_over_the_pairs_and_the_controls_stand_beside(folders: tuple[Path, Path]) -> None:
    pairs = evaluation.find_pairs(*folders, "infrared")
    result = evaluation.judge(pairs, "infrared", {"first": lambda _, a, b: a}, None)
    assert result["names"] == ["one", "two"]
    assert list(result["means"]) == ["average", "maximum", "Laplacian pyramid", "GFF", "first"]
    single = [metrics.entropy(read_luma(path)) for _, path, _ in pairs]
    assert result["means"]["first"]["EN"] == pytest.approx(sum(single) / 2)
    table = evaluation.table(result["means"])
    assert len(table.splitlines()) == 2 + 4 + 1
    assert f"{sum(single) / 2:.3f}" in table


def test_other_controls_can_stand_beside(folders: tuple[Path, Path]) -> None:
    pairs = evaluation.find_pairs(*folders, "focus")
    result = evaluation.judge(pairs, "focus", {"first": lambda _, a, b: a}, None, {"second": lambda _, a, b: b})
    assert list(result["means"]) == ["second", "first"]
    assert list(evaluation.judge(pairs, "focus", {"first": lambda _, a, b: a}, None, {})["means"]) == ["first"]


def test_the_controls_are_those_of_the_task(folders: tuple[Path, Path]) -> None:
    pairs = evaluation.find_pairs(*folders, "infrared")
    by_task = {task: evaluation.judge(pairs, task, {}, None)["means"] for task in ("infrared", "focus")}
    assert by_task["infrared"]["GFF"]["EN"] == by_task["focus"]["GFF"]["EN"]
    assert by_task["infrared"]["Laplacian pyramid"]["EN"] != by_task["focus"]["Laplacian pyramid"]["EN"]


def test_ready_images_are_judged_by_name(folders: tuple[Path, Path]) -> None:
    pairs = evaluation.find_pairs(*folders, "infrared")
    result = evaluation.judge(pairs, "focus", {"ready": evaluation.from_folder(folders[0])}, None)
    assert result["means"]["ready"]["MI"] > result["means"]["average"]["MI"]
    assert "Hot" not in result["means"]["ready"]


def test_a_sheet_has_a_row_for_each_pair(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pairs = evaluation.find_pairs(*folders, "infrared")
    evaluation.judge(pairs, "focus", {}, tmp_path / "sheet.png")
    sheet = read_luma(tmp_path / "sheet.png")
    assert sheet.shape == (24 + 2 * 256, (2 + 4) * 320)  # two sources, four controls


def test_folders_that_do_not_pair_are_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[0] / "one.png").unlink()
    with pytest.raises(DataError, match="do not pair: 1 names are in one only, the first is 'one'"):
        evaluation.find_pairs(*folders, "infrared")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="they hold no image"):
        evaluation.find_pairs(tmp_path / "empty", tmp_path / "empty", "infrared")
    with pytest.raises(DataError, match="there is no such folder"):
        evaluation.find_pairs(tmp_path / "none", folders[1], "infrared")


def test_a_fused_image_that_is_missing_or_of_another_size_is_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pairs = evaluation.find_pairs(*folders, "infrared")
    ready = tmp_path / "ready"
    ready.mkdir()
    with pytest.raises(DataError, match="there is no fused image 'one'"):
        evaluation.judge(pairs, "focus", {"x": evaluation.from_folder(ready)}, None)
    for name in ("one", "two"):
        cv2.imwrite(str(ready / f"{name}.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(DataError, match=r"is \(10, 10\), its sources are \(64, 80\)"):
        evaluation.judge(pairs, "focus", {"x": evaluation.from_folder(ready)}, None)


def test_a_sheet_that_cannot_be_written_is_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pairs = evaluation.find_pairs(*folders, "infrared")
    for path in (tmp_path / "none" / "x.png", tmp_path / "x.doc"):
        with pytest.raises(DataError, match="cannot be written"):
            evaluation.judge(pairs, "focus", {}, path)


def test_undefined_values_are_left_out_of_a_mean() -> None:
    assert evaluation.mean([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(evaluation.mean([math.nan]))


def test_a_data_set_alone_is_every_folder_in_it_with_both_sources(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for source, folder in zip(("near", "far"), folders, strict=True):
        folder.rename(tmp_path / source)
    pairs = evaluation.find_pairs(tmp_path, None, "focus")
    assert [stem for stem, _, _ in pairs] == ["one", "two"]
    with pytest.raises(DataError, match="no folder here has both infrared/ and visible/"):
        evaluation.find_pairs(tmp_path, None, "infrared")


def test_a_scene_of_exposures_is_judged_by_its_ends_under_the_name_of_its_folder(tmp_path: Path) -> None:
    for scene, names in (("hall", "123"), ("door", "12")):
        (tmp_path / scene).mkdir()
        for name in names:
            cv2.imwrite(str(tmp_path / scene / f"{name}.png"), np.full((48, 48), 60 * int(name), np.uint8))
    pairs = evaluation.find_pairs(tmp_path, None, "exposure")
    assert [(name, first.name, last.name) for name, first, last in pairs] == [
        ("door", "1.png", "2.png"),
        ("hall", "1.png", "3.png"),
    ]
    assert evaluation.judge(pairs, "exposure", {}, None)["names"] == ["door", "hall"]
