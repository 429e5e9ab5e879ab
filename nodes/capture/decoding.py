"""Who decodes a video: the CPU, or an NVIDIA GPU where it gives the very same pictures. What `capture.video` and
`capture.stream` decode with.

Not a node.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import av
import numpy as np

from nodes import nvidia
from nodes.pictures import FULL, LIMITED, array_of, color_matrix_of, color_range_of, pixel_format_of, reason
from pipeline.errors import DeviceError

log = logging.getLogger("streamfuse")

Hwaccel = Literal["auto", "none", "cuda"]
Decoded = tuple[list[Any], int]  # pictures, and how many packets could not be decoded

# Standards that leave no bit of a decoded picture open. (Those before them allow inverse transforms that differ.)
EXACT = {"h264": "H.264", "hevc": "H.265", "vp8": "VP8", "vp9": "VP9"}
SAME = {"nv12": "yuv420p", "p010le": "yuv420p10le"}  # of the GPU's formats, what the CPU's decoder gives instead
# What of a stream a decoder of our own has to know before it opens.
KNOWN = ("width", "height", "color_range", "colorspace", "color_primaries", "color_trc", "reorder_depth", "flags")
# From where on "auto" asks the GPU, by judgement and not by measurement: a CPU does less in no time, and the start of
# CUDA and the way back from the GPU take some.
LEAST_PIXELS = 1280 * 720  # of a picture
LEAST_WORK = 100 * 1920 * 1080  # pixels of a whole recording
MOST_HELD = 300  # packets without a picture
LOST = (av.error.UnknownError, av.error.ExternalError, av.error.MemoryError)  # of CUDA, and not of damaged data


class Decoding:
    """What a node decodes with, over all its files and connections.

    Args:
        hwaccel: "auto" takes the GPU where it is of use and works, "cuda" insists on it, "none" never asks for it.
    """

    def __init__(self, hwaccel: Hwaccel) -> None:
        self.hwaccel, self.name = hwaccel, ""
        self.goes_on = False
        """Whether a GPU that is asked for, or fails, is done without; an error otherwise."""
        self._told: set[str] = set()
        self._failed = False

    def open(self, name: str, goes_on: bool = False) -> None:
        """To be called before the first video, with the node's name for messages.

        Raises:
            DeviceError: CUDA is asked for, and does not decode on this machine.
        """
        self.name, self.goes_on = name, goes_on
        if self.hwaccel == "cuda" and (why := nvidia.why_no_decoding()):
            raise self._error(why)

    def begin(self, stream: Any) -> Decoder:
        """What decodes a stream of an open container, whose own decoder is set up and has decoded nothing yet.

        Raises:
            DeviceError: CUDA is asked for, and cannot decode it.
        """
        if self.hwaccel == "none" or self._failed or (self.hwaccel == "auto" and not is_worth_it(stream)):
            return Decoder(stream, self, None)
        codec = stream.codec_context.name
        why = nvidia.why_no_gpu() or why_inexact(codec) or nvidia.why_no_decoding()
        if why is None:
            try:
                return Decoder(stream, self, gpu_decoder(stream))
            except nvidia.FAILURES as error:
                why = f"the GPU has no decoder for {codec} ({reason(error)})"
        if why != nvidia.NO_DRIVER or self.hwaccel == "cuda":
            self.leave(why)
        return Decoder(stream, self, None)

    def refuse(self, what: str) -> None:
        """Raise DeviceError where the GPU is asked for: `what` is for the CPU alone."""
        if self.hwaccel == "cuda":
            raise self._error(f"{what} decoded by the CPU alone")

    def leave(self, why: str, failed: bool = False) -> None:
        """Say, each reason once, why the CPU decodes; after a failure, it does from now on.

        Raises:
            DeviceError: where that is no choice.
        """
        self._failed = self._failed or failed
        grave = failed or self.hwaccel == "cuda"
        if grave and not self.goes_on:
            raise self._error(why)
        if why not in self._told:
            log.log(logging.WARNING if grave else logging.INFO, "%s: decoding on the CPU: %s", self.name, why)
        self._told.add(why)

    def trust(self) -> None:
        """Say once that the GPU decodes."""
        if "" not in self._told:
            log.info("%s: decoding on the GPU", self.name)
        self._told.add("")

    def _error(self, why: str) -> DeviceError:
        return DeviceError(f"Node {self.name!r}: hwaccel is {self.hwaccel!r}, but {why}; set hwaccel: none")


class Decoder:
    """The pictures of one stream, in order of presentation.

    The GPU is on trial first: its packets are kept until its first pictures come, and those are compared with the
    CPU's, bit by bit. If they differ, or FFmpeg had to decode them on the CPU after all, the CPU begins anew with the
    packets that were kept, and nothing is lost.

    Args:
        stream: of an open container.
        decoding: of the node.
        gpu: a decoder on the GPU that is not open yet; None for the CPU's alone.
    """

    def __init__(self, stream: Any, decoding: Decoding, gpu: Any) -> None:
        self.rotation = 0
        """Degrees by which the file wants its pictures shown turned; the GPU's do not tell."""
        self._cpu, self._gpu, self._decoding = stream.codec_context, gpu, decoding
        self._held: list[Any] | None = []
        """Packets of the trial; None when it is over."""
        self._lost = 0

    def decode(self, packet: Any) -> Decoded:
        """The next pictures; of a packet None, what is left.

        Raises:
            DeviceError: the GPU fails, and the node may not go on without.
        """
        if self._gpu is None:
            return self._by_cpu([packet])
        try:
            pictures, lost = self._by_gpu(packet)
        except LOST as error:
            return self._give_up(f"the GPU fails while it decodes ({reason(error)})", packet)
        if self._held is None:
            return [as_by_cpu(picture) for picture in pictures], lost
        self._held.append(packet)
        self._lost += lost
        if not pictures and packet is not None and len(self._held) < MOST_HELD:
            return [], 0
        return self._judge(pictures)

    def _by_gpu(self, packet: Any) -> Decoded:
        try:
            return self._gpu.decode(packet), 0
        except LOST:
            raise
        except av.FFmpegError:
            return [], 1

    def _by_cpu(self, packets: list[Any]) -> Decoded:
        pictures, lost = [], 0
        for packet in packets:
            try:
                pictures += self._cpu.decode(packet)
            except av.FFmpegError:
                lost += 1
        return pictures, lost

    def _give_up(self, why: str, packet: Any) -> Decoded:
        """The GPU has failed: begin anew if nothing was given yet; or else go on, from the next key frame."""
        held, self._gpu = self._held, None
        self._decoding.leave(why, failed=held is None)
        return self._by_cpu([packet] if held is None else [*held, packet])

    def _judge(self, pictures: list[Any]) -> Decoded:
        """End the trial."""
        assert self._held is not None
        held, self._held = self._held, None
        pictures = [as_by_cpu(picture) for picture in pictures]
        why = self._why_not(pictures, held) if pictures else "the GPU gives no picture"
        if why is None:
            self._decoding.trust()
            return pictures, self._lost
        self._gpu = None
        if why:
            self._decoding.leave(why)
        return self._by_cpu(held)

    def _why_not(self, pictures: list[Any], packets: list[Any]) -> str | None:
        """What speaks against the GPU's pictures, "" for what is not worth a word; None if nothing does.

        Leaves the CPU's decoder as if it had decoded nothing.
        """
        depth = self._cpu.reorder_depth
        expected, _ = self._by_cpu(packets if packets[-1] is None else [*packets, None])
        self._cpu.flush_buffers()
        self._cpu.reorder_depth = depth
        if not expected:
            return "the GPU makes a picture where there is none"
        self.rotation = expected[0].rotation
        width, height, format_name = expected[0].width, expected[0].height, expected[0].format.name
        if self._decoding.hwaccel == "auto" and width * height < LEAST_PIXELS:
            return ""
        what = f"{self._cpu.name} {self._cpu.profile or ''} {width}x{height} {format_name}"
        if any(picture.format.name not in SAME.values() for picture in pictures):
            return f"the GPU does not take {what}"
        if len(pictures) > len(expected) or not all(map(is_same, pictures, expected)):
            return f"of {what}, the GPU makes other pictures"
        return None


