"""Nodes that work on several frames at once: results leave in order, as soon as they are there, and none is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from pipeline import pipeline as engine
from pipeline.channel import Channel
from pipeline.errors import DeviceError, FramesLost
from pipeline.frame import Frame
from pipeline.node import EndOfStream, Later, Made
from pipeline.pipeline import Pipeline
from tests.pipeline.fakes import Endless, Logging, Pair, Pass, Running, Sink, Source, line, run, times_ms, wait_for


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


def test_live_the_oldest_of_those_that_wait_are_dropped_while_as_many_as_may_be_are_in_work() -> None:
    begun, count = threading.Semaphore(0), 20
    device, source, sink = Device(lambda _: begun.release()), Source(range(count), live=True), Sink()

    def before_each() -> None:
        if 1 <= source.given <= 3:
            assert begun.acquire(timeout=20)  # the one before is in work
        if source.given == count:
            with device.lock:
                device.step = all_at_once
                all_at_once(device.begun)

    source.before["process"] = before_each
    nodes = {"source": source, "device": device, "sink": sink}
    pipeline = Pipeline(nodes, {"device": {"frame": "source"}, "sink": {"frame": "device"}}, {"device": 2, "sink": 8})
    summary = run(pipeline)
    assert times_ms(sink.frames) == [0, 1, 2, count - 2, count - 1]
    assert summary.nodes["device"]["dropped"] == {"frame queue_full": count - 5}
    assert summary.broken == []


def test_a_stop_does_not_wait_for_work_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STOP_SECONDS", 0.1)
    begun = threading.Event()
    device, sink = Device(lambda all_begun: len(all_begun) == 3 and begun.set()), Sink()
    pipeline = line(Endless(), device, sink)
    running = Running(pipeline)
    wait_for(begun)
    pipeline.stop()
    summary = running.end()
    assert "n1" not in summary.nodes
    assert summary.broken == []
    assert "close" in sink.did()
    all_at_once(device.begun)


def test_a_frame_that_is_begun_while_the_one_before_it_fails_is_counted() -> None:
    closed = threading.Event()

    class Late(Device):
        def process(self, frame: Frame) -> Made | Later:
            if frame.sequence == 1:
                self.begun[0][1].set_exception(DeviceError("the device is lost"))
                channel = pipeline.steps["n1"].channel
                while channel is not None and not channel.done:  # what failed has been given up by then
                    closed.wait(0.001)
            return super().process(frame)

    pipeline = line(Source(range(5)), Late(lambda _: None), Sink())
    with pytest.raises(DeviceError) as raised:
        run(pipeline)
    summary = raised.value.summary  # type: ignore[attr-defined]
    assert summary.broken == []
    assert summary.nodes["n1"]["taken"] == 2


def test_a_node_may_come_down_to_one_frame_at_a_time_and_results_stay_in_order() -> None:
    class Shrinking(Device):
        after = 0

        def process(self, frame: Frame) -> Made | Later:
            if frame.sequence == 5:
                self.in_flight = 1
            if frame.sequence > 5:
                with self.lock:
                    self.after = max(self.after, sum(not future.done() for _, future in self.begun))
            return super().process(frame)

    there, sink = threading.Semaphore(0), Sink()
    device = Shrinking(lambda _: there.release())

    def finish() -> None:
        for number in range(20):
            assert there.acquire(timeout=20)
            with device.lock:
                begun = [(f, u) for f, u in device.begun if not u.done()]
                if number >= 2:
                    all_at_once(begun[::-1])

    threading.Thread(target=finish, daemon=True).start()
    assert run(line(Source(range(20)), device, sink)).broken == []
    assert times_ms(sink.frames) == list(range(20))
    assert device.after == 0


@pytest.mark.parametrize("held_back", ["in work", "beside"])
def test_branches_that_meet_again_do_not_wait_for_each_other_for_ever(
    held_back: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TICK_SECONDS", 0.02)

    def late(begun: list[tuple[Frame, Future[Made]]]) -> None:
        for frame, future in begun:
            future.set_result(None if held_back == "in work" and frame.sequence < 12 else frame)

    device, other, pair, sink = Device(late), Pass(lost=range(12)), Pair(), Sink()
    nodes = {"source": Source(range(20)), "device": device, "pair": pair, "sink": sink}
    inputs = {"device": {"frame": "source"}, "pair": {"left": "source", "right": "device"}, "sink": {"frame": "pair"}}
    if held_back == "beside":
        nodes |= {"other": other}
        inputs |= {"other": {"frame": "source"}, "pair": {"left": "device", "right": "other"}}
    with pytest.raises(FramesLost, match=r"^pair: 12 of 20 left frames have no partner"):
        run(Pipeline(nodes, inputs, {"pair": 2, "device": 2}))
    assert times_ms(sink.frames) == list(range(12, 20))


def test_queues_do_not_grow_while_there_is_work_that_may_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TICK_SECONDS", 0.02)
    grown: list[int] = []
    grow = Channel.grow
    monkeypatch.setattr(Channel, "grow", lambda self: (grown.append(1), grow(self))[1])
    device, sink, ticks = Device(lambda _: None), Sink(), iter(range(10**6))
    device.in_flight = 5

    def tick(pipeline: Pipeline) -> None:
        if pipeline.steps["device"].in_work < 2 or device.step is all_at_once:
            return
        if (number := next(ticks)) == 0:
            grown.clear()
        elif number == 8:  # the source waits for room, the pair for what is in work, and the device for frames
            assert grown == []
            with device.lock:
                device.step = all_at_once
                all_at_once(device.begun)

    nodes = {"source": Source(range(8)), "device": device, "pair": Pair(), "sink": sink}
    inputs = {"device": {"frame": "source"}, "pair": {"left": "source", "right": "device"}, "sink": {"frame": "pair"}}
    assert run(Pipeline(nodes, inputs, {"pair": 2, "device": 2}), tick).broken == []
    assert times_ms(sink.frames) == list(range(8))
