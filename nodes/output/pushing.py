"""The process that connects to a receiver and sends it packets of H.264, and the other end of it.

Why a process, where a thread would be simpler: PyAV keeps the interpreter's lock while an output connects and while it
says goodbye, and gives no way to interrupt either. A receiver that takes the connection and says nothing would freeze
every node for minutes, from whatever thread it was called. A process can be killed at any moment, and takes its sockets
with it.

This file is both ends. The process runs it as a script, so it imports nothing of the project. What goes to it: a line
of JSON, then packets, each with a HEAD; the first is a key frame, for what the stream is goes to the receiver first.
What comes back: CONNECTED once, SENT for each packet, or FAILED and a reason. The address travels in here and not on
the command line, where everybody on the machine could read the password in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

import av

HEAD = struct.Struct("<q?I")  # time in ticks, whether a key frame, bytes that follow
TICKS = 90_000  # a second
CONNECTED, SENT, FAILED = b"c", b".", b"!"
PIPE_BYTES = 1 << 20
TS_BYTES = 1316  # seven packets of MPEG-TS: what fits a datagram everywhere
FORMATS = {"rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "flv", "rtmps": "flv", "srt": "mpegts", "udp": "mpegts"}
OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp"},
    "flv": {"flvflags": "no_duration_filesize"},  # which nobody can go back to and write
    "mpegts": {},
}
# Of libsrt, srt.h: name in an address -> number and type of the option.
SRT_SETTINGS: dict[str, tuple[int, type]] = {
    "latency": (23, int),
    "passphrase": (26, str),
    "pbkeylen": (27, int),
    "streamid": (46, str),
}
SRT_SENDER, SRT_CONNECT_TIMEOUT_MS = 21, 36
SRT_LIBRARIES = ("srt-gnutls", "srt-openssl", "srt")


# In the node's process:


class Push:
    """A connection, from the side of the node. No method blocks but `finish`, which must be called.

    Args:
        url: where to.
        size: (width, height) of the pictures.
        rate: frames a second, nominal.
        timeout_s: how long connecting or sending one packet may take.
    """

    def __init__(self, url: str, size: tuple[int, int], rate: Fraction, timeout_s: float) -> None:
        self.connected = False
        self.failure: str | None = None
        """Why it is over."""
        self.sent = self.given = 0
        """Packets."""
        self._timeout_s = timeout_s
        self._reason: bytes | None = None
        # -P: the folder of this file is no place to look for modules. A session of its own: Ctrl-C is not for it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__))],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        with contextlib.suppress(OSError, AttributeError):  # Linux: room for any key frame, so that none waits in parts
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        about = {"url": url, "size": size, "rate": str(rate), "timeout_s": timeout_s}
        self._left = json.dumps(about).encode() + b"\n"

    @property
    def in_flight(self) -> int:
        """Packets that the receiver's socket has not taken yet."""
        return self.given - self.sent

    def give(self, ticks: int, key: bool, data: bytes) -> None:
        """Send a packet, or what fits into the pipe now, and the rest later."""
        self._left += HEAD.pack(ticks, key, len(data)) + data
        self.given += 1
        self.turn()

    def turn(self) -> None:
        """Move on what can be moved on, and hear what came back."""
        if self.failure is not None:
            return
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # its last words come by the other pipe
            while self._left:
                self._left = self._left[os.write(self._in, self._left) :]
        ended = self._process.poll() is not None
        self._hear()
        if ended:
            self.failure = self._last_words()

    def finish(self, patience_s: float) -> None:
        """Let it say goodbye to the receiver; kill it when that takes longer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        if self.connected and self.failure is None and not self._left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        self._process.kill()
        self._process.wait()
        self._hear()
        self._process.stdout.close()
        self.failure = self.failure or "finished"

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while heard := os.read(self._out, 4096):
                if self._reason is None:
                    heard, mark, words = heard.partition(FAILED)
                    self.connected |= CONNECTED in heard
                    self.sent += heard.count(SENT)
                    self._reason = words if mark else None
                else:
                    self._reason += heard

    def _last_words(self) -> str:
        if self._reason:
            return self._reason.decode(errors="replace")
        if self._process.returncode == -signal.SIGALRM:
            return f"no answer within {self._timeout_s:g} s"
        return f"the sending process ended with {self._process.returncode}"


# In the process:


class SrtError(OSError):
    """What libsrt says went wrong, which is never the address."""


class Srt:
    """An SRT connection to a listener as a file for PyAV, whose own FFmpeg comes without SRT.

    Haivision's library, version 1.4 or newer, called as its API.md says.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.name = "srt"
        self._lib: Any = ctypes.CDLL(srt_library())
        self._lib.srt_getlasterror_str.restype = ctypes.c_char_p
        self._lib.srt_startup()
        self._socket = self._lib.srt_create_socket()
        parts = urlsplit(url)
        self._set(SRT_SENDER, 1)
        self._set(SRT_CONNECT_TIMEOUT_MS, round(timeout_s * 1000))
        for key, value in parse_qsl(parts.query):
            number, kind = SRT_SETTINGS[key]
            self._set(number, kind(value))
        family, _, _, _, address = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)[0]
        name = packed_address(family, address)
        self._check(self._lib.srt_connect(self._socket, name, len(name)))

    def _set(self, option: int, value: int | str) -> None:
        data = value.encode() if isinstance(value, str) else struct.pack("i", value)
        self._check(self._lib.srt_setsockflag(self._socket, option, data, len(data)))

    def _check(self, result: int) -> None:
        if result < 0:
            raise SrtError(self._lib.srt_getlasterror_str().decode(errors="replace"))

    def write(self, data: bytes) -> int:
        for start in range(0, len(data), TS_BYTES):
            piece = data[start : start + TS_BYTES]
            self._check(self._lib.srt_sendmsg(self._socket, piece, len(piece), -1, 0))
        return len(data)

    def close(self) -> None:
        self._lib.srt_close(self._socket)
        self._lib.srt_cleanup()


