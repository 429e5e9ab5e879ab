"""What is said of a run at its end."""

from __future__ import annotations

import threading

from pipeline.account import frames_lost, summarise, unbalanced
from tests.pipeline.fakes import Pair, Sink, Source, frame_at, line, pairing


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
