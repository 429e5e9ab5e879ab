"""Failing: the run ends with the first failure told, and nothing half done is left under a final name."""

from __future__ import annotations

import pytest

from pipeline.errors import DeviceError, OutputError, SourceError, SourceFailed
from pipeline.node import EndOfStream, Node
from pipeline.pipeline import Pipeline
from pipeline.turns import BAD_FRAMES_IN_A_ROW
from tests.pipeline.fakes import (
    Endless,
    Pair,
    Pass,
    Sink,
    Source,
    cut_short,
    line,
    pairing,
    run,
    times_ms,
    wait_for,
)

# Opening


def test_when_a_source_cannot_open_nothing_flows_and_only_what_was_opened_is_given_up():
    source, sink = Source([0]), Sink()
    source.fails["open"] = SourceError("no such file")
    with pytest.raises(SourceError, match="no such file"):
        run(line(source, Pass(), sink))
    assert source.did() == ["open", "abort"]
    assert sink.did() == []


def test_when_a_sink_cannot_open_nothing_flows_and_all_is_given_up():
    source, sink = Source([0]), Sink()
    sink.fails["open"] = OutputError("not writable")
    with pytest.raises(OutputError, match="not writable"):
        run(line(source, sink))
    assert source.did() == sink.did() == ["open", "abort"]


def test_a_source_that_is_at_its_end_before_it_is_open_ends_the_run():
    source, sink = Source([0]), Sink()
    source.fails["open"] = EndOfStream()
    assert run(line(source, sink)).nodes["sink"]["emitted"] == 0
    assert sink.did() == ["open", "close"]


def test_the_last_node_to_open_may_be_at_its_end_too():
    # All others already wait for the start, which only it can give.
    left, right = Source([0]), Source([0])
    right.before["open"] = lambda: wait_for(left.called["open"])
    right.fails["open"] = EndOfStream()
    nodes: dict[str, Node] = {"left": left, "right": right}
    assert run(Pipeline(nodes, {})).nodes["left"]["emitted"] == 1


def test_the_run_ends_although_another_node_is_still_opening(impatient, release, caplog):
    camera, source = Source([0]), Source([0])
    camera.before["open"] = lambda: wait_for(release)
    source.before["open"] = lambda: wait_for(camera.called["open"])
    source.fails["open"] = SourceError("no such file")
    pair, sink = Pair(), Sink()
    with pytest.raises(SourceError, match="no such file"):
        run(pairing(camera, source, pair, sink))
    assert pair.did() == sink.did() == []
    assert [record.message for record in caplog.records] == ["left: did not stop within 0.4 s and is left behind"]


# Failing


@pytest.mark.parametrize("error", [OutputError("disk full"), DeviceError("no memory"), ValueError("a fault")])
@pytest.mark.parametrize("place", [1, 2])
def test_a_node_that_fails_ends_a_recorded_run_and_all_is_given_up(error, place):
    nodes = [Source(range(1000)), Pass(), Sink()]
    nodes[place].fails["process"] = error
    with pytest.raises(type(error), match=str(error)) as caught:
        run(line(*nodes))
    assert [node.did()[-1] for node in nodes] == ["abort"] * 3
    assert not caught.value.summary.broken
    assert caught.value.summary.dropped["error"] == 1
    assert caught.value.summary.nodes["source"]["dropped"] == {}


def test_a_source_with_a_fault_ends_a_recorded_run_and_all_is_given_up():
    source, sink = Source([0, 1], end=ValueError("a fault")), Sink()
    with pytest.raises(ValueError, match="a fault"):
        run(line(source, sink))
    assert sink.did()[-1] == "abort"


def test_what_a_recording_gave_before_it_broke_off_is_still_delivered():
    source, sink = Source(range(30), end=cut_short(30)), Sink()
    with pytest.raises(SourceError, match="cut short: 30 frames") as caught:
        run(line(source, Pass(), sink))
    assert times_ms(sink.frames) == list(range(30))
    assert sink.did() == ["open", "process", "close"]
    assert source.did() == ["open", "process", "close"]
    assert caught.value.summary.nodes["sink"]["emitted"] == 30


def test_one_of_two_recordings_may_break_off():
    # The frames of the other that are without partner for it are no second failure.
    left, right, sink = Source(range(30), end=cut_short(30)), Source(range(50)), Sink()
    with pytest.raises(SourceError, match="cut short"):
        run(pairing(left, right, Pair(), sink))
    assert len(sink.frames) == 30


def test_what_another_process_gave_before_it_failed_is_not_left_as_if_it_were_whole():
    source, sink = Source(range(3), end=SourceFailed("the publisher failed after 3 frames")), Sink()
    with pytest.raises(SourceFailed, match="after 3 frames"):
        run(line(source, Pass(), sink))
    assert sink.did()[-1] == "abort"


def test_the_first_failure_is_told_and_later_ones_do_not_hide_it(caplog):
    source, sink = Source(range(10), end=cut_short(10)), Sink()
    sink.fails["close"] = OutputError("disk full")
    sink.before["process"] = lambda: len(sink.frames) == 1 and wait_for(source.called["close"])
    with pytest.raises(SourceError, match="cut short"):
        run(line(source, Pass(), sink))
    assert [record.message for record in caplog.records] == ["sink: disk full"]


@pytest.mark.parametrize("method", ["abort", "close"])
def test_a_failure_to_give_up_does_not_hide_why(method, caplog):
    source, sink = Source(range(10)), Sink()
    sink.fails = {"process": OutputError("disk full"), method: ValueError("a fault")}
    with pytest.raises(OutputError, match="disk full"):
        run(line(source, sink))
    assert sink.did() == ["open", "process", "abort"]
    assert [r.message for r in caplog.records] == ["sink: while giving up: a fault"] * (method == "abort")


