"""Running: what flows, what is dropped, and what is said about it at the end."""

from __future__ import annotations

import threading

import pytest

from pipeline import pipeline as engine
from pipeline.channel import Channel
from pipeline.errors import ConfigError, FramesLost, SourceError
from pipeline.frame import Frame
from pipeline.graph import Step
from pipeline.pipeline import Pipeline
from tests.pipeline.fakes import Endless, Pair, Pass, Running, Sink, Source, line, pairing, run, times_ms, wait_for

# Opening


def test_everything_is_open_before_the_first_frame_flows():
    log: list[tuple[str, str]] = []
    source, sink = Source([0, 1], log=log), Sink(log)
    sink.before["open"] = lambda: source.called["process"].wait(0.1)  # a chance to come too early
    run(line(source, sink))
    methods = [method for _, method in log]
    assert methods.index("process") == 2
    assert methods[:2] == ["open", "open"]


def test_nodes_open_after_those_that_feed_them_and_learn_the_size_of_their_frames():
    log: list[tuple[str, str]] = []
    source, sink = Source(log=log), Sink(log)
    source.before["open"] = lambda: setattr(source, "size", (640, 480))
    run(line(source, sink))
    assert log[:2] == [("source", "open"), ("sink", "open")]
    assert sink.sizes == {"frame": (640, 480)}


def test_checking_opens_everything_and_gives_it_up_again():
    log: list[tuple[str, str]] = []
    source, sink = Source([0], log=log), Sink(log)
    line(source, sink).check()
    assert log == [("source", "open"), ("sink", "open"), ("sink", "abort"), ("source", "abort")]


def test_checking_raises_what_is_in_the_way_even_if_giving_up_fails_too():
    source, sink = Source(), Sink()
    sink.fails = {"open": SourceError("not there"), "abort": ValueError("a fault")}
    with pytest.raises(SourceError, match="not there"):
        line(source, sink).check()
    assert source.did() == ["open", "abort"]


# Recorded mode


def test_frames_go_through_all_nodes_in_order():
    sink = Sink()
    summary = run(line(Source(range(100)), Pass(), Pass(), sink))
    assert times_ms(sink.frames) == list(range(100))
    assert not summary.dropped
    assert not summary.broken
    assert [node["emitted"] for node in summary.nodes.values()] == [100] * 4
    assert summary.nodes["sink"]["path"] == "sink.out"


def test_a_source_without_frames_comes_to_an_end():
    assert run(line(Source(), Pass(), Sink())).nodes["sink"]["emitted"] == 0


def test_a_recording_waits_for_a_slow_node_and_nothing_is_dropped():
    source, sink, full = Source(range(50)), Sink(), threading.Event()
    source.before["process"] = lambda: source.given == 9 and full.set()  # one in the sink, eight in its queue
    ahead: list[int] = []
    sink.before["process"] = lambda: (wait_for(full), ahead.append(source.given - len(sink.frames)))
    assert not run(line(source, sink)).dropped
    assert times_ms(sink.frames) == list(range(50))
    assert max(ahead) == 9  # eight in the queue and one that waits to get in


def test_the_queue_size_says_how_far_a_source_may_be_ahead():
    source, sink, full, ahead = Source(range(50)), Sink(), threading.Event(), []
    source.before["process"] = lambda: source.given == 4 and full.set()
    sink.before["process"] = lambda: (wait_for(full), ahead.append(source.given - len(sink.frames)))
    run(Pipeline({"a": source, "b": sink}, {"b": {"frame": "a"}}, {"b": 3}))
    assert max(ahead) == 4


def test_what_a_node_makes_nothing_of_is_counted():
    sink = Sink()
    summary = run(line(Source(range(10)), Pass(lost=[3, 4]), sink))
    assert summary.nodes["n1"]["dropped"] == {"no_result": 2}
    assert len(sink.frames) == 8


