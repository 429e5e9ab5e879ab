"""V4L2: cameras of Linux, by its own interface, with the kernel's time stamps and pixels bit-exact.

After the kernel's "Video for Linux API" (docs.kernel.org/userspace-api/media/v4l) and its header videodev2.h: cameras
with one plane in memory, pictures in memory that is mapped.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import re
import select
from collections.abc import Iterator
from ctypes import c_int32
from fractions import Fraction
from pathlib import Path
from typing import Any

from nodes.capture import videodev2 as v
from nodes.capture.device import Mode, Setting, Setup, Shot, Size
from pipeline.frame import ColorMatrix, ColorRange

BUFFERS = 4
FULL_RANGE = ("GREY", "MJPG", "JPEG", "BGR3", "RGB3")
MATRICES: dict[int, ColorMatrix] = {**{1: "bt601", 3: "bt601"}, **{2: "bt709", 4: "bt709", 8: "bt709"}, 6: "bt2020"}


class Kernel:
    """What this file asks of the system: so little that a test can stand in for it."""

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ioctl(self, file: int, request: int, argument: Any) -> None:
        while True:
            with contextlib.suppress(InterruptedError):
                fcntl.ioctl(file, request, argument)
                return

    def map(self, file: int, length: int, offset: int) -> Any:
        return mmap.mmap(file, length, offset=offset)

    def wait(self, file: int, timeout_s: float) -> bool:
        """Whether there is a picture, or an error to be fetched like one."""
        poll = select.poll()
        poll.register(file, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def close(self, file: int) -> None:
        os.close(file)


class NotOnePlane(OSError):
    """The camera gives its planes apart, which this file does not do."""


class V4l2Device:
    """An open camera; see `nodes.capture.device.Device`.

    Args:
        path: e.g. /dev/video0.
        kernel: the system.

    Raises:
        OSError: it cannot be opened, or is no camera (ENODEV).
    """

    def __init__(self, path: Path, kernel: Kernel | None = None) -> None:
        self._kernel, self._maps, self._ids = kernel or Kernel(), list[Any](), dict[str, int]()
        self._file = self._kernel.open(path)
        try:
            capability = v.Capability()
            self._do(v.QUERYCAP, capability)
            check_camera(capability)
        except BaseException:
            self._kernel.close(self._file)
            raise
        self.name = capability.card.decode(errors="replace")

    def modes(self) -> list[Mode]:
        found = []
        for entry in self._each(v.ENUM_FMT, v.FormatName(type=v.CAPTURE)):
            sizes = list(self._each(v.ENUM_FRAMESIZES, v.FrameSizes(pixelformat=entry.pixelformat)))
            found += [self._mode(entry.pixelformat, tuple(size.sides), size.type == 1) for size in sizes]
            if not sizes:
                found.append(Mode(name_of(entry.pixelformat), (1, 1), (1 << 16, 1 << 16)))
        return found

    def _mode(self, number: int, sides: tuple[int, ...], discrete: bool) -> Mode:
        if discrete:
            least = most = sides[:2]
            step = (1, 1)
        else:
            (least, most, step) = ((sides[at], sides[at + 3]) for at in range(3))
        asked = v.FrameIntervals(pixelformat=number, width=most[0], height=most[1])
        rates = [i.interval[1] / i.interval[0] for i in self._each(v.ENUM_FRAMEINTERVALS, asked) if i.interval[0]]
        step = max(1, step[0]), max(1, step[1])
        return Mode(name_of(number), (least[0], least[1]), (most[0], most[1]), step, round(max(rates, default=0.0), 3))

    def settings(self) -> dict[str, Setting]:
        found, query = {}, v.Query(id=v.NEXT)
        with contextlib.suppress(OSError):  # EINVAL: there are no more
            while True:
                self._do(v.QUERYCTRL, query)
                if query.type in v.NUMBERS and not query.flags & v.UNUSABLE:
                    name = re.sub(r"[^a-z0-9]+", "_", query.name.decode(errors="replace").lower()).strip("_")
                    value = v.Value(id=query.id)
                    with contextlib.suppress(OSError):  # one that can only be written
                        self._do(v.G_CTRL, value)
                    self._ids[name] = query.id
                    found[name] = Setting(query.minimum, query.maximum, max(1, query.step), value.value)
                query.id |= v.NEXT
        return found

    def set(self, name: str, value: int) -> None:
        self._do(v.S_CTRL, v.Value(id=self._ids[name], value=value))

    def start(self, fourcc: str | None, size: Size | None, fps: float | None) -> Setup:
        form = v.Format(type=v.CAPTURE)
        self._do(v.G_FMT, form)
        pix = form.fmt.pix
        pix.pixelformat = number_of(fourcc) if fourcc else pix.pixelformat
        pix.width, pix.height = size or (pix.width, pix.height)
        pix.priv, pix.field, pix.bytesperline, pix.sizeimage = v.PIX_MAGIC, 0, 0, 0
        self._do(v.S_FMT, form)
        rate = self._set_rate(fps)
        self._map()
        self._do(v.STREAMON, c_int32(v.CAPTURE))
        color_range, matrix = color_of(pix)
        return Setup(
            name_of(pix.pixelformat), (pix.width, pix.height), pix.bytesperline, color_range, matrix, frame_rate=rate
        )

    def _set_rate(self, fps: float | None) -> Fraction | None:
        """Frames a second as they will be; None where the driver does not tell."""
        rate = v.Rate(type=v.CAPTURE)
        try:
            if fps:
                wanted = 1 / Fraction(fps).limit_denominator(1001)
                rate.numerator, rate.denominator = wanted.numerator, wanted.denominator
                self._do(v.S_PARM, rate)
            self._do(v.G_PARM, rate)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return None
            raise
        told = rate.capability & v.CAP_FRAME_INTERVAL and rate.numerator and rate.denominator
        return Fraction(rate.denominator, rate.numerator) if told else None

    def _map(self) -> None:
        request = v.Request(count=BUFFERS, type=v.CAPTURE, memory=v.MMAP)
        self._do(v.REQBUFS, request)
        for index in range(request.count):
            buffer = v.Buffer(index=index, type=v.CAPTURE, memory=v.MMAP)
            self._do(v.QUERYBUF, buffer)
            self._maps.append(self._kernel.map(self._file, buffer.length, buffer.offset))
            self._do(v.QBUF, buffer)

    def read(self, timeout_s: float) -> Shot | None:
        if not self._kernel.wait(self._file, timeout_s):
            return None
        buffer = v.Buffer(type=v.CAPTURE, memory=v.MMAP)
        try:
            self._do(v.DQBUF, buffer)
        except BlockingIOError:
            return None
        flags, data = buffer.flags, self._maps[buffer.index][: buffer.bytesused]  # a copy: the driver writes on
        timestamp_ns = buffer.seconds * 1_000_000_000 + buffer.microseconds * 1000
        sequence = buffer.sequence
        self._do(v.QBUF, v.Buffer(index=buffer.index, type=v.CAPTURE, memory=v.MMAP))
        known = flags & v.FLAG_CLOCK == v.FLAG_MONOTONIC
        return Shot(data, timestamp_ns if known else None, sequence, bool(flags & v.FLAG_ERROR))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._do(v.STREAMOFF, c_int32(v.CAPTURE))
        for one in self._maps:
            one.close()
        self._maps.clear()
        with contextlib.suppress(OSError):
            self._kernel.close(self._file)

    def _do(self, request: int, argument: Any) -> None:
        self._kernel.ioctl(self._file, request, argument)

    def _each(self, request: int, argument: Any) -> Iterator[Any]:
        """All entries of one of the kernel's lists; none where the driver has no such list."""
        for index in range(256):
            argument.index = index
            try:
                self._do(request, argument)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODATA):
                    return
                raise
            yield type(argument).from_buffer_copy(argument)


