"""capture.camera: a camera at this machine."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import av
from pydantic import Field

from nodes.capture.attached import find, trouble
from nodes.capture.device import Device, Mode, Setting, Setup, Shot, Size
from nodes.capture.opencv_device import OpenCvDevice
from nodes.capture.raw_pictures import MADE_OF, Unpacker, format_for
from nodes.capture.v4l2 import NotOnePlane, V4l2Device
from nodes.outage import Outage
from pipeline import control
from pipeline.control import Control
from pipeline.errors import SourceError, did_you_mean
from pipeline.frame import Frame, TimestampSource
from pipeline.node import Node

log = logging.getLogger("streamfuse")

WAIT_S = 0.2  # that `process` waits for a picture, or pauses
SILENT_S = 5.0  # without a picture: a thermal camera's shutter takes 1 s, a long exposure less
OLDEST_NS = 10_000_000_000  # a kernel's time stamp that is older, or ahead of now, is on another clock
AHEAD_NS = 1_000_000
USUAL_FPS = 24.0  # from here on a mode is fast enough, where none is asked for
RETRY_S = (0.5, 5.0)
EXPOSURES = ("exposure_time_absolute", "exposure_absolute")  # V4L2: in units of 100 us


class CameraCapture(Node):
    """Live frames of a camera: on Linux with the kernel's time stamps and counts, pixels bit-exact; elsewhere through
    OpenCV, stamped as they arrive.

    The kernel's clock is ours (CLOCK_MONOTONIC), and a UVC camera's driver stamps the start of exposure. Other drivers
    stamp the end of the frame: then the start of exposure is earlier by the exposure and the read-out, which
    `offset_ms` takes off. A camera that is unplugged goes silent, and comes back by itself.

    Args:
        device: number, path (/dev/video0, /dev/v4l/by-id/...), or a part of the camera's name.
        size: (width, height). Default: the camera's first.
        fps: frames a second, as near as the camera can. Default: what is usual for it.
        pixel_format: "gray16" takes Y16 (or Y14, Y12, Y10) bit-exact; "gray8", "yuv420p" and "bgr24" are made of what
            the camera has; "auto" takes colour as yuv420p if it has any, else gray as it is.
        v4l2: the camera's settings by name (`v4l2-ctl -l` lists them), set in this order when it is opened, e.g.
            {auto_exposure: 1, exposure_time_absolute: 80, gain: 4}. They can be changed while it runs.
        offset_ms: added to each time stamp.
    """

    live = True

    def __init__(
        self,
        device: int | str = 0,
        size: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] | None = None,
        fps: Annotated[float, Field(gt=0, le=1000)] | None = None,
        pixel_format: Literal["auto", "yuv420p", "gray8", "gray16", "bgr24"] = "auto",
        v4l2: dict[str, int] | None = None,
        offset_ms: Annotated[float, Field(ge=-10_000, le=10_000)] = 0.0,
    ) -> None:
        self.device, self.wanted_size, self.fps, self.pixel_format = device, size, fps, pixel_format
        self.v4l2, self.offset_ms = dict(v4l2 or {}), offset_ms
        self._offsets_ms = (offset_ms - 500, offset_ms + 500)  # to turn: so that a step of a slider is a small one
        self._device: Device | None = None
        self._path = Path()
        self._setup: Setup | None = None
        self._unpacker: Unpacker | None = None
        self._limits: Mapping[str, Setting] = {}
        self._outage: Outage | None = None
        self._next_try_s = self._heard_s = 0.0
        self._sequence, self._last_ns = 0, 0
        self._counted: int | None = None  # the device's number of the last picture
        self._count = dict.fromkeys(("frames", "lost", "corrupt", "reconnects"), 0)

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        self._connect()
        assert self._setup is not None
        self.size = self._setup.size

    def process(self) -> Frame | None:
        if self._device is None:
            self._try_again()
            return None
        try:
            shot = self._device.read(WAIT_S)
        except OSError as error:
            self._lose(trouble(error, self._path))
            return None
        now_s = time.monotonic()
        if shot is not None:
            self._heard_s = now_s
            return self._frame(shot, time.monotonic_ns())
        if now_s - self._heard_s > SILENT_S:
            self._lose(f"{self._path}: gives no picture for {SILENT_S:g} s")
        return None

    def close(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()

    def report(self) -> dict[str, Any]:
        notes = {key: value for key, value in self._count.items() if value and key != "frames"}
        return {"device": str(self._path), "notes": notes}

    def gauges(self) -> dict[str, float]:
        return {**self._count, "connected": float(self._device is not None)}

    def controls(self) -> dict[str, Control]:
        found = {"offset_ms": control.number("Time offset", self.offset_ms, *self._offsets_ms, unit="ms")}
        for name, value in self.v4l2.items():
            if limit := self._limits.get(name):
                label = name.replace("_", " ").capitalize()
                found[name] = control.number(label, value, limit.least, limit.most, step=limit.step)
        return found

    def change(self, control: str, value: Any) -> None:
        if control == "offset_ms":
            self.offset_ms = value
            return
        self.v4l2[control] = int(value)
        if self._device is not None:
            try:
                self._device.set(control, int(value))
            except OSError as error:
                log.warning("%s: %s cannot be set to %d: %s", self.name, control, value, error.strerror)

    # Coming and going:

    def _connect(self) -> None:
        """Open, set and start it.

        Raises:
            SourceError: it cannot be done; says why.
        """
        path = Path(str(self.device)) if not sys.platform.startswith("linux") else find(self.device)
        try:
            device = open_device(path, self.name)
        except OSError as error:
            raise SourceError(trouble(error, path)) from error
        try:
            self._start(device, path)
        except OSError as error:
            device.close()
            raise SourceError(trouble(error, path)) from error
        except BaseException:
            device.close()
            raise
        self._device, self._path, self._heard_s = device, path, time.monotonic()

    def _start(self, device: Device, path: Path) -> None:
        self._limits = device.settings()
        for name, value in self.v4l2.items():
            check_setting(path, name, value, self._limits)
            device.set(name, value)
        modes = device.modes()
        mode = choose(path, modes, self.pixel_format, self.wanted_size, self.fps) if modes else None
        size = self.wanted_size or (mode.least if mode and mode.least == mode.most else None)
        setup = device.start(mode.fourcc if mode else None, size, self.fps)
        made_of = MADE_OF[self.pixel_format]
        if setup.fourcc not in made_of:
            raise SourceError(f"{path}: gives {setup.fourcc}; {self.pixel_format} is made of {', '.join(made_of)}")
        if self.wanted_size and setup.size != self.wanted_size:
            wanted, given = (f"{width}x{height}" for width, height in (self.wanted_size, setup.size))
            raise SourceError(f"{path}: gives {given} instead of {wanted}; set 'size' to what it has")
        rate = setup.frame_rate
        told = f"{setup.size[0]}x{setup.size[1]} {setup.fourcc}" + (f" at {float(rate):g} fps" if rate else "")
        log.info("%s: %s (%s): %s", self.name, path, device.name, told)
        self._setup, self._counted = setup, None
        self._unpacker = Unpacker(setup, format_for(setup.fourcc, self.pixel_format))

    def _lose(self, reason: str) -> None:
        """It is gone: go silent, and try to get it back from time to time."""
        self.close()
        if self._outage is None:
            self._outage = Outage(*RETRY_S)
            self._count["reconnects"] += 1
            self._sequence += 1  # what it takes meanwhile is lost
        if self._outage.is_news(reason):
            log.warning("%s: %s; trying again", self.name, reason)
        self._next_try_s = time.monotonic() + self._outage.failed()

    def _try_again(self) -> None:
        wait_s = self._next_try_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, WAIT_S))
            return
        try:
            self._connect()
        except SourceError as error:
            self._lose(str(error))

    # Frames:

    def _frame(self, shot: Shot, arrived_ns: int) -> Frame | None:
        """None for a damaged picture, which is counted."""
        assert self._setup is not None
        assert self._unpacker is not None
        sequence = self._number(shot)
        try:
            if shot.damaged:
                raise ValueError("by the driver's own account")
            data, size = self._unpacker.unpack(shot.data)
        except (ValueError, av.FFmpegError):
            self._count["corrupt"] += 1
            return None
        if self._outage is not None:
            log.info("%s: %s is back after %.1f s", self.name, self._path, self._outage.lasted_s)
            self._outage = None
        self._count["frames"] += 1
        timestamp_ns, source = self._time(shot, arrived_ns)
        pixel_format = format_for(self._setup.fourcc, self.pixel_format)
        return Frame(
            data=data,
            pixel_format=pixel_format,
            size=size,
            timestamp_ns=timestamp_ns,
            timestamp_source=source,
            sequence=sequence,
            stream=self.name,
            color_range="full" if pixel_format == "bgr24" else self._setup.color_range,
            color_matrix=self._setup.color_matrix,
            frame_rate=self._setup.frame_rate,
            exposure_us=self._exposure_us(),
        )

    def _number(self, shot: Shot) -> int:
        """The next number, after a gap as wide as that of the device's count; some drivers do not count."""
        if shot.sequence is not None:
            if self._counted is not None and shot.sequence > self._counted:
                lost = shot.sequence - self._counted - 1
                self._count["lost"] += lost
                self._sequence += lost
            self._counted = shot.sequence
        self._sequence += 1
        return self._sequence - 1

    def _time(self, shot: Shot, arrived_ns: int) -> tuple[int, TimestampSource]:
        """The device's time if it can be true, else that of arrival; in order in any case."""
        source: TimestampSource = "arrival"
        timestamp_ns = arrived_ns
        if shot.timestamp_ns is not None and arrived_ns - OLDEST_NS <= shot.timestamp_ns <= arrived_ns + AHEAD_NS:
            timestamp_ns, source = shot.timestamp_ns, "device"
        self._last_ns = max(timestamp_ns + round(self.offset_ms * 1e6), self._last_ns + 1)
        return self._last_ns, source

    def _exposure_us(self) -> float | None:
        set_to = (self.v4l2[name] for name in EXPOSURES if name in self.v4l2)
        return next((value * 100.0 for value in set_to), None)


