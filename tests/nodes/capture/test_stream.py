from __future__ import annotations

import contextlib
import http.server
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from nodes.capture import stream as module
from nodes.capture.stream import HELD, StreamCapture
from pipeline.errors import ConfigError, SourceError
from pipeline.frame import Frame
from tests.nodes.capture.media import open_files
from tests.nodes.capture.rtsp import SIZE, RtspCamera, mpegts
from tests.pipeline.fakes import PATIENCE

SOON = (0.01, 0.05)  # s between attempts


@contextlib.contextmanager
def watching(url: str, **settings: Any) -> Iterator[StreamCapture]:
    node = StreamCapture(url, **({"reconnect_s": SOON} | settings))
    node.name = "camera"
    node.open({})
    try:
        yield node
    finally:
        node.close()


def take(node: StreamCapture, count: int) -> list[Frame]:
    """So many frames, or fail."""
    frames: list[Frame] = []
    give_up = time.monotonic() + PATIENCE
    while len(frames) < count:
        assert time.monotonic() < give_up, f"only {len(frames)} of {count} frames came: {node.gauges()}"
        if (frame := node.process()) is not None:
            frames.append(frame)
    return frames


def wait_until(true: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < give_up, "what was waited for did not happen"
        threading.Event().wait(0.01)


def tasks() -> int:
    """Threads of this process, Python's and others."""
    folder = Path("/proc/self/task")
    return len(list(folder.iterdir())) if folder.exists() else threading.active_count()


def in_order(frames: list[Frame]) -> bool:
    pairs = list(itertools.pairwise(frames))
    return all(a.timestamp_ns < b.timestamp_ns and a.sequence < b.sequence for a, b in pairs)


@contextlib.contextmanager
def answering(work: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server that does `work` with whoever comes; gives its port."""
    stop = threading.Event()
    clients: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                clients.append(listener.accept()[0])
                with contextlib.suppress(OSError):
                    work(clients[-1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        stop.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
        thread.join(PATIENCE)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_of_an_rtsp_camera_come_with_its_times_on_our_clock(transport: Any) -> None:
    with RtspCamera() as camera, watching(camera.url, transport=transport) as node:
        assert (node.live, node.size) == (True, None)
        began = time.monotonic_ns()
        frames = take(node, 12)
        ended = time.monotonic_ns()
    assert in_order(frames)
    assert all(began - 10**9 < frame.timestamp_ns <= ended for frame in frames)
    assert {frame.timestamp_source for frame in frames[2:]} == {"pts"}
    assert {(frame.pixel_format, frame.size, frame.stream) for frame in frames} == {("yuv420p", SIZE, "camera")}
    assert frames[5].planes[0].std() > 20  # a picture, and not a gray area


def test_a_camera_that_is_restarted_twenty_times_is_connected_again_each_time() -> None:
    camera = RtspCamera().start()
    with watching(camera.url) as node:
        frames = take(node, 3)
        files, threads = open_files(), tasks()
        for restart in range(1, 21):
            camera.stop()
            camera.start()
            wait_until(lambda: node.gauges()["reconnects"] == restart and node.gauges()["connected"])  # noqa: B023
            frames += take(node, HELD + 1)  # what was there before, and the first one from now
        assert in_order(frames)
        assert node.gauges()["reconnects"] == 20
        wait_until(lambda: open_files() <= files + 1 and tasks() <= threads + 1)
    camera.stop()


def test_closing_gives_back_threads_and_files() -> None:
    camera = RtspCamera().start()
    files, threads = open_files(), tasks()
    for _ in range(3):
        with watching(camera.url) as node:
            take(node, 2)
    wait_until(lambda: (open_files(), tasks()) <= (files + 1, threads + 1))  # the camera may still hold its end
    camera.stop()


def test_there_is_one_line_of_an_outage_and_one_of_the_return(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    camera = RtspCamera().start()
    with watching(camera.url) as node:
        take(node, 3)
        camera.stop()
        wait_until(lambda: node._outage and node._outage.attempts > 5)
        camera.start()
        wait_until(lambda: node.gauges()["connected"])
    camera.stop()
    lines = [record.getMessage() for record in caplog.records if record.name == "streamfuse"]
    assert [line.split(": ")[2].split(" after")[0] for line in lines] in (
        ["connected", "the sender ended it; trying again", "refused", "connected"],
        ["connected", "the connection broke; trying again", "refused", "connected"],
    )
    assert "at attempt" in lines[-1]


def test_a_camera_that_is_not_there_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    camera = RtspCamera()
    with camera:
        url = camera.url
    with watching(url) as node:
        assert node.process() is None
        wait_until(lambda: "refused: nothing listens at that port" in caplog.text)
        with camera:
            assert in_order(take(node, 3))


@pytest.mark.parametrize(
    ("user", "path", "reason"),
    [
        ("admin:falsch@", "live", "user name or password are not accepted (401)"),
        ("admin:geheim@", "no", "no such stream (404); check the path"),
    ],
)
def test_a_wrong_password_or_path_is_told_without_the_password(
    user: str, path: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        RtspCamera("geheim") as camera,
        watching(f"rtsp://{user}127.0.0.1:{camera.port}/{path}?token=streng") as node,
    ):
        wait_until(lambda: reason in caplog.text)
        told = caplog.text + repr(node) + str(node.report()) + str(node.gauges())
    assert not any(secret in told for secret in ("admin", "falsch", "geheim", "streng"))
    assert f"rtsp://127.0.0.1:{camera.port}/{path}?..." in told


def test_the_right_password_lets_in() -> None:
    with (
        RtspCamera("geheim") as camera,
        watching(f"rtsp://admin:geheim@127.0.0.1:{camera.port}/live") as node,
    ):
        assert len(take(node, 3)) == 3


def test_a_name_that_no_host_has_is_said_to_be_none(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with watching("rtsp://camera.invalid/live"):
        wait_until(lambda: "there is no host 'camera.invalid'" in caplog.text)


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_a_server_that_says_nothing_is_given_up(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        answering(lambda client: None) as port,
        watching(f"{scheme}://127.0.0.1:{port}/x", open_timeout_s=0.2, read_timeout_s=0.2) as node,
    ):
        wait_until(lambda: node._outage and node._outage.attempts > 1)
    assert "no answer in time" in caplog.text


def test_a_camera_that_falls_silent_is_connected_again(caplog: pytest.LogCaptureFixture) -> None:
    with RtspCamera() as camera, watching(camera.url, read_timeout_s=0.2) as node:
        frames = take(node, 3)
        camera.silent.set()
        wait_until(lambda: node.gauges()["reconnects"])
        assert "nothing came for 0.2 s" in caplog.text
        camera.silent.clear()
        assert in_order(frames + take(node, 6))


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_garbage_is_no_video_and_ends_nothing(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    rubbish = np.random.default_rng(0).integers(0, 256, 50_000, np.uint8).tobytes()

    def speak(client: socket.socket) -> None:
        client.sendall(rubbish)
        client.shutdown(socket.SHUT_WR)

    with (
        answering(speak) as port,
        watching(f"{scheme}://127.0.0.1:{port}/x", open_timeout_s=0.5, read_timeout_s=0.5) as node,
    ):
        wait_until(lambda: node._outage and node._outage.attempts > 2)
        assert node.process() is None
    assert "trying again" in caplog.text


def test_closing_does_not_wait_for_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAVE_S", 0.05)
    came = threading.Event()
    threads = tasks()
    with answering(lambda client: came.set()) as port:
        node = StreamCapture(f"tcp://127.0.0.1:{port}", open_timeout_s=1.0)
        node.open({})
        assert came.wait(PATIENCE)
        reader = node._reader
        node.close()
        assert reader is not None
        assert reader.is_alive()  # stuck in FFmpeg, and not waited for
        assert reader.daemon
        wait_until(lambda: not reader.is_alive())  # by the time-out
    wait_until(lambda: tasks() <= threads + 1)


def test_a_node_that_never_opened_can_be_closed() -> None:
    StreamCapture("rtsp://127.0.0.1/x").close()


def test_lost_and_damaged_packets_are_counted_and_end_nothing() -> None:
    with RtspCamera() as camera, watching(camera.url, transport="udp") as node:
        frames = take(node, 6)
        camera.damaged = True
        wait_until(lambda: node.gauges()["corrupt"] > 2)
        camera.damaged = False
        camera.lost = set(range(0, 100_000, 7))
        frames += take(node, 6)
        camera.lost = set()
        frames += take(node, 12)
        assert node.gauges()["reconnects"] == 0
    assert in_order(frames)


def test_pictures_of_another_size_in_the_same_stream_are_frames_of_that_size() -> None:
    with RtspCamera() as camera, watching(camera.url) as node:
        take(node, 4)
        camera.size = (96, 64)
        wait_until(lambda: take(node, 1)[0].size == (96, 64))
        assert node.gauges()["reconnects"] == 0


def test_no_frame_waits_while_nobody_takes_them() -> None:
    with RtspCamera() as camera, watching(camera.url) as node:
        wait_until(lambda: node.gauges()["overrun"] > 5)
        first = take(node, 1)[0]
    assert first.sequence > 4  # the oldest went


def test_data_without_a_picture_in_it_are_an_outage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PICTURELESS_S", 0.2)
    with RtspCamera() as camera:
        camera.keyless = True
        with watching(camera.url):
            wait_until(lambda: "not one picture" in caplog.text)


def test_the_offset_can_be_changed_while_it_runs() -> None:
    with RtspCamera() as camera, watching(camera.url, offset_ms=-40) as node:
        before = take(node, 6)
        assert node.controls()["offset_ms"].value == -40
        node.change("offset_ms", node.controls()["offset_ms"].checked(460))
        wait_until(lambda: take(node, 1)[0].timestamp_ns > time.monotonic_ns() + 2 * 10**8)
    assert before[-1].timestamp_ns < time.monotonic_ns()


class Sender(http.server.BaseHTTPRequestHandler):
    """MPEG-TS in chunks, or motion JPEG in parts."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        still = "mjpeg" in self.path
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=b" if still else "video/mp2t")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            for turn in range(200):
                for piece in [jpeg()] * 5 if still else mpegts(start=turn * 24 * 3600):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    threading.Event().wait(0.01)


def jpeg() -> bytes:
    import cv2

    data = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
    return b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)


@pytest.fixture(scope="module")
def sender() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sender)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(PATIENCE)


