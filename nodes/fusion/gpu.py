"""The fusion on a device: what `fusion.fuse` hands to the lane, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.steady import State, steady
from nodes.fusion import kernels
from nodes.fusion.chroma import ramp
from nodes.fusion.cuda import SLOTS, Device, Lane
from nodes.fusion.cuda_device import Graphed
from nodes.fusion.moment import Moment, Picture, finished, looks_of
from nodes.fusion.network import SCALES, Network


class OnDevice:
    """Fuses moments on a device, several at once, in order.

    Sixteen bits, gains, resizing and shifts are the device's work, and so is the colour of infrared and visible video;
    the colour of other tasks, blends and palettes are added on the processor when the luma is back.

    Args:
        task: of the fusion.
        network: on the device.
        device: as the lane sees it.
        slots: moments at once.
    """

    def __init__(self, task: str, network: Network, device: Device, slots: int = SLOTS) -> None:
        self.task, self.slots = task, slots
        self._network = network
        self._lane = Lane(device, self._compute, slots=slots)
        self._dtype = torch.float32 if network.precision == "fp32" else torch.float16  # bf16 has 8 bits of a grey level
        run: Callable[..., Any] = Graphed if network.device.type == "cuda" else partial
        self._alone, self._onward = run(self._fuse), run(self._fuse_on)
        self._state: State | None = None
        self._ramps: dict[float, Tensor] = {}

    def begin(self, moment: Moment) -> Callable[[], Picture]:
        """Send a moment on its way; the function that comes back waits for its picture.

        Raises:
            LaneFault: the device failed; of the function, too.
        """
        calm = self._calms(moment)
        arrays = arrays_of(moment, calm)
        shape = moment.frames[-1].data.shape if calm else moment.shape
        ticket = self._lane.submit(arrays, shape, moment=moment, calm=calm)

        def later() -> Picture:
            made = ticket.wait()
            return (made, looks_of(moment, "yuv420p")) if calm else finished(self.task, moment, made)

        return later

    def _calms(self, moment: Moment) -> bool:
        """Whether the colour is the device's work."""
        height, width = moment.shape
        plain = not (moment.look.blend or moment.look.overlay) and not (height % 2 or width % 2)
        return self.task == "infrared" and plain and moment.frames[-1].pixel_format == "yuv420p"

    # Launched in the thread that submits, run by the device:

    def _compute(self, arrays: Mapping[str, Tensor], out: Tensor, options: dict[str, Any]) -> None:
        moment: Moment = options["moment"]
        height, width = moment.shape
        planes = []
        for place, source in enumerate(moment.sources):
            counts = arrays.get(f"counts{place}")
            if counts is None:
                counts = arrays["frame"][: height * width].view(height, width)
            plane = torch.empty((1, 1, height, width), dtype=self._dtype, device=counts.device)
            table, warp = arrays.get(f"table{place}"), arrays.get(f"warp{place}")
            kernels.prepare(counts, table, warp, plane, *SCALES[source.color_range])
            planes.append(plane)
        fused = self._steadily(planes, moment)
        black, span = SCALES[moment.color_range]
        levels = black, span, black + span
        if options["calm"]:
            kernels.finish_calmed(fused, arrays["frame"], self._ramp(black, fused.device), out, *levels)
        else:
            kernels.finish(fused, out, *levels)

    def _steadily(self, planes: list[Tensor], moment: Moment) -> Tensor:
        if not moment.steadily:
            self._state = None
            fused: Tensor = self._alone(*planes)[0]
            return fused
        state = None if moment.fresh else self._state
        coarse = tuple(-(-side // 2) for side in moment.shape)
        if state is None or state.fused.shape[-2:] != coarse or len(state.sources) != len(planes):
            made = self._fuse_on(*planes)
        else:
            made = self._onward(*planes, *state.sources, state.fused)
        self._state = State(tuple(made[1:-1]), made[-1])
        return made[0]

    def _fuse(self, *planes: Tensor) -> tuple[Tensor, ...]:
        return (self._network.compute(*planes).float(),)

    def _fuse_on(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """N planes, and of the moment before their cells and those of the fused one, or only the planes, to the fused
        plane and what the next moment wants."""
        count = len(tensors) if len(tensors) <= 3 else len(tensors) // 2  # at most three sources
        planes, before = tensors[:count], tensors[count:]
        state = State(before[:-1], before[-1]) if before else None
        fused, after = steady(self._fuse(*planes)[0], [plane.float() for plane in planes], state)
        return fused, *after.sources, after.fused

    def _ramp(self, black: float, device: torch.device) -> Tensor:
        if black not in self._ramps:
            self._ramps[black] = torch.from_numpy(ramp(black)).to(device)
        return self._ramps[black]


def arrays_of(moment: Moment, calm: bool) -> dict[str, np.ndarray]:
    """What goes to the device. `calm`: the last frame goes with its chroma, and its luma is not sent twice."""
    arrays: dict[str, np.ndarray] = {}
    for place, source in enumerate(moment.sources):
        if source.shrinks(moment.shape):
            arrays[f"counts{place}"] = source.luma(moment.shape)
            continue
        if calm and place == len(moment.sources) - 1:
            arrays["frame"] = source.frame.data
        else:
            arrays[f"counts{place}"] = source.counts
        if source.table is not None:
            arrays[f"table{place}"] = source.table
        if (warp := source.warp(moment.shape)) is not None:
            arrays[f"warp{place}"] = warp
    return arrays
