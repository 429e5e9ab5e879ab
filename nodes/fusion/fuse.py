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
from nodes.fusion.look import Look
from nodes.fusion.network import SCALES, Device, Network, Precision
from nodes.fusion.palettes import Palette
from nodes.fusion.planes import grey_like, in_range, luma_of, luma_range, resized
from nodes.fusion.presence import Presence, States
from nodes.fusion.thermal import Agc, AgcMode
from nodes.tasks import BRACKET, INPUTS
from pipeline import control
from pipeline.control import Control
from pipeline.errors import ConfigError, SourceError, did_you_mean
from pipeline.frame import ColorRange, Frame, Fusion
from pipeline.node import Node

log = logging.getLogger("streamfuse")

COLOURED = ("yuv420p", "bgr24")


class Fuse(Node):
    """Fuse the luma of streams with a network, and their chroma as the task wants it.

    Every input may be gray8, gray16 (brought to 8 bits by an automatic gain), yuv420p or bgr24, of any size: all
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
        max_hold_ms: live: when a source sends nothing, its last frame is used up to this age, then it counts as lost
            and the others are shown without it; default 200 ms, or three of its frame intervals if that is longer.
        max_shutter_ms: live: a source that sends the very same picture again and again, as a thermal camera does while
            it shutters, is used for so long, and then counts as lost.
        steady: hold back changes from frame to frame that the sources do not explain; default: in videos. Images of
            a folder may be stills, each for itself.
        agc: how the first source (infrared) is brought to 0..255: "linear" between percentiles, "plateau" by an
            equalised histogram, "fixed" over `agc_range`, all stable in time (see `nodes.fusion.thermal`); "off" takes
            8 bits as they are (16 bits linearly); "auto" is linear for 16 bits and off for 8.
        agc_range: [low, high] in counts, for agc "fixed".
        agc_damping_s: time constant in seconds with which the gain follows the scene.
        blend: in percent: 0 is the fused picture, 100 the first source alone, -100 the last.
        palette: colours of infrared, where it is shown alone or laid over.
        overlay: paint what is hot in the colours of the palette over the fused picture.
        shift_px: [right, down] in pixels of the fused picture by which the first source is moved.
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
        max_hold_ms: Annotated[float, Field(ge=0)] | None = None,
        max_shutter_ms: Annotated[float, Field(ge=0)] | None = 5000.0,
        steady: bool | None = None,
        agc: Literal["auto", "off"] | AgcMode = "auto",
        agc_range: tuple[float, float] | None = None,
        agc_damping_s: Annotated[float, Field(ge=0)] = 1.0,
        blend: Annotated[float, Field(ge=-100, le=100)] = 0.0,
        palette: Palette = "white-hot",
        overlay: bool = False,
        shift_px: tuple[float, float] = (0.0, 0.0),
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
        self.reference: str = reference or self.sources[-1]
        self.max_skew_ms = max_skew_ms
        self.max_hold_ms, self.partial = max_hold_ms, True
        self._presence = Presence(self.sources, max_shutter_ms)
        self._states = States()
        self._last: Frame | None = None
        if device != "cuda":
            inference.keep_memory()  # now: threads that have begun already would keep to heaps of their own
        self.agc = agc
        first: AgcMode = "linear" if agc == "auto" or agc == "off" else agc
        self._gains = {name: Agc("linear", None, agc_damping_s) for name in self.sources[1:]}
        self._gains[self.sources[0]] = Agc(first, agc_range, agc_damping_s)
        self._look = Look((self.sources[0], self.sources[-1]), blend, palette, overlay, shift_px)
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
        used, state = frames, "fused"
        if self.in_live_mode:
            used, state = self._presence.judge(frames, self.held)
        self._states.note(state, self.name)
        if len(used) == 1:
            ((name, only),) = used.items()
            data, looks = self._passed_through(name, only)
        else:
            data, looks = self._fuse({name: used[name] for name in self.sources if name in used})
        reference = used.get(self.driver or self.reference, next(reversed(used.values())))
        skews = [abs(frame.timestamp_ns - reference.timestamp_ns) for frame in used.values()]
        self._sequence += 1
        return Frame(
            data=data,
            **looks,
            timestamp_ns=reference.timestamp_ns,
            timestamp_source=reference.timestamp_source,
            sequence=self._sequence - 1,
            stream=self.name,
            frame_rate=reference.frame_rate,
            name=reference.name,
            fusion=Fusion(
                state,
                max(skews),
                {key: each.timestamp_ns for key, each in frames.items()},
                (self.model or "") if len(used) > 1 else "",  # one alone is passed through
            ),
        )

    def _fuse(self, frames: dict[str, Frame]) -> tuple[np.ndarray, dict[str, Any]]:
        """Data of the frame fused of two or more, in the order of the task, and its format, size, range and matrix."""
        ordered = list(frames.values())
        self._check_names(frames)
        self._check_colour(ordered)
        last = self._last = ordered[-1]
        lumas = self._lumas(frames)
        out_range = fused_range(last)
        ranges = [self._range(name, frame) for name, frame in frames.items()]
        luma = self._fused(lumas, ranges, out_range, still=last.name is not None)
        luma = self._look.blended(luma, lumas, ranges, out_range)
        data, pixel_format = with_chroma(self.task, ordered, lumas, luma)
        looks = {
            "pixel_format": pixel_format,
            "size": luma.shape[::-1],
            "color_range": "full" if pixel_format == "bgr24" else out_range,
            "color_matrix": next((f for f in ordered[::-1] if f.pixel_format in COLOURED), last).color_matrix,
        }
        return (
            self._look.painted(data, looks, lumas[0], ranges[0], alone=False) if "infrared" in frames else (data, looks)
        )

    def _passed_through(self, name: str, frame: Frame) -> tuple[np.ndarray, dict[str, Any]]:
        """The only source that is there: in the form of the fused frames, so that who comes after sees one stream."""
        self._state = None  # of a picture that is not shown any more
        like = frame if self._last is None or name == self.sources[-1] else self._last
        looks = {
            "pixel_format": like.pixel_format if like.pixel_format in COLOURED else "gray8",
            "size": like.size,
            "color_range": fused_range(like),
            "color_matrix": like.color_matrix,
        }
        if like is frame and frame.pixel_format in COLOURED:
            return frame.data, looks
        luma, own = resized(self._luma(name, frame), like.size[::-1]), self._range(name, frame)
        luma = self._look.moved(luma) if name == self.sources[0] else luma
        data = grey_like(like, in_range(luma, SCALES[own], SCALES[fused_range(like)]))
        return self._look.painted(data, looks, luma, own, alone=True) if name == "infrared" else (data, looks)

    def close(self) -> None:
        self._network = self._state = None

    def report(self) -> dict[str, Any]:
        states = {"states": dict(self._states.counts)} if self.in_live_mode else {}
        return {"model": self.model, "task": self.task, **states}

    def gauges(self) -> dict[str, float]:
        return {f"{state}_frames": count for state, count in self._states.counts.copy().items()}

    def controls(self) -> dict[str, Control]:
        agc = control.choice(f"Gain of {self.sources[0]}", self.agc, ("auto", "off", "linear", "plateau", "fixed"))
        return {**self._look.controls(), "agc": agc}

    def change(self, control: str, value: Any) -> None:
        if control == "agc":
            self.agc = value
            self._gains[self.sources[0]].mode = "linear" if value in ("auto", "off") else value
        else:
            self._look.change(control, value)

    def _check_names(self, frames: dict[str, Frame]) -> None:
        """Frames of folders belong together by name; a missing file must not shift all that follow."""
        of, last = list(frames.items())[-1]
        for source, frame in frames.items():
            if frame.name != last.name and frame.name is not None and last.name is not None:
                raise SourceError(
                    f"{self.name}: the folders do not pair: image {frame.sequence + 1} is {frame.name!r} for {source} "
                    f"and {last.name!r} for {of}; all folders need the same names"
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

    def _lumas(self, frames: dict[str, Frame]) -> list[np.ndarray]:
        """(H, W) uint8 of each source, all of the size of the last."""
        planes = {name: self._luma(name, frame) for name, frame in frames.items()}
        shape = list(planes.values())[-1].shape
        lumas = {name: self._resized(name, plane, shape) for name, plane in planes.items()}
        if (first := self.sources[0]) in lumas:
            lumas[first] = self._look.moved(lumas[first])
        return list(lumas.values())

    def _fused(
        self, lumas: list[np.ndarray], ranges: list[ColorRange], out_range: ColorRange, *, still: bool
    ) -> np.ndarray:
        assert self._network is not None
        steadily = not still if self.steady is None else self.steady
        fused, self._state = self._network.fuse(lumas, ranges, out_range, self._state, steadily=steadily)
        return fused

    def _luma(self, name: str, frame: Frame) -> np.ndarray:
        """Luma as (H, W) uint8 in the range of `_range`."""
        if frame.pixel_format == "gray16" and name not in self._told:
            self._told.add(name)
            log.info("%s: %s has 16 bits; an automatic gain that follows slowly brings it to 8", self.name, name)
        if frame.name is not None and not self.steady:
            self._gains[name].restart()  # a still of its own
        if self._regulated(name, frame):
            return self._gains[name](frame.planes[0], frame.timestamp_ns)
        return luma_of(frame, self._gains[name])

    def _range(self, name: str, frame: Frame) -> ColorRange:
        return "full" if self._regulated(name, frame) else luma_range(frame)

    def _regulated(self, name: str, frame: Frame) -> bool:
        """Whether 8 bits go through the automatic gain, too."""
        wanted = name == self.sources[0] and self.agc not in ("auto", "off")
        return wanted and frame.pixel_format in ("gray8", "yuv420p")

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
