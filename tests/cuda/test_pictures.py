"""The fusion node on a GPU makes the pictures that it makes on the CPU in fp32, live and recorded."""

from __future__ import annotations

from typing import Any

import pytest

from models import listing
from tests.cuda.nodes import SAME, both, device_of, furthest, moments, open_node, open_reference
from tests.nodes.fusion.test_on_device import KINDS, SIZE, Live, all_of

pytestmark = [pytest.mark.cuda, pytest.mark.slow]

SHIPPED = listing.shipped()
SIZES = [(1, 1), (2, 2), (3, 5), (65, 47), (241, 320), (640, 512)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("model", "task"), SHIPPED)
def test_every_network_that_ships_makes_the_same_pictures(model: str, task: str, size: tuple[int, int]) -> None:
    made, wanted = both(task, size, moments(task, size), model=model)
    assert furthest(made, wanted) <= SAME


@pytest.mark.parametrize(("model", "task"), SHIPPED)
def test_so_it_does_in_the_precision_that_is_taken_by_itself(model: str, task: str) -> None:
    size = (160, 128)
    made, wanted = both(task, size, moments(task, size), model=model, precision="auto")
    assert furthest(made, wanted) <= SAME


@pytest.mark.parametrize(
    ("model", "size"), [("realtime", (1280, 720)), ("realtime", (3840, 2160)), ("cadnif", (1920, 1080))]
)
def test_large_pictures_are_the_same(model: str, size: tuple[int, int]) -> None:
    made, wanted = both("infrared", size, moments("infrared", size, count=4), model=model)
    assert furthest(made, wanted) <= SAME


@pytest.mark.parametrize("kind", KINDS)
def test_so_are_those_of_every_kind_of_source_and_setting(kind: str) -> None:
    sources, settings = KINDS[kind]
    given = [sources(n) for n in range(6)]
    made, wanted = both("infrared", SIZE, given, **settings)
    # Ironbow and what is laid over change by more than a level where the luma changes by one.
    assert furthest(made, wanted) <= (12 if settings.get("overlay") else SAME)


@pytest.mark.parametrize("model", ["cadnif", "realtime"])
def test_live_it_makes_the_same_pictures_and_passes_on_what_is_alone(model: str) -> None:
    size = (320, 240)
    given = moments("infrared", size, count=9)
    del given[4]["infrared"]
    node, reference = open_node(size, live=True, model=model), open_reference(size, live=True, model=model)
    assert isinstance(node.running, Live)
    made, wanted = all_of(node, given), all_of(reference, given)
    assert [frame.sequence for frame in made] == list(range(9))
    states: list[Any] = [frame.fusion and frame.fusion.state for frame in made]
    assert states == ["fused"] * 4 + ["visible_only"] + ["fused"] * 4
    assert furthest(made, wanted) <= SAME
    device_of(node)


def test_stills_of_many_sizes_are_the_same() -> None:
    sizes = [(64, 48), (65, 48), (64, 47), (128, 96), (64, 48)]
    given = [moments("infrared", size, count=n + 1)[n] for n, size in enumerate(sizes)]
    made, wanted = both("infrared", (64, 48), given, steady=False)
    assert furthest(made, wanted) <= SAME
