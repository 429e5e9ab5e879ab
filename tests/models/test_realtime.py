"""The network for video: any size in, its sources' pixels out, and the same however it is laid out and computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from models import inference
from models.realtime import CELL, Realtime, from_cells, to_cells

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def build(**options: Any) -> Realtime:
    torch.manual_seed(0)
    return Realtime(**options).eval()


def random_planes(count: int = 2, size: tuple[int, int] = (33, 50), batch: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [2 * torch.rand(batch, 1, *size, generator=generator) - 1 for _ in range(count)]


@torch.inference_mode()
def fuse(model: torch.nn.Module, planes: list[torch.Tensor]) -> torch.Tensor:
    fused: torch.Tensor = model(*planes)
    return fused


@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"symmetric": True, "choice": True}], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 37), (23, 1), (4, 4), (15, 17), (90, 160)])
def test_any_size_gives_a_picture_of_that_size_in_range(size: tuple[int, int], options: dict[str, bool]) -> None:
    fused = fuse(build(**options), random_planes(size=size, batch=2))
    assert fused.shape == (2, 1, *size)
    assert fused.dtype == torch.float32
    assert fused.abs().max() <= 1


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_residual_out_of_range_is_cut_off(symmetric: bool) -> None:
    model = build(symmetric=symmetric)
    assert model.add is not None
    model.add.conv.bias.data.fill_(9)  # type: ignore[union-attr]
    white = [torch.ones(1, 1, 20, 20)] * 2
    assert (fuse(model, white) == 1).all()


def test_a_picture_is_fused_the_same_whatever_else_is_in_the_batch() -> None:
    model, planes = build(), random_planes(batch=3, size=(40, 64))
    together, alone = fuse(model, planes), fuse(model, [plane[1:2] for plane in planes])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("choice", [False, True])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_alike_sources_may_come_in_any_number_and_order(count: int, choice: bool) -> None:
    model, planes = build(symmetric=True, choice=choice), random_planes(count)
    fused = fuse(model, planes)
    assert fused.shape == planes[0].shape
    for order in (planes[::-1], planes[1:] + planes[:1]):
        torch.testing.assert_close(fuse(model, order), fused, atol=1e-5, rtol=0)


def test_every_one_of_three_alike_sources_counts() -> None:
    model, planes = build(symmetric=True), random_planes(3)
    fused = fuse(model, planes)
    for i in range(3):
        changed = [plane * (0.5 if i == j else 1) for j, plane in enumerate(planes)]
        assert (fuse(model, changed) - fused).abs().mean() > 0.01


def test_unlike_sources_are_two_and_their_order_matters() -> None:
    model, planes = build(), random_planes(3)
    assert (fuse(model, planes[:2]) - fuse(model, planes[1::-1])).abs().max() > 0.01
    with pytest.raises((IndexError, ValueError)):
        fuse(model, planes)


@pytest.mark.parametrize("count", [2, 3])
def test_a_choice_lies_between_its_sources(count: int) -> None:
    planes = random_planes(count)
    fused, everything = fuse(build(symmetric=True, choice=True), planes), torch.stack(planes)
    assert (fused <= everything.amax(0) + 1e-6).all()
    assert (fused >= everything.amin(0) - 1e-6).all()
    assert (fused - everything.mean(0)).abs().mean() > 0.002, "it is a choice, not an average"


@pytest.mark.parametrize("choice", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_weights_are_shares_of_each_pixel_and_put_together_they_are_the_picture(count: int, choice: bool) -> None:
    model, planes = build(symmetric=True, choice=choice), random_planes(count)
    with torch.inference_mode():
        weights, residual = model.weigh_up(*planes)
        together = model.put_together(planes, weights, residual)
    assert len(weights) == (1 if count == 2 else 3), "of two the other has the rest"
    shares = torch.stack(weights if count > 2 else [weights[0], 1 - weights[0]])
    assert shares.shape == (count, *planes[0].shape)
    assert shares.min() >= 0
    torch.testing.assert_close(shares.sum(0), torch.ones_like(planes[0]))
    assert (residual is None) == choice
    assert torch.equal(together, fuse(model, planes))
    assert (shares * torch.stack(planes)).sum(0).sub(together).abs().max() < (1e-6 if choice else 0.5 + 1e-6)


def test_the_weight_of_a_choice_changes_smoothly_from_cell_to_cell() -> None:
    planes = random_planes(size=(32, 48))
    steps = []
    for choice in (True, False):
        with torch.inference_mode():
            ((weight,), _) = build(choice=choice).weigh_up(*planes)
        steps.append((weight.diff(dim=3).abs().max() / (weight.max() - weight.min())).item())
    assert steps[0] <= 1 / CELL + 1e-6
    assert steps[1] > 0.5


@pytest.mark.parametrize("count", [2, 3])
def test_of_one_and_the_same_picture_the_mean_is_that_picture(count: int) -> None:
    (plane,) = random_planes(1)
    model = build(symmetric=True, choice=True)
    torch.testing.assert_close(fuse(model, [plane] * count), plane, atol=1e-6, rtol=0)


def test_the_residual_is_at_most_half_of_the_way_from_grey_to_white() -> None:
    model = build()
    planes = random_planes()
    whole = fuse(model, planes)
    assert model.add is not None
    model.add.conv.weight.data.zero_()
    bare = fuse(model, planes)
    assert (bare <= torch.maximum(*planes) + 1e-6).all()
    assert 0 < (whole - bare).abs().max() <= 0.5 + 1e-6


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_black_grey_or_white_source_gives_a_picture_all_the_same(value: float) -> None:
    (plane,) = random_planes(1)
    flat = torch.full_like(plane, value)
    for options in ({}, {"symmetric": True}, {"choice": True}):
        model = build(**options)
        for planes in ([flat, plane], [plane, flat], [flat, flat], [flat, -flat]):
            fused = fuse(model, planes)
            assert torch.isfinite(fused).all()
            assert fused.abs().max() <= 1


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("choice", [False, True])
@pytest.mark.parametrize(("symmetric", "count"), [(False, 2), (True, 2), (True, 3)])
def test_prepared_in_fp32_it_gives_the_same_pictures(
    symmetric: bool, count: int, choice: bool, accumulate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if accumulate and not inference.has_accumulating_convolution():
        pytest.skip("this torch has no oneDNN pointwise operators")
    monkeypatch.setattr(inference, "has_accumulating_convolution", lambda: accumulate)
    model = build(symmetric=symmetric, choice=choice)
    ready = inference.prepare(model, CPU, "fp32")
    for size in ((33, 50), (64, 48), (2, 3)):  # sizes may change between pictures
        planes = random_planes(count, size)
        torch.testing.assert_close(fuse(ready, planes), fuse(model, planes), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("symmetric", "count"), [(False, 2), (True, 3)])
def test_in_bf16_it_is_within_eight_grey_levels_and_one_on_average(symmetric: bool, count: int) -> None:
    model, planes = build(symmetric=symmetric), random_planes(count)
    fused = fuse(inference.prepare(model, CPU, "bf16"), planes)
    levels = (fused - fuse(model, planes)).abs() * 127.5
    assert levels.max() < 8
    assert levels.mean() < 1


@pytest.mark.parametrize("count", [2, 3])
def test_the_picture_has_the_precision_of_the_planes_not_of_the_features(count: int) -> None:
    ready = inference.prepare(build(symmetric=True, choice=True), CPU, "bf16")
    (plane,) = random_planes(1)
    fused = fuse(ready, [plane] * count)
    assert fused.dtype == torch.float32
    assert (fused - plane).abs().max() < (0.008 if count > 2 else 1e-6), "bf16 has steps of half a grey level and more"
    assert fuse(ready, [plane.bfloat16()] * count).dtype == torch.bfloat16


def test_what_is_far_off_counts_through_attention_alone() -> None:
    model, planes = build(), random_planes(size=(64, 128))
    changed = [planes[0], planes[1].clone()]
    changed[1][..., :8] = -1

    def moved() -> torch.Tensor:
        difference = fuse(model, planes) - fuse(model, changed)
        return difference.abs().amax(dim=(0, 1, 2)) > 0  # (W,)

    assert moved()[-8:].any()
    for context in model.context:
        context.out.conv.weight.data.zero_()  # type: ignore[operator, union-attr]
    columns = moved().nonzero()
    # Eight 3x3 convolutions in a row: the shallow one, two in each block, the one that rebuilds.
    assert 8 + 3 * CELL < columns.max() < 8 + 8 * CELL


@pytest.mark.parametrize("choice", [False, True])
@pytest.mark.parametrize(("symmetric", "count"), [(False, 2), (True, 2), (True, 3)])
def test_a_gradient_flows_to_every_parameter(symmetric: bool, count: int, choice: bool) -> None:
    model = build(symmetric=symmetric, choice=choice).train()
    model(*random_planes(count, size=(64, 96))).square().mean().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9}
    # What all keys, or the scores of all sources, have in common cancels in a softmax.
    assert {name for name in still if "key.bias" not in name} <= ({"weigh.0.judge.conv.bias"} if symmetric else set())


def test_the_gradient_of_training_is_that_of_the_picture_shown() -> None:
    """While training the cells are rearranged by other operators than in use."""
    model, planes = build(), random_planes(size=(32, 48))
    torch.testing.assert_close(model(*planes).detach(), fuse(model, planes), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        model(*(plane.clone().requires_grad_() for plane in planes)).detach(), fuse(model, planes), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["whole", "strided", "learning"])
def test_to_cells_is_pixel_unshuffle(dtype: torch.dtype, layout: str) -> None:
    plane = torch.randn(3, 1, 12, 20).to(dtype)
    if layout == "strided":
        plane = plane.transpose(2, 3)
    cells = to_cells(plane.requires_grad_(layout == "learning"))
    assert cells.dtype == dtype
    assert torch.equal(cells, F.pixel_unshuffle(plane, CELL))
    assert torch.equal(from_cells(cells), plane)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["channels last", "contiguous", "learning"])
@pytest.mark.parametrize("size", [(3, 5), (1, 1)])
def test_from_cells_is_pixel_shuffle(dtype: torch.dtype, layout: str, size: tuple[int, int]) -> None:
    cells = torch.randn(2, CELL * CELL, *size).to(dtype)
    if layout == "channels last":
        cells = cells.to(memory_format=torch.channels_last)
    assert torch.equal(from_cells(cells.requires_grad_(layout == "learning")), F.pixel_shuffle(cells, CELL))
