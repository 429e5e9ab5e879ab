"""Stopping: it ends in time, files are finished, and nobody is waited for who does not come."""

from __future__ import annotations

import logging
import signal
import threading

import pytest

from pipeline import pipeline as engine
from pipeline.errors import OutputError
from pipeline.frame import Frame
from pipeline.pipeline import Pipeline
from tests.pipeline.fakes import (
    Endless,
    Logging,
    Pair,
    Pass,
    Running,
    Sink,
    Source,
    line,
    pairing,
    run,
    wait_for,
)


def test_stop_before_the_run_opens_nothing():
    source, sink = Source([0]), Sink()
    pipeline = line(source, sink)
    pipeline.stop()
    assert not run(pipeline).broken
    assert source.did() == sink.did() == []


def test_a_ctrl_c_that_nobody_handles_finishes_the_files_and_is_passed_on():
    sink = Sink()

    def tick(_: Pipeline) -> None:
        wait_for(sink.called["process"])
        signal.raise_signal(signal.SIGINT)

    source = Endless()
    source.live = False
    with pytest.raises(KeyboardInterrupt):
        line(source, sink).run(tick)
    assert sink.did()[-1] == "close"


@pytest.mark.parametrize("live", [True, False])
def test_stop_ends_the_run_finishes_the_files_and_keeps_count(live):
    source, sink = Endless(), Sink()
    source.live = live
    pipeline = line(source, Pass(), sink)
    running = Running(pipeline)
    wait_for(sink.called["process"])
    pipeline.stop()
    summary = running.end()
    assert pipeline.stopping
    assert not summary.broken
    assert sink.did() == ["open", "process", "close"]
    assert source.did() == ["open", "process", "close"]


def test_stop_lets_go_of_what_waits_for_a_partner_and_counts_it():
    class Silent(Logging):
        def process(self) -> Frame | None:
            return None

    left = Source([0, 1])
    pipeline = pairing(left, Silent(), Pair(), Sink())
    running = Running(pipeline)
    wait_for(left.called["close"])
    pipeline.stop()
    assert running.end().nodes["pair"]["dropped"] == {"left interrupted": 2}


@pytest.mark.parametrize("method", ["process", "open", "close"])
def test_stop_ends_the_run_although_a_node_is_stuck(method, impatient, release, caplog):
    node, sink = Pass(), Sink()
    node.before[method] = lambda: wait_for(release)
    pipeline = line(Source([0, 1, 2]) if method == "close" else Endless(), node, sink)
    running = Running(pipeline)
    wait_for(node.called[method])
    pipeline.stop()
    summary = running.end()
    assert sink.did()[-1:] == ([] if method == "open" else ["close"])
    assert set(summary.nodes) == {"source", "sink"}
    assert not summary.broken
    assert [record.message for record in caplog.records] == ["n1: did not stop within 0.4 s and is left behind"]


def test_stop_ends_nodes_that_wait_for_the_start(impatient, release):
    stuck, source = Source([0]), Source([0])
    stuck.before["open"] = lambda: wait_for(release)
    pipeline = Pipeline({"stuck": stuck, "source": source}, {})
    running = Running(pipeline)
    wait_for(source.called["open"])
    pipeline.stop()
    assert set(running.end().nodes) == {"source"}
    assert source.did() == ["open", "close"]


def test_what_a_stopped_run_has_not_paired_is_no_failure():
    left, right, sink = Source(range(0, 4000, 40)), Source(range(2000, 4000, 40)), Sink()
    pipeline = pairing(left, right, Pair(), sink)
    sink.before["process"] = pipeline.stop
    assert run(pipeline).dropped["no_partner"] == 50


def test_the_time_to_stop_leaves_room_within_three_seconds():
    assert engine.STOP_SECONDS + engine.TICK_SECONDS < 3


def test_a_failure_after_a_stop_does_not_cost_the_file():
    sink, stopped = Sink(), threading.Event()
    sink.before["process"] = lambda: wait_for(stopped)
    sink.fails["process"] = OutputError("interrupted write")
    pipeline = line(Source(range(9)), sink)
    running = Running(pipeline)
    wait_for(sink.called["process"])
    pipeline.stop()
    stopped.set()
    with pytest.raises(OutputError, match="interrupted write"):
        running.end()
    assert sink.did() == ["open", "process", "close"]


def test_a_stop_may_come_from_the_thread_of_a_node():
    sink = Sink()
    pipeline = line(Endless(), sink)
    sink.before["process"] = pipeline.stop
    assert not run(pipeline).broken


def test_messages_go_to_the_log_of_streamfuse():
    assert engine.log is logging.getLogger("streamfuse")
