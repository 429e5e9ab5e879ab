"""The lane: frames on their way over a device that works beside the processor, CUDA first of all.

Three streams, chained by events: while a frame is computed, the next one is uploaded and the one before downloaded.
Each frame has a slot of a ring: pinned memory to copy from and to, and memory on the device. Whoever submits never
waits for the device, only for a slot; whoever waits for a result waits for that one alone. All that is launched is
launched by the thread that submits; nothing here ever waits for the whole device.

The device is behind a few words (`Device`), so that order, back-pressure, changes of shape and faults are tested
without one.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

SLOTS = 3  # one frame in each stream
PATIENCE_S = 20.0  # a device that takes longer for one frame does not answer any more

Form = tuple[tuple[str, tuple[int, ...], str], ...]
"""Name, shape and dtype of each array of a job."""


class LaneFault(Exception):
    """The device failed: out of memory, a fault of a kernel, lost, or it does not answer. The lane is of no use then.

    Args:
        message: why, in words.
        memory: it has too little memory, and might do with less.
    """

    def __init__(self, message: str, *, memory: bool = False) -> None:
        super().__init__(message)
        self.memory = memory

    def fresh(self) -> LaneFault:
        """The same again: one that is raised twice would hold on to all that was at hand both times."""
        return LaneFault(str(self), memory=self.memory)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what went wrong before it and led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Device(Protocol):
    """What the lane needs of a device. Streams and events are the device's own."""

    def stream(self) -> Any:
        """A queue of work, done one piece after another, beside those of other streams."""

    def event(self) -> Any: ...

    def run(self, stream: Any, work: Callable[[], None]) -> None:
        """Put work into a stream; it may fail now or later."""

    def record(self, stream: Any, event: Any) -> None:
        """Mark the place in a stream that it has reached."""

    def hold(self, stream: Any, event: Any) -> None:
        """What is put into a stream from now on waits for an event."""

    def wait(self, event: Any, patience_s: float) -> bool:
        """Wait until an event has happened; False if it did not. Raises what went wrong before it."""

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the host that the device copies from and to by itself."""

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the device."""

    def fault(self, error: Exception) -> LaneFault:
        """What an error of the device means."""


Compute = Callable[[Mapping[str, Tensor], Tensor, dict[str, Any]], None]
"""Works on the arrays of a frame on the device, writes the result there, uint8; with the options of the frame."""


@dataclass
class Slot:
    """The memory of one frame on its way."""

    host: dict[str, Tensor]
    device: dict[str, Tensor]
    made: Tensor
    """The result on the device."""
    result: Tensor
    """And on the host."""
    uploaded: Any
    computed: Any
    downloaded: Any


class Ticket:
    """A frame on its way."""

    def __init__(self, lane: Lane, slot: Slot) -> None:
        self._lane, self._slot = lane, slot

    def wait(self) -> np.ndarray:
        """The result, as soon as it is there: an array of its own. May be called once, from any thread.

        Raises:
            LaneFault: there will be none.
        """
        return self._lane.collect(self._slot)


