"""Steadiness in time: what the sources do not explain is held back, and what they do explain is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.metrics import unexplained_change
from models.steady import CELL, State, cells, steady

LEAK = 0.05  # written out once more: it is the promise
SIZES = [(48, 64), (47, 65), (1, 9), (9, 1), (1, 1), (2, 2)]
MOST = 6 * 2 / 255  # so is this
LEVEL = 2 / 255  # one grey level on the scale of -1..1

Moment = tuple[Tensor, list[Tensor]]  # the network's picture and its sources


def plane(number: int = 0, size: tuple[int, int] = (48, 64), batch: int = 1) -> Tensor:
    """Random, within -0.5..0.5, so that nothing is clipped."""
    generator = torch.Generator().manual_seed(number)
    return torch.rand(batch, 1, *size, generator=generator) - 0.5


def sources(number: int = 100, count: int = 2, size: tuple[int, int] = (48, 64), batch: int = 1) -> list[Tensor]:
    return [plane(number + i, size, batch) for i in range(count)]


def shown(moments: Iterable[Moment], state: State | None = None) -> list[Tensor]:
    """What comes of a clip, frame by frame."""
    pictures = []
    for fused, pair in moments:
        picture, state = steady(fused, pair, state)
        pictures.append(picture)
    return pictures


def near(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)


# What is not held back:


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [2, 3])
def test_the_first_frame_is_as_the_network_made_it(size: tuple[int, int], count: int) -> None:
    fused, pair = plane(size=size), sources(count=count, size=size)
    picture, state = steady(fused, pair, None)
    assert torch.equal(picture, fused)
    assert len(state.sources) == count
    assert {part.shape[-2:] for part in (state.fused, *state.sources)} == {tuple(-(-side // CELL) for side in size)}


@pytest.mark.parametrize("size", SIZES)
def test_still_input_gives_still_output(size: tuple[int, int]) -> None:
    moment = plane(size=size), sources(size=size)
    assert all(torch.equal(picture, moment[0]) for picture in shown([moment] * 5))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(("source_change", "fused_change"), [(0.3, 0.3), (0.3, -0.3), (-0.3, 0.1)])
def test_where_one_source_changes_the_picture_may_change_by_as_much_at_once(
    size: tuple[int, int], which: int, source_change: float, fused_change: float
) -> None:
    fused, before = plane(size=size), sources(count=3, size=size)
    after = [source + source_change * (i == which) for i, source in enumerate(before)]
    picture = shown([(fused, before), (fused + fused_change, after)])[1]
    assert near(picture, fused + fused_change)


def test_a_mean_of_moving_sources_is_never_held_back() -> None:
    moments = [(sum(pair) / 2, pair) for pair in (sources(2 * number) for number in range(6))]
    for picture, (fused, _) in zip(shown(moments), moments, strict=True):
        assert near(picture, fused)


def test_detail_finer_than_a_cell_is_left_as_it_is() -> None:
    # Cells have the same mean before and after, so nothing is held back, and no pixel is blurred.
    chequers = 0.4 - 0.8 * ((torch.arange(48)[:, None] + torch.arange(64)) % 2).float()[None, None]
    pair = sources()
    assert near(shown([(torch.zeros_like(chequers), pair), (chequers, pair)])[1], chequers)


# What is held back:


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", [0.04, -0.04])
def test_of_a_change_with_still_sources_five_percent_come_through(size: tuple[int, int], change: float) -> None:
    fused, pair = plane(size=size), sources(size=size)
    picture = shown([(fused, pair), (fused + change, pair)])[1]
    assert near(picture, fused + LEAK * change)


def test_of_a_change_beyond_that_of_the_sources_five_percent_come_through_and_what_they_explain() -> None:
    fused, pair = plane(), sources()
    picture = shown([(fused, pair), (fused + 0.04, [pair[0] - 0.01, pair[1] + 0.005])])[1]
    assert near(picture, fused + 0.01 + LEAK * 0.04)  # never more than 0.04, by which the network's changed


def test_of_more_than_flicker_little_is_held_back_or_there_would_be_ghosts() -> None:
    fused, pair = plane(), sources()
    assert near(shown([(fused, pair), (fused + 0.4, pair)])[1], fused + 0.4 - MOST)


def test_a_picture_that_flickers_while_nothing_happens_is_all_but_still() -> None:
    fused, pair = plane(), sources()
    pictures = shown([(fused + 0.04 * (number % 2), pair) for number in range(20)])
    steps = [(b - a).abs().max().item() for a, b in pairwise(pictures)]
    assert max(steps) <= LEAK * 0.04 + 1e-6
    assert min(steps) > 0


def test_a_change_that_stays_comes_through_within_seconds_and_never_overshoots() -> None:
    fused, pair = plane(), sources()
    pictures = shown([(fused, pair)] + [(fused + 0.04, pair)] * 300)
    left = [(fused + 0.04 - picture).mean().item() for picture in pictures[1:]]
    assert left == pytest.approx([0.04 * (1 - LEAK) ** n for n in range(1, 301)], abs=1e-5)
    assert near(pictures[-1], fused + 0.04, LEVEL / 10)  # the plain fusion, to a tenth of a grey level


def test_each_place_is_judged_by_what_happens_there() -> None:
    fused, pair = plane(), sources()
    after = [pair[0], pair[1].clone()]
    after[1][..., 20:22, 30:32] += 0.4  # one cell
    moved = (shown([(fused, pair), (fused + 0.04, after)])[1] - fused)[0, 0]
    assert near(moved[20:22, 30:32], torch.full((2, 2), 0.04))
    elsewhere = torch.ones_like(moved, dtype=torch.bool)
    elsewhere[20:22, 30:32] = False
    assert near(moved[elsewhere], torch.full_like(moved[elsewhere], LEAK * 0.04))


@pytest.mark.parametrize("size", SIZES)
def test_what_one_cell_holds_back_leaks_into_no_other(size: tuple[int, int]) -> None:
    fused, pair = plane(size=size), sources(size=size)
    y, x = (side // 2 // CELL * CELL for side in size)
    flickering = fused.clone()
    flickering[..., y : y + CELL, x : x + CELL] += 0.04
    expected = fused + LEAK * (flickering - fused)
    assert near(shown([(fused, pair), (flickering, pair)])[1], expected)


def test_the_state_is_what_is_shown() -> None:
    size = (47, 65)
    _, state = steady(plane(size=size), sources(size=size), None)
    picture, state = steady(plane(7, size) * 0.5, sources(size=size), state)
    assert near(cells(picture), state.fused)


def test_one_pixel_of_noise_in_a_source_explains_little() -> None:
    fused, pair = plane(), sources()
    noisy = [pair[0], pair[1].clone()]
    noisy[1][..., 20, 30] += 0.01
    moved = shown([(fused, pair), (fused + 0.04, noisy)])[1] - fused
    assert moved.max() <= 0.01 / CELL**2 + LEAK * 0.04 + 1e-5


def test_no_cell_of_any_clip_changes_more_than_it_may() -> None:
    state: State | None = None
    for number in range(8):
        # Some cells still, some changing, in the sources and in the picture, each for itself.
        fused, pair = 2 * plane(number % 3), [plane(number // 2), plane(number // 4 + 50)]
        before = state
        picture, state = steady(fused, pair, before)
        assert picture.abs().max() <= 1
        if before is None:
            continue
        explained = torch.stack([(cells(p) - q).abs() for p, q in zip(pair, before.sources, strict=True)]).amax(0)
        wanted = cells(fused) - before.fused
        came = state.fused - before.fused
        may = torch.maximum(explained + LEAK * wanted.abs(), wanted.abs() - MOST)
        assert (came.abs() <= may + 1e-6).all()
        assert (came.abs() <= wanted.abs() + 1e-6).all()
        assert (came * wanted >= -1e-9).all()  # never the other way


def test_the_picture_stays_within_black_and_white() -> None:
    pair = sources()
    bright, dark = torch.full((1, 1, 48, 64), 0.97), torch.full((1, 1, 48, 64), -0.97)
    bright[..., 1::2] = 0.85  # held up a little, its light columns would be beyond white
    pictures = shown([(-dark, pair), (bright, pair), (dark, pair)])
    assert pictures[1].max() == 1
    assert all(picture.abs().max() <= 1 for picture in pictures)


# State:


@pytest.mark.parametrize(
    "before",
    [
        (plane(size=(48, 62)), sources(size=(48, 62))),
        (plane(), sources(count=3)),
        (plane(batch=2), sources(batch=2)),
    ],
    ids=["another size", "another number of sources", "another batch"],
)
def test_a_state_of_something_else_counts_as_none(before: Moment) -> None:
    _, state = steady(*before, None)
    fused, pair = plane(7), sources(8)
    picture, begun = steady(fused, pair, state)
    assert torch.equal(picture, fused)
    again, _ = steady(fused + 0.04, pair, begun)
    assert near(again, fused + LEAK * 0.04), "it holds back from then on"


def test_pictures_of_a_batch_are_held_back_each_for_itself() -> None:
    size = (33, 50)
    first, second = (
        (plane(1, size, 3), sources(2, size=size, batch=3)),
        (plane(5, size, 3), sources(2, size=size, batch=3)),
    )
    second[1][0][1] += 0.3  # of the second picture a source changes
    together = shown([first, second])[1]
    for i in range(3):
        part = [(fused[i : i + 1], [source[i : i + 1] for source in pair]) for fused, pair in (first, second)]
        assert near(shown(part)[1], together[i : i + 1], 1e-6)


def test_nothing_that_is_passed_in_is_written_to() -> None:
    fused, pair = plane(), sources()
    _, state = steady(fused, pair, None)
    passed: Sequence[Tensor] = [fused + 0.04, *sources(9), *state.sources, state.fused]
    before = [tensor.clone() for tensor in passed]
    steady(passed[0], passed[1:3], state)
    assert all(torch.equal(a, b) for a, b in zip(passed, before, strict=True))


# What it is for:


def test_a_flickering_clip_has_less_change_that_its_sources_do_not_explain() -> None:
    rng = np.random.default_rng(0)
    background, other = (F.interpolate(plane(n, (6, 8)), scale_factor=8, mode="bilinear") for n in (1, 2))
    moments = []
    for number in range(24):
        source = background.clone()
        source[..., 16:32, number : number + 12] = 0.6  # something moves by
        weight = rng.uniform(0.47, 0.53)  # and the choice between the sources tips to and fro
        moments.append((weight * source + (1 - weight) * other, [source, other]))
    clips = [[grey(pair[i]) for _, pair in moments] for i in range(2)]
    plain = unexplained_change([grey(fused) for fused, _ in moments], *clips)
    held = unexplained_change([grey(picture) for picture in shown(moments)], *clips)
    assert plain > 0.2
    assert held < 0.3 * plain


def grey(picture: Tensor) -> np.ndarray:
    """(H, W) uint8, 0..255."""
    values: np.ndarray = (picture[0, 0].clamp(-1, 1) * 127.5 + 127.5).round().byte().numpy()
    return values
