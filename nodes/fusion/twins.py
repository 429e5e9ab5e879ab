"""The kernels of `kernels.cu` said in torch, for the CPU and as the reference in tests."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def prepare(
    plane: Tensor,
    table: Tensor | None,
    warp: Tensor | None,
    size: tuple[int, int],
    black: float,
    span: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A plane of counts as the network takes it.

    Args:
        plane: (h, w) uint8 or uint16.
        table: (256,) or (65536,) uint8, the grey level of each count; None: counts are grey levels.
        warp: (3, 3) from (x, y, 1) of the fused picture to the plane's pixels, bilinear, the border repeated; None:
            they are the same.
        size: (H, W) of the fused picture.
        black, span: grey level that becomes -1, and how far above it is what becomes 1.
        dtype: of the result.

    Returns:
        (1, 1, H, W) in -1..1, beyond where there are levels below black or above white.
    """
    grey = plane.to(torch.int32) if table is None else table[plane.to(torch.int64)]
    grey = grey.to(torch.float32)
    if warp is not None:
        grey = warped(grey, warp, size)
    return ((grey - black) * (2 / span) - 1)[None, None].to(dtype)


def warped(grey: Tensor, warp: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) float32 to (H, W)."""
    rows, columns = grey.shape
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32, device=grey.device) for n in size), indexing="ij")
    u, v, w = (warp[i, 0] * x + warp[i, 1] * y + warp[i, 2] for i in range(3))
    u, v = (u / w).clamp(-1, columns), (v / w).clamp(-1, rows)
    left, top = u.floor(), v.floor()
    over, under = u - left, v - top
    x0, x1 = (index.long().clamp(0, columns - 1) for index in (left, left + 1))
    y0, y1 = (index.long().clamp(0, rows - 1) for index in (top, top + 1))
    above = grey[y0, x0] * (1 - over) + grey[y0, x1] * over
    below = grey[y1, x0] * (1 - over) + grey[y1, x1] * over
    return above * (1 - under) + below * under


def finish(fused: Tensor, black: float, span: float, top: float) -> Tensor:
    """(1, 1, H, W) in -1..1 to (H, W) uint8, rounded and clipped to black and top."""
    # A sum of its own first: `fused` is the caller's, and stays as it is.
    return (fused[0, 0].float() + 1).mul_(span / 2).add_(black).round_().clamp_(black, top).to(torch.uint8)


def finish_calmed(
    fused: Tensor, black: float, span: float, top: float, visible: Tensor, ramp: Tensor, size: tuple[int, int]
) -> Tensor:
    """As `finish`, with the chroma of a visible frame, calmed where that is dark (`chroma.calmed`), in whole numbers.

    Args:
        fused, black, span, top: as above.
        visible: data of a yuv420p frame of even size, of that range.
        ramp: (256,) uint8: gain of the chroma in 128ths by mean luma.
        size: (H, W).

    Returns:
        Data of a yuv420p frame.
    """
    height, width = size
    luma = visible[: height * width].view(1, 1, height, width).to(torch.int32)
    cells = (luma[..., ::2, ::2] + luma[..., 1::2, ::2] + luma[..., ::2, 1::2] + luma[..., 1::2, 1::2] + 2) >> 2
    sums = F.avg_pool2d(mirrored(cells).float(), 3, stride=1, divisor_override=1).round().to(torch.int32)
    gain = ramp[((2 * sums + 9) // 18).long()][0, 0].to(torch.int32)
    chroma = visible[height * width :].view(2, height // 2, width // 2).to(torch.int32)
    calm = ((chroma - 128) * gain + (128 << 7) + 64) >> 7
    return torch.cat([finish(fused, black, span, top).reshape(-1), calm.to(torch.uint8).reshape(-1)])


def mirrored(cells: Tensor) -> Tensor:
    """With a border of one, mirrored without repeating the outermost; of a side of one, repeated."""
    for axis in (2, 3):
        last = cells.shape[axis] - 1
        before, after = min(1, last), max(last - 1, 0)
        cells = torch.cat([cells.narrow(axis, before, 1), cells, cells.narrow(axis, after, 1)], dim=axis)
    return cells
