from __future__ import annotations

import ctypes
import errno
import struct
from fractions import Fraction
from pathlib import Path

import pytest

from nodes.capture import videodev2
from nodes.capture.device import Mode
from nodes.capture.v4l2 import Kernel, NotOnePlane, V4l2Device, color_of, is_camera, name_of, number_of
from tests.nodes.capture.fake_v4l2 import FakeKernel

MONOTONIC, ERROR = 0x2000, 0x40


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.mark.skipif(struct.calcsize("l") != 8, reason="the numbers below are those of 64-bit systems")
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("QUERYCAP", 0x80685600),
        ("ENUM_FMT", 0xC0405602),
        ("G_FMT", 0xC0D05604),
        ("S_FMT", 0xC0D05605),
        ("REQBUFS", 0xC0145608),
        ("QUERYBUF", 0xC0585609),
        ("QBUF", 0xC058560F),
        ("DQBUF", 0xC0585611),
        ("STREAMON", 0x40045612),
        ("STREAMOFF", 0x40045613),
        ("G_PARM", 0xC0CC5615),
        ("S_PARM", 0xC0CC5616),
        ("G_CTRL", 0xC008561B),
        ("S_CTRL", 0xC008561C),
        ("QUERYCTRL", 0xC0445624),
        ("ENUM_FRAMESIZES", 0xC02C564A),
        ("ENUM_FRAMEINTERVALS", 0xC034564B),
    ],
)
def test_requests_have_the_numbers_of_the_kernels_header_and_so_the_structures_its_sizes(
    name: str, number: int
) -> None:
    assert getattr(videodev2, name) == number


@pytest.mark.skipif(struct.calcsize("l") != 8, reason="the numbers below are those of 64-bit systems")
def test_fields_are_where_the_kernel_has_them() -> None:
    at = {name: getattr(videodev2.Buffer, name).offset for name in ("seconds", "sequence", "offset", "length")}
    assert at == {"seconds": 24, "sequence": 56, "offset": 64, "length": 72}
    assert videodev2.Format.fmt.offset == 8
    assert ctypes.sizeof(videodev2.Pix) == 48


@pytest.mark.parametrize(("number", "name"), [(0x56595559, "YUYV"), (0x20363159, "Y16"), (0xA0363159, "Y16-BE")])
def test_pixel_formats_are_named_as_people_write_them(number: int, name: str) -> None:
    assert name_of(number) == name
    assert number_of(name) == number


def test_a_camera_tells_what_it_offers(kernel: FakeKernel) -> None:
    kernel.formats["NV12"] = [(16, 64, 8, 12, 48, 4)]
    device = V4l2Device(Path("/dev/video0"), kernel)
    assert device.name == "Fake camera"
    assert device.modes() == [
        Mode("YUYV", (64, 48), (64, 48), (1, 1), 10),
        Mode("YUYV", (32, 24), (32, 24), (1, 1), 30),
        Mode("Y16", (8, 6), (8, 6), (1, 1), 9),
        Mode("NV12", (16, 12), (64, 48), (8, 4), 10),
    ]


def test_a_driver_that_lists_no_sizes_is_asked_for_any(kernel: FakeKernel) -> None:
    kernel.fails[videodev2.ENUM_FRAMESIZES] = errno.ENOTTY
    modes = V4l2Device(Path("/dev/video0"), kernel).modes()
    assert [mode.fourcc for mode in modes] == ["YUYV", "Y16"]
    assert modes[0].fits((1280, 720))


def test_pictures_come_with_the_kernels_time_and_number(kernel: FakeKernel) -> None:
    device = V4l2Device(Path("/dev/video0"), kernel)
    setup = device.start("Y16", (8, 6), 9.0)
    assert (setup.fourcc, setup.size, setup.bytes_per_line) == ("Y16", (8, 6), 16)
    assert (setup.frame_rate, setup.color_range) == (Fraction(9), "full")
    assert kernel.streaming
    assert sorted(kernel.queued) == [0, 1, 2]
    assert device.read(0) is None
    for number in range(7):  # more than there are buffers
        data = bytes([number]) * 96
        kernel.ready.append((data, 5_000_001 + number, 40 + number, MONOTONIC))
        shot = device.read(0)
        assert shot is not None
        assert (shot.data, shot.sequence, shot.damaged) == (data, 40 + number, False)
        assert shot.timestamp_ns == 5_000_001_000 + number * 1000
    assert len(kernel.queued) == 3
    device.close()
    assert (kernel.streaming, kernel.mapped, kernel.closed) == (False, 0, 1)


def test_a_picture_is_not_changed_by_those_that_come_later(kernel: FakeKernel) -> None:
    device = V4l2Device(Path("/dev/video0"), kernel)
    device.start("Y16", None, None)
    kernel.ready.append((b"a" * 96, 0, 0, MONOTONIC))
    first = device.read(0)
    for number in range(3):
        kernel.ready.append((b"b" * 96, 0, number, MONOTONIC))
        device.read(0)
    assert first is not None
    assert first.data == b"a" * 96