@pytest.mark.parametrize("low_delay", [True, False])
def test_mpegts_over_http_has_the_times_of_the_stream(sender: str, low_delay: bool) -> None:
    with watching(f"{sender}/live.ts", low_delay=low_delay) as node:
        frames = take(node, 12)
    assert in_order(frames)
    assert {frame.timestamp_source for frame in frames} == {"pts"}


def test_motion_jpeg_has_no_times_and_is_stamped_as_it_comes(sender: str) -> None:
    with watching(f"{sender}/live.mjpeg") as node:
        frames = take(node, 4)
    assert in_order(frames)
    assert {(frame.timestamp_source, frame.color_range) for frame in frames} == {("arrival", "full")}


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def send_when_heard(pieces: tuple[bytes, ...], port: int) -> None:
    """Send over UDP once somebody listens at the port: before, the system refuses the packet after the first."""
    filler = b"\x47\x1f\xff\x10" + bytes(184)
    give_up = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect(("127.0.0.1", port))
        while time.monotonic() < give_up:
            with contextlib.suppress(ConnectionRefusedError):
                out.send(filler)
                threading.Event().wait(0.01)
                out.send(filler)
                break
        with contextlib.suppress(ConnectionRefusedError):  # it has left
            for piece in pieces:
                for at in range(0, len(piece), 1316):
                    out.send(piece[at : at + 1316])
                threading.Event().wait(0.005)


