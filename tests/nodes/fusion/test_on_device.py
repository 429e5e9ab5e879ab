"""The node on a device that works beside the processor: the same pictures, in order; and what a fault of it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodes.fusion import work
from nodes.fusion.fuse import Fuse
from pipeline.errors import DeviceError
from pipeline.frame import Frame
from tests import media
from tests.conftest import WeightsOf
from tests.nodes.fusion.fake_device import FakeDevice
from tests.nodes.fusion.frames import Making, frame, heat, yuv

SIZE = (64, 48)


class Live:
    """The pipeline, as far as the node asks."""

    mode = "live"


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[FakeDevice]:
    """Devices that nodes made from now on work on, as they come to be."""
    made: list[FakeDevice] = []

    def device_for(_: object) -> FakeDevice:
        made.append(FakeDevice())
        return made[-1]

    monkeypatch.setattr(work, "device_for", device_for)
    return made


@pytest.fixture
def beside(make: Making, devices: list[FakeDevice]) -> Making:
    """As `make`, on such a device."""
    return make


def sixteen(number: int, size: tuple[int, int]) -> Frame:
    counts = 7000 + 20 * media.heat(number, size).astype(np.uint16)
    return frame(counts, "gray16", time_ms=40 * (number + 1))


def colours(number: int, size: tuple[int, int]) -> Frame:
    return frame(np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8), "bgr24")


Sources = Callable[[int], dict[str, Frame]]
KINDS: dict[str, tuple[Sources, dict[str, Any]]] = {
    "8 bits and yuv": (lambda n: {"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)}, {}),
    "full range": (lambda n: {"infrared": heat(n, SIZE), "visible": yuv(n, SIZE, "full")}, {}),
    "16 bits": (lambda n: {"infrared": sixteen(n, SIZE), "visible": yuv(n, SIZE)}, {}),
    "16 bits, smaller": (lambda n: {"infrared": sixteen(n, (32, 24)), "visible": yuv(n, SIZE)}, {}),
    "infrared larger": (lambda n: {"infrared": heat(n, (128, 96)), "visible": yuv(n, SIZE)}, {}),
    "smaller and shifted": (
        lambda n: {"infrared": heat(n, (32, 24)), "visible": yuv(n, SIZE)},
        {"shift_px": (3.0, -1.5)},
    ),
    "odd sizes": (lambda n: {"infrared": heat(n, (33, 21)), "visible": yuv(n, (65, 47))}, {}),
    "gain of 8 bits": (lambda n: {"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)}, {"agc": "plateau"}),
    "blend": (lambda n: {"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)}, {"blend": 40.0}),
    "overlay": (
        lambda n: {"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)},
        {"overlay": True, "palette": "ironbow"},
    ),
    "bgr": (lambda n: {"infrared": heat(n, SIZE), "visible": colours(n, SIZE)}, {}),
    "grey": (lambda n: {"infrared": heat(n, SIZE), "visible": heat(n + 7, SIZE)}, {}),
    "steady off": (lambda n: {"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)}, {"steady": False}),
}


def all_of(node: Fuse, moments: list[dict[str, Frame]]) -> list[Frame]:
    """The frames of moments, waited for in order by another thread, as the engine does."""
    with ThreadPoolExecutor(1) as waiter:
        made: list[Future[Frame]] = []
        for number, sources in enumerate(moments):
            if number >= node.in_flight:
                made[number - node.in_flight].result()
            begun = node.process(**sources)
            made.append(waiter.submit(begun if callable(begun) else lambda frame=begun: frame))
        return [each.result() for each in made]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_of_the_processor(make: Making, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, settings = KINDS[kind]
    moments = [sources(n) for n in range(6)]
    expected = all_of(make(SIZE, **settings), moments)
    monkeypatch.setattr(work, "device_for", lambda _: FakeDevice())
    node = make(SIZE, **settings)
    assert node.in_flight == 3
    for made, wanted in zip(all_of(node, moments), expected, strict=True):
        assert (made.pixel_format, made.size, made.color_range) == (
            wanted.pixel_format,
            wanted.size,
            wanted.color_range,
        )
        assert (made.sequence, made.timestamp_ns, made.fusion) == (wanted.sequence, wanted.timestamp_ns, wanted.fusion)
        assert np.abs(made.data.astype(int) - wanted.data).max() <= 2


@pytest.mark.parametrize("task", ["exposure", "focus", "medical"])
def test_every_task_is_done(weights_of: WeightsOf, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for device in (None, FakeDevice()):
        monkeypatch.setattr(work, "device_for", lambda _, device=device: device)
        options = {"symmetric": True} if task in ("exposure", "focus") else {}
        node = Fuse(task=task, weights=weights_of("realtime", **options), device="cpu", precision="fp32")  # type: ignore[arg-type]
        node.name = "fuse"
        node.open(dict.fromkeys(node.inputs()))
        first, last = node.inputs()
        made.append(all_of(node, [{first: yuv(n, SIZE), last: yuv(n + 50, SIZE)} for n in range(4)]))
    for one, other in zip(*made, strict=True):
        assert np.abs(one.data.astype(int) - other.data).max() <= 2


def test_after_a_moment_with_one_source_nothing_is_held_back(make: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for device in (None, FakeDevice()):
        monkeypatch.setattr(work, "device_for", lambda _, device=device: device)
        node = make(SIZE)
        node.running = Live()  # type: ignore[assignment]
        pairs = [{"infrared": heat(n, SIZE, time_ms=n), "visible": yuv(n, SIZE, time_ms=n)} for n in range(5)]
        del pairs[2]["infrared"]
        made.append(all_of(node, pairs))
    assert [frame.fusion.state for frame in made[1]] == ["fused", "fused", "visible_only", "fused", "fused"]  # type: ignore[union-attr]
    for one, other in zip(*made, strict=True):
        assert np.abs(one.data.astype(int) - other.data).max() <= 2


# Faults:


def fail_at(device: FakeDevice, stream: int, at: int, error: Exception) -> None:
    count = iter(range(1_000_000))

    def fails(number: int) -> None:
        if number == stream and next(count) == at:
            raise error

    device.fails = fails


MOMENTS = [{"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)} for n in range(10)]


@pytest.mark.parametrize("stream", range(3))
def test_after_a_fault_the_processor_goes_on_and_no_picture_is_wrong(
    make: Making, monkeypatch: pytest.MonkeyPatch, stream: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = all_of(make(SIZE, steady=False), MOMENTS)
    device = FakeDevice()
    monkeypatch.setattr(work, "device_for", lambda _: device)
    node = make(SIZE, steady=False)
    fail_at(device, stream, 4, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with caplog.at_level(logging.WARNING):
        made = all_of(node, MOMENTS)
    for one, other in zip(made, expected, strict=True):
        assert np.abs(one.data.astype(int) - other.data).max() <= 4  # the processor may compute in bf16
    assert [record.message for record in caplog.records] == [
        "the device failed (CUDA error: an illegal memory access was encountered): the CPU goes on"
    ]
    assert node.gauges()["device_failed"] == 1
    node.close()
    assert node.report()["device"].startswith("CPU, since the device failed: CUDA error")


def test_with_too_little_memory_it_goes_on_with_one_frame_at_a_time(
    make: Making, devices: list[FakeDevice], caplog: pytest.LogCaptureFixture
) -> None:
    node = make(SIZE)
    a_frame = SIZE[0] * SIZE[1] * 4
    devices[0].most_bytes = 2 * a_frame
    with caplog.at_level(logging.WARNING):
        made = all_of(node, MOMENTS)
    assert len(made) == len(MOMENTS)
    assert len(devices) == 2
    assert 0 < devices[1].bytes <= a_frame * 2
    assert "one frame at a time" in caplog.text
    assert "the CPU goes on" not in caplog.text
    node.close()
    assert "one frame at a time" in node.report()["device"]


def test_with_too_little_memory_for_one_the_processor_goes_on(
    make: Making, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(work, "device_for", lambda _: FakeDevice(most_bytes=100))
    node = make(SIZE)
    with caplog.at_level(logging.WARNING):
        assert len(all_of(node, MOMENTS)) == len(MOMENTS)
    assert "the CPU goes on" in caplog.text


def test_where_the_device_was_insisted_on_a_fault_of_it_ends_the_run_in_one_line(
    weights: Path, devices: list[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Fuse(weights=weights, device="cpu", precision="fp32")
    node.open({"infrared": None, "visible": SIZE})
    assert node._work is not None
    node._work._insist = True
    fail_at(devices[0], 1, 2, RuntimeError("CUDA error: unspecified launch failure\nfurther lines"))
    with pytest.raises(DeviceError, match=r"^device 'cpu': CUDA error: unspecified launch failure") as raised:
        all_of(node, MOMENTS)
    assert raised.value.exit_code == 4
