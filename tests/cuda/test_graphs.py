"""The fusion is recorded as a CUDA graph, replayed, and recorded anew when the frames have another shape."""

from __future__ import annotations

import pytest
import torch

from tests.cuda.nodes import SAME, apart, device_of, furthest, moments, open_node, open_reference
from tests.nodes.fusion.test_on_device import all_of

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("model", ["cadnif", "realtime"])
def test_from_the_third_frame_on_a_recording_is_replayed(model: str) -> None:
    size = (320, 240)
    node = open_node(size, model=model)
    all_of(node, moments("infrared", size, count=3))
    graphed = device_of(node).graphed
    assert graphed is not None
    assert (graphed.recorded, graphed.why_not) == (1, None)
    first = graphed.recording
    assert first is not None
    all_of(node, moments("infrared", size, count=12))
    assert graphed.recording is first


def test_another_shape_is_recorded_anew_and_the_pictures_stay_right() -> None:
    sizes = [(320, 240), (160, 128), (320, 240)]
    given = [moment for size in sizes for moment in moments("infrared", size, count=5)]
    node = open_node(sizes[0])
    made = all_of(node, given)
    graphed = device_of(node).graphed
    assert graphed is not None
    assert graphed.recorded == 3
    assert furthest(made, all_of(open_reference(sizes[0]), given)) <= SAME


def test_replayed_pictures_are_those_of_the_same_work_done_piece_by_piece() -> None:
    size, made = (320, 240), []
    given = moments("infrared", size, count=8)
    for graphs in (True, False):
        node = open_node(size)
        if not graphs:
            device_of(node).graphed = None
        made.append(all_of(node, given))
    assert furthest(*made) <= 1


def test_memory_of_a_recording_that_is_not_needed_any_more_is_given_back() -> None:
    node = open_node((640, 512), model="cadnif")
    sizes = [(640, 512), (320, 256)]
    reserved = []
    for number in range(6):
        all_of(node, moments("infrared", sizes[number % 2], count=4))
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved())
    assert max(reserved[4:]) <= 1.1 * max(reserved[:2])


REFUSED = """
import json, os, torch
from nodes.fusion.cuda_device import Graphed
def refuse(_, x):
    return (x * float(x.sum()),)  # the processor waits for a value, which cannot be recorded
def work(_, x):
    return (x * 2,)
one, two = Graphed(refuse), Graphed(work)
with torch.cuda.stream(torch.cuda.Stream()), torch.inference_mode():
    results = [one(0, torch.full((4,), 3.0, device="cuda"))[0].tolist() for _ in range(4)]
    after = [two(0, torch.full((4,), float(n), device="cuda"))[0].tolist() for n in range(4)]
torch.cuda.synchronize()
print(json.dumps({"results": results, "after": after, "why": one.why_not, "recorded": [one.recorded, two.recorded]}))
os._exit(0) if not __import__("sys").stdout.flush() else None
"""


def test_what_cannot_be_recorded_is_done_as_it_is_and_spoils_nothing_for_others() -> None:
    said = apart(REFUSED)
    assert said["results"] == [[36.0] * 4] * 4
    assert said["after"] == [[2.0 * n] * 4 for n in range(4)]
    assert said["recorded"] == [0, 1]
    assert "captur" in said["why"]
