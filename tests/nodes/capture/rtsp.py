"""A small RTSP camera on loopback, so that the tests need no server from elsewhere; and pictures for other servers.

RTSP 1.0 (RFC 2326) with H.264 over RTP (RFC 6184), interleaved in TCP or over UDP. As many pictures a second as wanted.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import socket
import struct
import threading
import time
from fractions import Fraction
from functools import cache
from typing import Any

import av

from tests.nodes.capture.media import make_picture

SIZE = (64, 48)
MOST_BYTES = 400  # of an RTP packet: little, so that even small pictures come in fragments
START_CODE = re.compile(b"\x00\x00\x00?\x01")
Units = tuple[bytes, ...]


@cache
def h264(size: tuple[int, int] = SIZE, count: int = 24, group: int = 6) -> tuple[Units, ...]:
    """The NAL units of each of some pictures, a closed loop: it can be sent again and again."""
    coder: Any = av.CodecContext.create("libx264", "w")
    coder.width, coder.height, coder.pix_fmt, coder.time_base = *size, "yuv420p", Fraction(1, 25)
    coder.gop_size = group
    coder.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": f"keyint={group}:slices=1"}
    packets = []
    for number in range(count):
        picture = make_picture(number, "yuv420p", size)
        picture.pts, picture.time_base = number, Fraction(1, 25)
        packets += coder.encode(picture)
    packets += coder.encode(None)
    return tuple(tuple(unit for unit in START_CODE.split(bytes(packet)) if unit) for packet in packets)


@cache
def mpegts(size: tuple[int, int] = SIZE, count: int = 24, start: int = 0, rate: int = 25) -> tuple[bytes, ...]:
    """MPEG-TS, in the pieces that each picture makes.

    Args:
        start: presentation time of the first picture, in ticks of 90 kHz.
    """

    class Pieces(io.RawIOBase):
        def __init__(self) -> None:
            self.kept = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.kept += data
            return len(data)

    sink, pieces = Pieces(), []
    options = {"mpegts_copyts": "1", "flush_packets": "1", "pat_period": "0.1"}
    with av.open(sink, "w", format="mpegts", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = 6
        for number in range(count):
            picture = make_picture(number, "yuv420p", size)
            picture.pts, picture.time_base = number, Fraction(1, rate)
            for packet in stream.encode(picture):
                packet.pts = packet.dts = start + number * 90_000 // rate
                packet.time_base = Fraction(1, 90_000)
                container.mux(packet)
            pieces.append(bytes(sink.kept))
            sink.kept.clear()
    return tuple(piece for piece in pieces if piece)


class RtspCamera:
    """Answers every client that comes, until it is stopped; may be started again at the same port.

    Args:
        password: of the user "admin"; None lets everybody in.
        rate: pictures a second.
        size: of the pictures; may be changed while it runs.
    """

    def __init__(self, password: str | None = None, rate: float = 100.0, size: tuple[int, int] = SIZE) -> None:
        self.password, self.rate, self.size = password, rate, size
        self.port = 0
        self.began_s = 0.0  # when its clock, the RTP time, was 0: it begins anew with each start
        self.lost: set[int] = set()  # numbers of packets that the network loses
        self.damaged = False  # flip bits of slices from now on
        self.keyless = False  # send no key frame
        self.silent = threading.Event()  # send nothing more
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def start(self) -> RtspCamera:
        self._stop.clear()
        self.began_s = time.monotonic()
        listener = socket.create_server(("127.0.0.1", self.port), backlog=8)
        self.port = listener.getsockname()[1]
        self._sockets = [listener]
        self._spawn(self._accept, listener)
        return self

    def stop(self) -> None:
        """As when the power fails: everything is gone at once."""
        self._stop.set()
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def __enter__(self) -> RtspCamera:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, work: Any, *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self._stop.is_set():
                client, _ = listener.accept()
                self._sockets.append(client)
                self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        player: threading.Thread | None = None
        ended, transport = threading.Event(), ""
        with contextlib.suppress(OSError, ValueError), client, client.makefile("rb") as lines:
            while request := lines.readline().decode().strip():
                if request.startswith("$"):  # RTCP of the client
                    continue
                headers = dict(
                    line.split(": ", 1) for line in iter(lambda: lines.readline().decode().strip(), "") if ": " in line
                )
                method, transport = request.split()[0], headers.get("Transport", transport)
                self._answer(client, method, request, headers)
                if method == "PLAY" and player is None:
                    player = threading.Thread(target=self._play, args=(client, transport, ended), daemon=True)
                    player.start()
        ended.set()
        if player:
            player.join(5)

    def _answer(self, client: socket.socket, method: str, request: str, headers: dict[str, str]) -> None:
        reply, extra, body = "200 OK", "", ""
        wanted = base64.b64encode(f"admin:{self.password}".encode()).decode()
        if self.password is not None and headers.get("Authorization") != f"Basic {wanted}" and method != "OPTIONS":
            reply, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n'
        elif "/live" not in request:
            reply = "404 Not Found"
        elif method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n"
        elif method == "DESCRIBE":
            extra, body = "Content-Type: application/sdp\r\n", self._sdp()
        elif method == "SETUP":
            extra = f"Transport: {headers['Transport']};server_port=6970-6971\r\n"
        session = "Session: 12345678\r\n" if method in ("SETUP", "PLAY") else ""
        text = (
            f"RTSP/1.0 {reply}\r\nCSeq: {headers['CSeq']}\r\n{session}{extra}Content-Length: {len(body)}\r\n\r\n{body}"
        )
        client.sendall(text.encode())

    def _sdp(self) -> str:
        sets = ",".join(base64.b64encode(u).decode() for u in h264(self.size)[0] if u[0] & 31 in (7, 8))
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
            "a=rtpmap:96 H264/90000\r\na=control:track\r\n"
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\n"
        )

    def _play(self, client: socket.socket, transport: str, ended: threading.Event) -> None:
        """RTP in the control connection, or to the client's port."""
        ports, number = re.search(r"client_port=(\d+)", transport), 0
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            picture = 0
            while not (self._stop.is_set() or ended.wait(1 / self.rate)):
                pictures, clock = h264(self.size), round((time.monotonic() - self.began_s) * 90_000)
                for packet in () if self.silent.is_set() else self._packets(pictures[picture % len(pictures)]):
                    number += 1
                    whole = struct.pack("!BBHII", 0x80, packet[0], number & 0xFFFF, clock & 0xFFFFFFFF, 7)
                    whole += packet[1]
                    if number in self.lost:
                        continue
                    if ports:
                        udp.sendto(whole, ("127.0.0.1", int(ports[1])))
                    else:
                        client.sendall(b"$\x00" + struct.pack("!H", len(whole)) + whole)
                picture += 1

    def _packets(self, units: Units) -> list[tuple[int, bytes]]:
        """Type with marker, and payload, of each RTP packet: a whole unit (RFC 6184, 5.6) or fragments (5.8)."""
        packets: list[bytes] = []
        for unit in units:
            if self.keyless and unit[0] & 31 == 5:
                continue
            if self.damaged and unit[0] & 31 in (1, 5):
                unit = unit[:6] + bytes(255 - byte for byte in unit[6:])
            if len(unit) <= MOST_BYTES:
                packets.append(unit)
                continue
            parts = [unit[at : at + MOST_BYTES] for at in range(1, len(unit), MOST_BYTES)]
            for index, part in enumerate(parts):
                edge = 0x80 * (index == 0) | 0x40 * (index == len(parts) - 1)
                packets.append(bytes([unit[0] & 0xE0 | 28, unit[0] & 31 | edge]) + part)
        return [(96 | 0x80 * (index == len(packets) - 1), packet) for index, packet in enumerate(packets)]