def srt_library() -> str | None:
    """The name to load it by, if it is installed."""
    return next(filter(None, map(ctypes.util.find_library, SRT_LIBRARIES)), None)


def packed_address(family: int, address: tuple[Any, ...]) -> bytes:
    """A struct sockaddr_in or sockaddr_in6 of Linux."""
    if family == socket.AF_INET6:
        host, port, flow, scope = address
        tail = struct.pack("!I", flow) + socket.inet_pton(family, host) + struct.pack("=I", scope)
        return struct.pack("=H", family) + struct.pack("!H", port) + tail
    host, port = address
    return struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def packets() -> Iterator[av.Packet]:
    """What the node gives, until it gives no more."""
    source: BinaryIO = sys.stdin.buffer
    while len(head := source.read(HEAD.size)) == HEAD.size:
        ticks, key, size = HEAD.unpack(head)
        if len(data := source.read(size)) < size:
            return
        packet = av.Packet(data)
        packet.pts = packet.dts = ticks
        packet.time_base, packet.is_keyframe = Fraction(1, TICKS), key
        yield packet


@contextlib.contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """The system ends this process when it takes longer: nothing else ends a call of FFmpeg's that is stuck."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def push(url: str, size: tuple[int, int], rate: Fraction, timeout_s: float) -> None:
    """Connect, and send packets until there are no more."""
    scheme = urlsplit(url).scheme.lower()
    kind, given = FORMATS[scheme], packets()
    first = next(given, None)
    if first is None:
        return
    with no_longer_than(timeout_s):
        connection = Srt(url, timeout_s) if scheme == "srt" else None
        target: Any = connection or url
        options = {"flush_packets": "1", **OPTIONS[kind]}
        container = av.open(target, "w", format=kind, options=options, buffer_size=TS_BYTES)
        width, height = size
        stream = container.add_mux_stream("h264", rate=rate, width=width, height=height)
        first.stream = stream
        container.mux_one(first)  # which writes the header, with what the key frame says of the stream
    say(CONNECTED + SENT)
    for packet in given:
        packet.stream = stream
        with no_longer_than(timeout_s):
            container.mux_one(packet)
        say(SENT)
    with no_longer_than(timeout_s):
        container.close()
        if connection:
            connection.close()


def say(words: bytes) -> None:
    os.write(sys.stdout.fileno(), words)


def main() -> None:
    """Do what the first line says."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    about = json.loads(sys.stdin.buffer.readline() or b"null")
    if about is None:
        return
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        try:
            push(about["url"], about["size"], Fraction(about["rate"]), about["timeout_s"])
        except (av.FFmpegError, OSError, ValueError) as error:
            # Not str(error): it may hold the address.
            reason = getattr(error, "strerror", None) or (
                str(error) if type(error) is OSError else type(error).__name__
            )
            say(FAILED + reason.encode())
    sys.stdout.flush()
    os._exit(0)  # what is still open goes with the process, and nothing in it can be stuck


if __name__ == "__main__":
    main()
