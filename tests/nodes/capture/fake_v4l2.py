"""Cameras without hardware: a device as `capture.camera` sees it, and a kernel as the driver of V4L2 sees it."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nodes.capture import videodev2 as v
from nodes.capture.device import Mode, Setting, Setup, Shot, Size
from nodes.capture.v4l2 import Kernel, number_of

SIZE = (8, 6)


class FakeCamera:
    """A `nodes.capture.device.Device` that gives the shots it is loaded with.

    Args:
        modes: what it offers.
        setup: what it gives, whatever is asked for; by default what is asked for.
    """

    name = "Fake camera"

    def __init__(self, modes: list[Mode] | None = None, setup: Setup | None = None) -> None:
        self.offers = [Mode("YUYV", SIZE, SIZE, most_fps=30)] if modes is None else modes
        self.setup = setup
        self.has = {"gain": Setting(0, 100, 1, 10), "exposure_time_absolute": Setting(1, 5000, 1, 156)}
        self.done: list[tuple[str, int]] = []
        self.shots: deque[Shot] = deque()
        self.started: tuple[str | None, Size | None, float | None] | None = None
        self.fails: OSError | None = None
        self.closed = False

    def modes(self) -> list[Mode]:
        return self.offers

    def settings(self) -> Mapping[str, Setting]:
        return self.has

    def set(self, name: str, value: int) -> None:
        if self.fails:
            raise self.fails
        self.done.append((name, value))

    def start(self, fourcc: str | None, size: Size | None, fps: float | None) -> Setup:
        self.started = fourcc, size, fps
        width, height = size or SIZE
        return self.setup or Setup(fourcc or "YUYV", (width, height), width * 2)

    def read(self, timeout_s: float) -> Shot | None:
        if self.fails:
            raise self.fails
        return self.shots.popleft() if self.shots else None

    def close(self) -> None:
        self.closed = True

    def give(self, data: bytes, sequence: int | None = 0, age_ms: float | None = 5.0, damaged: bool = False) -> None:
        """Load a shot that the kernel has stamped some time ago."""
        stamp = None if age_ms is None else time.monotonic_ns() - round(age_ms * 1e6)
        self.shots.append(Shot(data, stamp, sequence, damaged))


class FakeKernel(Kernel):
    """What `nodes.capture.v4l2.Kernel` is to a camera with Y16 and YUYV that works as the documentation has it."""

    def __init__(self) -> None:
        self.capabilities = 0x1 | 0x4000000
        self.formats: dict[str, list[tuple[int, ...]]] = {"YUYV": [(64, 48), (32, 24)], "Y16": [(8, 6)]}
        self.rates = {(64, 48): (1, 10), (32, 24): (1, 30), (8, 6): (1, 9)}
        self.rate = (1, 30)
        self.has_rates = True
        self.values = {1: 10, 2: 156}
        self.pix = v.Pix(width=64, height=48, pixelformat=number_of("YUYV"), colorspace=8)
        self.memory: list[bytearray] = []
        self.queued: list[int] = []
        self.ready: deque[tuple[bytes, int, int, int]] = deque()  # bytes, microseconds, sequence, flags
        self.fails: dict[int, int] = {}  # request -> errno
        self.streaming = False
        self.opened = self.closed = self.mapped = 0

    def open(self, path: Path) -> int:
        self.opened += 1
        return 77

    def close(self, file: int) -> None:
        self.closed += 1

    def map(self, file: int, length: int, offset: int) -> Any:
        self.mapped += 1
        return Mapped(self, offset // 4096)

    def wait(self, file: int, timeout_s: float) -> bool:
        return bool(self.ready) or v.DQBUF in self.fails

    def ioctl(self, file: int, request: int, argument: Any) -> None:
        if request in self.fails:
            raise OSError(self.fails[request], "as the test wants")
        self._answers[request](self, argument)

    def _capabilities(self, a: Any) -> None:
        a.card, a.capabilities, a.device_caps = b"Fake camera", 0x80000000 | 0x1, self.capabilities

    def _format_name(self, a: Any) -> None:
        a.pixelformat = number_of(pick(list(self.formats), a.index))

    def _size(self, a: Any) -> None:
        size = pick(self.formats[self._name(a.pixelformat)], a.index)
        a.type = 1 if len(size) == 2 else 3
        a.sides = (*size, *(0,) * (6 - len(size)))

    def _interval(self, a: Any) -> None:
        a.type, rate = 1, self.rates[(a.width, a.height)]
        a.interval = (*pick([rate, (1, 5)], a.index), 0, 0, 0, 0)

    def _get_format(self, a: Any) -> None:
        a.fmt.pix = self.pix

    def _set_format(self, a: Any) -> None:
        pix, sizes = a.fmt.pix, self.formats[self._name(a.fmt.pix.pixelformat)]
        if (pix.width, pix.height) not in sizes:
            pix.width, pix.height = sizes[0]  # the nearest
        pix.bytesperline = pix.width * 2
        pix.sizeimage, pix.colorspace = pix.bytesperline * pix.height, 8
        self.pix = v.Pix.from_buffer_copy(pix)

    def _name(self, number: int) -> str:
        return next(name for name in self.formats if number_of(name) == number)

    def _get_rate(self, a: Any) -> None:
        if not self.has_rates:
            raise OSError(errno.ENOTTY, "no rates")
        a.capability, (a.numerator, a.denominator) = 0x1000, self.rate

    def _set_rate(self, a: Any) -> None:
        self.rate = a.numerator, a.denominator
        self._get_rate(a)

    def _request(self, a: Any) -> None:
        a.count = min(a.count, 3)  # a driver may give fewer
        self.memory = [bytearray(self.pix.sizeimage) for _ in range(a.count)]

    def _query_buffer(self, a: Any) -> None:
        a.length, a.offset = self.pix.sizeimage, a.index * 4096

    def _queue(self, a: Any) -> None:
        assert a.index not in self.queued
        self.queued.append(a.index)

    def _dequeue(self, a: Any) -> None:
        if not self.ready:
            raise BlockingIOError(errno.EAGAIN, "not yet")
        data, microseconds, sequence, flags = self.ready.popleft()
        a.index = self.queued.pop(0)
        self.memory[a.index][: len(data)] = data
        a.bytesused, a.sequence, a.flags = len(data), sequence, flags
        a.seconds, a.microseconds = divmod(microseconds, 1_000_000)

    def _on(self, a: Any) -> None:
        self.streaming = True

    def _off(self, a: Any) -> None:
        self.streaming = False

    def _next_setting(self, a: Any) -> None:
        number = a.id & 0x7FFFFFFF
        known = [(1, 1, b"Gain", 0, 100, 0), (2, 1, b"Exposure Time, Absolute", 1, 5000, 0), (3, 6, b"Class", 0, 0, 0)]
        later = [one for one in [*known, (4, 1, b"Dead", 0, 1, 1)] if one[0] > number]
        a.id, a.type, a.name, a.minimum, a.maximum, a.flags = pick(later, 0)
        a.step = 1

    def _get_value(self, a: Any) -> None:
        a.value = self.values[a.id]

    def _set_value(self, a: Any) -> None:
        self.values[a.id] = a.value

    _answers: Mapping[int, Callable[[FakeKernel, Any], None]] = {
        **{v.QUERYCAP: _capabilities, v.ENUM_FMT: _format_name, v.ENUM_FRAMESIZES: _size},
        **{v.ENUM_FRAMEINTERVALS: _interval, v.G_FMT: _get_format, v.S_FMT: _set_format},
        **{v.G_PARM: _get_rate, v.S_PARM: _set_rate, v.REQBUFS: _request, v.QUERYBUF: _query_buffer},
        **{v.QBUF: _queue, v.DQBUF: _dequeue, v.STREAMON: _on, v.STREAMOFF: _off},
        **{v.QUERYCTRL: _next_setting, v.G_CTRL: _get_value, v.S_CTRL: _set_value},
    }


class Mapped:
    """Memory of one of the kernel's buffers."""

    def __init__(self, kernel: FakeKernel, index: int) -> None:
        self.kernel, self.index = kernel, index

    def __getitem__(self, part: slice) -> bytes:
        return bytes(self.kernel.memory[self.index][part])

    def close(self) -> None:
        self.kernel.mapped -= 1


def pick(entries: list[Any], index: int) -> Any:
    if index >= len(entries):
        raise OSError(errno.EINVAL, "there are no more")
    return entries[index]
