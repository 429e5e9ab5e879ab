"""Whether NVIDIA's engines work: on machines without them, with half of them, and with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import av
import pytest

from nodes import nvidia
from nodes.nvidia import DRIVER, NO_DRIVER, NVDEC, NVENC, trial_encoder, why_no_decoding, why_no_encoding, why_no_gpu
from tests.nodes.capture.gpu import FakeGpu


class Driver:
    """libcuda, as far as it is asked."""

    def __init__(self, code: int = 0, name: bytes = b"") -> None:
        self.code, self.error = code, name

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuGetErrorName(self, code: int, name: Any) -> None:
        name._obj.value = self.error or None


Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """`machine(cuda=Driver(), NVDEC=object())` has these libraries of the driver."""

    def do(**libraries: Any) -> None:
        has = {{"cuda": DRIVER, "nvdec": NVDEC, "nvenc": NVENC}[name]: one for name, one in libraries.items()}

        def load(name: str) -> Any:
            if name not in has:
                raise OSError(f"{name}: cannot open shared object file")
            return has[name]

        monkeypatch.setattr(nvidia.ctypes, "CDLL", load)

    for cached in (why_no_gpu, why_no_decoding):
        cached.cache_clear()
    yield do
    for cached in (why_no_gpu, why_no_decoding):
        cached.cache_clear()


def same(_: int, pictures: list[av.VideoFrame]) -> list[av.VideoFrame]:
    return pictures


def test_without_a_driver_that_is_all_there_is_to_say(machine: Machine) -> None:
    machine()
    assert why_no_gpu() == why_no_decoding() == why_no_encoding(trial_packets_must_not_be_made) == NO_DRIVER


def trial_packets_must_not_be_made() -> None:
    raise AssertionError("an encoder was opened without a driver")


@pytest.mark.parametrize(
    ("driver", "why"),
    [(Driver(100, b"CUDA_ERROR_NO_DEVICE"), "CUDA_ERROR_NO_DEVICE"), (Driver(999), "999")],
)
def test_a_driver_without_its_gpu_gives_cudas_reason(machine: Machine, driver: Driver, why: str) -> None:
    machine(cuda=driver, nvdec=object(), nvenc=object())
    assert why_no_decoding() == f"CUDA does not start ({why})"


def test_a_container_that_was_given_cuda_without_video_is_told_what_to_set(machine: Machine) -> None:
    machine(cuda=Driver())
    rows = {row[0]: row for row in nvidia.tell()}
    assert rows["CUDA decoding"][1:3] == ("warning", "the driver's libnvcuvid.so.1 is not there")
    assert rows["NVENC"][1:3] == ("warning", "the driver's libnvidia-encode.so.1 is not there")
    assert all("NVIDIA_DRIVER_CAPABILITIES" in row[3] for row in rows.values())


def test_decoding_works_if_a_picture_comes_from_the_gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(cuda=Driver(), nvdec=object())
    monkeypatch.setattr(nvidia, "decoder", lambda codec: FakeGpu(codec, same))
    assert why_no_decoding() is None


def test_decoding_does_not_work_if_ffmpeg_goes_back_to_the_cpu(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(cuda=Driver(), nvdec=object())
    monkeypatch.setattr(nvidia, "decoder", lambda codec: av.CodecContext.create(codec, "r"))
    assert why_no_decoding() == "the GPU does not decode H.264"


@pytest.mark.parametrize(
    "error", [av.error.PermissionError(1, "Operation not permitted"), NotImplementedError("no"), ValueError("no")]
)
def test_a_decoder_that_cannot_be_made_is_a_reason(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(_: str) -> Any:
        raise error

    machine(cuda=Driver(), nvdec=object())
    monkeypatch.setattr(nvidia, "decoder", fails)
    assert str(why_no_decoding()).startswith("the GPU does not decode (")


def test_the_decoder_asks_ffmpeg_for_cuda_with_pictures_in_host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def device(kind: str, **settings: Any) -> None:
        asked.update(settings, kind=kind)

    monkeypatch.setattr(nvidia, "HWAccel", device)  # None: so FFmpeg makes a decoder of the CPU
    with pytest.raises(NotImplementedError):
        nvidia.decoder("h264")
    assert asked == {"kind": "cuda", "allow_software_fallback": True, "is_hw_owned": False}


def test_an_encoder_is_tried_as_it_is_to_be_used(machine: Machine) -> None:
    machine(cuda=Driver(), nvenc=object())
    assert why_no_encoding(lambda: trial_encoder("libx264")) is None

    def fails() -> None:
        raise av.error.ExternalError(1, "no capable device")

    assert why_no_encoding(fails) == "the GPU does not encode (no capable device)"
    assert "does not encode" in str(why_no_encoding(lambda: trial_encoder("no_such_codec")))


def test_the_real_machine_is_asked_without_harm() -> None:
    for why in (why_no_gpu(), why_no_decoding(), why_no_encoding(lambda: trial_encoder("h264_nvenc"))):
        assert why is None or (why and "\n" not in why)
    if why_no_gpu():
        with pytest.raises(nvidia.FAILURES):
            nvidia.decoder("h264")


@pytest.mark.cuda
def test_a_real_gpu_decodes() -> None:
    assert why_no_decoding() is None
