"""fusion.fuse: two or more streams of one scene become one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from models import inference
from models.catalog import MODELS
from models.steady import State
from nodes.fusion.chroma import fused_range, with_chroma
from nodes.fusion.network import Device, Network, Precision
from nodes.fusion.planes import luma_of, luma_range, resized
from nodes.fusion.thermal import LinearGain
from nodes.tasks import BRACKET, INPUTS
from pipeline.errors import ConfigError, SourceError, did_you_mean
from pipeline.frame import ColorRange, Frame, Fusion
from pipeline.node import Node

log = logging.getLogger("streamfuse")

COLOURED = ("yuv420p", "bgr24")


class Fuse(Node):
    """Fuse the luma of streams with a network, and their chroma as the task wants it.

    Every input may be gray8, gray16 (brought to 8 bits by a slow automatic gain), yuv420p or bgr24, of any size: all
    are brought to the size of the last (infrared to that of the visible frame).

    Args:
        task: "infrared" (inputs infrared, visible), "exposure" (under, over), "focus" (near, far), "medical" (mri,
            other).
        exposures: of task exposure: 3 for inputs under, middle and over.
        model: name of the network: "realtime" for video, or "cadnif", the paper's, some forty times as slow; default
            that of `weights` if given, else realtime.
        weights: a safetensors file instead of the weights that come with the project.
        device: "auto" takes CUDA where it is, else the CPU.
        precision: "auto" takes bf16 where the device has instructions for it, else fp32.
        reference: the input whose every frame becomes a fused one; default the last.
        max_skew_ms: frames further apart in time are not fused; default half the reference's frame interval.
        steady: hold back changes from frame to frame that the sources do not explain; default: in videos. Images of
            a folder may be stills, each for itself.
    """

    def __init__(
        self,
        task: Literal["infrared", "exposure", "focus", "medical"] = "infrared",
        exposures: Literal[2, 3] = 2,
        model: str | None = None,
        weights: Path | None = None,
        device: Device = "auto",
        precision: Precision = "auto",
        reference: str | None = None,
        max_skew_ms: Annotated[float, Field(ge=0)] | None = None,
        steady: bool | None = None,
    ) -> None:
        self.task, self.model, self.weights = task, model, weights
        self.device, self.precision, self.steady = device, precision, steady
        if exposures != 2 and task != "exposure":
            raise ConfigError(f"setting 'exposures' is {exposures} with task {task!r}: it is for task 'exposure' alone")
        self.sources = BRACKET if exposures == 3 else INPUTS[task]
        if model not in (None, *MODELS):
            raise ConfigError(f"setting 'model' is {model!r}.{did_you_mean(str(model), MODELS)}")
        if reference not in (None, *self.sources):
            raise ConfigError(f"setting 'reference' is {reference!r}.{did_you_mean(str(reference), self.sources)}")
        self.reference, self.max_skew_ms = reference or self.sources[-1], max_skew_ms
        if device != "cuda":
            inference.keep_memory()  # now: threads that have begun already would keep to heaps of their own
        self._gains = {name: LinearGain() for name in self.sources}
        self._network: Network | None = None
        self._state: State | None = None
        self._told: set[str] = set()
        self._sequence = 0

    def inputs(self) -> tuple[str, ...]:
        return self.sources

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        self._network = Network(self.model, self.task, self.weights, self.device, self.precision)
        self.model = self._network.model
        log.info("%s: %s for %s in %s", self.name, self.model, self.task, self._network)
        self.size = sizes.get(self.sources[-1])
        self._network.warm_up(self.size or (640, 480), len(self.sources))

    def process(self, **frames: Frame) -> Frame:
        ordered = [frames[name] for name in self.sources]
        self._check_names(ordered)
        last, reference = ordered[-1], frames[self.reference or self.sources[-1]]
        self._check_colour(ordered)
        lumas, ranges = self._lumas(frames)
        height, width = lumas[-1].shape
        out_range = fused_range(last)
        luma = self._fused(lumas, ranges, out_range, still=last.name is not None)
        data, pixel_format = with_chroma(self.task, ordered, lumas, luma)
        skews = [abs(frame.timestamp_ns - reference.timestamp_ns) for frame in ordered]
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
            color_range="full" if pixel_format == "bgr24" else out_range,
            color_matrix=next((f for f in ordered[::-1] if f.pixel_format in COLOURED), last).color_matrix,
            frame_rate=reference.frame_rate,
            name=last.name,
            fusion=Fusion("fused", max(skews), times),
        )

    def close(self) -> None:
        self._network = self._state = None

    def report(self) -> dict[str, Any]:
        return {"model": self.model, "task": self.task}

    def _check_names(self, frames: list[Frame]) -> None:
        """Frames of folders belong together by name; a missing file must not shift all that follow."""
        last = frames[-1]
        for source, frame in zip(self.sources, frames, strict=True):
            if frame.name != last.name and frame.name is not None and last.name is not None:
                raise SourceError(
                    f"{self.name}: the folders do not pair: image {frame.sequence + 1} is {frame.name!r} for {source} "
                    f"and {last.name!r} for {self.sources[-1]}; all folders need the same names"
                )

    def _check_colour(self, frames: list[Frame]) -> None:
        """Medical pictures in the wrong order would lose their colour, and nobody would be told."""
        first, last = frames[0], frames[-1]
        exchanged = first.pixel_format in COLOURED and last.pixel_format not in COLOURED
        if self.task == "medical" and exchanged and "colour" not in self._told:
            self._told.add("colour")
            log.warning(
                "%s: mri has colour and other has none: are they exchanged? Colour is taken of other", self.name
            )

    def _lumas(self, frames: dict[str, Frame]) -> tuple[list[np.ndarray], list[ColorRange]]:
        """(H, W) uint8 of each source, all of the size of the last, and their ranges."""
        planes = {name: self._luma(name, frames[name]) for name in self.sources}
        shape = planes[self.sources[-1]].shape
        lumas = [self._resized(name, plane, shape) for name, plane in planes.items()]
        return lumas, [luma_range(frames[name]) for name in self.sources]

    def _fused(
        self, lumas: list[np.ndarray], ranges: list[ColorRange], out_range: ColorRange, *, still: bool
    ) -> np.ndarray:
        assert self._network is not None
        steadily = not still if self.steady is None else self.steady
        fused, self._state = self._network.fuse(lumas, ranges, out_range, self._state, steadily=steadily)
        return fused

    def _luma(self, name: str, frame: Frame) -> np.ndarray:
        """Luma as (H, W) uint8."""
        if frame.pixel_format == "gray16" and name not in self._told:
            self._told.add(name)
            log.info("%s: %s has 16 bits; an automatic gain that follows slowly brings it to 8", self.name, name)
        return luma_of(frame, self._gains[name])

    def _resized(self, name: str, plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        rows, columns = plane.shape
        height, width = shape
        if abs(columns * height / (rows * width) - 1) > 0.02 and "shape" not in self._told:
            self._told.add("shape")
            log.warning(
                "%s: %s is %dx%d and %s %dx%d, of another shape: it is stretched, and will not lie right unless both "
                "see the same field",
                *(self.name, name, columns, rows, self.sources[-1], width, height),
            )
        return resized(plane, shape)
