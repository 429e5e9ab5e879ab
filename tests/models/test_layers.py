"""The building blocks: shapes, what folding keeps, and how far they see."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.inference import has_accumulating_convolution
from models.layers import Conv, CrossAttentionBlock, DilatedDense, Gate, InstanceNorm, LongRangeAttention

accumulates = pytest.param(
    True,
    marks=pytest.mark.skipif(not has_accumulating_convolution(), reason="this torch has no oneDNN pointwise operators"),
)


def with_statistics(layer: Conv) -> Conv:
    """Give a batch normalisation statistics that make a difference."""
    assert isinstance(layer.norm, nn.BatchNorm2d)
    for tensor, low, high in (
        (layer.norm.running_mean, -1, 1),
        (layer.norm.running_var, 0.5, 2),
        (layer.norm.weight.data, 0.5, 2),
        (layer.norm.bias.data, -1, 1),
    ):
        assert tensor is not None
        tensor.uniform_(low, high)
    return layer.eval().requires_grad_(False)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("accumulate", [False, accumulates])
@pytest.mark.parametrize("activation", ["leaky", "none"])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("parts", [(8,), (3, 5), (8, 8, 8)])
def test_a_prepared_convolution_computes_the_same(
    parts: tuple[int, ...], kernel: int, dilation: int, activation: str, accumulate: bool, split: bool
) -> None:
    torch.manual_seed(0)
    layer = Conv(sum(parts), 8, kernel, dilation=dilation, norm="frozen", activation=activation)  # type: ignore[arg-type]
    layer = with_statistics(layer)
    maps = [torch.randn(2, part, 9, 11).contiguous(memory_format=torch.channels_last) for part in parts]
    with torch.inference_mode():
        expected = layer(*maps)
        layer.prepare(accumulate, split)
        assert isinstance(layer.norm, nn.Identity)
        for _ in range(2):  # the second time with what was kept of the first
            torch.testing.assert_close(layer(*maps), expected, atol=1e-4, rtol=1e-4)


def test_split_weights_concatenate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = with_statistics(Conv(6, 4, 3, norm="frozen"))
    maps = [torch.randn(1, 2, 5, 7) for _ in range(3)]
    layer.prepare(False, split=True)
    monkeypatch.setattr(torch, "cat", lambda *_, **__: pytest.fail("it concatenates"))
    with torch.inference_mode():
        assert layer(*maps).shape == (1, 4, 5, 7)


def test_preparing_leaves_statistics_of_the_image_alone() -> None:
    layer = Conv(4, 4, 3, norm="instance").eval()
    x = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        expected = layer(x)
        layer.prepare(True)
        torch.testing.assert_close(layer(x), expected)
    assert isinstance(layer.norm, InstanceNorm)


def test_instance_norm_agrees_with_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = InstanceNorm(3, 1e-5), nn.InstanceNorm2d(3, eps=1e-5, affine=True)
    x = torch.randn(2, 3, 7, 5) * 4 + 1
    torch.testing.assert_close(ours(x), theirs(x))


def test_instance_norm_of_a_single_pixel_is_its_shift() -> None:
    norm = InstanceNorm(2, 1e-5)
    norm.bias.data.copy_(torch.tensor([0.25, -3.0]))
    assert norm(torch.randn(1, 2, 1, 1)).flatten().tolist() == [0.25, -3.0]


def test_a_gate_is_a_share() -> None:
    torch.manual_seed(0)
    gate = Gate(4)(torch.randn(1, 4, 6, 6) * 50, torch.randn(1, 4, 6, 6) * 50)
    assert gate.shape == (1, 4, 6, 6)
    assert gate.min() >= 0
    assert gate.max() <= 1


def test_a_block_sees_three_pixels_far() -> None:
    torch.manual_seed(0)
    block = CrossAttentionBlock(4, "frozen").eval()
    x = torch.randn(3, 1, 4, 15, 15)
    changed = x.clone()
    changed[0, ..., 7, 7] += 10
    with torch.inference_mode():
        moved = (block(*x) - block(*changed)).abs().amax(dim=(0, 1)) > 0
    rows, columns = moved.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 10, 4, 10)


@pytest.mark.parametrize(
    ("size", "tokens"), [((16, 16), (1, 1)), ((17, 40), (2, 3)), ((480, 640), (30, 40)), ((1080, 1920), (36, 64))]
)
def test_attention_pools_to_a_bounded_number_of_tokens(size: tuple[int, int], tokens: tuple[int, int]) -> None:
    attention = LongRangeAttention(1, "frozen")
    assert attention.tokens(torch.zeros(1, 1, *size)).shape[-2:] == tokens


def test_attention_adds_to_its_source() -> None:
    torch.manual_seed(0)
    attention = LongRangeAttention(4, "frozen").eval()
    attention.out.conv.weight.data.zero_()
    source = torch.randn(1, 4, 40, 24)
    torch.testing.assert_close(attention(source, torch.randn_like(source)), source)


def test_the_dilated_block_hands_on_what_it_got_beside_what_it_found() -> None:
    x = torch.randn(1, 8, 5, 6)
    same, found = DilatedDense(8, 2)(x)
    assert same is x
    assert found.shape == x.shape
