"""Receivers on this machine for what is pushed: real ones, that can be killed and started again."""

from __future__ import annotations

import contextlib
import ctypes
import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import av
import pytest

from nodes.output.pushing import packed_address, srt_library

PATIENCE = 20.0  # seconds until a test gives up waiting for what should come soon
AT_ONCE = {"analyzeduration": "100000", "fpsprobesize": "0", "fflags": "nobuffer"}  # do not study the stream for long
LISTEN = {
    "rtsp": {"rtsp_flags": "listen", "listen_timeout": "20", **AT_ONCE},
    "rtmp": {"listen": "1", **AT_ONCE},
    "udp": {"timeout": "20000000", **AT_ONCE},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def address(scheme: str, port: int) -> str:
    return f"{scheme}://127.0.0.1:{port}" + {"rtsp": "/night", "rtmp": "/live/night"}.get(scheme, "")


class Receiver:
    """FFmpeg's own receiver of a protocol: waits for the one that pushes, and keeps the pictures."""

    def __init__(self, scheme: str, port: int, most: int = 1_000_000) -> None:
        self.packets: list[tuple[int, bool]] = []
        """Presentation time in ticks, and whether a key frame."""
        self.pictures: list[av.VideoFrame] = []
        self.failure: BaseException | None = None
        self._most, self._stop = most, threading.Event()
        self.thread = threading.Thread(target=self._run, args=(scheme, port), daemon=True)
        self.thread.start()

    def _run(self, scheme: str, port: int) -> None:
        try:
            with av.open(address(scheme, port), options=LISTEN[scheme], timeout=(PATIENCE, PATIENCE)) as container:
                for packet in container.demux(video=0):
                    if self._stop.is_set():
                        return
                    if packet.size:
                        self.packets.append((packet.pts or 0, packet.is_keyframe))
                        with contextlib.suppress(av.FFmpegError):
                            self.pictures += packet.decode()
                    while len(self.packets) >= self._most and not self._stop.wait(0.01):  # takes no more, stays
                        pass
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        """Go away at the next packet."""
        self._stop.set()


class SrtReceiver:
    """A listener of SRT, by the same library."""

    def __init__(self, port: int) -> None:
        self._lib: Any = ctypes.CDLL(srt_library())
        self._lib.srt_startup()
        self._listener = self._lib.srt_create_socket()
        name = packed_address(socket.AF_INET, ("127.0.0.1", port))
        assert self._lib.srt_bind(self._listener, name, len(name)) == 0
        assert self._lib.srt_listen(self._listener, 1) == 0
        self.data, self.stream_id = b"", ""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        peer = self._lib.srt_accept(self._listener, None, None)
        told, size = ctypes.create_string_buffer(512), ctypes.c_int(512)
        self._lib.srt_getsockflag(peer, 46, told, ctypes.byref(size))
        self.stream_id = told.value.decode()
        piece = ctypes.create_string_buffer(1500)
        while (count := self._lib.srt_recvmsg(peer, piece, 1500)) > 0:
            self.data += piece.raw[:count]
        self._lib.srt_close(peer)

    def stop(self) -> None:
        self._lib.srt_close(self._listener)

    @property
    def pictures(self) -> list[av.VideoFrame]:
        with contextlib.suppress(av.FFmpegError), av.open(io.BytesIO(self.data), "r", format="mpegts") as container:
            return list(container.decode(video=0))
        return []


class Silent:
    """A server that takes connections and never says a word."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])

    def close(self) -> None:
        self.socket.close()


def wait_until(true: Callable[[], object], what: str, tick: Callable[[], object] = bool) -> None:
    """Do something, e.g. push a frame, a hundred times a second until it is true."""
    end = time.monotonic() + PATIENCE
    while not true():
        tick()
        if time.monotonic() > end:
            pytest.fail(f"what was waited for did not happen: {what}")
        time.sleep(0.01)
