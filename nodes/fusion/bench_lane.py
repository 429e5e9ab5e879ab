"""How the lane does: frames a second with all slots in use, the delay of a frame alone, and what overlaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from nodes.fusion.cuda_device import Cuda
from nodes.fusion.gpu import OnDevice
from nodes.fusion.look import PLAIN, Look
from nodes.fusion.moment import Moment, Source
from pipeline.frame import Frame, layout
from pipeline.stats import percentile

SCENES = 4  # that follow one another, so that nothing is found again in a cache

Span = tuple[float, float]
"""Begin and end, in milliseconds."""


def moments_of(size: tuple[int, int]) -> list[Moment]:
    """Infrared and visible video of a size in (width, height), noise, steadily: one moment after another, in a ring."""
    rng = np.random.default_rng(0)
    shape, dtype = layout("yuv420p", size)
    look = Look(("infrared", "visible"), 0, PLAIN, overlay=False, shift_px=(0, 0))
    made = []
    for number in range(SCENES):
        infrared = Frame(rng.integers(0, 256, size[::-1], np.uint8), "gray8", size, number, "pts", number, "infrared")
        data = rng.integers(16, 236, shape, np.uint8).astype(dtype)
        visible = Frame(data, "yuv420p", size, number, "pts", number, "visible", color_range="limited")
        sources = Source(infrared, None, "full"), Source(visible, None, "limited")
        made.append(Moment(("infrared", "visible"), sources, look, "limited", steadily=True, fresh=False))
    return made


def frames_per_second(on: OnDevice, moments: Sequence[Moment], frames: int) -> float:
    """From host memory to host memory with all slots in use, as the engine does it: begun by one thread, waited for in
    order by another."""

    def collect(later: Callable[[], Any]) -> None:
        later()  # and what came is let go of

    began = time.perf_counter()
    with ThreadPoolExecutor(1) as waiter:
        on_way: list[Future[None]] = []
        for number in range(frames):
            if number >= on.slots:
                on_way[number - on.slots].result()
            on_way.append(waiter.submit(collect, on.begin(moments[number % len(moments)])))
        for each in on_way[-on.slots :]:
            each.result()
    return frames / (time.perf_counter() - began)


def latencies_ms(on: OnDevice, moments: Sequence[Moment], frames: int) -> dict[str, float]:
    """Of frames that come one at a time, from host memory to host memory."""
    times = []
    for number in range(frames):
        began = time.perf_counter()
        on.begin(moments[number % len(moments)])()
        times.append((time.perf_counter() - began) * 1e3)
    return {f"p{share}": percentile(times, share / 100) for share in (50, 99)}


class TimedCuda(Cuda):
    """CUDA with a note of when each piece of work ran. Of use for one lane.

    Attributes:
        noting: notes are taken.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.noting = False
        self._streams: list[torch.cuda.Stream] = []
        self._notes: list[tuple[int, torch.cuda.Event, torch.cuda.Event]] = []

    def stream(self) -> torch.cuda.Stream:
        self._streams.append(super().stream())
        return self._streams[-1]

    def run(self, stream: torch.cuda.Stream, work: Callable[[], None]) -> None:
        if not self.noting:
            return super().run(stream, work)
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record(stream)
        super().run(stream, work)
        ended.record(stream)
        self._notes.append((self._streams.index(stream), began, ended))
        return None

    def spans(self) -> list[list[Span]]:
        """Of uploads, of what is computed and of downloads, since the first; all must be over. Forgets them."""
        notes, self._notes = self._notes, []
        first = notes[0][1]
        found: list[list[Span]] = [[], [], []]
        for place, began, ended in notes:
            found[place].append((first.elapsed_time(began), first.elapsed_time(ended)))
        return found


def overlap(uploads: Sequence[Span], computed: Sequence[Span], downloads: Sequence[Span]) -> dict[str, float]:
    """What the streams do at the same time.

    Returns:
        `transfers_hidden`: share of the time of all transfers in which something was computed, too. `computing`: share
        of the time from the first to the last in which something was.
    """
    transfers, work = merged([*uploads, *downloads]), merged(computed)
    everything = merged([*uploads, *computed, *downloads])
    whole = everything[-1][1] - everything[0][0]
    return {"transfers_hidden": common(transfers, work) / length(transfers), "computing": length(work) / whole}


def merged(spans: Iterable[Span]) -> list[Span]:
    """The time that is in any of them, in order and without overlap."""
    made: list[Span] = []
    for begin, end in sorted(spans):
        if made and begin <= made[-1][1]:
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((begin, end))
    return made


def length(spans: Iterable[Span]) -> float:
    return sum(end - begin for begin, end in spans)


def common(some: Sequence[Span], others: Sequence[Span]) -> float:
    """How long both are."""
    return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in some for b in others)