def open_device(path: Path, name: str) -> Device:
    """The camera behind a path, by the way that suits it.

    Raises:
        OSError: it cannot be opened.
    """
    if not sys.platform.startswith("linux"):
        return OpenCvDevice(int(path.name) if path.name.isdecimal() else str(path))
    try:
        return V4l2Device(path)
    except NotOnePlane as error:
        log.warning("%s: %s %s: read through OpenCV, without the kernel's times", name, path, error.strerror)
        return OpenCvDevice(str(path))


def choose(path: Path, modes: list[Mode], wanted: str, size: Size | None, fps: float | None) -> Mode:
    """Of what a camera offers: the first that suits, preferring what is fast enough, then what costs least to unpack.

    Raises:
        SourceError: nothing suits; says what there is.
    """
    made_of = MADE_OF[wanted]
    suiting = [mode for mode in modes if mode.fourcc in made_of and (size is None or mode.fits(size))]
    if not suiting:
        asked = f"{wanted} of {size[0]}x{size[1]}" if size else wanted
        raise SourceError(f"{path}: does not offer {asked}; it offers {', '.join(dict.fromkeys(map(str, modes)))}")
    fastest = max(mode.most_fps for mode in suiting)
    enough = min(fps or USUAL_FPS, fastest) - 0.5
    fast = [mode for mode in suiting if mode.most_fps == 0 or mode.most_fps >= enough]
    return min(fast, key=lambda mode: made_of.index(mode.fourcc))  # the first of equals, as the camera lists them


def check_setting(path: Path, name: str, value: int, limits: Mapping[str, Setting]) -> None:
    """Raise SourceError for a setting that the camera does not have, or a value out of its range."""
    if name not in limits:
        raise SourceError(f"{path}: has no setting {name!r}.{did_you_mean(name, limits)}")
    limit = limits[name]
    if not limit.least <= value <= limit.most:
        raise SourceError(f"{path}: {name} is {value}; legal is {limit.least} to {limit.most}")
