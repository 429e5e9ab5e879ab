"""How steady a fused video is: the change in it that neither source shows, over a whole clip, a frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models.controls import Fusing, average, maximum
from models.metrics import UnexplainedChange
from models.steady import State
from nodes.fusion.network import SCALES, Network
from nodes.fusion.planes import in_range, luma_of, luma_range
from nodes.fusion.thermal import Agc
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Node

Capture = Callable[[Path], Node]
"""Of a video file: the source node that reads it."""

HEAD = 16  # frames that are also told of for themselves
NOT_STEADY = ", not steady"  # behind the name of a network

CONTROLS: dict[str, Fusing] = {"average": average, "maximum": maximum}


class Steadied:
    """A network on one clip, as the fusion node runs it, and beside that as it is when nothing is held back.

    Args:
        network: ready to run.
        steadily: False for the second alone.
    """

    def __init__(self, network: Network, steadily: bool) -> None:
        self.network, self.steadily = network, steadily
        self._state: State | None = None
        self._differences: list[float] = []

    def __call__(self, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
        """The next frame, (H, W) uint8 full range: steady and not, or not alone."""
        if not self.steadily:
            return [self.network.fuse_full_range("", first, second)]
        steady, plain, self._state = self.network.fuse_both_ways(first, second, self._state)
        self._differences.append(float(np.mean(cv2.absdiff(steady, plain))))
        return [steady, plain]

    def smear(self) -> float:
        """What holding back costs: mean absolute difference between both pictures in grey levels."""
        return sum(self._differences) / len(self._differences)


def measure(
    capture: Capture,
    first: Path,
    second: Path,
    *,
    fused: Path | None = None,
    networks: Mapping[str, Network],
    controls: Mapping[str, Fusing] = CONTROLS,
    steadily: bool = True,
    limit: int | None = None,
) -> dict[str, Any]:
    """Unexplained change of fusions of two videos, which are read once and never held as a whole.

    Args:
        capture: reads videos.
        first, second: the sources, frame by frame of one moment, of one size and length.
        fused: a video that was made of them.
        networks: by name; each fuses steadily and, for comparison, not.
        controls: by name.
        steadily: False to fuse with networks not steadily alone.
        limit: how many frames to take; None for all.

    Returns:
        `frames` and `methods`: by name `unexplained_change`, in grey levels a frame, and the same of the first 16
        frames as `unexplained_change_16`; of steady networks also `smear`.

    Raises:
        SourceError: a video cannot be read, or they do not fit together.
    """
    steadied = {name: Steadied(network, steadily) for name, network in networks.items()}
    names = list(controls)
    for name in steadied:
        names += [name, name + NOT_STEADY] if steadily else [name]
    paths = [first, second]
    if fused is not None:
        names.append(row_name(fused, names))
        paths.append(fused)
    change = UnexplainedChange()
    for a, b, *pictures in together(capture, paths, limit):
        made = [control("", a, b) for control in controls.values()]
        made += [picture for of in steadied.values() for picture in of(a, b)]
        change.add(a, b, *made, *pictures)
    if change.frames < 2:
        raise SourceError(f"{first}: only {change.frames} frame is to be judged; change takes two or more")
    methods: dict[str, dict[str, float]] = {
        name: {"unexplained_change": whole, "unexplained_change_16": head}
        for name, whole, head in zip(names, change.means(), change.means(HEAD), strict=True)
    }
    for name, of in steadied.items():
        methods[name] |= {"smear": of.smear()} if steadily else {}
    return {"frames": change.frames, "methods": methods}


def row_name(fused: Path, taken: Collection[str]) -> str:
    """What the row of a file or folder is called: its path as given, in full where a method has that name."""
    return str(fused.absolute() if str(fused) in taken else fused)


def table(result: Mapping[str, Any]) -> str:
    """Markdown, a row for each method."""
    lines = ["| method | unexplained change | smear |", "|---|---|---|"]
    for name, row in result["methods"].items():
        smear = f"{row['smear']:.3f}" if "smear" in row else "-"
        lines.append(f"| {name} | {row['unexplained_change']:.3f} | {smear} |")
    return "\n".join(lines)


def together(capture: Capture, paths: Sequence[Path], limit: int | None) -> Iterator[list[np.ndarray]]:
    """Luma of two sources and of fused videos, a frame of each at a time, in step from the first on."""
    with ExitStack() as stack:
        clips = [stack.enter_context(closing(lumas(capture(path), path.name))) for path in paths]
        for number, found in enumerate(zip_longest(*(islice(clip, limit) for clip in clips))):
            planes = [plane for plane in found if plane is not None]
            if len(planes) < len(paths):
                short, long = (paths[[plane is None for plane in found].index(ended)] for ended in (True, False))
                raise SourceError(
                    f"{short} ends after {number} frames and {long} goes on: videos to be judged must have one length"
                )
            planes[2:] = [without_padding(plane, planes[0].shape) for plane in planes[2:]]
            if len({plane.shape for plane in planes}) > 1:
                found_sizes = zip(paths, planes, strict=True)
                sizes = ", ".join(f"{path} is {plane.shape[1]}x{plane.shape[0]}" for path, plane in found_sizes)
                raise SourceError(f"{sizes}: videos to be judged must have one size")
            yield planes


def without_padding(fused: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A fused plane without the column and row that `output.video` adds to sources of odd sizes; others as they are."""
    padded = tuple(side + side % 2 for side in shape)
    return fused[: shape[0], : shape[1]] if fused.shape == padded else fused


def lumas(node: Node, name: str) -> Generator[np.ndarray, None, None]:
    """(H, W) uint8 full range of each frame of a source node, opened and closed here."""
    node.name = name
    gain = Agc()
    try:
        node.open({})
        while True:
            frame = node.process()
            if isinstance(frame, Frame):  # else there is none yet
                yield in_range(luma_of(frame, gain), SCALES[luma_range(frame)], SCALES["full"])
    except EndOfStream:
        return
    finally:
        node.close()
