"""Where moments are fused: on the processor, or on a device with the processor to fall back on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from models.steady import State
from nodes.fusion.cuda import SLOTS, Device, LaneFault
from nodes.fusion.cuda_device import Cuda
from nodes.fusion.gpu import OnDevice
from nodes.fusion.moment import Moment, Picture, finished
from nodes.fusion.network import Device as Wanted
from nodes.fusion.network import Network, Precision
from pipeline.errors import DeviceError

log = logging.getLogger("streamfuse")


Step = Literal["whole", "shrink", "shrunk", "none"]
"""How much of the device is in use: all slots; all, and one from now on; one; none."""


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
        self.network = Network(model, task, weights, wanted, precision)
        self.fault: LaneFault | None = None
        """Why it is not on the device, or on less of it."""
        self._processor: OnProcessor | None = None
        self._on_device: OnDevice | None = None
        self._step: Step = "whole"
        if (device := device_for(self.network)) is not None:
            self._on_device = OnDevice(task, self.network, device)
        else:
            self._processor = OnProcessor(task, self.network)

    @property
    def at_once(self) -> int:
        """Moments that may be in work."""
        return 1 if self._on_device is None else SLOTS

    @property
    def where(self) -> str:
        """In words, for who watches."""
        if self.fault is None:
            return str(self.network)
        return f"{'CPU' if self._step == 'none' else 'one frame at a time'}, since the device failed: {self.fault}"

    def begin(self, moment: Moment) -> Picture | Callable[[], Picture]:
        """The picture; or, of a device, what waits for it: to be called in the order of the moments.

        Raises:
            DeviceError: of what waits, too: no device can do it.
        """
        if self._on_device is None:
            assert self._processor is not None
            return self._processor.fuse(moment)
        if self._step == "shrink":
            self._shrink()
        try:
            later = self._on_device.begin(moment)
        except LaneFault as fault:
            later = partial(again, fault)
        return partial(self._finish, moment, later)

    def _shrink(self) -> None:
        """Once, after a lack of memory: one moment at a time. In the thread that launches."""
        self._step = "shrunk"
        device = device_for(self.network)
        assert device is not None
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()
        self._on_device = OnDevice(self.task, self.network, device, slots=1)

    # In the thread that waits:

    def _finish(self, moment: Moment, later: Callable[[], Picture]) -> Picture:
        try:
            return later()
        except LaneFault as fault:
            self._note(fault)
        if self._processor is None:
            self._processor = OnProcessor(
                self.task, Network(self.network.model, self.task, self._weights, "cpu", "auto")
            )
        return self._processor.fuse(moment)

    def _note(self, fault: LaneFault) -> None:
        """Decide what to do about a fault, once for all moments that it hits."""
        if self._insist:
            raise DeviceError(f"device {self.network.device.type!r}: {fault}") from fault
        if fault is self.fault:
            return
        self.fault = fault
        if fault.memory and self._step == "whole":
            self._step = "shrink"
            log.warning("the device has too little memory (%s): one frame at a time", fault)
        else:
            self._step = "none"
            log.warning("the device failed (%s): the CPU goes on", fault)


def device_for(network: Network) -> Device | None:
    """What works beside the processor, if something does."""
    return Cuda(network.device) if network.device.type == "cuda" else None


def again(error: Exception) -> Picture:
    raise error
