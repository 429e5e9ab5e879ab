"""The cross-attention-guided dense network: Shen et al., arXiv 2109.11393, figure 2.

Two luma planes in, one out, all (B, 1, H, W) in -1..1. 242,705 parameters in use and 241,408 multiply-adds a pixel with
`auxiliary="released"`. Everything runs at full resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models.layers import (
    Conv,
    CrossAttentionBlock,
    DilatedDense,
    LongRangeAttention,
    Normalisation,
    PointwiseExchange,
    agreed,
    weighted_mean,
)

CHANNELS = 16
BLOCKS = 5
CONTEXTS: dict[str, type[LongRangeAttention] | type[PointwiseExchange]] = {
    "attention": LongRangeAttention,
    "released": PointwiseExchange,
}


class Cadnif(nn.Module):
    """Fuse two registered luma planes.

    Args:
        auxiliary: "attention", a cross-attention over the whole picture, as the paper describes; or "released", the
            1x1 exchange that the authors' graph has in its place.
        normalisation: "frozen" (statistics fixed after training, right for video) or "instance" (statistics of each
            image, as the authors ran it; flickers).
        choice: the merging network does not draw the picture but says which source to take where, the right thing for
            focal planes: there, every pixel of the best picture is a pixel of a source.
    """

    def __init__(
        self,
        *,
        auxiliary: Literal["attention", "released"] = "attention",
        normalisation: Normalisation = "frozen",
        choice: bool = False,
    ) -> None:
        super().__init__()
        c, norm = CHANNELS, normalisation
        self.shallow_both = Conv(6, c, 1, norm=norm)
        self.shallow_first = Conv(3, c, 1, norm=norm)
        self.shallow_second = Conv(3, c, 1, norm=norm)
        if auxiliary not in CONTEXTS or normalisation not in ("frozen", "instance"):
            raise ValueError(f"auxiliary={auxiliary!r}, normalisation={normalisation!r}: see Cadnif for what is legal")
        context = CONTEXTS[auxiliary]
        self.context_first = context(c, norm)
        self.context_second = context(c, norm)
        self.blocks = nn.ModuleList(CrossAttentionBlock(c, norm) for _ in range(BLOCKS))
        self.dense = nn.ModuleList(Conv((k + 2) * c, c, 3) for k in range(BLOCKS - 1))
        self.squeeze = Conv((BLOCKS + 3) * c, 4 * c, 1)
        self.dilated = DilatedDense(4 * c, c)
        self.reduce = Conv(8 * c, 4 * c, 1)
        self.rebuild = Conv(5 * c, 4 * c, 3, norm=norm)
        self.out = nn.Conv2d(4 * c, 1, 3, padding=1)
        self.choice = choice

    def forward(self, first: Tensor, second: Tensor, *more: Tensor) -> Tensor:
        """(B, 1, H, W) twice, in -1..1, to the fused (B, 1, H, W) in -1..1. Any H, W >= 1.

        More planes are fused one after another with what came before them.
        """
        if more:
            return self(self(first, second), *more)
        if self.choice:
            return self.put_together((first, second), *self.weigh_up(first, second))
        return torch.tanh(self.merged(first, second))

    def weigh_up(self, first: Tensor, second: Tensor) -> tuple[list[Tensor], None]:
        """With `choice`: the weight of the first source, (B, 1, H, W) in 0..1, agreed upon over some 28 px."""
        return [torch.sigmoid(agreed(self.merged(first, second)))], None

    def put_together(self, planes: Sequence[Tensor], weights: list[Tensor], _: None) -> Tensor:
        """The fused plane."""
        return weighted_mean(planes, weights)

    def merged(self, first: Tensor, second: Tensor) -> Tensor:
        """What the merging network makes of both, (B, 1, H, W) of any value."""
        first, second = (x.to(self.out.weight.dtype) for x in (first, second))
        both = self.shallow_both(first, first, second, second, second, first)
        one = self.shallow_first(first, first, second)
        two = self.shallow_second(second, second, first)

        # Dense chain: each layer sees the block before it and everything known so far.
        known = [both]
        block = self.blocks[0](one, two, both)
        for layer, next_block in zip(self.dense, self.blocks[1:], strict=True):
            known.insert(0, layer(*with_block(known, block)))
            block = next_block(one, two, known[0])

        contexts = self.context_first(one, two), self.context_second(two, one)
        x = self.squeeze(*with_block(known, block), *contexts)
        x = self.reduce(*self.dilated(x))
        x = self.rebuild(x, both)
        result: Tensor = self.out(x)
        return result


def with_block(known: list[Tensor], block: Tensor) -> list[Tensor]:
    """The released graph's order of concatenation: newest first, the block before c1 and the shallow features."""
    place = max(0, len(known) - 2)
    return [*known[:place], block, *known[place:]]
