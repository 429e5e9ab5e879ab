"""capture.pattern: cameras that are not there. A synthetic street at night, with the faults that real cameras have."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from nodes.capture.scene import EXPOSURES_US, Scene, View
from pipeline.control import Control, number, switch
from pipeline.errors import ConfigError
from pipeline.frame import Frame, PixelFormat
from pipeline.node import EndOfStream, Node

SECOND_NS = 1_000_000_000
LONGEST_WAIT_S = 0.1  # so that we can be stopped
LATEST_NS = SECOND_NS  # frames that we are so late for are lost, as in a camera whose buffers are full
SHUTTER_STEP = 6.0  # levels between the pictures before and after a thermal camera's shutter
DROPS = ("silent", "lost_at_random", "late")  # why a frame that was captured is not sent
BRACKETS: tuple[tuple[View, ...], ...] = (("under", "over"), ("under", "middle", "over"))

Side = Annotated[int, Field(ge=16, le=8192)]
Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Beat:
    """When a camera captures. Frames are counted from 0, those too that nobody gets."""

    fps: Fraction
    drift_ppm: float = 0.0
    jitter_ns: float = 0.0
    drop: float = 0.0
    seed: str = ""

    @cached_property
    def interval_ns(self) -> Fraction:
        """Between two frames, by the host's clock."""
        return SECOND_NS / self.fps * (1 + Fraction(self.drift_ppm) / 1_000_000)

    def begin_ns(self, now_ns: int) -> Fraction:
        """The next moment of the beat that all cameras of this rate have in common."""
        return math.ceil(now_ns * self.fps / SECOND_NS) * SECOND_NS / self.fps

    def after_ns(self, frame: int) -> Fraction:
        """From the first frame to this one, without jitter."""
        return frame * self.interval_ns

    def chance(self, frame: int) -> tuple[int, bool]:
        """What happens to a frame by chance: how much later than the beat it is captured, and whether it is lost."""
        dice = random.Random(f"{self.seed} {frame}")
        return round(dice.uniform(-self.jitter_ns, self.jitter_ns)), dice.random() < self.drop


