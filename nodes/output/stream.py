"""output.stream: pushes H.264 to a server or a receiver, with little delay, and for ever."""

from __future__ import annotations

import logging
import time
from collections import Counter
from fractions import Fraction
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qsl

import av
from av.video.frame import PictureType
from pydantic import Field

from nodes.addresses import check_address, without_credentials
from nodes.outage import Outage
from nodes.output.encoding import CPU, GPU, Look, choose_encoder, look_of
from nodes.output.pushing import FORMATS, SRT_SETTINGS, TICKS, TS_BYTES, Push, srt_library
from pipeline.errors import ConfigError, OutputError, did_you_mean
from pipeline.frame import Frame
from pipeline.node import Node

log = logging.getLogger("streamfuse")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0  # before connecting again: doubled each time, less up to a half by chance
LASTING_S = 5.0  # a connection that held so long was a good one: the next wait is short again
MOST_IN_FLIGHT = 8  # packets that the receiver has not taken; more would only be older
GOODBYE_S = 0.7
SHORTEST_STEP = TICKS // 1000  # RTMP counts milliseconds
USUAL_RATE = Fraction(30)
LOW_DELAY = {
    CPU: {"preset": "veryfast", "tune": "zerolatency", "forced-idr": "1"},
    GPU: {"preset": "p4", "tune": "ull", "rc": "cbr", "zerolatency": "1", "delay": "0", "forced-idr": "1"},
}
PROBE = Look((640, 480), "yuv420p", "limited", "bt709")


