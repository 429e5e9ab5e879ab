"""Sets of pictures that belong together: found by name, read in one size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.data import (
    DataError,
    find_images,
    find_pairs,
    find_scenes,
    find_sets,
    images_by_stem,
    name_of,
    read_luma,
    read_set,
)


def write(path: Path, size: tuple[int, int] = (8, 10), level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(size, level, np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two folders of infrared and visible pictures; the suffixes may differ."""
    for name in ("set1/{}/a.png", "set1/{}/b.png", "set2/{}/a.jpg"):
        write(tmp_path / name.format("infrared"))
        write(tmp_path / name.format("visible").replace(".jpg", ".png"))
    return tmp_path


@pytest.fixture
def brackets(tmp_path: Path) -> Path:
    """Scenes of three and of two exposures, and two pairs in folders of their own."""
    for name in ("scenes/hall/1", "scenes/hall/2", "scenes/hall/3", "scenes/door/1", "scenes/door/2"):
        write(tmp_path / f"{name}.png")
    for name in ("a", "b"):
        for source in ("under", "over"):
            write(tmp_path / "pairs" / source / f"{name}.png")
    write(tmp_path / "scenes" / "lonely" / "1.png")
    return tmp_path


def below(root: Path, paths: tuple[Path, ...]) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_pairs_of_all_folders_below_are_found_by_stem(root: Path) -> None:
    pairs = find_pairs(root, "infrared")
    assert [first.parent.parent.name + first.stem for first, _ in pairs] == ["set1a", "set1b", "set2a"]
    assert [(first.parent.name, second.parent.name) for first, second in pairs] == 3 * [("infrared", "visible")]
    assert all(first.stem == second.stem for first, second in pairs)
    assert len(find_pairs(root / "set1", "infrared")) == 2
    assert find_sets(root, "infrared") == pairs


def test_a_medical_set_is_mri_with_whatever_else_there_is(tmp_path: Path) -> None:
    for name in ("brain/mri/1", "brain/ct/1", "brain/pet/1", "head/mri/7", "head/spect/7"):
        write(tmp_path / f"{name}.png")
    found = [below(tmp_path, paths) for paths in find_sets(tmp_path, "medical")]
    assert found == [
        ["brain/mri/1.png", "brain/ct/1.png"],
        ["brain/mri/1.png", "brain/pet/1.png"],
        ["head/mri/7.png", "head/spect/7.png"],
    ]


def test_exposures_are_pairs_in_two_folders_and_scenes_in_one_each(brackets: Path) -> None:
    found = [below(brackets, paths) for paths in find_sets(brackets, "exposure")]
    assert found == [
        ["pairs/under/a.png", "pairs/over/a.png"],
        ["pairs/under/b.png", "pairs/over/b.png"],
        ["scenes/door/1.png", "scenes/door/2.png"],
        ["scenes/hall/1.png", "scenes/hall/2.png", "scenes/hall/3.png"],
    ]


def test_of_a_scene_the_pair_is_the_darkest_and_the_brightest(brackets: Path) -> None:
    pairs = find_pairs(brackets / "scenes", "exposure")
    assert [(first.name, last.name) for first, last in pairs] == [("1.png", "2.png"), ("1.png", "3.png")]


def test_a_scene_may_be_the_folder_itself_and_has_more_than_one_picture(brackets: Path) -> None:
    (hall,) = find_scenes(brackets / "scenes" / "hall")
    assert len(hall) == 3
    assert find_scenes(brackets / "scenes" / "lonely") == []
    assert find_scenes(brackets / "pairs") == []


def test_scenes_are_of_exposures_alone(brackets: Path) -> None:
    with pytest.raises(DataError, match=r"no folder here has both near/ and far/ in it$"):
        find_sets(brackets, "focus")


def test_all_images_below_a_folder_are_found_in_order(root: Path) -> None:
    (root / "notes.txt").write_text("no image")
    assert len(find_images(root)) == 6
    assert find_images(root) == sorted(find_images(root))
    assert [path.name for path in find_images(root / "set1" / "visible")] == ["a.png", "b.png"]


@pytest.mark.parametrize("folder", ["empty", "none"])
def test_a_folder_without_an_image_is_told(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"{folder}: there is no image in this folder"):
        find_images(tmp_path / folder)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("set/infrared/001.png", "001"),
        ("set/mri/7.png", "7"),
        ("set/under/door.jpg", "door"),
        ("scenes/hall/1.png", "hall"),
    ],
)
def test_a_set_is_called_by_its_images_or_by_its_scene(path: str, name: str) -> None:
    assert name_of(Path(path)) == name


def test_a_name_in_one_folder_only_is_told(root: Path) -> None:
    (root / "set1" / "visible" / "b.png").unlink()
    with pytest.raises(DataError, match="set1: 1 names are not in both infrared/ and visible/, the first is 'b'"):
        find_pairs(root, "infrared")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("infrared", r"both infrared/ and visible/ in it$"),
        ("exposure", r"both under/ and over/ in it, or two or more exposures of a scene$"),
        ("medical", r"both mri/ and ct/ or both mri/ and pet/ or both mri/ and spect/ in it$"),
    ],
)
def test_a_folder_without_sources_is_told(tmp_path: Path, task: str, message: str) -> None:
    with pytest.raises(DataError, match=f"no folder here has {message}"):
        find_sets(tmp_path, task)


def test_a_task_without_known_folders_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"known for task 'radar'; legal are infrared, exposure, focus, medical$"):
        find_sets(tmp_path, "radar")


def test_a_set_is_read_as_luma_in_its_order(tmp_path: Path) -> None:
    for name, level in (("1", 10), ("2", 20), ("3", 30)):
        write(tmp_path / f"{name}.png", (6, 9), level)
    planes = read_set(tuple(tmp_path / f"{name}.png" for name in "132"))
    assert [(plane.shape, plane.dtype, plane.max()) for plane in planes] == [
        ((6, 9), np.uint8, level) for level in (10, 30, 20)
    ]


def test_a_coloured_picture_is_read_as_its_luma(tmp_path: Path) -> None:
    green = np.zeros((4, 4, 3), np.uint8)
    green[..., 1] = 200
    cv2.imwrite(str(tmp_path / "green.png"), green)
    assert (read_luma(tmp_path / "green.png") == 117).all()  # 0.587 of it


def test_a_file_that_is_no_image_is_told(root: Path) -> None:
    (root / "set1" / "visible" / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"visible/b\.png: not an image"):
        read_set(find_sets(root, "infrared")[1])


def test_sources_of_two_sizes_are_told(root: Path) -> None:
    write(root / "set1" / "visible" / "b.png", (9, 10))
    with pytest.raises(DataError, match=r"is \(8, 10\) and .*is \(9, 10\): the images of a set must have one size"):
        read_set(find_sets(root, "infrared")[1])


def test_exposures_come_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write(tmp_path / "scene" / f"{number}.png")
    write(tmp_path / "scene" / ".3.png")
    ((first, second, third),) = find_sets(tmp_path, "exposure")
    assert [first.stem, second.stem, third.stem] == ["1", "2", "10"]


def test_two_images_of_one_name_are_told(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        write(tmp_path / f"1.{suffix}")
    with pytest.raises(DataError, match="have one name, by which images are paired"):
        find_sets(tmp_path, "exposure")


def test_names_that_count_alike_have_one_order_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("a10", "a2", "a010", "a02"):
        write(tmp_path / f"{name}.png")
    assert list(images_by_stem(tmp_path)) == ["a02", "a2", "a010", "a10"]