class PatternCapture(Node):
    """A camera that is not there: people and vehicles in a street at night, by infrared or by visible light.

    What is to be seen depends on the seed and the host's monotonic clock alone: several of these nodes with one seed
    show one street at the same time, and pair as cameras do. A clock in the picture tells when it was taken: a hand
    that crosses its foot once a second, and digits of the second and its thousandths.

    Args:
        view: "infrared": warm bodies on cool ground. "visible": dark and noisy, with glaring lamps. "under", "middle",
            "over": exposures two stops apart.
        bracket: in place of a view: exposures that one camera takes in turns, [under, over] or [under, middle, over].
        exposure_metadata: whether frames tell their time of exposure; infrared ones have none.
        size: (width, height).
        fps: frames a second.
        pixel_format: gray8, gray16, yuv420p or bgr24; by default gray8 of infrared and yuv420p of the others. Infrared
            in gray16 is in hundredths of a kelvin.
        pace: "realtime" makes the pipeline live; "full" gives frames as fast as they are wanted, from time zero on.
        frames: how many to capture, then it ends; needed with pace "full".
        seed: of the street, and of what happens by chance.
        noise: standard deviation in levels of 255; by default what suits the view.
        offset_ms: constant error of the timestamps.
        jitter_ms: capture is up to so much earlier or later than the beat, at random; at most half an interval.
        drift_ppm: by how much the camera's clock, which sets its beat, is slower than the host's.
        latency_ms: frames are delivered so long after their capture.
        drop: share of frames that are lost at random; sequence numbers count them.
        silent: spans without frames, [[from_s, to_s], ...], in seconds after the first frame.
        frozen: spans in which frames go on and their picture stands still, as while the shutter of a thermal camera is
            shut; after each, the levels of infrared have made a step.
    """

    def __init__(
        self,
        view: View | None = None,
        bracket: tuple[View, ...] | None = None,
        exposure_metadata: bool = True,
        size: tuple[Side, Side] = (640, 480),
        fps: Annotated[float, Field(ge=0.1, le=1000)] = 30.0,
        pixel_format: PixelFormat | None = None,
        pace: Literal["full", "realtime"] = "realtime",
        frames: Annotated[int, Field(ge=1)] | None = None,
        seed: Annotated[int, Field(ge=0)] = 0,
        noise: Annotated[float, Field(ge=0, le=100)] | None = None,
        offset_ms: Annotated[float, Field(ge=-1000, le=1000)] = 0.0,
        jitter_ms: Annotated[float, Field(ge=0)] = 0.0,
        drift_ppm: Annotated[float, Field(ge=-10_000, le=10_000)] = 0.0,
        latency_ms: Annotated[float, Field(ge=0, le=10_000)] = 0.0,
        drop: Annotated[float, Field(ge=0, le=1)] = 0.0,
        silent: Spans = (),
        frozen: Spans = (),
    ) -> None:
        if pace == "full" and frames is None:
            raise ConfigError("pace 'full' needs the setting 'frames': how many there are to be")
        if jitter_ms * fps > 500:
            raise ConfigError(f"setting 'jitter_ms' is {jitter_ms:g}: legal is up to half an interval, {500 / fps:.1f}")
        self.views = views_of(view, bracket)
        self.live, self.size = pace == "realtime", size
        self.pixel_format = pixel_format or ("gray8" if self.views == ("infrared",) else "yuv420p")
        self.frames, self.seed, self.noise, self.exposure_metadata = frames, seed, noise, exposure_metadata
        self.offset_ms, self.latency_ns = offset_ms, round(latency_ms * 1e6)
        dice = f"{seed} {self.views}"  # cameras side by side do not lose the same frames
        self.beat = Beat(Fraction(fps).limit_denominator(1001), drift_ppm, jitter_ms * 1e6, drop, dice)
        self.spans = {"silent": checked("silent", silent), "frozen": checked("frozen", frozen)}
        self.by_hand = {"silent": False, "frozen": False}
        self._scenes: dict[View, Scene] = {}
        self._number = 0
        self._began_ns: Fraction | None = None
        self._pictures: dict[View, NDArray[Any]] = {}
        self._is_frozen, self._shutters = False, 0
        self._counts: Counter[str] = Counter()
        self._now_ns: Callable[[], int] = time.monotonic_ns
        self._sleep: Callable[[float], None] = time.sleep

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        assert self.size is not None
        self._scenes = {
            view: Scene(view, self.size, self.pixel_format, self.seed, self.noise) for view in dict.fromkeys(self.views)
        }

    def process(self) -> Frame | None:
        if self._began_ns is None:
            self._began_ns = self.beat.begin_ns(self._now_ns()) if self.live else Fraction(0)
        if self.live:
            self._miss_late_ones()
        if self._number == self.frames:
            raise EndOfStream
        late_ns, lost = self.beat.chance(self._number)
        captured_ns = round(self._began_ns + self.beat.after_ns(self._number)) + late_ns
        if self.live and not self._due(captured_ns + self.latency_ns):
            return None
        frame, self._number = self._number, self._number + 1
        frozen, silent = self._now("frozen", frame), self._now("silent", frame)
        if self._is_frozen and not frozen:
            self._shutters += 1
        self._is_frozen = frozen
        if silent or lost:
            self._counts["silent" if silent else "lost_at_random"] += 1
            return None
        self._counts["sent"] += 1
        return self._take(frame, captured_ns)

    def report(self) -> dict[str, Any]:
        return {"notes": {name: count for name in DROPS if (count := self._counts[name])}}

    def gauges(self) -> dict[str, float]:
        return {"sent": self._counts["sent"], "dropped": sum(self._counts[reason] for reason in DROPS)}

    def controls(self) -> dict[str, Control]:
        return {
            "offset_ms": number("Offset of the timestamps", self.offset_ms, -1000, 1000, unit="ms"),
            "silent": switch("No frames", self.by_hand["silent"]),
            "frozen": switch("Frozen picture", self.by_hand["frozen"]),
        }

    def change(self, control: str, value: Any) -> None:
        if control == "offset_ms":
            self.offset_ms = value
        else:
            self.by_hand[control] = value

    def _miss_late_ones(self) -> None:
        """Go on with the frame of now if we are far behind."""
        assert self._began_ns is not None
        behind_ns = self._now_ns() - self._began_ns - self.latency_ns - self.beat.after_ns(self._number)
        if behind_ns > LATEST_NS:
            missed = int(behind_ns / self.beat.interval_ns)
            if self.frames is not None:
                missed = min(missed, self.frames - self._number)
            self._number += missed
            self._counts["late"] += missed

    def _due(self, due_ns: int) -> bool:
        """Wait for a moment, a tenth of a second at most; whether it has come."""
        left_s = (due_ns - self._now_ns()) / SECOND_NS
        if left_s > 0:
            self._sleep(min(left_s, LONGEST_WAIT_S))
        return left_s <= LONGEST_WAIT_S

    def _now(self, fault: str, frame: int) -> bool:
        """Whether a frame has a fault."""
        moment_s = self.beat.after_ns(frame) / SECOND_NS
        return self.by_hand[fault] or any(begin <= moment_s < end for begin, end in self.spans[fault])

    def _take(self, frame: int, captured_ns: int) -> Frame:
        assert self.size is not None
        view = self.views[frame % len(self.views)]
        if not self._is_frozen or view not in self._pictures:
            step = SHUTTER_STEP * (self._shutters % 2) if view == "infrared" else 0.0
            self._pictures[view] = self._scenes[view].draw(captured_ns, frame, step)
        return Frame(
            data=self._pictures[view],
            pixel_format=self.pixel_format,
            size=self.size,
            timestamp_ns=captured_ns + round(self.offset_ms * 1e6),
            timestamp_source="device" if self.live else "pts",
            sequence=frame,
            stream=self.name,
            color_range="limited" if self.pixel_format == "yuv420p" else "full",
            frame_rate=self.beat.fps,
            exposure_us=EXPOSURES_US.get(view) if self.exposure_metadata else None,
        )


def views_of(view: View | None, bracket: tuple[View, ...] | None) -> tuple[View, ...]:
    """What is shown, in turns."""
    if (view is None) == (bracket is None):
        raise ConfigError("needs one of the settings 'view' and 'bracket'")
    if bracket is None:
        return (view,) if view else ()
    if bracket not in BRACKETS:
        raise ConfigError(f"setting 'bracket' is {list(bracket)}: legal is [under, over] or [under, middle, over]")
    return bracket


def checked(setting: str, spans: Spans) -> Spans:
    """Spans of time."""
    for begin, end in spans:
        if not 0 <= begin < end:
            raise ConfigError(f"setting {setting!r} has [{begin:g}, {end:g}]: a span is [from_s, to_s], 0 <= from < to")
    return spans