class StreamOutput(Node):
    """Push frames as H.264 to a server or a receiver; for live pipelines.

    Nothing waits for the receiver: a process of its own connects and sends (`pushing.py` says why). Whatever happens
    there, the node goes on and connects again, for ever, after 0.5 s at first and 10 s at most. Frames that cannot be
    sent are counted: `not_connected`, or `slow` where the receiver takes less than it gets; these are left out before
    they are encoded, so the picture stays whole. When the size of the frames changes, it connects anew.

    Args:
        url: `rtsp://` (published over TCP) or `rtsps://`, `rtmp://` or `rtmps://`, and MPEG-TS to `udp://HOST:PORT` or
            `srt://HOST:PORT?streamid=...&passphrase=...&latency=MS&pbkeylen=16`; user and password in front of the host
            where one is needed. What is secret in it is not shown.
        bitrate_kbps: kilobits a second, at most and on average.
        fps: frames a second, from which the encoder takes the bits for each; default: as the source says, or 30.
        codec: "libx264"; "h264_nvenc", on an NVIDIA GPU that has an encoder; "auto" is the latter as long as it works.
        gop_s: seconds from one key frame to the next: how long a new viewer waits for a picture.
        timeout_s: for an answer, when connecting and while sending.
    """

    def __init__(
        self,
        url: str,
        bitrate_kbps: Annotated[int, Field(ge=50, le=200_000)] = 4000,
        fps: Annotated[float, Field(ge=0.1, le=1000)] | None = None,
        codec: Literal["auto", "libx264", "h264_nvenc"] = "auto",
        gop_s: Annotated[float, Field(ge=0.1, le=60)] = 1.0,
        timeout_s: Annotated[float, Field(ge=0.5, le=60)] = 5.0,
    ) -> None:
        self.shown = without_credentials(without_key(url))
        self.url = check_target_address(url, self.shown)
        self.bitrate_kbps, self.fps, self.gop_s, self.timeout_s = bitrate_kbps, fps, gop_s, timeout_s
        self.wanted, self.codec = codec, CPU
        self._encoder: Any = None
        self._look: Look | None = None
        self._push: Push | None = None
        self._connected = False
        self._begin_ns: int | None = None
        self._last_pts = self._base = self._key_at = 0
        self._connections = self._sent = 0
        self._again_at = self._since = 0.0
        self._outage: Outage | None = None
        self._missed: Counter[str] = Counter()

    def open(self, sizes: dict[str, tuple[int, int] | None]) -> None:
        if self.running is not None and self.running.mode == "recorded":
            raise ConfigError(
                f"Node {self.name!r}: a stream shows what is now, and recordings are worked on as fast as they can be: "
                "set pace: realtime where they are read, or write a file with output.video"
            )
        if self.url.lower().startswith("srt:") and srt_library() is None:
            raise OutputError(
                f"{self.shown}: SRT needs the library libsrt, which is not installed: apt install libsrt1.5-gnutls"
            )
        self.codec = choose_encoder(self.wanted, self.name, lambda: self._new_encoder(GPU, PROBE, USUAL_RATE))

    def process(self, frame: Frame) -> None:
        look = look_of(frame, "h264")
        if look is None:
            if self._begin_ns is None:
                raise OutputError(f"{self.shown}: h264 cannot hold {frame.pixel_format}; feed fused or 8-bit frames")
            self._missed["format"] += 1
            return
        self._begin_ns = frame.timestamp_ns if self._begin_ns is None else self._begin_ns
        if self._look is None or not self._look.holds(frame, "h264"):
            self._hang_up(0.2)
            self._look, self._encoder, self._again_at = look, None, 0.0
        try:
            if why := self._obstacle():
                self._missed[why] += 1
            else:
                self._send(frame)
        except (av.FFmpegError, OSError) as error:  # of the encoder, or no process can be started
            self._missed["error"] += 1
            self._encoder = None
            why = getattr(error, "strerror", None) or type(error).__name__
            if self.codec == GPU and self.wanted == "auto" and isinstance(error, av.FFmpegError):
                log.warning("%s: %s fails (%s): going on with %s", self.name, GPU, why, CPU)
                self.codec = CPU
            self._lose(why)

    def close(self) -> None:
        self._hang_up(GOODBYE_S)
        self._encoder = None

    def report(self) -> dict[str, Any]:
        told = {"sent": self._sent, "connections": self._connections}
        return {"path": self.shown, "notes": told | {f"not sent: {why}": n for why, n in self._missed.items()}}

    def gauges(self) -> dict[str, float]:
        push, missed = self._push, self._missed.copy()
        return {
            "connected": float(self._connected),
            "connections": float(self._connections),
            "sent": float(self._sent + (push.sent if push else 0)),
            "not_connected": float(missed["not_connected"]),
            "slow": float(missed["slow"]),
        }

    # The connection:

    def _obstacle(self) -> str | None:
        """Why this frame cannot be sent; keeps the connection up to date. None also where there is yet to be one."""
        if self._push is None:
            return "not_connected" if self.now() < self._again_at else None
        self._push.turn()
        if self._push.connected and not self._connected:
            self._connected, self._since = True, self.now()
            self._connections += 1
            log.info("%s: sending to %s", self.name, self.shown)
        if self._push.failure is not None:
            self._lose(self._push.failure)
        if not self._connected:
            return "not_connected"
        return "slow" if self._push and self._push.in_flight >= MOST_IN_FLIGHT else None

    def _lose(self, why: str) -> None:
        """Clear away a connection that has failed, and wait before the next."""
        lasted = self._connected and self.now() - self._since > LASTING_S
        if self._outage is None or lasted:
            self._outage = Outage(FIRST_WAIT_S, LONGEST_WAIT_S)
        self._hang_up(0)
        self._again_at = self.now() + self._outage.failed()
        if self._outage.is_news(why):
            log.warning("%s: not sending to %s: %s; trying again until it works", self.name, self.shown, why)

    def _hang_up(self, patience_s: float) -> None:
        push, self._push, self._connected = self._push, None, False
        if push is not None:
            push.finish(patience_s)
            self._sent += push.sent
            self._missed["not_connected"] += push.in_flight

    # The encoder:

    def _send(self, frame: Frame) -> None:
        """Encode a frame and give it to the connection; the first of a connection makes it."""
        assert self._look is not None
        assert self._begin_ns is not None
        if self._encoder is None:
            self._encoder = self._new_encoder(self.codec, self._look, self._rate(frame))
        picture = self._look.picture(frame, pad_to_even=True)
        wanted = round((frame.timestamp_ns - self._begin_ns) * TICKS / 1_000_000_000)
        self._last_pts = max(wanted, self._last_pts + SHORTEST_STEP)
        picture.pts, picture.time_base = self._last_pts, Fraction(1, TICKS)
        if self._push is None or self._last_pts >= self._key_at:
            picture.pict_type = PictureType.I
            self._key_at = self._last_pts + round(self.gop_s * TICKS)
        packets = self._encoder.encode(picture)
        if self._push is None:
            self._base = self._last_pts
            size = self._encoder.width, self._encoder.height
            self._push = Push(self.url, size, self._rate(frame), self.timeout_s)
        for packet in packets:
            self._push.give(packet.pts - self._base, packet.is_keyframe, bytes(packet))

    def _rate(self, frame: Frame) -> Fraction:
        """Frames a second to reckon with."""
        return Fraction(self.fps).limit_denominator(1001) if self.fps else frame.frame_rate or USUAL_RATE

    def _new_encoder(self, codec: str, look: Look, rate: Fraction) -> Any:
        """An open encoder that gives each picture at once."""
        context: Any = av.CodecContext.create(codec, "w")
        look.apply(context, pad_to_even=True)
        context.time_base, context.framerate = Fraction(1, TICKS), rate
        context.bit_rate = self.bitrate_kbps * 1000
        context.max_b_frames = 0
        # Key frames are asked for by time, as frames need not come at the rate that was promised.
        context.gop_size = max(1, round(10 * rate * Fraction(self.gop_s)))
        # Half a second's bits: the most that a key frame can be late by on a line of this rate.
        limits = {"maxrate": str(context.bit_rate), "bufsize": str(context.bit_rate // 2)}
        context.options = LOW_DELAY[codec] | limits
        context.open()
        return context

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()


def check_target_address(url: str, shown: str) -> str:
    """An address that can be sent to; what ConfigError says of another shows no secrets."""
    parts: SplitResult = check_address(without_key(url), FORMATS)
    where, scheme = f"setting 'url' is {shown!r}", parts.scheme.lower()
    if not parts.hostname:
        raise ConfigError(f"{where}: there is no host in it; write {scheme}://HOST:PORT")
    if scheme == "srt":
        check_srt(where, dict(parse_qsl(parts.query, keep_blank_values=True)))
    if scheme == "udp" and "pkt_size=" not in parts.query:  # whole packets of MPEG-TS
        return f"{url}{'&' if '?' in url else '?'}pkt_size={TS_BYTES}"
    return url


def check_srt(shown: str, settings: dict[str, str]) -> None:
    """Raise ConfigError where the tail of an SRT address says something that we cannot do."""
    for key, value in settings.items():
        if key not in SRT_SETTINGS:
            raise ConfigError(f"{shown}: SRT here has no setting {key!r}.{did_you_mean(key, SRT_SETTINGS)}")
        if SRT_SETTINGS[key][1] is int and not value.isdecimal():
            raise ConfigError(f"{shown}: {key} is a whole number")
    if not 10 <= len(settings.get("passphrase", "0123456789")) <= 79:
        raise ConfigError(f"{shown}: a passphrase of SRT has 10 to 79 characters")
    if settings.get("pbkeylen", "16") not in ("16", "24", "32"):
        raise ConfigError(f"{shown}: pbkeylen is 16, 24 or 32")


def without_key(url: str) -> str:
    """An address without the last part of its path where that is the key of a stream: of RTMP."""
    head, slash, _ = url.partition("?")[0].rpartition("/")
    hidden = url.lower().startswith("rtmp") and head.count("/") > 2
    return f"{head}{slash}..." if hidden else url
