"""The pipeline behind `run.py fuse A B -o OUT`, as the tree that a config would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nodes.pictures import IMAGE_SUFFIXES, images_in
from nodes.tasks import BRACKET, INPUTS
from pipeline.errors import ConfigError, SourceError

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv"}
Tree = dict[str, dict[str, Any]]


def tree(sources: Sequence[Path], output: Path, settings: Mapping[str, Any], *, fps: float, codec: str) -> Tree:
    """Nodes that fuse images, folders of images or videos: two of a kind, or three exposures.

    Args:
        sources: in the order of the task's inputs.
        output: what to write; its name says as what.
        settings: of the fusion node, `task` among them.
        fps: images a second of folders.
        codec: of video output.

    Raises:
        ConfigError: kinds that do not go together.
        SourceError: a source is missing, or the folders do not pair.
    """
    if len(sources) > 2 and settings["task"] != "exposure":
        raise ConfigError(f"{sources[2]}: task {settings['task']!r} has two sources; three are for --task exposure")
    first, *others = sources
    kind = kind_of(first)
    for path in others:
        if kind_of(path) != kind:
            raise ConfigError(f"{first} is {kind}, {path} is {kind_of(path)}: all must be of one kind")
        if kind == "a folder":
            check_same_names(first, path)
    names = BRACKET if len(sources) == 3 else INPUTS[settings["task"]]
    nodes: Tree = {
        name: {"type": "capture.video", "path": str(path), "fps": fps}
        for name, path in zip(names, sources, strict=True)
    }
    nodes["fuse"] = {"type": "fusion.fuse", "inputs": {name: name for name in names}, **settings}
    if len(sources) == 3:
        nodes["fuse"]["exposures"] = 3
    if kind == "a folder" and output.suffix.lower() in VIDEO_SUFFIXES:
        nodes["fuse"]["steady"] = True  # the images are frames
    nodes["output"] = {"inputs": "fuse", "path": str(output), **output_for(kind, output, codec)}
    return nodes


def kind_of(path: Path) -> str:
    try:
        if path.is_dir():
            return "a folder"
        there = path.exists()
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if not there:
        raise SourceError(f"{path}: there is no such file or folder")
    return "an image" if path.suffix.lower() in IMAGE_SUFFIXES else "a video"


def are_videos(*paths: Path | None) -> bool:
    """Whether these are videos: all of them, or none.

    Raises:
        ConfigError: some only.
        SourceError: one is not there.
    """
    kinds = {path: kind_of(path) for path in paths if path}
    videos = [path for path, kind in kinds.items() if kind == "a video"]
    if videos and len(videos) < len(kinds):
        path, kind = next((path, kind) for path, kind in kinds.items() if kind != "a video")
        raise ConfigError(f"{path} is {kind}, {videos[0]} is a video: all must be of one kind")
    return bool(videos)


def output_for(kind: str, output: Path, codec: str) -> dict[str, Any]:
    """Type of the output node, by what goes in and by the name of what shall come out."""
    suffix = output.suffix.lower()
    if kind == "an image":
        if suffix not in IMAGE_SUFFIXES:
            legal = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ConfigError(f"-o {output}: two images become an image; legal are {legal}")
        return {"type": "output.images"}
    if suffix in VIDEO_SUFFIXES:
        return {"type": "output.video", "codec": codec}
    if suffix and not output.is_dir():
        legal = ", ".join(sorted(VIDEO_SUFFIXES))
        raise ConfigError(f"-o {output}: {suffix} is no video we write; legal are {legal}, or a folder for images")
    return {"type": "output.images"}


def check_same_names(first: Path, second: Path) -> None:
    """Two folders pair by the names of their images."""
    a, b = image_names(first), image_names(second)
    if a != b:
        parts = [
            f"{len(only)} only in {folder} (the first is {min(only)!r})"
            for folder, only in ((first, a - b), (second, b - a))
            if only
        ]
        raise SourceError(f"the folders do not pair: {', '.join(parts)}; all need the same names")


def image_names(folder: Path) -> set[str]:
    """Of the images that capture.video will take."""
    try:
        return {path.stem for path in images_in(folder)}
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read: {error.strerror}") from error


def refuse_clashes(nodes: Tree) -> None:
    """No output may be written over an input or over another output."""
    taken: dict[Path, str] = {}
    for name, settings in sorted(nodes.items(), key=lambda item: str(item[1].get("type")).startswith("output")):
        if not isinstance(settings.get("path"), str):
            continue
        path = Path(settings["path"]).resolve()
        output = str(settings.get("type")).startswith("output.")
        if output and path in taken:
            raise ConfigError(
                f"Node {name!r} would write over {settings['path']!r}, which node {taken[path]!r} uses too"
            )
        taken[path] = name
