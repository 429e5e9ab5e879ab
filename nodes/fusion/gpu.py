"""The fusion on a device: what `fusion.fuse` hands to the lane, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from pipeline.frame import ColorRange


@dataclass(frozen=True)
class Plan:
    """All about a moment that its arrays do not say: what the device does goes by this and by their shapes alone."""

    arrays: tuple[str, ...]
    """Their names."""
    shape: tuple[int, int]
    """(H, W) of the fused picture."""
    result: tuple[int, ...]
    """Shape of what comes back."""
    ranges: tuple[ColorRange, ...]
    """Of the sources."""
    color_range: ColorRange
    calm: bool
    """The colour is the device's work."""
    steadily: bool
    onward: bool = False
    """What the moment before looked like comes after the arrays."""


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
        self.graphed = Graphed(self._make) if network.device.type == "cuda" else None
        """Where there are graphs."""
        self._state: State | None = None
        self._ramps: dict[float, Tensor] = {}

    def begin(self, moment: Moment) -> Callable[[], Picture]:
        """Send a moment on its way; the function that comes back waits for its picture.

        Raises:
            LaneFault: the device failed; of the function, too.
        """
        calm = self._calms(moment)
        arrays = arrays_of(moment, calm)
        plan = plan_of(moment, calm, tuple(arrays))
        ticket = self._lane.submit(arrays, plan.result, plan=plan, fresh=moment.fresh)

        def later() -> Picture:
            made = ticket.wait()
            return (made, looks_of(moment, "yuv420p")) if calm else finished(self.task, moment, made)

        return later

    def close(self) -> None:
        """Let go of the memory that is not part of moments on their way; nothing more may begin.

        Raises:
            LaneFault: the device does not come to an end with what it has.
        """
        self._lane.drain()
        if self.graphed is not None:
            self.graphed.close()
        self._state = None
        self._ramps.clear()

    def _calms(self, moment: Moment) -> bool:
        """Whether the colour is the device's work."""
        height, width = moment.shape
        plain = not (moment.look.blend or moment.look.overlay) and not (height % 2 or width % 2)
        return self.task == "infrared" and plain and moment.frames[-1].pixel_format == "yuv420p"

    # Launched in the thread that submits, run by the device:

    def _compute(self, arrays: Mapping[str, Tensor], out: Tensor, options: dict[str, Any]) -> None:
        plan, state = options["plan"], None
        if plan.steadily and not options["fresh"]:
            state = self._fitting(plan)
        before = (*state.sources, state.fused) if state is not None else ()
        # The first moment of some is not like those that follow: it is not worth a recording, nor the one there is.
        do = self._make if self.graphed is None or (plan.steadily and not before) else self.graphed
        result, *after = do(replace(plan, onward=bool(before)), *arrays.values(), *before)
        out.copy_(result)
        self._state = State(tuple(after[:-1]), after[-1]) if plan.steadily else None

    def _fitting(self, plan: Plan) -> State | None:
        """What the moment before looked like, if it can be compared."""
        coarse = tuple(-(-side // 2) for side in plan.shape)
        state = self._state
        fits = state is not None and state.fused.shape[-2:] == coarse and len(state.sources) == len(plan.ranges)
        return state if fits else None

    def _make(self, plan: Plan, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The result, and if steadily what the next moment wants."""
        arrays = dict(zip(plan.arrays, tensors, strict=False))
        before = tensors[len(arrays) :]
        planes = [self._plane(plan, arrays, place) for place in range(len(plan.ranges))]
        fused: Tensor = self._network.module(*planes).float()
        after: tuple[Tensor, ...] = ()
        if plan.steadily:
            state = State(before[:-1], before[-1]) if plan.onward else None
            fused, now = steady(fused, [plane.float() for plane in planes], state)
            after = (*now.sources, now.fused)
        out = torch.empty(plan.result, dtype=torch.uint8, device=fused.device)
        black, span = SCALES[plan.color_range]
        levels = black, span, black + span
        if plan.calm:
            kernels.finish_calmed(fused, arrays["frame"], self._ramp(black, fused.device), out, *levels)
        else:
            kernels.finish(fused, out, *levels)
        return out, *after

    def _plane(self, plan: Plan, arrays: Mapping[str, Tensor], place: int) -> Tensor:
        """(1, 1, H, W) of a source, as the network takes it."""
        height, width = plan.shape
        counts = arrays.get(f"counts{place}")
        if counts is None:
            counts = arrays["frame"][: height * width].view(height, width)
        plane = torch.empty((1, 1, height, width), dtype=self._dtype, device=counts.device)
        table, warp = arrays.get(f"table{place}"), arrays.get(f"warp{place}")
        kernels.prepare(counts, table, warp, plane, *SCALES[plan.ranges[place]])
        return plane

    def _ramp(self, black: float, device: torch.device) -> Tensor:
        if black not in self._ramps:
            self._ramps[black] = torch.from_numpy(ramp(black)).to(device)
        return self._ramps[black]


def plan_of(moment: Moment, calm: bool, arrays: tuple[str, ...]) -> Plan:
    result = moment.frames[-1].data.shape if calm else moment.shape
    return Plan(arrays, moment.shape, result, tuple(moment.ranges), moment.color_range, calm, moment.steadily)


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
