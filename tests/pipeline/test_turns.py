"""Nodes that work on several frames at once: results leave in order, as soon as they are there, and none is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from pipeline.errors import DeviceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Later, Made
from tests.pipeline.fakes import Endless, Logging, Running, Sink, Source, line, run, times_ms, wait_for


class Device(Logging):
    """Begins work on each frame, and finishes it later; `step` gets all in work whenever that grows."""

    in_flight = 3

    def __init__(self, step: Callable[[list[tuple[Frame, Future[Made]]]], None]) -> None:
        super().__init__()
        self.step, self.begun, self.most, self.lock = step, [], 0, threading.Lock()

    def process(self, frame: Frame) -> Made | Later:
        self.note("process")
        future: Future[Made] = Future()
        with self.lock:
            self.begun = [(f, other) for f, other in self.begun if not other.done()] + [(frame, future)]
            self.most = max(self.most, len(self.begun))
            self.step(self.begun)
        return future.result


def all_at_once(begun: list[tuple[Frame, Future[Made]]]) -> None:
    for frame, future in begun:
        future.set_result(frame)


class Backwards:
    """Ends work on frames only when so many are in work, the newest first."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, begun: list[tuple[Frame, Future[Made]]]) -> None:
        if len(begun) == self.count or begun[-1][0].sequence == 10:
            for frame, future in reversed(begun):
                future.set_result(frame)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_leave_in_the_order_of_the_frames_whatever_is_ready_first(count: int) -> None:
    sink, device = Sink(), Device(Backwards(count))
    summary = run(line(Source(range(11)), device, sink))
    assert times_ms(sink.frames) == list(range(11))
    assert summary.broken == []
    assert summary.nodes["n1"]["taken"] == summary.nodes["n1"]["emitted"] == 11


def test_no_more_frames_are_in_work_than_the_node_allows() -> None:
    done = threading.Semaphore(0)
    device = Device(lambda begun: done.release())

    def finish() -> None:
        for number in range(20):
            assert done.acquire(timeout=20)
            if number >= 2:  # three are in work from now on
                with device.lock:
                    frame, future = next((f, u) for f, u in device.begun if not u.done())
                    future.set_result(frame)
        with device.lock:
            all_at_once([(f, u) for f, u in device.begun if not u.done()])

    helper = threading.Thread(target=finish, daemon=True)
    helper.start()
    sink = Sink()
    run(line(Source(range(20)), device, sink))
    assert device.most == 3
    assert len(sink.frames) == 20


def test_a_result_leaves_when_it_is_there_and_not_when_the_next_frame_comes() -> None:
    came, go_on = threading.Event(), threading.Event()
    source, sink = Source([0, 1]), Sink()
    source.before["process"] = lambda: source.given == 1 and go_on.wait(20)
    sink.before["process"] = came.set
    running = Running(line(source, Device(all_at_once), sink))
    wait_for(came)  # the second frame is not given before
    go_on.set()
    running.end()
    assert times_ms(sink.frames) == [0, 1]


def test_what_is_there_at_once_keeps_its_place_behind_what_is_in_work() -> None:
    held: list[tuple[Frame, Future[Made]]] = []

    class Mixed(Device):
        def process(self, frame: Frame) -> Made | Later:
            if frame.sequence % 2:
                for other, future in held:
                    future.set_result(other)
                held.clear()
                return frame
            held.append((frame, Future()))
            return held[-1][1].result

    sink = Sink()
    run(line(Source(range(10)), Mixed(all_at_once), sink))
    assert times_ms(sink.frames) == list(range(10))


def test_at_the_end_what_is_in_work_is_waited_for() -> None:
    begun = threading.Event()
    device = Device(lambda all_begun: begun.set())
    sink, source = Sink(), Source([0])
    running = Running(line(source, device, sink))
    wait_for(begun)
    wait_for(source.called["close"])
    assert sink.frames == []
    all_at_once(device.begun)
    assert running.end().broken == []
    assert times_ms(sink.frames) == [0]


def fail(bad: Callable[[int], bool], error: Exception) -> Callable[[list[tuple[Frame, Future[Made]]]], None]:
    def step(begun: list[tuple[Frame, Future[Made]]]) -> None:
        for frame, future in begun:
            if bad(frame.sequence):
                future.set_exception(error)
            else:
                future.set_result(frame)

    return step


def test_a_recorded_run_ends_with_the_first_frame_that_fails_in_work() -> None:
    sink = Sink()
    with pytest.raises(DeviceError, match="out of memory") as raised:
        run(line(Source(range(20)), Device(fail(lambda n: n == 5, DeviceError("out of memory"))), sink))
    assert times_ms(sink.frames) == [0, 1, 2, 3, 4][: len(sink.frames)]  # what was in a queue is let go of
    assert raised.value.summary.broken == []  # type: ignore[attr-defined]


def test_a_failure_ends_the_run_though_no_frame_comes_any_more() -> None:
    device, source = Device(lambda begun: None), Source([0, 1])
    quiet = threading.Event()
    source.before["process"] = lambda: source.given == 2 and quiet.wait(20)
    running = Running(line(source, device, Sink()))
    wait_for(device.called["process"])
    device.begun[0][1].set_exception(DeviceError("the device is lost"))
    wait_for(device.called["abort"])
    quiet.set()
    with pytest.raises(DeviceError, match="lost"):
        running.end()


def test_live_a_frame_that_fails_in_work_is_counted_and_the_stream_goes_on() -> None:
    enough, sink = threading.Event(), Sink()
    sink.before["process"] = lambda: sink.frames and len(sink.frames) > 30 and enough.set()
    device = Device(fail(lambda n: n % 2 == 0, ValueError("bad")))
    pipeline = line(Endless(), device, sink)
    running = Running(pipeline)
    wait_for(enough)
    pipeline.stop()
    summary = running.end()
    assert summary.nodes["n1"]["dropped"]["error"] >= 1
    assert summary.broken == []


def test_stopped_in_mid_work_everything_is_counted() -> None:
    begun = threading.Event()
    device = Device(lambda all_begun: len(all_begun) == 3 and begun.set())
    pipeline = line(Endless(), device, Sink())
    running = Running(pipeline)
    wait_for(begun)
    pipeline.stop()
    all_at_once(device.begun)
    assert running.end().broken == []


def test_a_node_that_wants_no_more_ends_with_what_it_has_in_work() -> None:
    device = Device(fail(lambda n: n == 3, EndOfStream()))
    sink = Sink()
    summary = run(line(Source(range(9)), device, sink))
    assert times_ms(sink.frames) == [0, 1, 2]
    assert summary.broken == []


def test_random_orders_of_completion_never_change_the_order_of_results() -> None:
    dice, begun, sink = random.Random(0), threading.Semaphore(0), Sink()
    device = Device(lambda _: begun.release())

    def finish() -> None:
        for _ in range(300):
            assert begun.acquire(timeout=20)
            with device.lock:
                frame, future = dice.choice([(f, u) for f, u in device.begun if not u.done()])
            future.set_result(frame)

    threading.Thread(target=finish, daemon=True).start()
    assert run(line(Source(range(300)), device, sink)).broken == []
    assert times_ms(sink.frames) == list(range(300))


def test_finishing_later_in_a_node_that_works_on_one_frame_at_a_time_is_a_mistake() -> None:
    device = Device(all_at_once)
    device.in_flight = 1
    with pytest.raises(AssertionError, match="in_flight"):
        run(line(Source([0]), device, Sink()))
