"""Finding pictures of a scene that belong together: registered stills in folders.

A data set is a folder, or a folder of such folders, laid out in one of two ways: a sub-folder for each source with the
same file stems in all (`infrared/` and `visible/`), or, for exposures, a sub-folder for each scene with its exposures
in the order of their names, darkest first.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "infrared": (("infrared", "visible"),),
    "exposure": (("under", "over"),),
    "focus": (("near", "far"),),
    "medical": (("mri", "ct"), ("mri", "pet"), ("mri", "spect")),
}
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


class DataError(ValueError):
    """The pictures are not as they should be; the message says where, what came and what is legal."""


def find_sets(root: Path, task: str) -> list[tuple[Path, ...]]:
    """Sets of two or more registered images below `root`, in the order of their names."""
    if task not in SOURCES:
        raise DataError(f"{root}: no names of folders are known for task {task!r}; legal are {', '.join(SOURCES)}")
    sets: list[tuple[Path, ...]] = []
    for first, second in SOURCES[task]:
        folders = sorted({found.parent for found in root.glob(f"**/{first}") if (found.parent / second).is_dir()})
        for folder in folders:
            sets += pairs_of_folder(folder, first, second)
    if task == "exposure":
        sets += find_scenes(root)
    if not sets:
        named = " or ".join(f"both {first}/ and {second}/" for first, second in SOURCES[task])
        scenes = ", or two or more exposures of a scene" if task == "exposure" else ""
        raise DataError(f"{root}: no folder here has {named} in it{scenes}")
    return sets


def find_pairs(root: Path, task: str) -> list[tuple[Path, Path]]:
    """The first and the last of each set: of exposures the darkest and the brightest."""
    return [(found[0], found[-1]) for found in find_sets(root, task)]


def pairs_of_folder(folder: Path, first: str, second: str) -> list[tuple[Path, ...]]:
    a, b = images_by_stem(folder / first), images_by_stem(folder / second)
    if lonely := sorted(a.keys() ^ b.keys()):
        raise DataError(
            f"{folder}: {len(lonely)} names are not in both {first}/ and {second}/, the first is {lonely[0]!r}"
        )
    return [(a[stem], b[stem]) for stem in sorted(a)]


def find_scenes(root: Path) -> list[tuple[Path, ...]]:
    """Folders of exposures, each a set: every folder that has two images or more in it."""
    names = {name for pair in SOURCES["exposure"] for name in pair}
    folders = sorted(path for path in [root, *root.glob("**/")] if path.is_dir() and path.name not in names)
    scenes = (tuple(images_by_stem(folder).values()) for folder in dict.fromkeys(folders))
    return [scene for scene in scenes if len(scene) >= 2]


def find_images(root: Path) -> list[Path]:
    """All images below `root`."""
    found = sorted(path for path in root.glob("**/*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(f"{root}: there is no image in this folder or below it")
    return found


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Images by name, in the order in which people count: 2 before 10."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=natural):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if other := found.get(path.stem):
                raise DataError(f"{folder}: {other.name} and {path.name} have one name, by which images are paired")
            found[path.stem] = path
    return found


def natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """As people count: 2 before 10; of a02 and a2 the one of the two that sorts first."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts], path.name


def name_of(first: Path) -> str:
    """What to call a set: the name its images share, or that of the scene's folder."""
    named = {name for pairs in SOURCES.values() for pair in pairs for name in pair}
    return first.stem if first.parent.name in named else first.parent.name


def read_luma(path: Path) -> np.ndarray:
    """(H, W) uint8, 0..255."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: not an image that can be read (PNG, JPEG, BMP and TIFF can)")
    return image


def read_set(paths: tuple[Path, ...]) -> list[np.ndarray]:
    """Luma of the images of a set, of one size."""
    planes = [read_luma(path) for path in paths]
    for path, plane in zip(paths, planes, strict=True):
        if plane.shape != planes[0].shape:
            raise DataError(
                f"{paths[0]} is {planes[0].shape} and {path} is {plane.shape}: the images of a set must have one size"
            )
    return planes
