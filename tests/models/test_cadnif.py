"""The paper's network: true to the authors' graph, any size in, frozen statistics folded without a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.cadnif import Cadnif
from models.layers import Conv, CrossAttentionBlock, InstanceNorm

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "reference"


class Released:
    """The authors' parameters by their original names, put into our modules."""

    def __init__(self, path: Path) -> None:
        self.values = np.load(path)

    def get(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.values[f"fusion_model/{name}"])

    def put_conv(self, layer: torch.nn.Conv2d, weight: str, bias: str) -> None:
        layer.weight.data.copy_(self.get(weight).permute(3, 2, 0, 1))
        layer.bias.data.copy_(self.get(bias))

    def put(self, layer: Conv, weight: str, bias: str, norm: str | None = None) -> None:
        self.put_conv(layer.conv, weight, bias)
        assert isinstance(layer.norm, InstanceNorm) == (norm is not None)
        if norm is not None:
            layer.norm.weight.data.copy_(self.get(f"{norm}/gamma"))
            layer.norm.bias.data.copy_(self.get(f"{norm}/beta"))

    def put_block(self, block: CrossAttentionBlock, place: str) -> None:
        self.put(block.first_gate.look, f"{place}/w_a_1", f"{place}/b_a_1")
        self.put(block.first_gate.judge, f"{place}/w_a_3", f"{place}/b_a_2")
        self.put(block.second_gate.look, f"{place}/w_a_2", f"{place}/b_a_3")
        self.put(block.second_gate.judge, f"{place}/w_a_4", f"{place}/b_a_4")
        self.put(block.merge, f"{place}/w_a_5", f"{place}/b_a_5", f"{place}/BatchNorm")

    def put_all(self, model: Cadnif) -> None:
        self.put(model.shallow_both, "conv_iv/w_iv", "conv_iv/b_iv", "conv_iv/BatchNorm")
        self.put(model.shallow_first, "conv_i/w_i", "conv_i/b_i", "conv_i/BatchNorm")
        self.put(model.shallow_second, "conv_v/w_v", "conv_v/b_iv", "conv_v/BatchNorm")
        for n, context in ((1, model.context_first), (2, model.context_second)):
            place = f"non_local{n}/non_conv/w"
            self.put(context.out, f"{place}/w_a_4", f"{place}/b_a_4", f"{place}/batch_normalization")
        for k, block in enumerate(model.blocks, 1):
            self.put_block(block, f"attention_layer{k}/attention")
        for layer, name in zip(model.dense, ("A_conv", "A_conv2", "A_conv3", "A_conv4"), strict=True):
            self.put(layer, f"{name}/{name}_w", f"{name}/{name}_b")
        self.put(model.squeeze, "conv_1/w_conv_1", "conv_1/b_conv_1")
        dilated = [*model.dilated.grow, model.dilated.mix]
        for k, layer in enumerate(dilated, 1):
            self.put(layer, f"merging/dilation_conv{k}/w{k}", f"merging/dilation_conv{k}/b{k}")
        self.put(model.reduce, "m_conv_1/w_m_1", "m_conv_1/b_m_1")
        self.put(model.rebuild, "conv_2/w_conv_2", "conv_2/b_conv_2", "conv_2/BatchNorm")
        self.put_conv(model.out, "conv_3/w_conv_3", "conv_3/b_conv_2")


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="../shared/data/reference (the authors' release) is not here")
@pytest.mark.parametrize("task", ["infrared", "exposure"])
def test_released_parameters_reproduce_the_authors_graph(task: str) -> None:
    model = Cadnif(auxiliary="released", normalisation="instance").eval()
    Released(REFERENCE / f"released_{task}.npz").put_all(model)
    check = np.load(REFERENCE / f"check_{task}.npz")
    a, b, y = (torch.from_numpy(check[name]).permute(0, 3, 1, 2) for name in "aby")
    with torch.inference_mode():
        difference = (model(a, b) - y).abs().max().item()
    assert difference < 1e-3


def test_the_released_form_has_the_papers_242705_parameters() -> None:
    model = Cadnif(auxiliary="released", normalisation="instance")
    assert sum(p.numel() for p in model.parameters()) == 242_705


@pytest.mark.parametrize("auxiliary", ["attention", "released"])
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (23, 1), (15, 17), (61, 83)])
def test_any_size_gives_a_picture_of_that_size_in_range(size: tuple[int, int], auxiliary: str) -> None:
    torch.manual_seed(0)
    model = Cadnif(auxiliary=auxiliary).eval()
    first, second = torch.rand(2, 1, *size) * 2 - 1, torch.rand(2, 1, *size) * 2 - 1
    with torch.inference_mode():
        fused = model(first, second)
    assert fused.shape == (2, 1, *size)
    assert fused.abs().max() <= 1


def test_a_picture_is_fused_the_same_whatever_else_is_in_the_batch() -> None:
    torch.manual_seed(0)
    model = Cadnif().eval()
    pairs = torch.rand(2, 3, 1, 32, 48) * 2 - 1
    with torch.inference_mode():
        together = model(pairs[0], pairs[1])
        alone = model(pairs[0, 1:2], pairs[1, 1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_with_frozen_statistics_a_bright_corner_leaves_far_pixels_as_they_were() -> None:
    torch.manual_seed(0)
    frozen, instance = (Cadnif(auxiliary="released", normalisation=norm).eval() for norm in ("frozen", "instance"))
    visible = torch.rand(1, 1, 96, 96) * 2 - 1
    cold = torch.full((1, 1, 96, 96), -0.5)
    hot = cold.clone()
    hot[..., :8, :8] = 1
    with torch.inference_mode():
        moved = [
            (model(hot, visible) - model(cold, visible))[..., 48:, 48:].abs().max() for model in (frozen, instance)
        ]
    assert moved[0] == 0
    assert moved[1] > 1e-3  # what the frozen statistics are for


def test_attention_carries_what_one_source_knows_across_the_whole_picture() -> None:
    torch.manual_seed(0)
    model = Cadnif().eval()
    first, second = torch.rand(1, 1, 96, 160), torch.rand(1, 1, 96, 160)
    changed = second.clone()
    changed[..., :16, :16] = -1
    with torch.inference_mode():
        difference = (model(first, second) - model(first, changed))[..., 80:, 144:]
    assert difference.abs().max() > 0


def test_more_planes_are_fused_one_after_another() -> None:
    torch.manual_seed(0)
    model = Cadnif().eval()
    first, second, third, fourth = torch.rand(4, 1, 1, 24, 32) * 2 - 1
    with torch.inference_mode():
        one_by_one = model(model(model(first, second), third), fourth)
        torch.testing.assert_close(model(first, second, third, fourth), one_by_one, atol=1e-6, rtol=0)
        assert (model(first, second, third, -fourth) - one_by_one).abs().max() > 0.01


@pytest.mark.parametrize("count", [2, 3])
def test_planes_are_brought_to_the_precision_of_the_parameters(count: int) -> None:
    torch.manual_seed(0)
    model = Cadnif().eval().bfloat16()
    planes = torch.rand(count, 1, 1, 16, 16) * 2 - 1
    with torch.inference_mode():
        fused = model(*planes)
        assert fused.dtype == torch.bfloat16
        assert torch.equal(fused, model(*planes.bfloat16()))