def test_times_of_another_clock_are_none_and_errors_are_told(kernel: FakeKernel) -> None:
    device = V4l2Device(Path("/dev/video0"), kernel)
    device.start("Y16", None, None)
    kernel.ready.append((b"short", 1, 0, ERROR))
    shot = device.read(0)
    assert shot is not None
    assert (shot.timestamp_ns, shot.damaged, shot.data) == (None, True, b"short")


def test_what_is_left_open_stays_as_the_camera_has_it(kernel: FakeKernel) -> None:
    setup = V4l2Device(Path("/dev/video0"), kernel).start(None, None, None)
    assert (setup.fourcc, setup.size, setup.frame_rate) == ("YUYV", (64, 48), Fraction(30))
    assert kernel.pix.priv == 0xFEEDCAFE


def test_a_driver_without_frame_rates_has_none(kernel: FakeKernel) -> None:
    kernel.has_rates = False
    assert V4l2Device(Path("/dev/video0"), kernel).start("YUYV", None, 30).frame_rate is None


def test_settings_are_found_by_name_and_set(kernel: FakeKernel) -> None:
    device = V4l2Device(Path("/dev/video0"), kernel)
    settings = device.settings()
    assert list(settings) == ["gain", "exposure_time_absolute"]  # neither a heading nor one that is disabled
    assert (settings["gain"].least, settings["gain"].most, settings["gain"].value) == (0, 100, 10)
    device.set("gain", 33)
    assert kernel.values[1] == 33


def test_a_camera_that_was_unplugged_fails_to_read_and_still_closes(kernel: FakeKernel) -> None:
    device = V4l2Device(Path("/dev/video0"), kernel)
    device.start(None, None, None)
    kernel.fails |= {videodev2.DQBUF: errno.ENODEV, videodev2.STREAMOFF: errno.ENODEV}
    with pytest.raises(OSError, match="as the test wants"):
        device.read(0)
    device.close()
    assert (kernel.mapped, kernel.closed) == (0, 1)


@pytest.mark.parametrize(("capabilities", "camera"), [(0x4000001, True), (0x4001000, True), (0x800000, False)])
def test_a_camera_is_told_from_an_output_and_from_metadata(kernel: FakeKernel, capabilities: int, camera: bool) -> None:
    kernel.capabilities = capabilities
    assert is_camera(Path("/dev/video0"), kernel) is camera
    assert kernel.opened == kernel.closed


def test_where_we_may_not_look_it_is_not_known(kernel: FakeKernel) -> None:
    kernel.fails[videodev2.QUERYCAP] = errno.EACCES
    assert is_camera(Path("/dev/video0"), kernel) is None


def test_planes_apart_are_another_kind_of_camera(kernel: FakeKernel) -> None:
    kernel.capabilities = 0x4001000
    with pytest.raises(NotOnePlane):
        V4l2Device(Path("/dev/video0"), kernel)
    assert kernel.closed == 1


@pytest.mark.parametrize(
    ("fourcc", "colorspace", "encoding", "quantization", "color"),
    [
        ("YUYV", 8, 0, 0, ("limited", "bt601")),
        ("YUYV", 3, 0, 0, ("limited", "bt709")),
        ("YUYV", 8, 2, 1, ("full", "bt709")),
        ("YUYV", 10, 0, 0, ("limited", "bt2020")),
        ("MJPG", 7, 0, 0, ("full", "bt601")),
        ("GREY", 0, 0, 0, ("full", "bt601")),
        ("Y16", 0, 0, 0, ("full", "bt601")),
        ("GREY", 0, 0, 2, ("limited", "bt601")),
    ],
)
def test_colour_is_as_the_driver_says_or_v4l2s_default(
    fourcc: str, colorspace: int, encoding: int, quantization: int, color: tuple[str, str]
) -> None:
    pix = videodev2.Pix(
        pixelformat=number_of(fourcc), colorspace=colorspace, ycbcr_enc=encoding, quantization=quantization
    )
    assert color_of(pix) == color


def test_the_real_kernel_says_no_to_what_is_no_camera(tmp_path: Path) -> None:
    assert is_camera(Path("/dev/null")) is False
    assert is_camera(tmp_path / "video0") is False
    file = Kernel().open(Path("/dev/null"))
    mapped = None
    try:
        assert Kernel().wait(file, 0) is True  # an error is there to be fetched
        (tmp_path / "memory").write_bytes(bytes(4096))
        other = Kernel().open(tmp_path / "memory")
        mapped = Kernel().map(other, 4096, 0)
        assert mapped[:4] == bytes(4)
        Kernel().close(other)
    finally:
        Kernel().close(file)
        if mapped is not None:
            mapped.close()
