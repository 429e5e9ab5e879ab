"""capture.stream: a camera or a sender on the network."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import av
from pydantic import Field

from nodes.addresses import check_address, why_not, without_credentials
from nodes.capture.decoding import Decoding, Hwaccel
from nodes.outage import Outage
from nodes.pictures import array_of, color_matrix_of, color_range_of, pixel_format_of
from pipeline import control
from pipeline.clock import StreamClock, Unwrapped
from pipeline.control import Control
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame, TimestampSource
from pipeline.node import Node

log = logging.getLogger("streamfuse")

SCHEMES = ("rtsp", "rtsps", "srt", "http", "https", "udp", "tcp")
# What a playlist or a session description may make FFmpeg open: the network, and never a file of this machine.
PROTOCOLS = "crypto,http,https,httpproxy,rtp,srtp,srt,tcp,tls,udp"
UNTIMED = {"mpjpeg", "mjpeg", "h264", "hevc", "m4v", "mpegvideo", "jpeg_pipe"}  # without times: FFmpeg makes some up
WAIT_S = 0.2  # that `process` waits for a frame
LEAVE_S = 0.5  # that `close` waits for the reader
PICTURELESS_S = 30.0  # data and no picture for so long: longer than any usual distance of key frames
HELD = 4  # frames between the reader and `process`, which takes them at once unless the machine is overloaded


class StreamCapture(Node):
    """Live frames from the network, for ever: what breaks off is connected again.

    A time stamp is the sender's presentation time on the host's clock: the fastest frame counts as not delayed, so
    that what all frames take on their way (exposure, encoding, network; with H.264 over RTSP or MPEG-TS one frame
    interval more, for a picture is known to be whole when the next begins) is not in it. `offset_ms` puts it right.

    FFmpeg's reading blocks, and cannot be done in slices. So this node has a thread of its own that reads and decodes
    and leaves the newest frames for `process`, which never waits for long. `close` gives it half a second to end, and
    leaves it behind if it is stuck in the network: it then ends by itself, at the latest with the time-outs.

    Args:
        url: `rtsp://`, `rtsps://`, `http://`, `https://` (MPEG-TS, motion JPEG), `udp://` or `srt://` (MPEG-TS),
            `tcp://`; with `user:password@` where needed, which no message shows. `udp://:5000` listens at that port.
        transport: of RTSP: "tcp" is through every firewall, "udp" does not stall when a packet is lost.
        open_timeout_s: until an attempt to connect is given up.
        read_timeout_s: of silence until the connection is given up.
        offset_ms: added to each time stamp: minus what the camera and the network always take.
        low_delay: start after the least probing, and decode without holding frames back. false for streams with B
            frames, or whose kind is hard to tell.
        reconnect_s: pause before the next attempt, the first and the longest; doubled at each, less up to half of it
            at random.
        hwaccel: "auto" decodes 1280x720 and more by CUDA where it gives the same as the CPU, bit by bit, and says why
            where it does not; "cuda" wants a GPU that decodes; "none" asks for none. The CPU stands in where it fails.
    """

    live = True

    def __init__(
        self,
        url: str,
        transport: Literal["tcp", "udp"] = "tcp",
        open_timeout_s: Annotated[float, Field(gt=0, le=120)] = 5.0,
        read_timeout_s: Annotated[float, Field(gt=0, le=120)] = 5.0,
        offset_ms: Annotated[float, Field(ge=-10_000, le=10_000)] = 0.0,
        low_delay: bool = True,
        reconnect_s: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.5, 10.0),
        hwaccel: Hwaccel = "auto",
    ) -> None:
        parts = check_address(url, SCHEMES)
        if reconnect_s[0] > reconnect_s[1]:
            raise ConfigError(f"setting 'reconnect_s' is {list(reconnect_s)}: the first pause is the shorter one")
        self.transport, self.low_delay, self.reconnect_s = transport, low_delay, reconnect_s
        self.open_timeout_s, self.read_timeout_s, self.offset_ms = open_timeout_s, read_timeout_s, offset_ms
        self._offsets_ms = (offset_ms - 500, offset_ms + 500)  # to turn: so that a step of a slider is a small one
        self.address, self._decoding = without_credentials(url), Decoding(hwaccel)
        self._url, self._scheme, self._host = url, parts.scheme, parts.hostname
        self._clock = StreamClock()
        self._frames: deque[Frame] = deque(maxlen=HELD)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._reader: threading.Thread | None = None
        self._outage: Outage | None = Outage(*reconnect_s)  # until the first frame
        self._sequence, self._last_ns, self._last_arrived_ns = 0, 0, 0
        self._count = dict.fromkeys(("frames", "reconnects", "corrupt", "overrun"), 0)
        self._delay_ms = 0.0

    # In the node's thread:

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        if self._scheme == "srt" and not has_srt():
            raise SourceError(
                f"{self.address}: the FFmpeg inside this PyAV has no SRT; put a gateway before it that gives RTSP or "
                "UDP (e.g. MediaMTX), or install PyAV built with a system's FFmpeg (pip install av --no-binary av)"
            )
        self._decoding.open(self.name, goes_on=True)
        self._stop = threading.Event()
        name = f"{self.name} reader"
        self._reader = threading.Thread(target=self._read_on, args=(self._stop,), name=name, daemon=True)
        self._reader.start()

    def process(self) -> Frame | None:
        with self._changed:
            if not self._frames:
                self._changed.wait(WAIT_S)
            return self._frames.popleft() if self._frames else None

    def close(self) -> None:
        self._stop.set()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.join(LEAVE_S)
        with self._changed:
            self._frames.clear()

    def change(self, control: str, value: Any) -> None:
        self.offset_ms = value

    # From anywhere:

    def report(self) -> dict[str, Any]:
        notes = {key: value for key, value in self._count.items() if value and key != "frames"}
        return {"url": self.address, "notes": notes}

    def gauges(self) -> dict[str, float]:
        connected = float(self._outage is None)
        drift = {"drift_ppm": self._clock.drift_ppm, "delay_ms": self._delay_ms, "epoch": self._clock.epoch}
        return {**self._count, "connected": connected, **drift}

    def controls(self) -> dict[str, Control]:
        return {"offset_ms": control.number("Time offset", self.offset_ms, *self._offsets_ms, unit="ms")}

    # In the reader's thread:

    def _read_on(self, stop: threading.Event) -> None:
        """Connect, read until it breaks, and again."""
        while not stop.is_set():
            began = time.monotonic()
            try:
                reason = self._read_once(stop)
            except Exception as error:  # whatever it is, the next attempt may do
                reason = self._reason(error, time.monotonic() - began)
            if not stop.is_set():
                stop.wait(self._lost(reason))

    def _reason(self, error: Exception, after_s: float) -> str:
        """Why a connection failed or broke, without what is secret."""
        if isinstance(error, SourceError):
            return str(error)
        if self._outage is None and isinstance(error, TimeoutError | av.error.ExitError):
            return f"nothing came for {self.read_timeout_s:g} s"
        # FFmpeg's RTSP takes an answer that does not come for one that it does not understand.
        misread = isinstance(error, av.error.InvalidDataError) and self._outage and after_s >= self.open_timeout_s
        return why_not(TimeoutError() if misread else error, self._host)

    def _read_once(self, stop: threading.Event) -> str:
        """One connection, from its opening to its end; says why it ended."""
        with av.open(
            self._url,
            format="mpegts" if self._scheme in ("udp", "srt") else None,
            options=self._options(),
            timeout=(self.open_timeout_s, self.read_timeout_s),
            metadata_errors="replace",
        ) as container:
            if not container.streams.video:
                raise SourceError(f"there is no video in it (FFmpeg takes it for {container.format.long_name!r})")
            stream = container.streams.video[0]
            if self._count["frames"]:
                self._clock.restart()
            times = Times(stream, container.format.name)
            for picture, arrived_ns in self._pictures(container, stream, stop):
                frame = self._frame(picture, times, arrived_ns)
                if stop.is_set():  # and perhaps another reader is at work already
                    break
                self._give(frame)
        return "the sender ended it"

    def _options(self) -> dict[str, str]:
        """FFmpeg's, of the protocol and of the format; times are microseconds."""
        options = {"protocol_whitelist": PROTOCOLS}
        if self._scheme.startswith("rtsp"):
            options |= {"rtsp_transport": self.transport, "allowed_media_types": "video"}
            options["timeout"] = str(round(max(self.open_timeout_s, self.read_timeout_s) * 1e6))
        if self._scheme == "udp":
            options |= {"overrun_nonfatal": "1", "buffer_size": str(1 << 20)}
        if self.low_delay:
            # RTSP tells at once what comes; others say it within a second. Not `nobuffer`: it throws the first key
            # frame away, with which the first picture came in 0.13 s instead of 0.37 s, and gains nothing later.
            least = self._scheme.startswith("rtsp")
            options |= {"probesize": "32", "analyzeduration": "0"} if least else {"analyzeduration": "1000000"}
            options["fpsprobesize"] = "0"
        return options

    def _pictures(self, container: Any, stream: Any, stop: threading.Event) -> Iterator[tuple[Any, int]]:
        """Decoded pictures, each with when the packet was there that brought it out."""
        decoder = stream.codec_context
        if decoder is None:
            raise SourceError("its codec is one that cannot be decoded here; set the camera to H.264 or H.265")
        decoder.thread_type = "SLICE" if self.low_delay else "AUTO"  # threads by frames hold back one frame each
        if self.low_delay:
            decoder.flags |= av.codec.context.Flags.low_delay
        by = self._decoding.begin(stream)
        seen_s, pictures = time.monotonic(), 0
        for packet in container.demux(stream):
            arrived_ns = time.monotonic_ns()
            if stop.is_set():
                return
            decoded, damaged = by.decode(packet)
            if damaged and pictures:  # a gap; before the first key frame there is nothing to be decoded
                self._count["corrupt"] += 1
                self._sequence += 1
            for picture in decoded:
                self._count["corrupt"] += bool(picture.is_corrupt)
                pictures, seen_s = pictures + 1, time.monotonic()
                yield picture, arrived_ns
            if time.monotonic() - seen_s > PICTURELESS_S:
                raise SourceError(f"data come, but not one picture in {PICTURELESS_S:.0f} s")

    def _frame(self, picture: Any, times: Times, arrived_ns: int) -> Frame:
        arrived_ns = self._last_arrived_ns = max(arrived_ns, self._last_arrived_ns + 1)
        source: TimestampSource = "arrival"
        timestamp_ns = arrived_ns
        if (stream_ns := times.ns(picture)) is not None:
            timestamp_ns, source = self._clock.host_ns(stream_ns, arrived_ns), "pts"
        self._delay_ms = (arrived_ns - timestamp_ns) / 1e6
        # In order over everything: reconnections, pictures without a time, another offset.
        self._last_ns = max(timestamp_ns + round(self.offset_ms * 1e6), self._last_ns + 1)
        self._sequence += 1
        pixel_format = pixel_format_of(picture)
        return Frame(
            data=array_of(picture, pixel_format),
            pixel_format=pixel_format,
            size=(picture.width, picture.height),
            timestamp_ns=self._last_ns,
            timestamp_source=source,
            sequence=self._sequence - 1,
            stream=self.name,
            color_range=color_range_of(picture),
            color_matrix=color_matrix_of(picture),
            frame_rate=times.frame_rate,
        )

    def _give(self, frame: Frame) -> None:
        with self._changed:
            self._count["overrun"] += len(self._frames) == HELD
            self._frames.append(frame)
            self._changed.notify()
        self._count["frames"] += 1
        outage, self._outage = self._outage, None
        if outage is not None:
            after = f" after {outage.lasted_s:.1f} s, at attempt {outage.attempts + 1}" if outage.attempts else ""
            what = f"{frame.size[0]}x{frame.size[1]} {frame.pixel_format}"
            log.info("%s: %s: connected%s: %s", self.name, self.address, after, what)

    def _lost(self, reason: str) -> float:
        """Note that a connection failed; says for how many seconds to pause."""
        if self._outage is None:
            self._outage = Outage(*self.reconnect_s)
            self._count["reconnects"] += 1
            self._sequence += 1
        if self._outage.is_news(reason):
            log.warning("%s: %s: %s; trying again", self.name, self.address, reason)
        return self._outage.failed()


class Times:
    """Presentation times of one connection, in nanoseconds."""

    def __init__(self, stream: Any, kind: str) -> None:
        self.frame_rate = stream.average_rate
        self._timed = not UNTIMED & set(kind.split(","))
        self._unwrapped = Unwrapped() if kind == "mpegts" else None  # FFmpeg itself follows one wrap of 33 bits

    def ns(self, picture: Any) -> int | None:
        """None if it has none, or only one that FFmpeg has made up."""
        if picture.pts is None or not self._timed:
            return None
        if self._unwrapped is not None:
            return self._unwrapped.ns(picture.pts % (1 << 33))
        return round(picture.pts * picture.time_base * 1_000_000_000)


def has_srt() -> bool:
    """Whether this FFmpeg knows the protocol: one that it knows fails in another way."""
    try:
        av.open("srt://127.0.0.1:1?connect_timeout=1", format="mpegts", timeout=0.01).close()
    except av.error.ProtocolNotFoundError:
        return False
    except av.FFmpegError:
        pass
    return True
