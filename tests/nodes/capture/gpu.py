"""A GPU that is not there, for the tests of decoding: the CPU's decoder, with pictures as NVDEC gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest

from nodes import nvidia
from nodes.pictures import plane_of
from pipeline.frame import half

Picture = av.VideoFrame
Fault = Callable[[int, list[Picture]], list[Picture]]


def on_gpu(picture: Picture) -> Picture:
    """A picture as NV12 or P010: chroma interleaved, and 10 bits in the upper ones of 16."""
    deep = picture.format.name == "yuv420p10le"
    (width, height), dtype, shift = (picture.width, picture.height), np.uint16 if deep else np.uint8, 6 if deep else 0
    made = av.VideoFrame(width, height, "p010le" if deep else "nv12")
    luma, chroma = (
        np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize) for plane in made.planes
    )
    y, u, v = (plane_of(plane, picture, index) for index, plane in enumerate(picture.planes))
    luma[:height, :width] = y << shift
    chroma[: half(height), 0 : 2 * half(width) : 2] = u << shift
    chroma[: half(height), 1 : 2 * half(width) : 2] = v << shift
    made.pts, made.dts = picture.pts, picture.dts
    made.color_range, made.colorspace = picture.color_range, picture.colorspace
    if picture.time_base is not None:
        made.time_base = picture.time_base
    return made


class FakeGpu:
    """Stands in for what `nvidia.decoder` gives.

    Args:
        codec: its name.
        fault: of the number of the packet and its pictures, what comes instead; may raise.
    """

    def __init__(self, codec: str, fault: Fault) -> None:
        self.__dict__.update(own=av.CodecContext.create(codec, "r"), fault=fault, packets=0, pictures=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.own, name, value)

    def decode(self, packet: Any) -> list[Picture]:
        self.__dict__["packets"] += 1
        pictures: list[Picture] = self.fault(self.packets, [on_gpu(one) for one in self.own.decode(packet)])
        self.__dict__["pictures"] += len(pictures)
        return pictures


class Gpus:
    """All decoders that were made, and how the next ones are at fault."""

    def __init__(self) -> None:
        self.made: list[FakeGpu] = []
        self.fault: Fault = lambda _, pictures: pictures

    @property
    def pictures(self) -> int:
        """That came from the GPU."""
        return sum(one.pictures for one in self.made)

    def decoder(self, codec: str) -> FakeGpu:
        self.made.append(FakeGpu(codec, lambda number, pictures: self.fault(number, pictures)))
        return self.made[-1]


def plug_in(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Let this machine have a GPU that decodes, until the end of the test."""
    gpus = Gpus()
    monkeypatch.setattr(nvidia, "why_no_gpu", lambda: None)
    monkeypatch.setattr(nvidia, "why_no_decoding", lambda: None)
    monkeypatch.setattr(nvidia, "decoder", gpus.decoder)
    return gpus


def unplug(monkeypatch: pytest.MonkeyPatch, why: str = nvidia.NO_DRIVER) -> None:
    """Let this machine have none, or one that does not decode."""
    monkeypatch.setattr(nvidia, "why_no_gpu", lambda: why if why == nvidia.NO_DRIVER else None)
    monkeypatch.setattr(nvidia, "why_no_decoding", lambda: why)
