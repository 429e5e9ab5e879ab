"""CUDA as the lane sees it, through torch; and a network as a CUDA graph."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models import inference
from nodes.fusion.cuda import LaneFault

log = logging.getLogger("streamfuse")

POLL_S = 0.0002


class Cuda:
    """See `nodes.fusion.cuda.Device`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)

    def event(self) -> torch.cuda.Event:
        return torch.cuda.Event()

    def run(self, stream: torch.cuda.Stream, work: Callable[[], None]) -> None:
        with torch.cuda.stream(stream), torch.inference_mode():
            work()

    def record(self, stream: torch.cuda.Stream, event: torch.cuda.Event) -> None:
        event.record(stream)

    def hold(self, stream: torch.cuda.Stream, event: torch.cuda.Event) -> None:
        stream.wait_event(event)

    def wait(self, event: torch.cuda.Event, patience_s: float) -> bool:
        # Asked again and again, for a wait in the driver has no limit, and a device that hangs would hang us.
        ends_s = time.monotonic() + patience_s
        while not event.query():
            if time.monotonic() > ends_s:
                return False
            time.sleep(POLL_S)
        return True

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def fault(self, error: Exception) -> LaneFault:
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        return LaneFault(text, memory=inference.is_out_of_memory(error))


class Graphed:
    """A function of tensors that always have the same shapes, captured as a CUDA graph and replayed.

    One launch in place of some hundred, which for a small network take longer than its work. What cannot be captured
    is run as it is, with the reason said once.

    Args:
        work: takes tensors and gives some; launches on the current stream, and decides nothing by values.
    """

    def __init__(self, work: Callable[..., tuple[Tensor, ...]]) -> None:
        self._work = work
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._result: tuple[Tensor, ...] | None = None
        self._shapes: tuple[Any, ...] | None = None
        self.why_not: str | None = None

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What it gives, valid until the next call."""
        shapes = tuple((tuple(x.shape), x.dtype) for x in inputs)
        if shapes != self._shapes:
            self._shapes = shapes
            self._capture(inputs)
        if self._graph is None:
            return self._work(*inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        assert self._result is not None
        return self._result

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
        """Warm up as CUDA graphs want it, then record."""
        self._graph = self._result = None
        try:
            self._inputs = tuple(x.clone() for x in inputs)
            for _ in range(2):
                self._work(*self._inputs)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                self._result = self._work(*self._inputs)
            self._graph = graph
        except Exception as error:
            if inference.is_out_of_memory(error):
                raise
            self._graph = self._result = None
            self._inputs = ()
            if self.why_not is None:
                self.why_not = str(error).strip().partition("\n")[0] or type(error).__name__
                log.warning("the network is not run as a CUDA graph: %s", self.why_not)