def why_inexact(codec: str) -> str | None:
    """Why a codec is not for the GPU; None if it is."""
    return None if codec in EXACT else f"{codec} is not for the GPU, which is for {', '.join(EXACT.values())}"


def is_worth_it(stream: Any) -> bool:
    """Whether the GPU may be faster, as far as is known before the first picture."""
    pixels = stream.codec_context.width * stream.codec_context.height
    if not pixels:
        return True
    frames = stream.frames
    if not frames and stream.duration and stream.average_rate:
        frames = round(stream.duration * stream.time_base * stream.average_rate)
    return pixels >= LEAST_PIXELS and (not frames or frames * pixels >= LEAST_WORK)


def gpu_decoder(stream: Any) -> Any:
    """A decoder on the GPU that knows what the stream's own does. For the errors see `nvidia.decoder`."""
    own = stream.codec_context
    context = nvidia.decoder(own.name)
    if own.extradata:
        context.extradata = own.extradata
    for name in KNOWN:
        setattr(context, name, getattr(own, name))
    context.thread_type = "SLICE"  # each further frame at work would take memory for pictures, of which there are few
    return context


def as_by_cpu(picture: Any) -> Any:
    """A picture of the GPU in the layout that the CPU's decoder gives; the values are the same."""
    wanted = SAME.get(picture.format.name)
    if wanted is None:
        return picture
    side = FULL if picture.color_range == FULL else LIMITED
    # By one thread: FFmpeg's writes beyond the ends of odd lines of P010, and so into what another thread has done.
    return picture.reformat(format=wanted, src_color_range=side, dst_color_range=side, threads=1)


def is_same(ours: Any, expected: Any) -> bool:
    """Whether two pictures make the same frame."""
    if (ours.width, ours.height, ours.pts) != (expected.width, expected.height, expected.pts):
        return False
    kinds = [(pixel_format_of(one), color_range_of(one), color_matrix_of(one)) for one in (ours, expected)]
    form = kinds[0][0]
    return kinds[0] == kinds[1] and np.array_equal(array_of(ours, form), array_of(expected, form))
