"""Where moments are fused: on the processor, or on a device with the processor to fall back on."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from models.steady import State
from nodes.fusion.cuda import Device, LaneFault
from nodes.fusion.cuda_device import Cuda, in_a_line, lacks_memory
from nodes.fusion.gpu import OnDevice
from nodes.fusion.look import PLAIN, Look
from nodes.fusion.moment import Moment, Picture, Source, finished
from nodes.fusion.network import Device as Wanted
from nodes.fusion.network import Network, Precision
from pipeline.errors import DeviceError
from pipeline.frame import Frame, layout

log = logging.getLogger("streamfuse")


Step = Literal["whole", "shrink", "shrunk", "none"]
"""How much of the device is in use: all slots; all, and one from now on; one; none."""

FEW = (16, 16)  # pixels
WARM = 3  # moments: the second is like all that follow, and the third is recorded

LOST: list[OnDevice] = []
"""What works on devices that failed. It is never let go of: after most faults the driver takes nothing back, and torch
would end the process for it."""


class OnProcessor:
    """Fuses one moment after another."""

    def __init__(self, task: str, network: Network) -> None:
        self.task, self.network = task, network
        self._state: State | None = None

    def fuse(self, moment: Moment) -> Picture:
        state = None if moment.fresh else self._state
        luma, self._state = self.network.fuse(
            moment.lumas, moment.ranges, moment.color_range, state, steadily=moment.steadily
        )
        return finished(self.task, moment, luma)


class Work:
    """Fuses moments, in order.

    A device that fails in mid-run is no reason to stop: with too little memory it is tried again with one moment at a
    time; after any other fault the processor goes on. Moments that were on their way are fused again there. Only where
    that device and no other was asked for, and frames must not be late, it is an error.

    Args:
        task, model, weights, wanted, precision: as in the node.
        insist: a fault of the device ends the run.

    Raises:
        ConfigError, DeviceError: as `Network`.
    """

    def __init__(
        self, task: str, model: str | None, weights: Path | None, wanted: Wanted, precision: Precision, *, insist: bool
    ) -> None:
        self.task, self._weights, self._insist = task, weights, insist
        self.network = network_for(model, task, weights, wanted, precision)
        self.fault: LaneFault | None = None
        """Why it is not on the device, or on less of it."""
        self._processor: OnProcessor | None = None
        self._on_device: OnDevice | None = None
        self._step: Step = "whole"
        self._beginning, self._faulty = 0, -1  # how often the device was begun anew, and of these the last that failed
        if (device := device_for(self.network)) is not None:
            self._on_device = OnDevice(task, self.network, device)
        else:
            self._processor = OnProcessor(task, self.network)

    @property
    def at_once(self) -> int:
        """Moments that may be in work now."""
        return 1 if self._on_device is None else self._on_device.slots

    @property
    def where(self) -> str:
        """In words, for who watches."""
        if self.fault is None:
            return str(self.network)
        return f"{'CPU' if self._step == 'none' else 'one frame at a time'}, since the device failed: {self.fault}"

    def warm_up(self, size: tuple[int, int], names: tuple[str, ...]) -> None:
        """Fuse moments of nothing, so that the first real one does not wait for what is made once.

        Args:
            size: (width, height) of the frames to expect.
            names: of the sources, in the order of the task.

        Raises:
            ConfigError: the network is not for so many sources.
            DeviceError: as `begin`.
        """
        # On a device a few pixels say whether it is for so many sources; how it does with more is told below.
        self.network.warm_up(size if self._on_device is None else FEW, len(names))
        if self._on_device is not None:
            for number in range(WARM):
                picture = self.begin(nothing(size, names, fresh=number == 0))
                assert callable(picture)
                picture()

    def begin(self, moment: Moment) -> Picture | Callable[[], Picture]:
        """The picture; or, of a device, what waits for it: to be called in the order of the moments.

        Raises:
            DeviceError: of what waits, too: no device can do it.
        """
        if self._on_device is None and self.fault is None:
            return self._on_processor(moment)
        if self._step == "shrink":
            self._shrink()
        if self._step == "none":
            self._let_go()
        if self._on_device is None:
            return partial(self._on_processor, moment)  # in its turn: others may still be on their way
        try:
            later = self._on_device.begin(moment)
        except LaneFault as fault:
            later = partial(again, fault.fresh())
        return partial(self._finish, moment, later, self._beginning)

    def _shrink(self) -> None:
        """Once, after a lack of memory: one moment at a time. In the thread that launches."""
        self._let_go()
        device = device_for(self.network)
        assert device is not None
        self._step, self._beginning = "shrunk", self._beginning + 1
        self._on_device = OnDevice(self.task, self.network, device, slots=1)

    def _let_go(self) -> None:
        """Of what works on the device; and of its memory, where that can be."""
        before, self._on_device = self._on_device, None
        if before is None or before in LOST:
            return
        try:
            before.close()
        except LaneFault:
            LOST.append(before)
            return
        gc.collect()
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()

    # In the thread that waits:

    def _finish(self, moment: Moment, later: Callable[[], Picture], beginning: int) -> Picture:
        try:
            return later()
        except LaneFault as fault:
            self._note(fault, beginning)
        return self._on_processor(moment)

    def _on_processor(self, moment: Moment) -> Picture:
        if self._processor is None:
            self._processor = OnProcessor(
                self.task, Network(self.network.model, self.task, self._weights, "cpu", "auto")
            )
        return self._processor.fuse(moment)

    def _note(self, fault: LaneFault, beginning: int) -> None:
        """Decide what to do about a fault, once for all moments that it hits."""
        if not fault.memory and self._on_device is not None and self._on_device not in LOST:
            LOST.append(self._on_device)
        if self._insist:
            raise DeviceError(f"device {self.network.device.type!r}: {fault}") from fault
        if beginning <= self._faulty:
            return
        self._faulty = beginning
        self.fault = fault.fresh()
        if fault.memory and self._step == "whole":
            self._step = "shrink"
            log.warning("the device has too little memory (%s): one frame at a time", self.fault)
        else:
            self._step = "none"
            log.warning("the device failed (%s): the CPU goes on", self.fault)


def network_for(model: str | None, task: str, weights: Path | None, wanted: Wanted, precision: Precision) -> Network:
    """As `Network`; on the processor, if any device will do and there is one without room for it."""
    try:
        return Network(model, task, weights, wanted, precision)
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        if wanted != "auto":
            raise DeviceError(f"device {wanted!r} has no room for the network: {in_a_line(error)}") from error
        log.warning("the device has no room for the network (%s): the CPU does it", in_a_line(error))
    return Network(model, task, weights, "cpu", "auto")


def nothing(size: tuple[int, int], names: tuple[str, ...], *, fresh: bool) -> Moment:
    """A dark moment."""
    shape, dtype = layout("yuv420p", size)
    colour = Frame(np.full(shape, 16, dtype), "yuv420p", size, 0, "arrival", 0, "", color_range="limited")
    grey = Frame(np.zeros(size[::-1], np.uint8), "gray8", size, 0, "arrival", 0, "")
    sources = [Source(grey, None, "full")] * (len(names) - 1) + [Source(colour, None, "limited")]
    look = Look((names[0], names[-1]), 0, PLAIN, overlay=False, shift_px=(0, 0))
    return Moment(names, tuple(sources), look, "limited", steadily=True, fresh=fresh)


def device_for(network: Network) -> Device | None:
    """What works beside the processor, if something does."""
    return Cuda(network.device) if network.device.type == "cuda" else None


def again(error: Exception) -> Picture:
    raise error