def test_the_same_frame_may_be_sent_again_and_again():
    still = Source([0]).process()

    class Still(Source):
        def process(self) -> Frame | None:
            return still if super().process() else None

    sink = Sink()
    assert not run(line(Still(range(5)), sink)).broken
    assert len(sink.frames) == 5


def test_branches_that_meet_again_get_the_same_frames():
    pair, sink = Pair(), Sink()
    nodes = {"source": Source([10 * n for n in range(40)]), "a": Pass(), "b": Pass(), "pair": pair, "sink": sink}
    inputs = {
        "a": {"frame": "source"},
        "b": {"frame": "source"},
        "pair": {"left": "a", "right": "b"},
        "sink": {"frame": "pair"},
    }
    assert not run(Pipeline(nodes, inputs)).dropped
    assert pair.pairs == [(10 * n, 10 * n) for n in range(40)]


def test_branches_that_meet_again_do_not_wait_for_each_other_for_ever(impatient):
    # `fused` loses its first 100 frames, while the direct way to the sheet is full after 8.
    source, sheet, sink = Source([10 * n for n in range(130)]), Pair(), Sink()
    nodes = {"source": source, "fused": Pass(lost=range(100)), "sheet": sheet, "sink": sink}
    inputs = {"fused": {"frame": "source"}, "sheet": {"left": "source", "right": "fused"}, "sink": {"frame": "sheet"}}
    with pytest.raises(FramesLost, match="sheet: 100 of 130 left frames have no partner"):
        run(Pipeline(nodes, inputs))
    assert sheet.pairs == [(10 * n, 10 * n) for n in range(100, 130)]


def test_a_queue_does_not_grow_for_ever(impatient, monkeypatch):
    monkeypatch.setattr(engine, "MOST_FRAMES", 32)
    source, sink = Source(range(1000)), Sink()
    nodes = {"source": source, "none": Pass(lost=range(1000)), "sheet": Pair(), "sink": sink}
    inputs = {"none": {"frame": "source"}, "sheet": {"left": "source", "right": "none"}, "sink": {"frame": "sheet"}}
    with pytest.raises(ConfigError, match=r"Node 'sheet': 32 frames .* set its queue_size"):
        run(Pipeline(nodes, inputs))
    assert sink.did() == ["open", "abort"]


# Pairs


def test_streams_of_the_same_rate_and_length_lose_nothing():
    pair, sink = Pair(), Sink()
    summary = run(pairing(Source([40 * n + 7 for n in range(30)]), Source([40 * n for n in range(30)]), pair, sink))
    assert not summary.dropped
    assert pair.pairs == [(40 * n + 7, 40 * n) for n in range(30)]
    assert summary.nodes["pair"]["max_skew_ms"] == 7


@pytest.mark.parametrize("max_skew_ms", [None, 20])
def test_a_faster_partner_gives_surplus_and_no_error(max_skew_ms):
    left, right, sink = Source([10 * n for n in range(100)]), Source([40 * n for n in range(25)]), Sink()
    summary = run(pairing(left, right, Pair(max_skew_ms), sink))
    assert summary.dropped == {"surplus": 75}
    assert len(sink.frames) == 25


@pytest.mark.parametrize(("left", "right", "lost"), [(60, 25, "35 of 60 left"), (25, 60, "35 of 60 right")])
def test_frames_beyond_the_shorter_stream_are_lost_and_said_to_be(left, right, lost):
    pair, sink = Pair(), Sink()
    with pytest.raises(FramesLost, match=f"^pair: {lost} frames have no partner .*max_skew_ms") as caught:
        run(pairing(Source([40 * n for n in range(left)]), Source([40 * n for n in range(right)]), pair, sink))
    assert caught.value.exit_code == 6
    assert caught.value.summary.dropped == {"no_partner": 35}
    assert len(sink.frames) == 25
    assert sink.did() == ["open", "process", "close"]


