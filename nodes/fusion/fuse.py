"""fusion.fuse: two or more streams of one scene become one."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from models import inference
from models.catalog import MODELS
from nodes.fusion.chroma import fused_range
from nodes.fusion.look import Look
from nodes.fusion.moment import Moment, Picture, Source
from nodes.fusion.network import SCALES, Device, Precision
from nodes.fusion.palettes import Palette
from nodes.fusion.planes import COLOURED, grey_like, in_range, luma_range
from nodes.fusion.presence import Presence, States
from nodes.fusion.thermal import Agc, AgcMode
from nodes.fusion.work import Work
from nodes.tasks import BRACKET, INPUTS
from pipeline import control
from pipeline.control import Control
from pipeline.errors import ConfigError, SourceError, did_you_mean
from pipeline.frame import Frame, Fusion
from pipeline.node import Later, Node

log = logging.getLogger("streamfuse")


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
        precision: "auto" takes fp16 on CUDA, bf16 on a CPU that has instructions for it, else fp32.
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
        self._work: Work | None = None
        self._where = ""
        self._fresh = True
        self._told: set[str] = set()
        self._sequence = 0

    def inputs(self) -> tuple[str, ...]:
        return self.sources

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        insist = self.device == "cuda" and not self.in_live_mode
        work = self._work = Work(self.task, self.model, self.weights, self.device, self.precision, insist=insist)
        self.model, self.in_flight = work.network.model, work.at_once
        log.info("%s: %s for %s in %s", self.name, self.model, self.task, work.network)
        self.size = sizes.get(self.sources[-1])
        work.warm_up(self.size or (640, 480), self.sources)

    def process(self, **frames: Frame) -> Frame | Later:
        used, state = frames, "fused"
        if self.in_live_mode:
            used, state = self._presence.judge(frames, self.held)
        self._states.note(state, self.name)
        make = self._maker(frames, used, state)
        if len(used) == 1:
            ((name, only),) = used.items()
            return make(self._passed_through(name, only))
        picture = self._fused(self._moment({name: used[name] for name in self.sources if name in used}))
        return (lambda: make(picture())) if callable(picture) else make(picture)

    def _maker(self, frames: Mapping[str, Frame], used: Mapping[str, Frame], state: str) -> Callable[[Picture], Frame]:
        """Makes the frame of the picture that comes of `used`."""
        reference = used.get(self.driver or self.reference, list(used.values())[-1])
        skew_ns = max(abs(frame.timestamp_ns - reference.timestamp_ns) for frame in used.values())
        times_ns = {key: each.timestamp_ns for key, each in frames.items()}
        model = (self.model or "") if len(used) > 1 else ""  # one alone is passed through
        sequence, self._sequence = self._sequence, self._sequence + 1

        def make(picture: Picture) -> Frame:
            data, looks = picture
            return Frame(
                data=data,
                **looks,
                timestamp_ns=reference.timestamp_ns,
                timestamp_source=reference.timestamp_source,
                sequence=sequence,
                stream=self.name,
                frame_rate=reference.frame_rate,
                name=reference.name,
                fusion=Fusion(state, skew_ns, times_ns, model),
            )

        return make

    def _moment(self, frames: dict[str, Frame]) -> Moment:
        """Frames that belong together with all that is decided about them, which goes by those before."""
        ordered = list(frames.values())
        self._check_names(frames)
        self._check_colour(ordered)
        last = self._last = ordered[-1]
        steadily = last.name is None if self.steady is None else self.steady
        sources = tuple(self._source(name, frame) for name, frame in frames.items())
        self._check_shapes(frames)
        fresh, self._fresh = self._fresh, False
        return Moment(tuple(frames), sources, copy.copy(self._look), fused_range(last), steadily, fresh)

    def _fused(self, moment: Moment) -> Picture | Callable[[], Picture]:
        assert self._work is not None
        picture = self._work.begin(moment)
        self.in_flight = self._work.at_once  # fewer where the device has failed: live, what waits is late
        return picture

    def _passed_through(self, name: str, frame: Frame) -> Picture:
        """The only source that is there: in the form of the fused frames, so that who comes after sees one stream."""
        self._fresh = True
        like = frame if self._last is None or name == self.sources[-1] else self._last
        looks = {
            "pixel_format": like.pixel_format if like.pixel_format in COLOURED else "gray8",
            "size": like.size,
            "color_range": fused_range(like),
            "color_matrix": like.color_matrix,
        }
        if like is frame and frame.pixel_format in COLOURED:
            return frame.data, looks
        source = self._source(name, frame)
        luma, own = source.luma(like.size[::-1]), source.color_range
        data = grey_like(like, in_range(luma, SCALES[own], SCALES[fused_range(like)]))
        return self._look.painted(data, looks, luma, own, alone=True) if name == "infrared" else (data, looks)

    def close(self) -> None:
        if self._work is not None:
            self._where = self._work.where
        self._work = None

    def report(self) -> dict[str, Any]:
        states = {"states": dict(self._states.counts)} if self.in_live_mode else {}
        device = {"device": self._where} if self._where else {}
        return {"model": self.model, "task": self.task, **device, **states}

    def gauges(self) -> dict[str, float]:
        work = self._work
        failed = {"device_failed": 1.0} if work is not None and work.fault is not None else {}
        return {f"{state}_frames": count for state, count in self._states.counts.copy().items()} | failed

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

    def _source(self, name: str, frame: Frame) -> Source:
        """How a frame becomes a plane: its gain follows the scene."""
        if frame.pixel_format == "gray16" and name not in self._told:
            self._told.add(name)
            log.info("%s: %s has 16 bits; an automatic gain that follows slowly brings it to 8", self.name, name)
        if frame.name is not None and not self.steady:
            self._gains[name].restart()  # a still of its own
        table = None
        if frame.pixel_format == "gray16" or self._regulated(name, frame):
            table = self._gains[name].table(frame.planes[0], frame.timestamp_ns)
        shift = (self._look.shift_x, self._look.shift_y) if name == self.sources[0] else (0.0, 0.0)
        return Source(frame, table, "full" if table is not None else luma_range(frame), shift)

    def _regulated(self, name: str, frame: Frame) -> bool:
        """Whether 8 bits go through the automatic gain, too."""
        wanted = name == self.sources[0] and self.agc not in ("auto", "off")
        return wanted and frame.pixel_format in ("gray8", "yuv420p")

    def _check_shapes(self, frames: dict[str, Frame]) -> None:
        """A picture of another shape shows another field of view, more often than not."""
        width, height = list(frames.values())[-1].size
        for name, frame in frames.items():
            columns, rows = frame.size
            if abs(columns * height / (rows * width) - 1) > 0.02 and "shape" not in self._told:
                self._told.add("shape")
                log.warning(
                    "%s: %s is %dx%d and %s %dx%d, of another shape: it is stretched, and will not lie right unless "
                    "both see the same field",
                    *(self.name, name, columns, rows, self.sources[-1], width, height),
                )
