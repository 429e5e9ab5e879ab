"""A loaded network on a device: 8-bit luma planes in, one out. Plain torch, for the CPU and for CUDA."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from models import catalog, inference
from models.steady import State, steady
from nodes.fusion import twins
from pipeline.errors import ConfigError, DeviceError
from pipeline.frame import ColorRange

log = logging.getLogger("streamfuse")

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

# Value of black and distance of white from it.
SCALES: dict[ColorRange, tuple[float, float]] = {"full": (0.0, 255.0), "limited": (16.0, 219.0)}


def find_device(wanted: Device) -> torch.device:
    """The device asked for; "auto" is CUDA where there is one.

    Raises:
        DeviceError: CUDA is asked for and not there.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        why = "no driver or no GPU" if torch.version.cuda else "this torch is a build for CPUs only"
        raise DeviceError(f"device 'cuda' is not there: {why}; use device: cpu, or auto")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


class Network:
    """A network with its weights, ready on a device.

    Args:
        model: its name; None for that of the weights, or of the default.
        task: what the shipped weights are for.
        weights: a file instead of the shipped weights.
        device, precision: "auto" for the best this machine has.

    Raises:
        ConfigError: no such model, or weights that cannot be used.
        DeviceError: no such device, or a precision it does not have.
    """

    def __init__(
        self, model: str | None, task: str, weights: Path | None, device: Device, precision: Precision
    ) -> None:
        self.device = find_device(device)
        self.precision = inference.best_precision(self.device) if precision == "auto" else precision
        if self.device.type == "cpu":
            if self.precision == "fp16":
                raise DeviceError("precision 'fp16' is for CUDA; a CPU computes in fp32 or bf16")
            inference.keep_memory()
        try:
            loaded = catalog.load(weights or catalog.shipped(model or catalog.DEFAULT, task), model=model)
        except catalog.ModelError as error:
            raise ConfigError(str(error)) from error
        if weights and (trained := catalog.task_of(weights)) != task:
            log.warning("%s: these weights are for task %r, used for %r", weights, trained, task)
        self.model = catalog.name_of(loaded)
        self.module = inference.prepare(loaded, self.device, self.precision)

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{self.precision} on {name}"

    @torch.inference_mode()
    def warm_up(self, size: tuple[int, int], inputs: int = 2) -> None:
        """Run once for frames of (width, height), so that the first real one does not wait for what is made once."""
        planes = [self.upload(np.zeros((size[1], size[0]), np.uint8), "full") for _ in range(inputs)]
        try:
            fused = self.compute(*planes)
        except ValueError as error:  # a network for two sources has got three
            raise ConfigError(f"model {self.model!r}: {error}") from error
        self.download(fused, "full")

    @torch.inference_mode()
    def fuse(
        self,
        planes: Sequence[np.ndarray],
        ranges: Sequence[ColorRange],
        out: ColorRange,
        state: State | None = None,
        *,
        steadily: bool = False,
    ) -> tuple[np.ndarray, State | None]:
        """(H, W) uint8 planes of the given ranges to a fused (H, W) uint8 plane of range `out`.

        Args:
            planes, ranges: two or more.
            out: the range of the fused plane.
            state: what this returned for the frame before.
            steadily: hold back changes that the sources do not explain.

        Returns:
            The plane and, if steadily, the state for the next frame.
        """
        sources = [self.upload(plane, color_range) for plane, color_range in zip(planes, ranges, strict=True)]
        fused = self.compute(*sources)
        if steadily:
            fused, state = steady(fused.float(), sources, state)
        return self.download(fused, out), state

    @torch.inference_mode()
    def fuse_both_ways(
        self, first: np.ndarray, second: np.ndarray, state: State | None
    ) -> tuple[np.ndarray, np.ndarray, State]:
        """`fuse` of full-range planes steadily and not, the network run once: both pictures, and the next state."""
        sources = [self.upload(plane, "full") for plane in (first, second)]
        fused = self.compute(*sources).float()
        steadied, state = steady(fused, sources, state)
        return self.download(steadied, "full"), self.download(fused, "full"), state

    def fuse_full_range(self, _: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """`fuse` for still images, whose luma is full range, in the form that `models.evaluation` wants."""
        return self.fuse((first, second), ("full", "full"), "full")[0]

    def upload(self, plane: np.ndarray, color_range: ColorRange) -> torch.Tensor:
        """(H, W) uint8 to (1, 1, H, W) float32 on the device, -1..1."""
        black, span = SCALES[color_range]
        # A copy, since torch warns of planes that are read-only; it is small beside what follows.
        values = torch.from_numpy(np.array(plane)).to(self.device).to(torch.float32)
        return values.sub_(black).mul_(2 / span).sub_(1)[None, None]

    def compute(self, *planes: torch.Tensor) -> torch.Tensor:
        """The network itself: (1, 1, H, W) planes to one, all -1..1."""
        try:
            fused: torch.Tensor = self.module(*planes)
        except (RuntimeError, MemoryError) as error:
            if not inference.is_out_of_memory(error):
                raise
            height, width = planes[0].shape[-2:]
            raise DeviceError(
                f"device {self.device.type!r}: not enough memory to fuse frames of {width}x{height}; make them smaller"
            ) from error
        return fused

    def download(self, fused: torch.Tensor, color_range: ColorRange) -> np.ndarray:
        """(1, 1, H, W) in -1..1 to (H, W) uint8, rounded and clipped, never stretched."""
        black, span = SCALES[color_range]
        plane: np.ndarray = twins.finish(fused, black, span, black + span).to("cpu").numpy()
        return plane