def test_mpegts_over_udp_goes_on_where_its_clock_of_33_bits_wraps() -> None:
    port, pieces = free_udp_port(), mpegts(count=60, start=(1 << 33) - 20 * 3600)
    with watching(f"udp://127.0.0.1:{port}") as node:
        thread = threading.Thread(target=send_when_heard, args=(pieces, port), daemon=True)
        thread.start()
        frames = take(node, 50)
        thread.join(PATIENCE)
        gauges = node.gauges()
    assert in_order(frames)
    assert {frame.timestamp_source for frame in frames} == {"pts"}
    assert (gauges["reconnects"], gauges["epoch"]) == (0, 0)


def test_a_stream_without_video_says_so(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "sound.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream: Any = container.add_stream("mp2", rate=48_000)
        for number in range(40):
            sound = av.AudioFrame(format="s16", layout="stereo", samples=1152)
            sound.sample_rate, sound.pts = 48_000, number * 1152
            for plane in sound.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(stream.encode(sound))

    def speak(client: socket.socket) -> None:
        client.sendall(path.read_bytes())
        client.shutdown(socket.SHUT_WR)

    with answering(speak) as port, watching(f"tcp://127.0.0.1:{port}"):
        wait_until(lambda: "there is no video in it" in caplog.text)


def test_srt_is_refused_in_plain_words_where_ffmpeg_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_srt", lambda: False)
    node = StreamCapture("srt://127.0.0.1:9000?passphrase=geheimgeheim")
    with pytest.raises(SourceError, match=r"srt://127.0.0.1:9000\?...: the FFmpeg inside this PyAV has no SRT"):
        node.open({})


def test_whether_ffmpeg_has_srt_is_found_without_a_server() -> None:
    assert module.has_srt() in (True, False)


def test_the_pauses_cannot_be_the_wrong_way_round() -> None:
    with pytest.raises(ConfigError, match="the first pause is the shorter one"):
        StreamCapture("rtsp://camera/x", reconnect_s=(5, 1))
