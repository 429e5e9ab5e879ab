from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import nodes
from nodes.capture import camera as module
from nodes.capture.camera import CameraCapture, choose
from nodes.capture.device import Device, Mode, Setup
from nodes.capture.opencv_device import OpenCvDevice
from nodes.capture.v4l2 import NotOnePlane
from pipeline import config
from pipeline.errors import SourceError
from pipeline.frame import Frame
from tests import media
from tests.nodes.capture.fake_v4l2 import SIZE, FakeCamera
from tests.pipeline.fakes import PATIENCE, run

WIDTH, HEIGHT = SIZE
YUYV = bytes(WIDTH * HEIGHT * 2)
Opening = Callable[..., CameraCapture]


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is behind a path: cameras in the order in which they will be opened, or why one cannot be."""
    found: dict[str, Any] = {}

    def open_device(path: Path, name: str) -> Device:
        device = found[str(path)].pop(0)
        if isinstance(device, OSError):
            raise device
        return device

    monkeypatch.setattr(module, "open_device", open_device)
    monkeypatch.setattr(module, "find", lambda device: Path(f"/dev/video{device}"))
    monkeypatch.setattr(module, "RETRY_S", (0.001, 0.002))
    monkeypatch.setattr(module, "WAIT_S", 0.001)
    return found


@pytest.fixture
def opened(attached: dict[str, Any]) -> Iterator[Opening]:
    """`opened(camera, ...)` is a node with these cameras behind /dev/video0, one after the other."""
    made: list[CameraCapture] = []

    def do(*cameras: Any, **settings: Any) -> CameraCapture:
        attached["/dev/video0"] = list(cameras)
        node = CameraCapture(**settings)
        node.name = "camera"
        made.append(node)
        node.open({})
        return node

    yield do
    for node in made:
        node.close()


def next_frame(node: CameraCapture) -> Frame:
    give_up = time.monotonic() + PATIENCE
    while (frame := node.process()) is None:
        assert time.monotonic() < give_up, "no frame came"
    return frame


def test_a_frame_has_the_kernels_time_of_the_start_of_exposure(opened: Opening) -> None:
    camera = FakeCamera()
    node = opened(camera, fps=30, offset_ms=-2)
    assert (node.live, node.size) == (True, SIZE)
    assert camera.started == ("YUYV", SIZE, 30)
    camera.give(YUYV, 7, age_ms=20)
    stamp = camera.shots[0].timestamp_ns
    frame = next_frame(node)
    assert stamp is not None
    assert (frame.timestamp_ns, frame.timestamp_source) == (stamp - 2_000_000, "device")
    assert (frame.pixel_format, frame.size, frame.stream, frame.sequence) == ("yuv420p", SIZE, "camera", 0)
    assert (frame.color_range, frame.color_matrix) == ("limited", "bt601")


@pytest.mark.parametrize("age_ms", [None, 3_600_000.0, -1000.0])
def test_a_time_that_cannot_be_true_is_that_of_arrival(opened: Opening, age_ms: float | None) -> None:
    camera = FakeCamera()
    node = opened(camera)
    camera.give(YUYV, age_ms=age_ms)
    before = time.monotonic_ns()
    frame = next_frame(node)
    assert frame.timestamp_source == "arrival"
    assert before <= frame.timestamp_ns <= time.monotonic_ns()


def test_times_go_on_whatever_the_driver_says(opened: Opening) -> None:
    camera = FakeCamera()
    node = opened(camera)
    for number, age in enumerate([5.0, 5.0, 60.0, None, 1.0]):
        camera.give(YUYV, number, age_ms=age)
    times = [next_frame(node).timestamp_ns for _ in range(5)]
    assert times == sorted(set(times))


def test_what_the_camera_lost_is_a_gap_and_counted(opened: Opening) -> None:
    camera = FakeCamera()
    node = opened(camera)
    for number in (100, 101, 105, 106):
        camera.give(YUYV, number)
    assert [next_frame(node).sequence for _ in range(4)] == [0, 1, 5, 6]
    assert node.gauges()["lost"] == 3
    assert node.report()["notes"] == {"lost": 3}


@pytest.mark.parametrize("numbers", [(None, None, None), (0, 0, 0), (5, 0, 1)])
def test_a_driver_that_does_not_count_is_counted_for(opened: Opening, numbers: tuple[int | None, ...]) -> None:
    camera = FakeCamera()
    node = opened(camera)
    for number in numbers:
        camera.give(YUYV, number)
    assert [next_frame(node).sequence for _ in range(3)] == [0, 1, 2]


def test_damaged_pictures_are_counted_and_left_out(opened: Opening) -> None:
    camera = FakeCamera()
    node = opened(camera)
    camera.give(YUYV, 0, damaged=True)
    camera.give(YUYV[:20], 1)
    camera.give(b"", 2)
    camera.give(YUYV, 3)
    assert next_frame(node).sequence == 3
    assert node.gauges()["corrupt"] == 3


def test_sixteen_bits_are_bit_exact(opened: Opening) -> None:
    setup = Setup("Y16", SIZE, WIDTH * 2, "full", frame_rate=Fraction(9))
    camera = FakeCamera([Mode("YUYV", SIZE, SIZE, most_fps=30), Mode("Y16", SIZE, SIZE, most_fps=9)], setup)
    node = opened(camera, pixel_format="gray16")
    counts = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH), np.uint16)
    camera.give(counts.astype("<u2").tobytes())
    frame = next_frame(node)
    assert camera.started == ("Y16", SIZE, None)
    assert (frame.pixel_format, frame.color_range, frame.frame_rate) == ("gray16", "full", Fraction(9))
    np.testing.assert_array_equal(frame.data, counts)


def test_bgr_is_full_range_whatever_the_camera_gives(opened: Opening) -> None:
    camera = FakeCamera()
    node = opened(camera, pixel_format="bgr24")
    camera.give(bytes([235, 128] * (WIDTH * HEIGHT)))
    frame = next_frame(node)
    assert (frame.pixel_format, frame.color_range) == ("bgr24", "full")
    assert frame.data.min() >= 254


def test_motion_jpeg_is_decoded_and_a_broken_one_left_out(opened: Opening) -> None:
    size = (64, 48)
    camera = FakeCamera([Mode("MJPG", size, size, most_fps=30)], Setup("MJPG", size, 0, "full"))
    node = opened(camera)
    scene = media.scene()
    data = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    camera.give(b"no jpeg at all", 0)
    camera.give(b"", 1)
    camera.give(data, 2)
    frame = next_frame(node)
    assert (frame.pixel_format, frame.size, frame.color_range, frame.sequence) == ("yuv420p", size, "full", 2)
    gray = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY).astype(int)
    assert np.abs(frame.planes[0].astype(int) - gray).mean() < 2
    assert node.gauges()["corrupt"] == 2


# What is asked for, and what there is:

BOSON = [Mode("YU12", (640, 512), (640, 512), most_fps=60), Mode("Y16", (640, 512), (640, 512), most_fps=60)]
WEBCAM = [
    Mode("YUYV", (640, 480), (640, 480), most_fps=30),
    Mode("YUYV", (1280, 720), (1280, 720), most_fps=10),
    Mode("MJPG", (640, 480), (640, 480), most_fps=30),
    Mode("MJPG", (1280, 720), (1280, 720), most_fps=30),
]


@pytest.mark.parametrize(
    ("modes", "wanted", "size", "fps", "chosen"),
    [
        (WEBCAM, "auto", None, None, 0),
        (WEBCAM, "auto", (1280, 720), None, 3),  # 10 frames a second are not what anybody wants
        (WEBCAM, "auto", (1280, 720), 10, 1),
        (WEBCAM, "yuv420p", (1280, 720), 60, 3),  # the fastest there is
        (WEBCAM, "gray8", (640, 480), 30, 0),
        (WEBCAM, "bgr24", (640, 480), 30, 0),
        (BOSON, "auto", None, None, 0),
        (BOSON, "gray16", None, 60, 1),
        ([Mode("Y16", (160, 120), (160, 120), most_fps=9)], "auto", None, None, 0),  # a slow one is the best of all
        ([Mode("NV12", (16, 16), (4096, 4096), (2, 2))], "auto", (800, 600), 30, 0),  # which tells no rates
    ],
)
def test_the_mode_is_one_that_is_fast_enough_and_the_best_of_these(
    modes: list[Mode], wanted: str, size: tuple[int, int] | None, fps: float | None, chosen: int
) -> None:
    assert choose(Path("/dev/video0"), modes, wanted, size, fps) == modes[chosen]


def test_what_the_camera_does_not_offer_is_told_with_what_it_does(opened: Opening) -> None:
    with pytest.raises(SourceError, match=r"does not offer gray16; it offers YUYV 8x6 at 30 fps$"):
        opened(camera := FakeCamera(), pixel_format="gray16")
    assert camera.closed
    with pytest.raises(SourceError, match=r"does not offer auto of 9x9; it offers YUYV 8x6 at 30 fps$"):
        opened(FakeCamera(), size=(9, 9))


def test_another_size_than_asked_for_is_not_taken_silently(opened: Opening) -> None:
    anything = Mode("YUYV", (1, 1), (9999, 9999))
    camera = FakeCamera([anything], Setup("YUYV", SIZE, WIDTH * 2))
    with pytest.raises(SourceError, match="gives 8x6 instead of 640x480; set 'size' to what it has"):
        opened(camera, size=(640, 480))
    assert camera.closed


def test_a_camera_that_gives_something_else_than_it_said_is_not_taken(opened: Opening) -> None:
    with pytest.raises(SourceError, match="gives H264; yuv420p is made of YU12,"):
        opened(FakeCamera([], Setup("H264", SIZE, 0)), pixel_format="yuv420p")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "add your user to the group 'video'"),
        (OSError(errno.EBUSY, "busy"), "in use by another program"),
        (OSError(errno.ENOSPC, "full"), "no room on the USB bus"),
        (OSError(errno.ENODEV, "is no camera"), "is no camera"),
    ],
)
def test_a_camera_that_cannot_be_opened_says_why_and_what_to_do(opened: Opening, error: OSError, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        opened(error)
    assert str(caught.value).startswith("/dev/video0: ")


# Settings of the camera:


def test_settings_are_set_in_their_order_and_can_be_moved_while_it_runs(opened: Opening) -> None:
    camera = FakeCamera()
    node = opened(camera, v4l2={"gain": 4, "exposure_time_absolute": 80})
    assert camera.done == [("gain", 4), ("exposure_time_absolute", 80)]
    camera.give(YUYV)
    assert next_frame(node).exposure_us == 8000
    controls = node.controls()
    assert list(controls) == ["offset_ms", "gain", "exposure_time_absolute"]
    assert (controls["gain"].value, controls["gain"].least, controls["gain"].most) == (4, 0, 100)
    node.change("gain", controls["gain"].checked(50))
    node.change("offset_ms", 12.0)
    assert camera.done[-1] == ("gain", 50)
    assert (node.controls()["gain"].value, node.controls()["offset_ms"].value) == (50, 12)


def test_a_setting_that_fails_while_it_runs_is_told_and_ends_nothing(
    opened: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    camera = FakeCamera()
    node = opened(camera, v4l2={"gain": 4})
    camera.fails = OSError(errno.EIO, "Input/output error")
    node.change("gain", 5.0)
    assert "gain cannot be set to 5: Input/output error" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"gian": 4}, "has no setting 'gian'. Did you mean 'gain'?"), ({"gain": 101}, "gain is 101; legal is 0 to 100")],
)
def test_a_setting_it_does_not_have_is_an_error(opened: Opening, settings: dict[str, int], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        opened(FakeCamera(), v4l2=settings)
    assert message in str(caught.value)


# Coming and going:


def test_a_camera_that_is_unplugged_comes_back_by_itself(opened: Opening, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first, second = FakeCamera(), FakeCamera()
    gone = [OSError(errno.ENOENT, "No such file or directory") for _ in range(5)]
    node = opened(first, *gone, second, v4l2={"gain": 7})
    first.give(YUYV, 500)
    before = next_frame(node)
    first.fails = OSError(errno.ENODEV, "No such device")
    assert node.process() is None
    assert first.closed
    assert node.gauges()["connected"] == 0
    second.give(YUYV, 0)
    after = next_frame(node)
    assert after.sequence > before.sequence + 1
    assert after.timestamp_ns > before.timestamp_ns
    assert second.done == [("gain", 7)]
    assert (node.gauges()["reconnects"], node.gauges()["connected"]) == (1, 1)
    lines = [record.getMessage() for record in caplog.records if "Fake" not in record.getMessage()]
    assert [line.split("; ")[0].split(" after")[0] for line in lines] == [
        "camera: /dev/video0: No such device",
        "camera: /dev/video0: is not there any more",
        "camera: /dev/video0 is back",
    ]


def test_a_camera_that_gives_nothing_any_more_is_opened_again(
    opened: Opening, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SILENT_S", 0.0)
    first, second = FakeCamera(), FakeCamera()
    node = opened(first, second)
    second.give(YUYV)
    next_frame(node)
    assert first.closed
    assert "gives no picture for 0 s" in caplog.text


def test_a_camera_of_another_size_in_its_place_gives_frames_of_that_size(opened: Opening) -> None:
    first, second = FakeCamera(), FakeCamera(setup=Setup("YUYV", (4, 4), 8))
    node = opened(first, second)
    first.fails = OSError(errno.ENODEV, "No such device")
    second.give(bytes(32))
    assert next_frame(node).size == (4, 4)


def test_closing_twice_or_before_opening_does_nothing(opened: Opening) -> None:
    CameraCapture().close()
    camera = FakeCamera()
    node = opened(camera)
    node.close()
    node.close()
    assert camera.closed


def test_a_config_names_it_with_its_settings(attached: dict[str, Any]) -> None:
    camera = FakeCamera()
    for number in range(5):
        camera.give(YUYV, number)
    attached["/dev/videothermal"] = [camera]
    tree: dict[str, dict[str, Any]] = {
        "thermal": {"type": "capture.camera", "device": "thermal", "size": [8, 6], "v4l2": {"gain": 3}},
        "keep": {"type": "output.memory", "inputs": "thermal"},
    }
    pipeline = config.build(tree, nodes.TYPES)
    assert pipeline.mode == "live"
    done = run(pipeline, lambda running: running.stop() if not camera.shots else None)
    assert done.nodes["thermal"]["emitted"] >= 4
    assert camera.closed


# How a device is opened:


def test_planes_apart_go_through_opencv_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def apart(path: Path) -> None:
        raise NotOnePlane(errno.ENOTSUP, "gives its planes apart (multi-planar)")

    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module, "V4l2Device", apart)
    monkeypatch.setattr(module, "OpenCvDevice", lambda source: ("opencv", source))
    assert module.open_device(Path("/dev/video3"), "camera") == ("opencv", "/dev/video3")
    assert "read through OpenCV, without the kernel's times" in caplog.text


@pytest.mark.parametrize(("platform", "way"), [("darwin", ("opencv", 1)), ("linux", ("v4l2", Path("1")))])
def test_elsewhere_than_on_linux_it_is_opencv(platform: str, way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "platform", platform)
    monkeypatch.setattr(module, "V4l2Device", lambda path: ("v4l2", path))
    monkeypatch.setattr(module, "OpenCvDevice", lambda source: ("opencv", source))
    assert module.open_device(Path("1"), "camera") == way


def test_opencv_gives_pictures_until_there_are_no_more(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "camera.avi", (media.scene(n) for n in range(6)), codec="mjpeg",
                             pixel_format="yuvj420p", full_range=True)  # fmt: skip
    device = OpenCvDevice(str(path))
    assert device.modes() == []
    assert "gain" in device.settings()
    setup = device.start(None, None, None)
    assert (setup.fourcc, setup.size, setup.frame_rate) == ("BGR3", media.SIZE, Fraction(25))
    shots: list[Any] = []

    def read_on() -> None:
        while True:
            shots.extend(filter(None, [device.read(1)]))

    with pytest.raises(OSError, match="gives no more pictures"):
        read_on()
    assert all(len(shot.data) == 64 * 48 * 3 and shot.timestamp_ns is None for shot in shots)
    device.close()


def test_opencv_that_cannot_open_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="OpenCV cannot open it"):
        OpenCvDevice(str(tmp_path / "none.avi"))
