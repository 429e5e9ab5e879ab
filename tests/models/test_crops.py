"""Batches for training: the same in every run, all sources cut alike, and what is wanted beside what is seen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models import damage
from models.crops import Batch, Crops, Defocused, change_tone, chosen, cut
from models.data import DataError

Sets = list[tuple[Path, ...]]


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path


def random_picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture
def pairs(tmp_path: Path) -> Sets:
    """Three scenes, each with the same picture for both sources."""
    return [
        tuple(write(tmp_path / source / f"{n}.png", random_picture(n, size)) for source in ("infrared", "visible"))
        for n, size in enumerate(((60, 80), (40, 50), (64, 64)))
    ]


@pytest.fixture
def brackets(tmp_path: Path) -> Sets:
    """A scene of two and one of four exposures: each picture is flat, of 20, 40, 60 and 80 grey levels."""
    return [
        tuple(write(tmp_path / name / f"{k}.png", np.full((40, 40), 20 * k, np.uint8)) for k in range(1, count + 1))
        for name, count in (("two", 2), ("four", 4))
    ]


def planes_of(batch: Batch) -> list[torch.Tensor]:
    return [*batch.inputs, *batch.wanted, *([] if batch.choice is None else [batch.choice])]


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(planes_of(one), planes_of(other), strict=True))


def levels(planes: tuple[torch.Tensor, ...]) -> list[tuple[int, ...]]:
    """The grey level of each flat crop of a batch: a tuple for each place in it."""
    return [tuple(round(127.5 * (float(x[0, 0, 0]) + 1)) for x in crops) for crops in zip(*planes, strict=True)]


def make(kind: str, sets: Sets, seed: int = 3) -> Crops | Defocused:
    """Both kinds of batches, with everything on that draws from chance."""
    if kind == "defocused":
        return Defocused([paths[0] for paths in sets], crop=32, batch=4, seed=seed, jitter=0.2)
    return Crops(sets, crop=32, batch=4, seed=seed, jitter=0.2, damage=0.5, sources=3)


@pytest.mark.parametrize("kind", ["crops", "defocused"])
def test_a_batch_depends_on_seed_and_number_alone(kind: str, pairs: Sets) -> None:
    batches, again = make(kind, pairs), make(kind, pairs)
    _ = again[0], again[9]
    assert equal(batches[7], again[7])
    assert not equal(batches[7], batches[8])
    assert not equal(batches[7], make(kind, pairs, seed=4)[7])


@pytest.mark.parametrize("kind", ["crops", "defocused"])
def test_a_batch_is_what_is_seen_and_what_is_wanted(kind: str, pairs: Sets) -> None:
    batch = make(kind, pairs)[0]
    assert len(batch.inputs) == len(batch.wanted) == 2
    assert (batch.choice is None) == (kind == "crops")
    for crops in planes_of(batch):
        assert (crops.shape, crops.dtype) == ((4, 1, 32, 32), torch.float32)
        assert crops.abs().max() <= 1 + 1e-6


def test_all_sources_are_cut_at_the_same_place_and_turned_alike(pairs: Sets) -> None:
    (first, second), wanted, _ = Crops(pairs, crop=32, batch=16, seed=0, jitter=0)[0]
    assert torch.equal(first, second)
    assert len({float(crop[0, 0, 0]) for crop in first}) > 12, "each crop is of a place of its own"
    assert torch.equal(first, wanted[0])
    assert torch.equal(second, wanted[1])


def test_a_cut_is_a_square_of_the_picture_in_any_of_eight_turns() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(6, 8)
    turns, corners = set(), set()
    for seed in range(300):
        (square,) = cut([picture], 5, np.random.default_rng(seed))
        turns.add((int(square[0, 1]) - int(square[0, 0]), int(square[1, 0]) - int(square[0, 0])))
        corners.add(int(square.min()))
    assert turns == {(a, b) for a in (-8, -1, 1, 8) for b in (-8, -1, 1, 8) if abs(a) != abs(b)}
    assert corners == {0, 1, 2, 3, 8, 9, 10, 11}, "every place comes up, the last ones too"


def test_pictures_smaller_than_the_crop_are_mirrored_at_their_border() -> None:
    picture = random_picture(0, (40, 50))
    (square,) = cut([picture], 96, np.random.default_rng(0))
    mirrored = np.pad(picture, ((0, 56), (0, 46)), mode="symmetric")
    turned = [np.rot90(flipped, k) for flipped in (mirrored, mirrored[:, ::-1]) for k in range(4)]
    assert any(np.array_equal(square, one) for one in turned)


def test_jitter_changes_the_tone_of_each_source_on_its_own(pairs: Sets) -> None:
    first, second = Crops(pairs, crop=32, batch=8, seed=0, jitter=0.4)[0].inputs
    assert all((one - other).abs().mean() > 0.01 for one, other in zip(first, second, strict=True))
    assert first.abs().max() <= 1


def test_tone_without_jitter_is_the_grey_level_brought_to_minus_one_to_one() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    same = change_tone(grey, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(same, grey / 127.5 - 1, atol=1e-6)
    for seed in range(20):
        changed = change_tone(grey, 0.1, np.random.default_rng(seed))
        assert changed[0, 0] == -1
        assert (np.diff(changed.ravel()) >= 0).all(), "brighter stays brighter"
        assert 0 < np.abs(changed - same).max() < 0.35


def test_there_are_two_sources_unless_more_are_asked_for(brackets: Sets) -> None:
    batches = Crops(brackets, crop=32, batch=8, seed=0, jitter=0)
    found = set()
    for step in range(20):
        assert len(batches[step].inputs) == 2
        found.update(levels(batches[step].inputs))
    assert found == {(a, b) for a in (20, 40, 60, 80) for b in (20, 40, 60, 80) if a < b}


def test_one_in_four_batches_has_as_many_sources_as_asked_for(brackets: Sets) -> None:
    batches = Crops(brackets, crop=32, batch=2, seed=0, jitter=0, sources=3)
    large = [batch for batch in (batches[step] for step in range(80)) if len(batch.inputs) == 3]
    assert 10 <= len(large) <= 30
    assert all(len(batch.wanted) == 3 for batch in large)
    found = {three for batch in large for three in levels(batch.inputs)}
    assert found == {(20, 40, 60), (20, 40, 80), (20, 60, 80), (40, 60, 80)}, "in the order of the set"


def test_without_large_sets_two_sources_are_all_there_is(brackets: Sets) -> None:
    batches = Crops(brackets[:1], crop=32, batch=1, seed=0, jitter=0, sources=3)
    assert {len(batches[step].inputs) for step in range(20)} == {2}


def test_of_two_chosen_most_are_the_first_and_the_last() -> None:
    planes = [np.full((1, 1), k, np.uint8) for k in range(5)]
    rng = np.random.default_rng(0)
    ends = [[int(x[0, 0]) for x in chosen(planes, 2, rng)] == [0, 4] for _ in range(200)]
    assert 110 < sum(ends) < 160
    assert chosen(planes[:2], 3, rng) == planes[:2]


def test_a_share_of_the_first_sources_is_damaged_while_the_wanted_ones_stay_clean(
    pairs: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(planes: list[np.ndarray], _: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [np.zeros_like(planes[0]), *planes[1:]], planes

    monkeypatch.setattr(damage, "first_source", hidden)
    inputs, wanted, _ = Crops(pairs, crop=32, batch=60, seed=0, jitter=0, damage=0.5)[0]
    gone = [bool((crop == 0).all()) for crop in inputs[0]]
    assert 20 <= sum(gone) <= 40
    for place, damaged in enumerate(gone):
        assert torch.equal(inputs[0][place], wanted[0][place]) != damaged
    assert torch.equal(inputs[1], wanted[1])
    assert torch.equal(wanted[0], wanted[1]), "they are of the same picture"


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 12)])
def test_no_crop_or_every_crop_is_damaged_at_the_ends(share: float, count: int, pairs: Sets) -> None:
    inputs = Crops(pairs, crop=32, batch=12, seed=0, jitter=0, damage=share)[0].inputs
    assert sum(not torch.equal(one, other) for one, other in zip(*inputs, strict=True)) == count


def test_of_two_focal_planes_the_wanted_picture_is_made_of_their_pixels_by_the_right_choice(pairs: Sets) -> None:
    (one, other), wanted, choice = make("defocused", pairs)[0]
    assert choice is not None
    assert torch.equal(*wanted), "it is known, and stands in the place of both"
    torch.testing.assert_close(wanted[0], choice * one + (1 - choice) * other)
    assert not torch.equal(one, other)
    assert ((choice < 0.01) | (choice > 0.99)).float().mean() > 0.6, "but for the soft border between the parts"


def test_a_picture_that_cannot_be_read_is_told_before_training(pairs: Sets) -> None:
    pairs[1][0].write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"infrared/1\.png: not an image"):
        make("crops", pairs)
    with pytest.raises(DataError, match=r"infrared/1\.png: not an image"):
        make("defocused", pairs)
