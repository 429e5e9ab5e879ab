"""A loaded network on a device: 8-bit luma planes in, one out. Plain torch, for the CPU and for CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from models import catalog, inference
from pipeline.errors import ConfigError, DeviceError
from pipeline.frame import ColorRange

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


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class Network:
    """A network with its weights, ready on a device.

    Args:
        model: its name.
        task: what the shipped weights are for.
        weights: a file instead of the shipped weights.
        device, precision: "auto" for the best this machine has.

    Raises:
        ConfigError: no such model, or weights that cannot be used.
        DeviceError: no such device, or a precision it does not have.
    """

    def __init__(self, model: str, task: str, weights: Path | None, device: Device, precision: Precision) -> None:
        self.device = find_device(device)
        self.precision = inference.best_precision(self.device) if precision == "auto" else precision
        if self.device.type == "cpu":
            if self.precision == "fp16":
                raise DeviceError("precision 'fp16' is for CUDA; a CPU computes in fp32 or bf16")
            inference.keep_memory()
        try:
            loaded = catalog.load(weights or catalog.shipped(model, task), model=model)
        except catalog.ModelError as error:
            raise ConfigError(str(error)) from error
        self.module = inference.prepare(loaded, self.device, self.precision)
        self.dtype = inference.PRECISIONS[self.precision]

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{self.precision} on {name}"

    @torch.inference_mode()
    def warm_up(self, size: tuple[int, int]) -> None:
        """Run once for frames of (width, height), so that the first real one does not wait for what is made once."""
        plane = np.zeros((size[1], size[0]), np.uint8)
        self.download(self.compute(self.upload(plane, "full"), self.upload(plane, "full")), "full")

    @torch.inference_mode()
    def fuse(
        self, first: np.ndarray, second: np.ndarray, ranges: tuple[ColorRange, ColorRange], out: ColorRange
    ) -> np.ndarray:
        """(H, W) uint8 planes of the given ranges to a fused (H, W) uint8 plane of range `out`."""
        return self.download(self.compute(self.upload(first, ranges[0]), self.upload(second, ranges[1])), out)

    def fuse_full_range(self, _: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """`fuse` for still images, whose luma is full range, in the form that `models.evaluation` wants."""
        return self.fuse(first, second, ("full", "full"), "full")

    def upload(self, plane: np.ndarray, color_range: ColorRange) -> torch.Tensor:
        """(H, W) uint8 to (1, 1, H, W) on the device in its precision, -1..1."""
        black, span = SCALES[color_range]
        # A copy, since torch warns of planes that are read-only; it is small beside what follows.
        values = torch.from_numpy(np.array(plane)).to(self.device, torch.float32)
        scaled = values.sub_(black).mul_(2 / span).sub_(1)
        return scaled.to(self.dtype)[None, None].contiguous(memory_format=torch.channels_last)

    def compute(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The network itself: (1, 1, H, W) twice to (1, 1, H, W), all -1..1."""
        try:
            fused: torch.Tensor = self.module(first, second)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = first.shape[-2:]
            raise DeviceError(
                f"device {self.device.type!r}: not enough memory to fuse frames of {width}x{height}; make them smaller"
            ) from error
        return fused

    def download(self, fused: torch.Tensor, color_range: ColorRange) -> np.ndarray:
        """(1, 1, H, W) in -1..1 to (H, W) uint8, rounded and clipped, never stretched."""
        black, span = SCALES[color_range]
        values = fused[0, 0].float().add_(1).mul_(span / 2).add_(black)
        top = 255 if color_range == "full" else black + span
        plane: np.ndarray = values.round_().clamp_(black, top).to("cpu", torch.uint8).numpy()
        return plane
