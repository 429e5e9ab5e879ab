"""NVIDIA's engines for video, NVDEC and NVENC: whether they work here; shared by what reads and writes video.

FFmpeg loads the driver's libraries when it needs them, and says next to nothing of what is missing. So they are looked
for here, one by one, and what can be said of them is tried for real, once a process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import av
from av.codec.hwaccel import HWAccel

Told = tuple[str, Literal["ok", "missing", "warning"], str, str]  # what, its state, what was found, what to do about it

NO_DRIVER = "there is no NVIDIA driver"
DRIVER, NVDEC, NVENC = "libcuda.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1"
IN_CONTAINERS = "in a container, set NVIDIA_DRIVER_CAPABILITIES=compute,video,utility"
TRIAL_SIZE = 256  # pixels a side: every generation of GPUs takes that
FAILURES = (av.FFmpegError, ValueError, NotImplementedError, OSError)


@cache
def why_no_gpu() -> str | None:
    """Why CUDA cannot be used at all; None if it can."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return NO_DRIVER
    if not (code := driver.cuInit(0)):
        return None
    name = ctypes.c_char_p()
    driver.cuGetErrorName(code, ctypes.byref(name))
    return f"CUDA does not start ({name.value.decode() if name.value else code})"


@cache
def why_no_decoding() -> str | None:
    """Why no video can be decoded by the GPU; None if a picture of H.264 was."""
    if why := why_no_gpu() or why_not_loaded(NVDEC):
        return why
    try:
        context, packets = decoder("h264"), trial_packets()
        pictures = [picture for packet in [*packets, None] for picture in context.decode(packet)]
    except FAILURES as error:
        return f"the GPU does not decode ({getattr(error, 'strerror', None) or error})"
    if [picture.format.name for picture in pictures] != ["nv12"]:  # FFmpeg has gone back to the CPU by itself
        return "the GPU does not decode H.264"
    return None


def why_no_encoding(open_encoder: Callable[[], Any]) -> str | None:
    """Why no video can be encoded by the GPU; None if the encoder opens.

    Args:
        open_encoder: opens it as it is to be used.
    """
    if why := why_no_gpu() or why_not_loaded(NVENC):
        return why
    try:
        open_encoder()
    except FAILURES as error:
        return f"the GPU does not encode ({getattr(error, 'strerror', None) or error})"
    return None


def why_not_loaded(library: str) -> str | None:
    """Why a library of the driver cannot be used; None if it can."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return f"the driver's {library} is not there"
    return None


def decoder(codec: str) -> Any:
    """A decoder on the GPU, not open yet, whose pictures come to host memory, as NV12 or P010.

    Where the GPU does not take a stream, FFmpeg decodes it on the CPU, and gives other formats.

    Raises:
        ValueError, NotImplementedError: none of FFmpeg's for this codec uses CUDA.
        av.FFmpegError: CUDA does not work.
    """
    device = HWAccel("cuda", allow_software_fallback=True, is_hw_owned=False)
    context: Any = av.CodecContext.create(codec, "r", hwaccel=device)
    if not context.is_hwaccel:
        raise NotImplementedError(codec)
    return context


def trial_packets() -> list[Any]:
    """One gray picture as H.264."""
    context = trial_encoder("libx264")
    picture = av.VideoFrame(TRIAL_SIZE, TRIAL_SIZE, "yuv420p")
    for plane in picture.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    picture.pts = 0
    return [*context.encode(picture), *context.encode(None)]


def trial_encoder(codec: str) -> Any:
    """An open encoder."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width = context.height = TRIAL_SIZE
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 30)
    context.open()
    return context


def tell() -> Iterator[Told]:
    """For `run.py doctor`."""
    yield told("CUDA decoding", why_no_decoding(), "H.264 decodes", "CPUs decode as well; of use for large pictures")
    why = why_no_encoding(lambda: trial_encoder("h264_nvenc"))
    yield told("NVENC", why, "H.264 encodes", "libx264 encodes on the CPU; some GPUs for data centres have no encoder")


def told(what: str, why_not: str | None, found: str, remedy: str) -> Told:
    if why_not is None:
        return what, "ok", found, ""
    if why_not == NO_DRIVER:
        return what, "missing", why_not, remedy
    return what, "warning", why_not, IN_CONTAINERS if ".so" in why_not else remedy
