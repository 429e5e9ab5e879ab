"""Graphs, faults and stops as chance has it: whatever happens, the run ends and no frame is lost count of."""

from __future__ import annotations

import random

import pytest

from pipeline import pipeline as engine
from pipeline.errors import FramesLost, OutputError, SourceError
from pipeline.frame import Frame
from pipeline.node import EndOfStream
from pipeline.pipeline import Pipeline
from tests.pipeline.fakes import Logging, Running, Source

FAULTS = (SourceError, OutputError, ValueError)


class Any(Logging):
    """Hands on the frame of its reference, but loses some."""

    def __init__(self, inputs: tuple[str, ...], lose: float, chance: random.Random, skew: float | None) -> None:
        super().__init__()
        self.names, self.lose, self.chance, self.max_skew_ms = inputs, lose, chance, skew

    def inputs(self) -> tuple[str, ...]:
        return self.names

    def process(self, **frames: Frame) -> Frame | None:
        self.note("process")
        return None if self.chance.random() < self.lose else frames[self.names[-1]]


def random_pipeline(chance: random.Random) -> tuple[Pipeline, dict[str, Logging]]:
    live = chance.random() < 0.4
    nodes: dict[str, Logging] = {}
    for number in range(chance.randint(1, 3)):
        step = chance.choice([10, 33, 40, 100])
        end = chance.choice([None, None, None, SourceError("injected")])
        nodes[f"source{number}"] = Source(range(0, chance.randint(0, 4000), step), live=live, end=end)
    inputs = {}
    for number in range(chance.randint(1, 6)):
        keys = tuple("abc"[: chance.randint(1, 3)])
        inputs[f"node{number}"] = {key: chance.choice(list(nodes)) for key in keys}
        lose = chance.choice([0, 0, 0.1, 0.9])
        nodes[f"node{number}"] = Any(keys, lose, random.Random(chance.random()), chance.choice([None, 0, 20]))
    sizes = {name: chance.randint(2, 5) for name in inputs if chance.random() < 0.5}
    return Pipeline(nodes, inputs, sizes), nodes


def inject(nodes: dict[str, Logging], chance: random.Random) -> None:
    """Let a method of a node raise, `process` after some calls of it."""
    node = chance.choice(list(nodes.values()))
    method = chance.choice(["open", "process", "process", "process", "close", "abort"])
    faults = (*FAULTS, EndOfStream) if method in ("open", "process") else FAULTS
    after, fault = chance.choice([0, 3, 20]), chance.choice(faults)("injected")

    def fail_later() -> None:
        if sum(called == method for _, called in node.log) > (after if method == "process" else 0):
            node.fails[method] = fault

    node.before[method] = fail_later


@pytest.mark.parametrize("seed", range(150))
def test_whatever_happens_the_run_ends_and_keeps_count(seed, monkeypatch):
    monkeypatch.setattr(engine, "TICK_SECONDS", 0.005)
    chance = random.Random(seed)
    pipeline, nodes = random_pipeline(chance)
    for _ in range(chance.choice([0, 0, 1, 1, 2])):
        inject(nodes, chance)
    running = Running(pipeline)
    if chance.random() < 0.2:
        chance.choice(list(nodes.values())).called["process"].wait(0.05)
        pipeline.stop()
    error: Exception | None = None
    try:
        summary = running.end()
    except (SourceError, OutputError, FramesLost, ValueError) as raised:
        summary, error = raised.summary, raised
    told = str(error)
    assert error is None or "injected" in told or ("no partner" in told and pipeline.mode == "recorded")
    assert not summary.broken
    assert set(summary.nodes) == set(nodes)
    for node in nodes.values():
        calls = node.did()
        assert ("open" in calls) == ("close" in calls or "abort" in calls)
        assert calls.count("open") <= 1
        assert calls.count("close") <= 1
        assert calls.count("abort") <= 1
