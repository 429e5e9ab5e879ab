"""What is said of a run at its end."""

from __future__ import annotations

import threading

from pipeline.account import drops_before, frames_lost, summarise, unbalanced
from pipeline.pipeline import Pipeline
from tests.pipeline.fakes import Pair, Pass, Sink, Source, frame_at, line, pairing, run


def test_a_frame_on_its_way_out_of_a_node_left_behind_is_not_held_against_the_law():
    steps = line(Source(), Sink()).steps
    steps["source"].stats.emitted = 1
    assert unbalanced("sink", steps["sink"], steps) == ["sink: 1 frames of frame were sent by source and never arrived"]
    steps["source"].thread = threading.current_thread()
    assert unbalanced("sink", steps["sink"], steps) == []


def test_a_node_left_behind_is_not_in_the_summary():
    steps = line(Source(), Sink()).steps
    steps["source"].thread = threading.current_thread()
    assert list(summarise("recorded", 1.0, steps).nodes) == ["sink"]


def test_each_input_that_lost_frames_is_named_with_how_many_and_why():
    steps = pairing(Source(), Source(), Pair(5), Sink()).steps
    channel = steps["pair"].channel
    assert channel is not None
    assert frames_lost(steps) == ""
    for name, time in (("left", 0), ("right", 100), ("left", 200), ("left", 150), ("right", 200)):
        channel.put(name, frame_at(time))
    channel.end("right")
    assert channel.take() is not None
    assert frames_lost(steps) == (
        "pair: 1 of 3 left frames have no partner; pair: 1 of 3 left frames are older than the one before them; "
        "pair: 1 of 2 right frames have no partner "
        "(the recordings differ in length, start or rate: see max_skew_ms and reference)"
    )


def test_the_summary_has_the_drops_of_each_input_before_those_of_the_node():
    steps = pairing(Source(), Source(), Pair(5), Sink()).steps
    channel = steps["pair"].channel
    assert channel is not None
    channel.put("left", frame_at(0))
    channel.close("interrupted")
    steps["pair"].stats.dropped["error"] = 1
    entry = summarise("recorded", 1.0, steps).nodes["pair"]
    assert list(entry["dropped"].items()) == [("left interrupted", 1), ("error", 1)]
    assert (entry["source"], entry["sink"], entry["max_skew_ms"]) == (False, False, 0)


def test_drops_before_a_node_are_its_own_and_those_of_all_on_the_way_to_it():
    pipeline = pairing(Source(), Source(), Pair(5), Sink())
    steps = pipeline.steps
    channel = steps["pair"].channel
    assert channel is not None
    channel.put("left", frame_at(0))
    channel.put("right", frame_at(0))
    channel.close("interrupted")
    for number, name in enumerate(steps, start=1):
        steps[name].stats.dropped[f"error of {name}"] = number
    at_pair = {"error of left": 1, "error of right": 2, "error of pair": 3, "interrupted": 2}
    assert drops_before("sink", steps) == {**at_pair, "error of sink": 4}
    assert drops_before("pair", steps) == at_pair
    assert drops_before("left", steps) == {"error of left": 1}
    assert pipeline.drops("pair") == at_pair


def test_drops_of_one_reason_are_added_up_and_what_two_ways_have_in_common_is_counted_once():
    nodes = {"source": Source(), "upper": Pass(), "lower": Pass(), "pair": Pair(), "sink": Sink()}
    inputs = {
        **{name: {"frame": "source"} for name in ("upper", "lower")},
        "pair": {"left": "upper", "right": "lower"},
        "sink": {"frame": "pair"},
    }
    pipeline = Pipeline(nodes, inputs)
    for name in nodes:
        pipeline.steps[name].stats.dropped["error"] = 10
    assert pipeline.drops("pair") == {"error": 40}
    assert pipeline.drops("upper") == {"error": 20}


def test_a_node_that_asks_in_the_middle_of_a_run_is_told_what_was_dropped_before_each_frame():
    told = []

    class Asking(Sink):
        def process(self, frame):
            told.append((frame.sequence, dict(self.running.drops(self.name))))
            super().process(frame)

    run(line(Source(range(6)), Pass(lost={1, 2, 4}), Asking()))
    assert [number for number, _ in told] == [0, 3, 5]
    lost = [sum(drops.values()) for _, drops in told]
    assert lost[1] >= 2  # the node before may be ahead
    assert lost[2] == 3
    assert lost == sorted(lost)
    assert told[2][1].keys() == {"no_result"}
