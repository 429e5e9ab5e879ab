"""The pipeline behind `run.py fuse A B -o OUT`, as the tree that a config would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nodes.addresses import Source, without_credentials
from nodes.pictures import IMAGE_SUFFIXES, images_in
from nodes.tasks import BRACKET, INPUTS
from pipeline.errors import ConfigError, SourceError

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv"}
ADDRESS = "a live stream"
Tree = dict[str, dict[str, Any]]


def tree(sources: Sequence[Source], output: Source, settings: Mapping[str, Any], *, fps: float, codec: str) -> Tree:
    """Nodes that fuse images, folders of images, videos or live streams: two of a kind, or three exposures.

    Args:
        sources: in the order of the task's inputs.
        output: what to write; its name says as what. An address is refused.
        settings: of the fusion node, `task` among them.
        fps: images a second of folders.
        codec: of video output.

    Raises:
        ConfigError: kinds that do not go together.
        SourceError: a source is missing, or the folders do not pair.
    """
    if isinstance(output, str):
        raise ConfigError(
            f"-o {shown(output)}: is an address; give a file or a folder (output.stream in a config pushes)"
        )
    if len(sources) > 2 and settings["task"] != "exposure":
        task = settings["task"]
        raise ConfigError(f"{shown(sources[2])}: task {task!r} has two sources; three are for --task exposure")
    kind = common_kind(sources)
    names = BRACKET if len(sources) == 3 else INPUTS[settings["task"]]
    nodes: Tree = {name: capture_of(source, fps) for name, source in zip(names, sources, strict=True)}
    nodes["fuse"] = {"type": "fusion.fuse", "inputs": {name: name for name in names}, **settings}
    if len(sources) == 3:
        nodes["fuse"]["exposures"] = 3
    if kind == "a folder" and output.suffix.lower() in VIDEO_SUFFIXES:
        nodes["fuse"]["steady"] = True  # the images are frames
    nodes["output"] = {"inputs": "fuse", "path": str(output), **output_for(kind, output, codec)}
    return nodes


def shown(source: Source) -> str:
    """As it may stand in a message."""
    return without_credentials(source) if isinstance(source, str) else str(source)


def capture_of(source: Source, fps: float) -> dict[str, Any]:
    if isinstance(source, str):
        return {"type": "capture.stream", "url": source}
    return {"type": "capture.video", "path": str(source), "fps": fps}


def common_kind(sources: Sequence[Source]) -> str:
    """What all the sources are; folders among them pair.

    Raises:
        ConfigError: they are not all of one kind.
        SourceError: one is missing, or the folders do not pair.
    """
    addresses = [source for source in sources if isinstance(source, str)]
    paths = [source for source in sources if isinstance(source, Path)]
    if not paths:
        return ADDRESS
    if addresses:
        raise ConfigError(f"{shown(addresses[0])} is live, {paths[0]} is recorded: all must be live, or all recorded")
    first, *others = paths
    kind = kind_of(first)
    for path in others:
        if kind_of(path) != kind:
            raise ConfigError(f"{first} is {kind}, {path} is {kind_of(path)}: all must be of one kind")
        if kind == "a folder":
            check_same_names(first, path)
    return kind


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
