"""fusion.fuse: two streams of one scene become one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field

from models import inference
from models.catalog import MODELS
from nodes.fusion.network import Device, Network, Precision
from nodes.fusion.thermal import LinearGain
from nodes.tasks import INPUTS
from pipeline.errors import ConfigError, SourceError, did_you_mean
from pipeline.frame import ColorRange, Frame, Fusion
from pipeline.node import Node

log = logging.getLogger("streamfuse")


class Fuse(Node):
    """Fuse the luma of two streams with a network; chroma is kept from the stream that has the colour.

    Every input may be gray8, gray16 (brought to 8 bits by a slow automatic gain), yuv420p or bgr24, of any size: the
    first is brought to the size of the second (infrared to that of the visible frame).

    Args:
        task: "infrared" (inputs infrared, visible), "exposure" (under, over), "focus" (near, far), "medical" (mri,
            other).
        model: name of the network.
        weights: a safetensors file instead of the weights that come with the project.
        device: "auto" takes CUDA where it is, else the CPU.
        precision: "auto" takes bf16 where the device has instructions for it, else fp32.
        reference: the input whose every frame becomes a fused one; default the second.
        max_skew_ms: frames further apart in time are not fused; default half the reference's frame interval.
    """

    def __init__(
        self,
        task: Literal["infrared", "exposure", "focus", "medical"] = "infrared",
        model: str = "cadnif",
        weights: Path | None = None,
        device: Device = "auto",
        precision: Precision = "auto",
        reference: str | None = None,
        max_skew_ms: Annotated[float, Field(ge=0)] | None = None,
    ) -> None:
        self.task, self.model, self.weights = task, model, weights
        self.device, self.precision = device, precision
        self.first, self.second = INPUTS[task]
        if model not in MODELS:
            raise ConfigError(f"setting 'model' is {model!r}.{did_you_mean(model, MODELS)}")
        if reference not in (None, *INPUTS[task]):
            raise ConfigError(f"setting 'reference' is {reference!r}.{did_you_mean(str(reference), INPUTS[task])}")
        self.reference, self.max_skew_ms = reference or self.second, max_skew_ms
        if device != "cuda":
            inference.keep_memory()  # now: threads that have begun already would keep to heaps of their own
        self._gains = {name: LinearGain() for name in INPUTS[task]}
        self._network: Network | None = None
        self._told: set[str] = set()
        self._sequence = 0

    def inputs(self) -> tuple[str, ...]:
        return self.first, self.second

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        self._network = Network(self.model, self.task, self.weights, self.device, self.precision)
        log.info("%s: %s for %s in %s", self.name, self.model, self.task, self._network)
        self.size = sizes.get(self.second)
        self._network.warm_up(self.size or (640, 480))

    def process(self, **frames: Frame) -> Frame:
        assert self._network is not None
        first, second, reference = frames[self.first], frames[self.second], frames[self.reference or self.second]
        self._check_names(first, second)
        planes = [self._luma(name, frames[name]) for name in (self.first, self.second)]
        height, width = planes[1][0].shape
        planes[0] = self._resized(planes[0][0], width, height), planes[0][1]
        out_range: ColorRange = second.color_range if second.pixel_format == "yuv420p" else "full"
        luma = self._network.fuse(planes[0][0], planes[1][0], (planes[0][1], planes[1][1]), out_range)
        data, pixel_format = with_chroma(luma, second)
        skews = [abs(frame.timestamp_ns - reference.timestamp_ns) for frame in (first, second)]
        times = {name: frame.timestamp_ns for name, frame in frames.items()}
        self._sequence += 1
        return Frame(
            data=data,
            pixel_format=pixel_format,
            size=(width, height),
            timestamp_ns=reference.timestamp_ns,
            timestamp_source=reference.timestamp_source,
            sequence=self._sequence - 1,
            stream=self.name,
            color_range=out_range,
            color_matrix=second.color_matrix,
            frame_rate=reference.frame_rate,
            name=second.name,
            fusion=Fusion("fused", max(skews), times),
        )

    def close(self) -> None:
        self._network = None

    def report(self) -> dict[str, Any]:
        return {"model": self.model, "task": self.task}

    def _check_names(self, first: Frame, second: Frame) -> None:
        """Frames of two folders belong together by name; a missing file must not shift all that follow."""
        if first.name != second.name and first.name is not None and second.name is not None:
            raise SourceError(
                f"{self.name}: the folders do not pair: image {first.sequence + 1} is {first.name!r} for {self.first} "
                f"and {second.name!r} for {self.second}; both folders need the same names"
            )

    def _luma(self, name: str, frame: Frame) -> tuple[np.ndarray, ColorRange]:
        """Luma as (H, W) uint8 and its range."""
        if frame.pixel_format == "gray16":
            if name not in self._told:
                self._told.add(name)
                log.info("%s: %s has 16 bits; an automatic gain that follows slowly brings it to 8", self.name, name)
            return self._gains[name](frame.data), "full"
        if frame.pixel_format == "bgr24":
            return cv2.cvtColor(frame.data, cv2.COLOR_BGR2YCrCb)[:, :, 0], "full"
        return frame.planes[0], frame.color_range

    def _resized(self, plane: np.ndarray, width: int, height: int) -> np.ndarray:
        if plane.shape == (height, width):
            return plane
        rows, columns = plane.shape
        if abs(columns * height / (rows * width) - 1) > 0.02 and "shape" not in self._told:
            self._told.add("shape")
            log.warning(
                "%s: %s is %dx%d and %s %dx%d, of another shape: it is stretched, and will not lie right unless both "
                "see the same field",
                *(self.name, self.first, columns, rows, self.second, width, height),
            )
        shrinks = width < columns or height < rows
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized: np.ndarray = cv2.resize(plane, (width, height), interpolation=how)
        return resized


def with_chroma(luma: np.ndarray, colour: Frame) -> tuple[np.ndarray, Any]:
    """Fused (H, W) uint8 luma with the chroma of a frame of the same size: a frame's data and its pixel format."""
    if colour.pixel_format == "yuv420p":
        _, u, v = colour.planes
        return np.concatenate([luma.reshape(-1), u.reshape(-1), v.reshape(-1)]), "yuv420p"
    if colour.pixel_format == "bgr24":
        ycrcb = cv2.cvtColor(colour.data, cv2.COLOR_BGR2YCrCb)
        ycrcb[:, :, 0] = luma
        return cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2BGR), "bgr24"
    return luma, "gray8"
