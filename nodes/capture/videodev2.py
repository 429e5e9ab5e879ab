"""The part of the kernel's header linux/videodev2.h that `nodes/capture/v4l2.py` needs, and nothing of our own.

Names of fields are the kernel's. It is a promise of Linux that these never change.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_int32, c_long, c_uint8, c_uint32, c_ulong
from typing import Any

CAPTURE, MMAP = 1, 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP
CAP_CAPTURE, CAP_CAPTURE_PLANES, CAP_STREAMING, CAP_DEVICE_CAPS = 0x1, 0x1000, 0x4000000, 0x80000000
CAP_FRAME_INTERVAL = 0x1000
FLAG_ERROR, FLAG_CLOCK, FLAG_MONOTONIC = 0x40, 0xE000, 0x2000
NEXT, UNUSABLE = 0x80000000, 0x1 | 0x4  # of settings: the flag to go through them; disabled, read-only
NUMBERS = {1, 2, 3, 9}  # kinds of settings: integer, boolean, menu, menu of integers
PIX_MAGIC = 0xFEEDCAFE  # what follows `priv` is understood
BIG_ENDIAN = 1 << 31
COLOR_JPEG, COLOR_709, COLOR_2020, COLOR_P3 = 7, 3, 10, 12


class Capability(ctypes.Structure):
    _fields_ = [
        ("driver", c_char * 16), ("card", c_char * 32), ("bus_info", c_char * 32), ("version", c_uint32),
        ("capabilities", c_uint32), ("device_caps", c_uint32), ("reserved", c_uint32 * 3),
    ]  # fmt: skip


class FormatName(ctypes.Structure):
    _fields_ = [
        ("index", c_uint32), ("type", c_uint32), ("flags", c_uint32), ("description", c_char * 32),
        ("pixelformat", c_uint32), ("reserved", c_uint32 * 4),
    ]  # fmt: skip


class Pix(ctypes.Structure):
    _fields_ = [
        ("width", c_uint32), ("height", c_uint32), ("pixelformat", c_uint32), ("field", c_uint32),
        ("bytesperline", c_uint32), ("sizeimage", c_uint32), ("colorspace", c_uint32), ("priv", c_uint32),
        ("flags", c_uint32), ("ycbcr_enc", c_uint32), ("quantization", c_uint32), ("xfer_func", c_uint32),
    ]  # fmt: skip


class FormatUnion(ctypes.Union):
    _fields_ = [("pix", Pix), ("raw", c_uint8 * 200), ("align", c_ulong)]


class Format(ctypes.Structure):
    _fields_ = [("type", c_uint32), ("fmt", FormatUnion)]


class Request(ctypes.Structure):
    _fields_ = [(n, c_uint32) for n in ("count", "type", "memory", "capabilities", "flags")]


class Buffer(ctypes.Structure):
    _fields_ = [
        ("index", c_uint32), ("type", c_uint32), ("bytesused", c_uint32), ("flags", c_uint32), ("field", c_uint32),
        ("seconds", c_long), ("microseconds", c_long), ("timecode", c_uint32 * 4), ("sequence", c_uint32),
        ("memory", c_uint32), ("offset", c_ulong), ("length", c_uint32), ("reserved", c_uint32 * 2),
    ]  # fmt: skip


class Rate(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32), ("capability", c_uint32), ("mode", c_uint32), ("numerator", c_uint32),
        ("denominator", c_uint32), ("rest", c_uint8 * 184),
    ]  # fmt: skip


class Value(ctypes.Structure):
    _fields_ = [("id", c_uint32), ("value", c_int32)]


class Query(ctypes.Structure):
    _fields_ = [
        ("id", c_uint32), ("type", c_uint32), ("name", c_char * 32), ("minimum", c_int32), ("maximum", c_int32),
        ("step", c_int32), ("default", c_int32), ("flags", c_uint32), ("reserved", c_uint32 * 2),
    ]  # fmt: skip


class FrameSizes(ctypes.Structure):
    """`sides` is (width, height), or (least width, most, step, least height, most, step)."""

    _fields_ = [
        ("index", c_uint32), ("pixelformat", c_uint32), ("type", c_uint32), ("sides", c_uint32 * 6),
        ("reserved", c_uint32 * 2),
    ]  # fmt: skip


class FrameIntervals(ctypes.Structure):
    """`interval` begins with the shortest, or the only one: numerator, denominator."""

    _fields_ = [
        ("index", c_uint32), ("pixelformat", c_uint32), ("width", c_uint32), ("height", c_uint32), ("type", c_uint32),
        ("interval", c_uint32 * 6), ("reserved", c_uint32 * 2),
    ]  # fmt: skip


def code(direction: int, number: int, structure: type[Any]) -> int:
    """The number of an ioctl of V4L2; direction 1 writes, 2 reads."""
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


QUERYCAP, ENUM_FMT = code(2, 0, Capability), code(3, 2, FormatName)
G_FMT, S_FMT = code(3, 4, Format), code(3, 5, Format)
REQBUFS, QUERYBUF, QBUF, DQBUF = code(3, 8, Request), code(3, 9, Buffer), code(3, 15, Buffer), code(3, 17, Buffer)
STREAMON, STREAMOFF = code(1, 18, c_int32), code(1, 19, c_int32)
G_PARM, S_PARM = code(3, 21, Rate), code(3, 22, Rate)
G_CTRL, S_CTRL, QUERYCTRL = code(3, 27, Value), code(3, 28, Value), code(3, 36, Query)
ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = code(3, 74, FrameSizes), code(3, 75, FrameIntervals)
