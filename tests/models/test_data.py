"""Training pairs: found by name, cut the same way in every run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.data import Crops, DataError, find_pairs


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in (("set1/{}/a.png", (60, 80)), ("set1/{}/b.png", (40, 50)), ("set2/{}/a.jpg", (64, 64))):
        image = rng.integers(0, 256, size, dtype=np.uint8)
        write(tmp_path / name.format("infrared"), image)
        write(tmp_path / name.format("visible").replace(".jpg", ".png"), image)
    return tmp_path


def test_pairs_of_all_folders_below_are_found_by_stem(root: Path) -> None:
    pairs = find_pairs(root, "infrared")
    assert [first.parent.parent.name + first.stem for first, _ in pairs] == ["set1a", "set1b", "set2a"]
    assert all(first.stem == second.stem for first, second in pairs)
    assert len(find_pairs(root / "set1", "infrared")) == 2


def test_a_name_in_one_folder_only_is_told(root: Path) -> None:
    (root / "set1" / "visible" / "b.png").unlink()
    with pytest.raises(DataError, match="set1: 1 names are not in both infrared/ and visible/, the first is 'b'"):
        find_pairs(root, "infrared")


def test_a_folder_without_sources_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder here has both under/ and over/"):
        find_pairs(tmp_path, "exposure")


def test_a_task_without_known_folders_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no names of folders are known for task 'medical'"):
        find_pairs(tmp_path, "medical")


def test_a_file_that_is_no_image_is_told(root: Path) -> None:
    (root / "set1" / "visible" / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png: not an image"):
        Crops(find_pairs(root, "infrared"), crop=32, batch=1, seed=0, jitter=0)


def test_sources_of_two_sizes_are_told(root: Path) -> None:
    write(root / "set1" / "visible" / "b.png", np.zeros((41, 50), np.uint8))
    with pytest.raises(DataError, match="a pair must have one size"):
        Crops(find_pairs(root, "infrared"), crop=32, batch=1, seed=0, jitter=0)


def test_a_batch_depends_on_seed_and_number_alone(root: Path) -> None:
    pairs = find_pairs(root, "infrared")
    crops, again = (Crops(pairs, crop=32, batch=4, seed=3, jitter=0.2) for _ in range(2))
    _ = again[0]
    for one, other in zip(crops[7], again[7], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(crops[7][0], crops[8][0])
    assert not torch.equal(crops[7][0], Crops(pairs, crop=32, batch=4, seed=4, jitter=0.2)[7][0])


def test_both_sources_are_cut_at_the_same_place_and_turned_alike(root: Path) -> None:
    first, second = Crops(find_pairs(root, "infrared"), crop=32, batch=16, seed=0, jitter=0)[0]
    assert first.shape == (16, 1, 32, 32)
    assert first.dtype == torch.float32
    # PNG and JPEG of the same picture differ a little; crops from different places would differ a lot.
    assert (first - second).abs().mean() < 0.1


def test_pictures_smaller_than_the_crop_are_mirrored(root: Path) -> None:
    first, _ = Crops(find_pairs(root / "set1", "infrared"), crop=96, batch=8, seed=0, jitter=0)[0]
    assert first.shape == (8, 1, 96, 96)
    assert first.min() >= -1
    assert first.max() <= 1


def test_jitter_changes_the_tone_of_each_source_on_its_own(root: Path) -> None:
    first, second = Crops(find_pairs(root / "set1", "infrared"), crop=32, batch=8, seed=0, jitter=0.4)[0]
    assert (first - second).abs().mean() > 0.02
    assert first.abs().max() <= 1
