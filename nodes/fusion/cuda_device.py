"""CUDA as the lane sees it, through torch; and work on tensors as a CUDA graph."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Protocol

import torch
from torch import Tensor

from models import inference
from nodes.fusion.cuda import LaneFault, causes

log = logging.getLogger("streamfuse")

POLL_S = 0.0002
# How libraries on CUDA say that memory is short, beside torch itself. Pinned memory of the host is meant, too.
SHORT_OF_MEMORY = ("out of memory", "cudaErrorMemoryAllocation", "STATUS_ALLOC_FAILED")

Tensors = tuple[Tensor, ...]


class Cuda:
    """See `nodes.fusion.cuda.Device`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The frames of a video are all of one shape: trying once which convolutions are the fastest pays.
        torch.backends.cudnn.benchmark = True

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
        # torch counts it to the stream that is current now, and knows nothing of those it is used on: the lane lets go
        # of it only when these have done with it.
        return torch.empty(shape, dtype=dtype, device=self.device)

    def fault(self, error: Exception) -> LaneFault:
        return LaneFault(in_a_line(error), memory=lacks_memory(error))


def lacks_memory(error: Exception) -> bool:
    """Whether it, or what led to it, is a lack of memory."""
    return any(
        isinstance(cause, Exception)
        and (inference.is_out_of_memory(cause) or any(words in str(cause) for words in SHORT_OF_MEMORY))
        for cause in causes(error)
    )


def in_a_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class Recording(Protocol):
    """Work that can be done again as it was: with the values that lie in the same memory then."""

    result: Tensors

    def replay(self) -> None: ...

    def close(self) -> None:
        """Let go of its memory."""


class CudaRecording:
    """Work as a CUDA graph of the current stream. Its result is written anew by each replay.

    Args:
        work: launches on the current stream, and decides nothing by values.
    """

    one_at_a_time = threading.Lock()
    """Before it records, torch waits for the whole device, which CUDA forbids while another thread is recording."""
    failed: list[torch.cuda.CUDAGraph] = []  # noqa: RUF012 (shared on purpose)
    """torch's memory may still ask those that were not finished what belongs to them."""

    def __init__(self, work: Callable[[], Tensors]) -> None:
        self._graph, self._stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        # What other threads do meanwhile is no concern of ours; by default, if one asked for an event, it would fail.
        graph = torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local")
        try:
            with self.one_at_a_time, graph:
                self.result = work()
        except BaseException:
            self.failed.append(self._graph)
            raise

    def replay(self) -> None:
        self._graph.replay()

    def close(self) -> None:
        self._stream.synchronize()  # its memory is given to others next
        self.result = ()
        self._graph.reset()


class Graphed:
    """Work on tensors, recorded when the same comes for the second time, and replayed from then on.

    One launch in place of some hundred, which for a small network may take longer than its work. What comes once, as
    pictures of a folder may, is not recorded; what cannot be is done as it is, with the reason said once.

    Args:
        work: takes what is asked for and tensors, and gives some; launches on the current stream, and decides by what
            is asked for and by the shapes of the tensors alone.
        record: makes a recording.
    """

    def __init__(
        self, work: Callable[..., Tensors], record: Callable[[Callable[[], Tensors]], Recording] = CudaRecording
    ) -> None:
        self._work, self._record = work, record
        self._asked: Hashable = None
        self._tried = False
        self._inputs: Tensors = ()
        self._recording: Recording | None = None
        self.recorded = 0
        """How many times."""
        self.why_not: str | None = None

    @property
    def recording(self) -> Recording | None:
        """What is replayed now."""
        return self._recording

    def __call__(self, asked: Hashable, *inputs: Tensor) -> Tensors:
        """What comes of it, valid until the next call."""
        key = asked, tuple((tuple(x.shape), x.dtype) for x in inputs)
        if key != self._asked:
            self.close()
            self._asked = key
            return self._work(asked, *inputs)  # makes ready what a recording must find: algorithms, modules, handles
        if not self._tried:
            self._tried = True
            self._try(asked, inputs)
        if self._recording is None:
            return self._work(asked, *inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._recording.replay()
        return self._recording.result

    def close(self) -> None:
        """Let go of the recording and its memory."""
        if self._recording is not None:
            self._recording.close()
        self._recording, self._asked, self._tried, self._inputs = None, None, False, ()

    def _try(self, asked: Hashable, inputs: Tensors) -> None:
        try:
            self._inputs = tuple(torch.empty_like(x) for x in inputs)
            self._recording = self._record(lambda: self._work(asked, *self._inputs))
            self.recorded += 1
        except Exception as error:
            self._inputs = ()
            if lacks_memory(error):
                raise
            if self.why_not is None:
                self.why_not = in_a_line(list(causes(error))[-1])  # the end of a failed recording hides why it failed
                log.warning("the fusion is not run as a CUDA graph: %s", self.why_not)
