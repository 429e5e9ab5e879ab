"""The node on a device that works beside the processor: the same pictures, in order; and what a fault of it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodes.fusion import gpu, work
from nodes.fusion.cuda import Lane
from nodes.fusion.fuse import Fuse
from pipeline.errors import DeviceError
from pipeline.frame import Frame
from pipeline.node import Node
from pipeline.pipeline import Pipeline
from tests import media
from tests.conftest import WeightsOf
from tests.nodes.fusion.fake_device import FakeDevice
from tests.nodes.fusion.frames import Making, frame, heat, yuv
from tests.pipeline.fakes import Sink, Source, run

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


@pytest.mark.parametrize(("model", "kind"), [*(("realtime", kind) for kind in KINDS), ("cadnif", "16 bits, smaller")])
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


@pytest.mark.parametrize("model", ["realtime"])
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


@pytest.mark.parametrize("model", ["realtime"])
@pytest.mark.parametrize("steady", [None, False])
def test_frames_that_change_their_size_in_mid_run_are_right(
    make: Making, steady: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [SIZE, (66, 50), (66, 50), SIZE, (33, 21), SIZE]
    moments = [{"infrared": heat(n, SIZE), "visible": yuv(n, size)} for n, size in enumerate(sizes)]
    expected = all_of(make(SIZE, steady=steady), moments)
    monkeypatch.setattr(work, "device_for", lambda _: FakeDevice())
    made = all_of(make(SIZE, steady=steady), moments)
    assert [each.size for each in made] == sizes
    for one, other in zip(made, expected, strict=True):
        assert np.abs(one.data.astype(int) - other.data).max() <= 2


class Playing(Source):
    """Gives frames; then the end."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__(range(len(frames)))
        self.frames = frames

    def process(self) -> Frame | None:
        self.note("process")
        if self.given == len(self.frames):
            raise self.end_with
        self.given += 1
        return self.frames[self.given - 1]


@pytest.mark.parametrize("fault", [None, "kernel", "hang"])
def test_in_a_pipeline_pictures_leave_in_order_and_right_whatever_the_device_does(
    fault: str | None, weights_of: WeightsOf, devices: list[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "hang":
        monkeypatch.setattr(gpu, "Lane", partial(Lane, patience_s=0.5))
    weights, count, work_stream = weights_of("realtime"), 12, 1
    pairs = [(heat(n, SIZE, time_ms=40 * n), yuv(n, SIZE, time_ms=40 * n)) for n in range(count)]
    infrared, visible = Playing([pair[0] for pair in pairs]), Playing([pair[1] for pair in pairs])

    def break_it() -> None:
        if fault == "kernel" and visible.given == count // 2:
            fail_at(devices[0], work_stream, 0, RuntimeError("CUDA error: unspecified launch failure"))
        if fault == "hang" and visible.given == count // 2:
            devices[0].streams[work_stream].gate.clear()

    visible.before["process"] = break_it
    node = Fuse(weights=weights, device="cpu", precision="fp32", steady=False)
    nodes: dict[str, Node] = {"infrared": infrared, "visible": visible, "fuse": node, "sink": (sink := Sink())}
    inputs = {"fuse": {"infrared": "infrared", "visible": "visible"}, "sink": {"frame": "fuse"}}
    summary = run(Pipeline(nodes, inputs))
    assert summary.broken == []
    assert [each.sequence for each in sink.frames] == list(range(count))
    assert [each.timestamp_ns for each in sink.frames] == [visible.timestamp_ns for _, visible in pairs]
    assert summary.nodes["fuse"]["device"].startswith(
        "fp32 on CPU" if fault is None else "CPU, since the device failed"
    )
    monkeypatch.setattr(work, "device_for", lambda _: None)
    alone = Fuse(weights=weights, device="cpu", precision="fp32", steady=False)
    alone.open(dict.fromkeys(alone.inputs()))
    expected = all_of(alone, [{"infrared": one, "visible": other} for one, other in pairs])
    for made, wanted in zip(sink.frames, expected, strict=True):
        assert np.abs(made.data.astype(int) - wanted.data).max() <= (2 if fault is None else 4)  # bf16 on the processor


# Faults:


def fail_at(device: FakeDevice, stream: int, at: int, error: Exception) -> None:
    count = iter(range(1_000_000))

    def fails(number: int) -> None:
        if number == stream and next(count) == at:
            raise error

    device.fails = fails


MOMENTS = [{"infrared": heat(n, SIZE), "visible": yuv(n, SIZE)} for n in range(10)]


@pytest.mark.parametrize("model", ["realtime"])
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
    assert node.in_flight == 1, "three at once on the processor would be three times as late"
    node.close()
    assert node.report()["device"].startswith("CPU, since the device failed: CUDA error")


@pytest.mark.parametrize("model", ["realtime"])
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
    assert node.in_flight == 1
    node.close()
    assert "one frame at a time" in node.report()["device"]


@pytest.mark.parametrize("model", ["realtime"])
def test_with_too_little_memory_for_one_the_processor_goes_on(
    make: Making, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(work, "device_for", lambda _: FakeDevice(most_bytes=100))
    node = make(SIZE)
    with caplog.at_level(logging.WARNING):
        assert len(all_of(node, MOMENTS)) == len(MOMENTS)
    assert "the CPU goes on" in caplog.text


@pytest.mark.parametrize("model", ["realtime"])
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
