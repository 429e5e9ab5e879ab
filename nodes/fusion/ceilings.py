"""What a card does at best: a large copy and a large product of matrices, measured as everything else is."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch

from models.inference import PRECISIONS

SIDE = 8192  # of the matrices: of 16 bits 134 MB each, more than any cache
MOST_BYTES = 1 << 30  # of the copy
REPEATS = 12


def copied_bytes_per_s(device: torch.device) -> float:
    """Of a copy within the device's memory; what is read and what is written both count."""
    free, _ = torch.cuda.mem_get_info(device)
    count = min(MOST_BYTES, free // 8)
    source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / (milliseconds(lambda: target.copy_(source)) / 1e3)


def multiplied_flops_per_s(device: torch.device, precision: str) -> float:
    """Of a product of matrices of random numbers; in fp32 with the matrix units, as the convolutions are."""
    dtype = PRECISIONS[precision]
    first, second = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        return 2 * SIDE**3 / (milliseconds(lambda: first @ second) / 1e3)
    finally:
        torch.set_float32_matmul_precision(before)


def milliseconds(work: Callable[[], object], count: int = 1, repeats: int = REPEATS) -> float:
    """Of what `work` launches on the current stream, by the device's clock: the median, after some that do not count.

    Args:
        work: what to time.
        count: how often it is launched between two looks at the clock.
        repeats: how many times so much.
    """
    for _ in range(3):
        work()
    marks = []
    for _ in range(repeats):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        for _ in range(count):
            work()
        ended.record()
        marks.append((began, ended))
    torch.cuda.synchronize()
    return median(began.elapsed_time(ended) for began, ended in marks) / count
