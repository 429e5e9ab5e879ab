"""The network for video: the ideas of the paper (Shen et al., arXiv 2109.11393) at a few percent of its cost.

It works at a quarter of the resolution, where a pixel holds the 4x4 pixels of the plane below it. What comes back to
full resolution is not a picture but how to make one: the weight of each source at each pixel, and a residual for what a
weighted mean cannot give. So sharp sources give a sharp picture, and the picture stays among its sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import LEAKY_SLOPE, Conv, LongRangeAttention, voted, weighted_mean

CELL = 4  # px: side of the square of pixels that one position of the features stands for
RESIDUAL = 0.5  # the most that is added to or taken from the weighted mean, on the scale of -1..1


class CrossGates(nn.Module):
    """How much of each source to let through where, judged by what is known of all: maps in 0..1 (paper, sec. III)."""

    def __init__(self, channels: int, roles: int) -> None:
        super().__init__()
        c = channels
        self.look_around = Conv(c, c, 3, activation="none")
        self.look_here = nn.ModuleList(Conv(c, c, 1, activation="none") for _ in range(roles))
        self.judge = nn.ModuleList(Conv(c, c, 1, activation="sigmoid") for _ in range(roles))

    def forward(self, sources: list[Tensor], context: Tensor) -> list[Tensor]:
        """N sources and what is known of all, (B, C, h, w) each, to the N sources gated."""
        around = self.look_around(context)
        gated = []
        for i, source in enumerate(sources):
            seen = F.leaky_relu(of_role(self.look_here, i)(source) + around, LEAKY_SLOPE)
            gated.append(source * of_role(self.judge, i)(seen))
        return gated


class Weigher(nn.Module):
    """How much each pixel of one source is worth: the score whose softmax over the sources is its weight."""

    def __init__(self, channels: int, seen: int, scores: int) -> None:
        super().__init__()
        self.look = Conv(channels + seen, CELL * CELL, 1)
        self.judge = Conv(CELL * CELL, scores, 1, activation="none")

    def forward(self, source: Tensor, x: Tensor) -> Tensor:
        return self.judge(self.look(x, source))


class Realtime(nn.Module):
    """Fuse two or more registered luma planes.

    Args:
        channels: of the features.
        blocks: number of cross-attention-guided blocks.
        symmetric: treat all sources alike, whatever their order and number (exposures, focal planes); otherwise there
            are two, each with parameters of its own (infrared and visible).
        choice: the picture is a choice between the sources and nothing else (focal planes): one weight a cell, agreed
            upon with its neighbours and brought to full size smoothly. Otherwise each pixel has a weight of its own,
            and a residual adds what a weighted mean of the sources cannot give.
    """

    def __init__(self, *, channels: int = 16, blocks: int = 3, symmetric: bool = False, choice: bool = False) -> None:
        super().__init__()
        if channels < 1 or blocks < 0:
            raise ValueError(f"channels is {channels} and blocks {blocks}; legal are 1 and more, and 0 and more")
        c = channels
        self.symmetric = symmetric
        roles = 1 if symmetric else 2
        self.encode = nn.ModuleList(Conv(CELL * CELL, c, 1) for _ in range(roles))
        self.shallow = Conv(roles * c, c, 3)
        self.context = nn.ModuleList(LongRangeAttention(c, None, cell=32 // CELL) for _ in range(roles))
        self.gates = nn.ModuleList(CrossGates(c, roles) for _ in range(blocks))
        self.merge = nn.ModuleList(Conv((roles + 1) * c, c, 3) for _ in range(blocks))
        self.dense = nn.ModuleList(Conv((k + 2) * c, c, 1) for k in range(blocks))
        self.squeeze = Conv((blocks + 1 + roles) * c, c, 1)
        self.rebuild = Conv(c, 2 * c, 3)
        self.weigh = nn.ModuleList(Weigher(c, 2 * c, 1 if choice else CELL * CELL) for _ in range(roles))
        self.add = None if choice else Conv(2 * c, CELL * CELL, 1, activation="tanh")

    def forward(self, *planes: Tensor) -> Tensor:
        """N planes, (B, 1, H, W) in -1..1, to the fused (B, 1, H, W) in -1..1. Any H, W >= 1; N = 2 unless symmetric.

        The planes may have more precision than the parameters: features are computed in that of the parameters, the
        fused picture in that of the planes.
        """
        return self.put_together(planes, *self.weigh_up(*planes))

    def weigh_up(self, *planes: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The weight of each source, (B, 1, H, W) in 0..1, of two that of the first; and the residual."""
        if len(planes) != 2 and not self.symmetric:
            raise ValueError(f"{len(planes)} planes; this network was built for two (its option symmetric is off)")
        height, width = planes[0].shape[-2:]
        dtype = self.shallow.conv.weight.dtype
        sources, x = self.features([to_cells(pad_to_cells(plane.to(dtype))) for plane in planes])
        scores = [of_role(self.weigh, i)(source, x) for i, source in enumerate(sources)]
        if self.add is None:  # a choice: where a cell cannot tell, those around it can
            scores = [voted(score) for score in scores]
        weights = [full_size(weight)[..., :height, :width] for weight in shares(scores)]
        residual = None if self.add is None else from_cells(self.add(x))[..., :height, :width]
        return weights, residual

    def put_together(self, planes: Sequence[Tensor], weights: list[Tensor], residual: Tensor | None) -> Tensor:
        """The fused plane."""
        fused = weighted_mean(planes, weights)
        if residual is not None:
            fused = fused + RESIDUAL * residual
        return fused.clamp(-1, 1)

    def features(self, cells: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Cells of each source, (B, 16, h, w), to features of each, (B, C, h, w), and of the fusion, (B, 2C, h, w)."""
        sources = [of_role(self.encode, i)(cell) for i, cell in enumerate(cells)]
        far = [of_role(self.context, i).found(source, others(sources, i)) for i, source in enumerate(sources)]
        known = [self.shallow(*self.side_by_side(sources))]
        known[0] = known[0] + F.interpolate(mean(far), size=known[0].shape[-2:], mode="bilinear")
        for gates, merge, dense in zip(self.gates, self.merge, self.dense, strict=True):
            block = merge(*self.side_by_side(gates(sources, known[0])), known[0])
            known.insert(0, dense(block, *known))
        return sources, self.rebuild(self.squeeze(*known, *self.side_by_side(sources)))

    def side_by_side(self, maps: list[Tensor]) -> list[Tensor]:
        """What a layer gets that sees all sources: one map each, or their mean where they are alike."""
        return [mean(maps)] if self.symmetric else maps


def of_role(layers: nn.ModuleList, source: int) -> Any:
    """The layer of a source: its own, or the one that all share."""
    return layers[0 if len(layers) == 1 else source]


def mean(maps: list[Tensor]) -> Tensor:
    """Mean of maps of one shape; several times as fast as stacking them."""
    total = maps[0]
    for x in maps[1:]:
        total = total + x
    return total / len(maps) if len(maps) > 1 else total


def others(maps: list[Tensor], of: int) -> Tensor:
    """Mean of all maps but one."""
    return mean([x for i, x in enumerate(maps) if i != of])


def shares(scores: list[Tensor]) -> list[Tensor]:
    """Scores to weights: their softmax; of two sources that of the first alone, for the other has the rest."""
    if len(scores) == 2:
        return [torch.sigmoid(scores[0] - scores[1])]
    return list(torch.softmax(torch.stack(scores), dim=0))


def full_size(weight: Tensor) -> Tensor:
    """(B, 16, h, w) or (B, 1, h, w), one for each pixel of a cell or one for all, to (B, 1, 4h, 4w)."""
    if weight.shape[1] == 1:
        return F.interpolate(weight, scale_factor=CELL, mode="bilinear")
    return from_cells(weight)


def pad_to_cells(plane: Tensor) -> Tensor:
    """(B, 1, H, W) to H, W that are multiples of the cell, the last row and column repeated."""
    height, width = plane.shape[-2:]
    missing = (-width % CELL, -height % CELL)
    return F.pad(plane, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else plane


# Four neighbours of a row in one word: moved as one, they are rearranged ten times as fast.
WORDS = {torch.bfloat16: torch.int64, torch.float16: torch.int64, torch.float32: torch.complex128}


def is_words(x: Tensor) -> bool:
    """Whether fours of it can be taken for one."""
    return x.dtype in WORDS and x.storage_offset() % CELL == 0


def to_cells(plane: Tensor) -> Tensor:
    """(B, 1, H, W) to (B, 16, H/4, W/4): the 4x4 pixels of a cell, in the order of `F.pixel_unshuffle`."""
    if plane.requires_grad or torch.jit.is_tracing() or not is_words(plane) or not plane.is_contiguous():
        return F.pixel_unshuffle(plane, CELL)
    batch, _, height, width = plane.shape
    rows = plane.reshape(-1).view(WORDS[plane.dtype]).view(batch, height // CELL, CELL, width // CELL)
    cells = rows.permute(0, 1, 3, 2).reshape(-1).view(plane.dtype)
    return cells.view(batch, height // CELL, width // CELL, CELL * CELL).permute(0, 3, 1, 2)


def from_cells(cells: Tensor) -> Tensor:
    """(B, 16, h, w) to (B, 1, 4h, 4w): the inverse of `to_cells`."""
    if cells.requires_grad or torch.jit.is_tracing() or not is_words(cells) or cells.stride(1) != 1:
        return F.pixel_shuffle(cells, CELL)
    batch, _, height, width = cells.shape
    words = cells.permute(0, 2, 3, 1).reshape(-1).view(WORDS[cells.dtype]).view(batch, height, width, CELL)
    rows = words.permute(0, 1, 3, 2).reshape(-1).view(cells.dtype)
    return rows.view(batch, 1, CELL * height, CELL * width)
