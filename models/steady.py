"""Steadiness in time: a fused video shall change where its sources do, and not flicker elsewhere.

A network sees each moment alone. Where its choice between the sources tips over, the picture flickers though nothing
happened in the scene. What a change of the sources does not explain is held back here and let through slowly: where a
source changes by so much, the fused picture may change by as much, at once. Of more than flicker nothing is held back:
behind what moves there would be ghosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CELL = 2  # px: changes are judged by means over cells, which noise moves less
LEAK = 0.05  # share of what is held back that comes through at each frame: nearly all of it within 60
MOST = 6 * 2 / 255  # six grey levels: flicker is small; what is larger is no flicker, and held back it would be a ghost


class State(NamedTuple):
    """What the frame before looked like: cell means, (B, 1, H/2, W/2) in -1..1, of each source and of the result."""

    sources: tuple[Tensor, ...]
    fused: Tensor


def steady(fused: Tensor, sources: Sequence[Tensor], state: State | None) -> tuple[Tensor, State]:
    """Hold back what the sources do not explain.

    Args:
        fused: (B, 1, H, W) in -1..1, as the network made it of these sources alone.
        sources: the planes it was made of, of the same shape.
        state: what this returned for the frame before; None at the start. One of other shapes counts as none.

    Returns:
        The steady picture, and the state for the next frame.
    """
    now = tuple(cells(source) for source in sources)
    coarse = cells(fused)
    if state is None or state.fused.shape != coarse.shape or len(state.sources) != len(now):
        return fused, State(now, coarse)
    steps = [(source - before).abs() for source, before in zip(now, state.sources, strict=True)]
    explained = reduce(torch.maximum, steps)
    change = coarse - state.fused
    allowed = explained + LEAK * change.abs()
    excess = (change - change.clamp(-allowed, allowed)).clamp(-MOST, MOST)
    # To each pixel what its own cell holds back: smoothed, some of it would leak into cells that hold back nothing.
    height, width = fused.shape[-2:]
    held = F.interpolate(excess, scale_factor=CELL, mode="nearest")[..., :height, :width]
    return (fused - held).clamp(-1, 1), State(now, coarse - excess)


def cells(plane: Tensor) -> Tensor:
    """Means over cells of 2x2 px; at the right and lower border over what there is of them."""
    return F.avg_pool2d(plane, CELL, ceil_mode=True)
