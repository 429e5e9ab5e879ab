"""A device that is not there: its streams are threads, its faults are made to order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models import inference
from nodes.fusion.cuda import LaneFault


class Stream:
    """A thread that does one piece of work after another. While its `gate` is shut, it does nothing."""

    def __init__(self, number: int) -> None:
        self.number, self.gate = number, threading.Event()
        self.gate.set()
        self.work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._live, name=f"stream {number}", daemon=True).start()

    def _live(self) -> None:
        while True:
            work = self.work.get()
            self.gate.wait(60)
            work()


class Event:
    def __init__(self) -> None:
        self.happened = threading.Event()


class FakeDevice:
    """See `nodes.fusion.cuda.Device`.

    Attributes:
        streams: upload, compute and download, of the first lane on it.
        log: (stream, "begin" or "end", number of the piece of work) as they happened.
        fails: called with the number of the stream before each piece of work; raises what shall go wrong.
        most_bytes: memory that it has; more raises what torch does.
    """

    def __init__(self, most_bytes: float = float("inf")) -> None:
        self.streams: list[Stream] = []
        self.log: list[tuple[int, str, int]] = []
        self.fails: Callable[[int], None] = lambda stream: None
        self.most_bytes, self.bytes = most_bytes, 0
        self.broken: Exception | None = None
        self._counts: dict[int, int] = {}

    def stream(self) -> Stream:
        self.streams.append(Stream(len(self.streams) % 3))
        return self.streams[-1]

    def event(self) -> Event:
        return Event()

    def run(self, stream: Stream, work: Callable[[], None]) -> None:
        number = self._counts[stream.number] = self._counts.get(stream.number, -1) + 1

        def logged() -> None:
            self.log.append((stream.number, "begin", number))
            try:
                if self.broken is None:
                    self.fails(stream.number)
                    with torch.inference_mode():
                        work()
            except Exception as error:  # as CUDA does: told at the next wait
                self.broken = error
            self.log.append((stream.number, "end", number))

        stream.work.put(logged)

    def record(self, stream: Stream, event: Event) -> None:
        happened = event.happened = threading.Event()
        stream.work.put(happened.set)

    def hold(self, stream: Stream, event: Event) -> None:
        happened = event.happened
        stream.work.put(lambda: void(happened.wait(60)))

    def wait(self, event: Event, patience_s: float) -> bool:
        happened = event.happened.wait(patience_s)
        if self.broken is not None:
            raise self.broken
        return happened

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype)

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        made = torch.empty(shape, dtype=dtype)
        self.bytes += made.nbytes
        if self.bytes > self.most_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return made

    def fault(self, error: Exception) -> LaneFault:
        return LaneFault(str(error), memory=inference.is_out_of_memory(error))


def void(_: Any) -> None:
    """For what gives something."""
