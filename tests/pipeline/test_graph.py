"""The wiring, checked when a program builds a pipeline itself."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipeline.errors import ConfigError
from pipeline.graph import find_circle, in_order
from pipeline.pipeline import Pipeline
from tests.pipeline.fakes import Pair, Pass, Sink, Source, pairing


def test_every_arrow_joins_a_node_to_those_it_feeds():
    pipeline = pairing(Source(), Source(), Pair(), Sink())
    assert [key for _, key, _ in pipeline.steps["left"].consumers] == ["left"]
    assert pipeline.steps["pair"].consumers == [(pipeline.steps["sink"].channel, "frame", "")]
    assert pipeline.steps["left"].channel is None


def test_nodes_know_their_names():
    assert {name: step.node.name for name, step in pairing(Source(), Source(), Pair(), Sink()).steps.items()} == {
        name: name for name in ("left", "right", "pair", "sink")
    }


def test_live_sources_make_a_live_pipeline_and_recorded_ones_a_recorded_one():
    assert pairing(Source(live=True), Source(live=True), Pair(), Sink()).mode == "live"
    assert pairing(Source(), Source(), Pair(), Sink()).mode == "recorded"


def test_live_and_recorded_sources_do_not_mix():
    with pytest.raises(ConfigError, match=r"'right' is live and node 'left' is recorded.*pace: realtime"):
        pairing(Source(), Source(live=True), Pair(), Sink())


def test_queues_are_longer_for_recordings_and_as_long_as_asked_for():
    def capacities(live: bool, queue_size: int | None = None) -> list[int]:
        steps = pairing(Source(live=live), Source(live=live), Pair(), Sink(), queue_size).steps
        return [step.channel._capacity for step in steps.values() if step.channel]

    assert capacities(live=False) == [8, 8]
    assert capacities(live=True) == [2, 2]
    assert capacities(live=True, queue_size=5) == [5, 2]


def test_the_node_says_which_input_is_the_reference_and_how_near_partners_are():
    channel = pairing(Source(), Source(), Pair(17.5, "left"), Sink()).steps["pair"].channel
    assert channel is not None
    assert channel.reference == "left"
    assert channel._matcher.max_skew_ns == 17_500_000


def test_steps_come_after_those_that_feed_them():
    nodes = {"sink": Sink(), "pair": Pair(), "left": Pass(), "right": Source()}
    inputs = {"sink": {"frame": "pair"}, "pair": {"left": "left", "right": "right"}, "left": {"frame": "right"}}
    assert [step.node.name for step in in_order(Pipeline(nodes, inputs).steps)] == ["right", "left", "pair", "sink"]


def test_a_circle_is_found_and_told_from_what_hangs_on_it():
    inputs = {"a": {"x": "source", "y": "c"}, "b": {"x": "a"}, "c": {"x": "b"}, "out": {"x": "c"}}
    circle = find_circle(inputs)
    assert circle[0] == circle[-1]
    assert set(circle) == {"a", "b", "c"}
    assert all({"a": "b", "b": "c", "c": "a"}[one] == two for one, two in pairwise(circle))


def test_a_diamond_is_no_circle():
    assert find_circle({"a": {"x": "s"}, "b": {"x": "s"}, "c": {"x": "a", "y": "b"}}) == []


def test_a_pipeline_without_a_source_is_a_circle():
    with pytest.raises(ConfigError, match="Nodes feed each other in a circle: "):
        Pipeline({"a": Pass(), "b": Pass()}, {"a": {"frame": "b"}, "b": {"frame": "a"}})