def test_frames_that_go_back_in_time_are_lost_and_said_to_be():
    with pytest.raises(FramesLost, match=r"^pair: 1 of 4 left frames are older than the one before them$"):
        run(pairing(Source([0, 40, 20, 80]), Source([0, 40, 80]), Pair(), Sink()))


# Live mode


def test_a_live_pipeline_drops_the_oldest_and_counts_it():
    source, sink, done = Source(range(10), live=True), Sink(), threading.Event()
    source.before["process"] = lambda: (
        source.given == 1 and wait_for(sink.called["process"]),  # the first is in the sink, which holds it
        source.given == 10 and done.set(),
    )
    sink.before["process"] = lambda: wait_for(done)
    summary = run(line(source, sink))
    assert times_ms(sink.frames) == [0, 8, 9]
    assert summary.nodes["sink"]["dropped"] == {"frame queue_full": 7}
    assert not summary.broken


def test_live_frames_without_partner_are_counted_and_no_error():
    left, right = Source([0, 40], live=True), Source([0, 40, 500], live=True)
    nodes = pairing(left, right, Pair(10), Sink(), queue_size=8)
    assert run(nodes).dropped == {"no_partner": 1}


def test_a_live_pipeline_ends_with_the_last_that_listens():
    # The reference ends, so that nothing more can come out, though the other camera would go on for ever.
    camera, sink = Endless(), Sink()
    run(pairing(camera, Source([0, 1, 2], live=True), Pair(), sink))
    assert camera.did() == ["open", "process", "close"]
    assert sink.did()[-1] == "close"


# Progress and the law


def test_the_tick_is_called_while_it_runs(impatient):
    seen: list[str] = []
    ticked = threading.Event()
    sink = Sink()
    sink.before["process"] = lambda: wait_for(ticked)

    def tick(pipeline: Pipeline) -> None:
        seen.append(pipeline.mode)
        ticked.set()

    run(line(Source([0]), sink), tick)
    assert set(seen) == {"recorded"}


@pytest.mark.parametrize(
    ("counter", "line_of_it"),
    [
        ("delivered", "sink: 5 frames of frame are neither delivered nor dropped"),
        ("arrived", "sink: 5 frames of frame were sent by source and never arrived"),
    ],
)
def test_losing_count_in_a_channel_is_found_out(monkeypatch, counter, line_of_it):
    put = Channel.put

    def forgetful(self: Channel, name: str, frame: Frame) -> None:
        put(self, name, frame)
        getattr(self, counter)[name] -= 1

    monkeypatch.setattr(Channel, "put", forgetful)
    with pytest.raises(FramesLost, match=f"{line_of_it}.*a fault of ours") as caught:
        run(line(Source(range(5)), Sink()))
    assert line_of_it in caught.value.summary.broken


def test_losing_count_in_a_node_is_found_out(monkeypatch):
    hand_on = Step.hand_on
    monkeypatch.setattr(Step, "hand_on", lambda step, made: step.node.name == "n1" or hand_on(step, made))
    with pytest.raises(FramesLost, match=r"^n1: 5 frames taken are neither handed on nor dropped .a fault of ours"):
        run(line(Source(range(5)), Pass(), Sink()))


def test_losing_count_is_found_out_after_a_stop_too(monkeypatch):
    source, sink = Endless(), Sink()
    pipeline = line(source, sink)
    sink.before["process"] = lambda: pipeline.steps["sink"].stats.dropped.update(["never happened"])
    running = Running(pipeline)
    wait_for(sink.called["process"])
    pipeline.stop()
    with pytest.raises(FramesLost, match="neither handed on nor dropped"):
        running.end()


def test_losing_a_frame_between_channel_and_node_is_found_out(monkeypatch):
    take = Channel.take
    monkeypatch.setattr(Channel, "take", lambda self: take(self) and take(self))
    with pytest.raises(FramesLost, match="sink: 5 frames were delivered and never taken"):
        run(line(Source(range(10)), Sink()))