class Lane:
    """Frames over a device, in order, several at once.

    Args:
        device: to work on.
        compute: called for each frame in the thread that submits; it puts work into the stream that is current.
        slots: frames at once; 1 takes the least memory.
        patience_s: how long one frame may take.
    """

    def __init__(self, device: Device, compute: Compute, *, slots: int = SLOTS, patience_s: float = PATIENCE_S) -> None:
        self._device, self._compute, self._patience_s = device, compute, patience_s
        self._upload, self._work, self._download = (device.stream() for _ in range(3))
        self.slots = slots
        self._free = threading.Semaphore(slots)
        self._ring: list[Slot] = []
        self._on_way: list[Slot] = []
        self._form: tuple[Form, tuple[int, ...]] | None = None
        self._broken: LaneFault | None = None
        self._lock = threading.Lock()

    def submit(self, arrays: Mapping[str, np.ndarray], result: tuple[int, ...], **options: Any) -> Ticket:
        """Send a frame on its way; waits while all slots are taken.

        Args:
            arrays: by name, contiguous or not; copied before this returns.
            result: shape of what comes out, uint8.
            options: for `compute`.

        Raises:
            LaneFault: the device failed, now or before.
        """
        if not self._free.acquire(timeout=self._patience_s):
            raise self._break(LaneFault(f"no frame has come back for {self._patience_s:.0f} s"))
        try:
            self._check()
            slot = self._slot(arrays, result)
            with self._lock:
                self._on_way.append(slot)  # and it stays there if the launch fails: the device may be at work on it
            for name, array in arrays.items():
                np.copyto(slot.host[name].numpy(), array)
            self._launch(slot, options)
        except Exception as error:
            self._free.release()
            raise self._break(error) from error
        return Ticket(self, slot)

    def collect(self, slot: Slot) -> np.ndarray:
        """What a ticket waits for."""
        try:
            if self._broken is not None and not self._broken.memory:
                raise self._broken.fresh()  # what came before a lack of memory is as good as ever
            if not self._device.wait(slot.downloaded, self._patience_s):
                raise LaneFault(f"it has not answered for {self._patience_s:.0f} s")
            result = slot.result.numpy().copy()  # the slot is for the next frame now
        except Exception as error:
            self._free.release()
            raise self._break(error) from error
        with self._lock:
            self._give_back(slot)
        return result

    def drain(self) -> None:
        """Wait until the device has done all that it was given; nothing more may be submitted.

        Raises:
            LaneFault: it does not.
        """
        try:
            for stream in (self._upload, self._work, self._download):
                event = self._device.event()
                self._device.record(stream, event)
                if not self._device.wait(event, self._patience_s):
                    raise LaneFault(f"it has not answered for {self._patience_s:.0f} s")
        except Exception as error:
            raise self._break(error) from error

    def _launch(self, slot: Slot, options: dict[str, Any]) -> None:
        device = self._device

        def upload() -> None:
            for name, host in slot.host.items():
                slot.device[name].copy_(host, non_blocking=True)

        def compute() -> None:
            self._compute(slot.device, slot.made, options)

        def download() -> None:
            slot.result.copy_(slot.made, non_blocking=True)

        device.run(self._upload, upload)
        device.record(self._upload, slot.uploaded)
        device.hold(self._work, slot.uploaded)
        device.run(self._work, compute)
        device.record(self._work, slot.computed)
        device.hold(self._download, slot.computed)
        device.run(self._download, download)
        device.record(self._download, slot.downloaded)

    def _slot(self, arrays: Mapping[str, np.ndarray], result: tuple[int, ...]) -> Slot:
        """A free one; all are made anew when the frames have another shape. Those on their way keep theirs."""
        form = tuple((name, array.shape, array.dtype.str) for name, array in arrays.items())
        with self._lock:
            if self._form != (form, result):
                self._form, self._ring = (form, result), []
            if self._ring:
                return self._ring.pop()
        return self._make_slot(arrays, result)

    def _make_slot(self, arrays: Mapping[str, np.ndarray], result: tuple[int, ...]) -> Slot:
        device = self._device
        kinds = {
            name: (array.shape, torch.from_numpy(np.empty(0, array.dtype)).dtype) for name, array in arrays.items()
        }
        return Slot(
            {name: device.pinned(*kind) for name, kind in kinds.items()},
            {name: device.memory(*kind) for name, kind in kinds.items()},
            device.memory(result, torch.uint8),
            device.pinned(result, torch.uint8),
            *(device.event() for _ in range(3)),
        )

    def _give_back(self, slot: Slot) -> None:
        self._on_way = [other for other in self._on_way if other is not slot]
        form = tuple((name, tuple(t.shape), t.numpy().dtype.str) for name, t in slot.host.items())
        if self._form == (form, tuple(slot.result.shape)):
            self._ring.append(slot)
        self._free.release()

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken.fresh()

    def _break(self, error: Exception) -> LaneFault:
        """From now on the lane is of no use.

        It keeps its memory as long as it is there itself: the device may be at work on it, and after most faults the
        driver takes nothing back.
        """
        fault = error if isinstance(error, LaneFault) else self._device.fault(error)
        if fault.memory:  # what was at hand when it failed is what takes the memory
            for cause in causes(error):
                traceback.clear_frames(cause.__traceback__)
        with self._lock:
            self._broken = self._broken or fault.fresh()  # the first one says why; others are its consequences
            return self._broken.fresh()
