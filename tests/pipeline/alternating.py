"""Cameras that alternate exposures, as numbers: what they saw, what got lost, and which exposure each frame was."""

from __future__ import annotations

import numpy as np

from pipeline.bracket import View

INTERVAL_NS = 33_333_333
BEGAN_NS = 5_000_000_000

Seen = tuple[View, int]
"""What is known of a frame, and the rank of its exposure, which is to be found out."""


def camera(
    seed: int,
    frames: int,
    count: int = 2,
    *,
    metadata: bool = False,
    gaps: bool = False,
    loss: float = 0.1,
    bursts: float = 0.01,
    burst_frames: float = 6.0,
    jitter: float = 0.15,
    switches: float = 0.002,
    switch: float = 8.0,
    exactly: bool = False,
    ratio: float = 4.0,
) -> list[Seen]:
    """The frames that come through.

    Args:
        seed: of everything that happens by chance.
        frames: how many are captured.
        count: exposures in the cycle.
        metadata: frames tell their time of exposure.
        gaps: the sequence numbers count lost frames, too.
        loss: share of frames that are lost one by one.
        bursts: how often a burst of lost frames begins, a frame.
        burst_frames: its mean length.
        jitter: of the timestamps, up to so many intervals to either side.
        switches: how often the light is switched, a frame; it drifts besides.
        switch: by up to which factor, either way.
        exactly: the light is switched by just the ratio of the exposures, so that one looks as another did.
        ratio: of each exposure to the next shorter one.
    """
    dice = np.random.default_rng(seed)
    ranks = np.arange(frames) % count
    brightness = luma(light(dice, frames, switches, ratio if exactly else switch, exactly), ranks, count, ratio)
    brightness = np.clip(brightness * dice.normal(1, 0.004, frames) + dice.normal(0, 0.05, frames), 0, 255)
    times = BEGAN_NS + INTERVAL_NS * (np.arange(frames) + dice.uniform(-jitter, jitter, frames))
    lost = dice.random(frames) < loss
    for first in np.flatnonzero(dice.random(frames) < bursts):
        lost[first : first + dice.geometric(1 / burst_frames)] = True
    kept = np.flatnonzero(~lost)
    sequence = kept if gaps else np.arange(len(kept))
    columns = (times[kept].astype(np.int64), sequence, brightness[kept], 500.0 * ratio ** ranks[kept], ranks[kept])
    return [
        (View(time_ns, number, level, exposure_us if metadata else None), rank)
        for time_ns, number, level, exposure_us, rank in zip(*(column.tolist() for column in columns), strict=True)
    ]


def light(dice: np.random.Generator, frames: int, switches: float, switch: float, exactly: bool) -> np.ndarray:
    """(frames,) how light it is: it drifts, is switched, and goes from nearly black to far too bright."""
    steps = np.log(switch) * (dice.choice([-1, 1], frames) if exactly else dice.uniform(-1, 1, frames))
    walk = np.cumsum(dice.normal(0, 0.01, frames) + np.where(dice.random(frames) < switches, steps, 0))
    low, high = np.log(0.0005), np.log(3)
    beyond = np.mod(walk - low, 2 * (high - low))
    folded: np.ndarray = np.exp(low + np.minimum(beyond, 2 * (high - low) - beyond))
    return folded


def luma(light: np.ndarray, ranks: np.ndarray, count: int, ratio: float) -> np.ndarray:
    """(frames,) mean luma in 0..255, with the gamma of video."""
    linear = 2 * light * ratio ** (ranks - count + 1.0)
    levels: np.ndarray = 255 * np.clip(linear, 0, 1) ** (1 / 2.2)
    return levels
