"""Several configs on one command line: checked against each other, and what each of their processes is started with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

Tree = dict[str, dict[str, Any]]

CAMERAS = ("capture.camera", "capture.stream")  # what --simulate replaces where the rest of the scene is there, too
RECEIVER = "capture.zmq"


@dataclass(frozen=True)
class Job:
    """What one process is to do."""

    name: str
    """By which it is told from the others: that of its config's file."""
    words: tuple[str, ...]
    """Of its command line, behind `run.py`."""
    follows: bool = False
    """Has no source but other processes."""


def refuse_twice(path: Path, before: Iterable[Path]) -> None:
    """Raise ConfigError for a config that stands there already, maybe by another name."""
    for other in before:
        if path.resolve() == other.resolve():
            raise ConfigError(f"{path}: is the same config as {other}; give each but once")


def merged(trees: Mapping[Path, Tree]) -> Tree:
    """The nodes of all configs; the settings are those of the trees, not copies.

    Raises:
        ConfigError: a name is there twice: whose setting would `node.setting=value` be?
    """
    homes: dict[str, Path] = {}
    everything: Tree = {}
    for path, tree in trees.items():
        for name, settings in tree.items():
            if (home := homes.setdefault(name, path)) != path:
                raise ConfigError(f"Node {name!r} is in {home} and in {path}: configs that run together share no name")
            everything[name] = settings
    return everything


def has_camera(tree: Tree) -> bool:
    """Whether `--simulate` has something to do in it. What comes from another of the processes comes all the same."""
    return any(settings.get("type") in CAMERAS for settings in tree.values())


def jobs(
    trees: Mapping[Path, Tree], overrides: Sequence[str], *, simulate: bool = False, quiet: bool = False
) -> list[Job]:
    """A job for each config.

    Args:
        trees: by file.
        overrides: `node.setting=value`, each for the config that has the node.
        simulate: for those with cameras.
        quiet: whether the processes shall say nothing but warnings.
    """
    made = []
    for name, (path, tree) in zip(names(list(trees)), trees.items(), strict=True):
        options = ["--quiet"] * quiet + ["--simulate"] * (simulate and has_camera(tree))
        own = [override for override in overrides if override.partition(".")[0] in tree]
        sources = [settings.get("type") for settings in tree.values() if settings.get("inputs") is None]
        follows = bool(sources) and all(kind == RECEIVER for kind in sources)
        made.append(Job(name, ("run", *options, str(path), *own), follows))
    return made


def names(paths: Sequence[Path]) -> list[str]:
    """The files' names without suffix; with as many folders before them as tell all apart."""
    tails = [path.resolve().with_suffix("").parts for path in paths]
    for length in range(1, max(map(len, tails), default=1) + 1):
        short = ["/".join(tail[-length:]) for tail in tails]
        if len(set(short)) == len(short):
            return short
    return [str(path) for path in paths]  # differ in their suffixes alone
