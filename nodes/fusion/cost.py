"""What a network costs: what it computes and what it moves, counted and not measured."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Of one frame."""

    flops: int
    """Floating-point operations of all convolutions and products of matrices; a multiply-add counts as two."""
    bytes: int
    """The least that goes through the device's memory, layer by layer: each convolution reads its maps and its weights
    once and writes its result once, each frame comes and goes once; all else is done on the way."""

    def floor_s(self, bytes_per_s: float, flops_per_s: float) -> tuple[float, str]:
        """The least time on a device that does so much a second, in seconds, and what it is for: "bytes" or "flops"."""
        return max((self.bytes / bytes_per_s, "bytes"), (self.flops / flops_per_s, "flops"))


def cost_of(network: nn.Module, size: tuple[int, int], value_bytes: int, inputs: int = 2) -> Cost:
    """Count without computing anything.

    Args:
        network: as loaded.
        size: (width, height) of the frames.
        value_bytes: of one value of the features.
        inputs: number of sources.
    """
    width, height = size
    moved = (inputs + 1) * width * height
    ready = copy.deepcopy(network).to("meta").eval()

    def count(layer: nn.Conv2d, given: tuple[Any, ...], result: Tensor) -> None:
        nonlocal moved
        moved += value_bytes * (given[0].numel() + layer.weight.numel() + result.numel())

    for layer in ready.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    planes = [torch.empty(1, 1, height, width, device="meta") for _ in range(inputs)]
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        ready(*planes)
    return Cost(int(counter.get_total_flops()), moved)