def test_a_report_that_fails_does_not_hide_the_failure(monkeypatch):
    sink = Sink()
    sink.fails["process"] = OutputError("disk full")
    monkeypatch.setattr(Sink, "report", lambda _: 1 / 0)
    with pytest.raises(OutputError, match="disk full"):
        run(line(Source([0]), sink))


def test_a_node_that_cannot_close_is_given_up_alone_and_told():
    source, good, bad = Source([0]), Sink(), Sink()
    bad.fails["close"] = OutputError("disk full")
    with pytest.raises(OutputError, match="disk full"):
        run(Pipeline({"source": source, "good": good, "bad": bad}, {n: {"frame": "source"} for n in ("good", "bad")}))
    assert bad.did() == ["open", "process", "close", "abort"]
    assert good.did() == ["open", "process", "close"]


def test_a_node_that_takes_long_to_close_keeps_nobody_waiting(release):
    source, sink = Source([0]), Sink()
    source.before["close"] = lambda: wait_for(release)
    sink.before["close"] = release.set
    run(line(source, sink))
    assert len(sink.frames) == 1


def test_a_node_that_wants_no_more_ends_and_keeps_nobody_waiting():
    source, sink, rest = Source(range(100)), Sink(), Sink()
    sink.fails["process"] = EndOfStream()
    nodes = {"source": source, "sink": sink, "rest": rest}
    summary = run(Pipeline(nodes, {n: {"frame": "source"} for n in ("sink", "rest")}))
    assert summary.nodes["sink"]["dropped"] == {"frame ended": 99, "ended": 1}
    assert len(rest.frames) == 100


def test_a_tick_that_fails_ends_the_run_in_good_order():
    sink = Sink()

    def tick(_: Pipeline) -> None:
        raise BrokenPipeError

    source = Endless()
    source.live = False
    with pytest.raises(BrokenPipeError):
        run(line(source, sink), tick)
    assert sink.did()[-1] == "abort"


# Live mode


def test_a_live_pipeline_survives_bad_frames(caplog):
    source, sink = Source(range(6), live=True), Sink()
    node = Pass(bad=[1, 2])
    source.before["process"] = lambda: source.given and wait_for(node.called["process"])
    nodes = {"source": source, "n1": node, "sink": sink}
    pipeline = Pipeline(nodes, {"n1": {"frame": "source"}, "sink": {"frame": "n1"}}, {"n1": 9, "sink": 9})
    summary = run(pipeline)
    assert times_ms(sink.frames) == [0, 3, 4, 5]
    assert summary.nodes["n1"]["dropped"] == {"error": 2}
    assert not summary.broken
    assert [record.message for record in caplog.records] == ["n1: frame dropped (1 so far): frame 1 is bad"]


def test_a_live_node_that_never_works_ends_the_run_and_the_others_are_finished(caplog):
    node, sink = Pass(), Sink()
    node.fails["process"] = ValueError("a fault")
    with pytest.raises(ValueError, match="a fault"):
        run(line(Endless(), node, sink))
    assert sum(method == "process" for _, method in node.log) == BAD_FRAMES_IN_A_ROW
    assert sink.did() == ["open", "close"]


def test_a_live_node_that_works_no_more_ends_the_run_too():
    node, sink = Pass(), Sink()
    sink.before["process"] = lambda: node.fails.update(process=ValueError("a fault"))
    with pytest.raises(ValueError, match="a fault"):
        run(line(Endless(), node, sink))
    assert sink.did() == ["open", "process", "close"]


def test_a_live_node_that_works_now_and_then_goes_on(caplog):
    node = Pass(bad=[n for n in range(1000) if n % 50])
    source = Source(range(1000), live=True)
    nodes = {"source": source, "n1": node, "sink": Sink()}
    pipeline = Pipeline(nodes, {"n1": {"frame": "source"}, "sink": {"frame": "n1"}}, {"n1": 1000, "sink": 1000})
    assert run(pipeline).nodes["sink"]["emitted"] == 20
    assert len(caplog.records) == 10, "one of the first, then one of a hundred"


@pytest.mark.parametrize("error", [OutputError("disk full"), DeviceError("no memory")])
def test_a_live_run_ends_when_output_or_device_fail_and_what_others_wrote_is_kept(error):
    bad, good = Sink(), Sink()
    bad.fails["process"] = error
    bad.before["process"] = lambda: wait_for(good.called["process"])
    nodes = {"source": Endless(), "bad": bad, "good": good}
    with pytest.raises(type(error), match=str(error)) as caught:
        run(Pipeline(nodes, {n: {"frame": "source"} for n in ("bad", "good")}))
    assert caught.value.summary.dropped["error"] == 1, "it does not get better by trying again"
    assert good.did() == ["open", "process", "close"]


def test_a_camera_that_fails_ends_the_run_and_what_was_written_is_kept():
    sink = Sink()
    camera = Source([0], live=True, end=SourceError("unplugged"))
    with pytest.raises(SourceError, match="unplugged"):
        run(pairing(camera, Endless(), Pair(), sink))
    assert sink.did()[-1] == "close"


def test_a_failure_ends_the_run_although_a_node_is_stuck(impatient, release):
    bad, stuck = Sink(), Sink()
    stuck.before["process"] = lambda: wait_for(release)
    bad.before["process"] = lambda: wait_for(stuck.called["process"])
    bad.fails["process"] = OutputError("disk full")
    nodes = {"source": Source([0]), "bad": bad, "stuck": stuck}
    with pytest.raises(OutputError, match="disk full"):
        run(Pipeline(nodes, {n: {"frame": "source"} for n in ("bad", "stuck")}))
    assert bad.did()[-1] == "abort"