def check_camera(capability: v.Capability) -> None:
    """Raise OSError for what is no camera: /dev/video* are outputs, codecs and metadata, too."""
    named = capability.capabilities & v.CAP_DEVICE_CAPS
    can = capability.device_caps if named else capability.capabilities
    if can & v.CAP_CAPTURE and can & v.CAP_STREAMING:
        return
    if can & v.CAP_CAPTURE_PLANES:
        raise NotOnePlane(errno.ENOTSUP, "gives its planes apart (multi-planar)")
    raise OSError(errno.ENODEV, "is no camera: it takes no pictures, or has no streaming")


def is_camera(path: Path, kernel: Kernel | None = None) -> bool | None:
    """Whether pictures come from there; None where we may not look."""
    try:
        V4l2Device(path, kernel).close()
    except NotOnePlane:
        return True
    except OSError as error:
        return False if error.errno in (errno.ENODEV, errno.ENOTTY, errno.ENXIO, errno.ENOENT) else None
    return True


def name_of(number: int) -> str:
    """A pixel format as people write it: YUYV, Y16, Y16-BE."""
    letters = (number & ~v.BIG_ENDIAN).to_bytes(4, "little").decode("latin-1").rstrip()
    return letters + ("-BE" if number & v.BIG_ENDIAN else "")


def number_of(name: str) -> int:
    letters, big, _ = name.partition("-BE")
    return int.from_bytes(letters.ljust(4).encode("latin-1"), "little") | (v.BIG_ENDIAN if big else 0)


def color_of(pix: Any) -> tuple[ColorRange, ColorMatrix]:
    """Range and matrix; where the driver leaves them open, as V4L2's defaults have it ("Colorspaces")."""
    name = name_of(pix.pixelformat)
    by_default = pix.colorspace == v.COLOR_JPEG or name.startswith(("Y1", *FULL_RANGE))
    full = pix.quantization == 1 or (pix.quantization == 0 and by_default)
    default: ColorMatrix = "bt601"
    if pix.colorspace in (v.COLOR_709, v.COLOR_P3):
        default = "bt709"
    elif pix.colorspace == v.COLOR_2020:
        default = "bt2020"
    return "full" if full else "limited", MATRICES.get(pix.ycbcr_enc, default)
