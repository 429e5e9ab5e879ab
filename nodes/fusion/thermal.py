"""From the counts of an infrared sensor to the 8 bits that networks and eyes work in, stable in time."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from pipeline.errors import ConfigError

AgcMode = Literal["linear", "plateau", "fixed"]

MIN_SPAN = 32  # counts of 16 bits; a flat scene shall not be all noise, nor divide by zero
MIN_SPAN_8 = 128  # of 8 bits: beyond two grey levels a count, the steps between counts are seen
NOISE_SPAN = 24  # standard deviations of the noise that are spread over 0..255 at the least: 11 grey levels each
SAMPLES = 20_000  # pixels that a histogram is made of, about
NOISE_ROWS = 32  # rows in which noise is measured, about

BULK = (0.05, 0.95)  # shares of the pixels between which the scene lies, without what stands out
REACH = 0.3  # how far the limits go beyond the bulk at most, in its width: a Gaussian scene needs 0.28 for 99 %

BINS = 1024  # of the histogram to equalise
OUTER = 0.001  # share of the pixels at either end that it leaves out
PLATEAU = 2.0  # greatest height of a bin, in mean heights of those that are not empty
STRAIGHT = 0.3  # share of the straight line in an equalised table: what few pixels have keeps some contrast

CELLS = (80, 64)  # (width, height) of the picture in which steps of the sensor are looked for
STEP_LEVELS = 2.0  # grey levels: a lesser change of the picture is none
STEP_LEFT = 0.3  # share of the change that a step may leave unexplained
STEP_GAIN = 8.0  # most that a gain changes at a step; a shutter's flag before the lens looks like a gain of nothing
STEP_SHARES = np.linspace(0.2, 0.8, 7)  # quantiles that are fitted: what comes in or goes is in the tails
STEP_KEPT = 0.7  # share of the cells that a fit is repeated with


class Agc:
    """Automatic gain control: a table from counts to grey levels that follows the scene, slowly and boundedly.

    - linear: a straight line between two percentiles. They go no further beyond the bulk of the scene than `REACH`, so
      that something hot is white, and the rest is not darkened by more than a little, however hot and large it is.
    - plateau: plateau equalisation (Silverman and Mooney 1993; Vickers, "Plateau equalization algorithm for real-time
      display of high-quality infrared imagery", Optical Engineering 35(7), 1996): counts get grey levels by how many
      pixels have them, up to a plateau. Nowhere is it steeper than noise allows.
    - fixed: a straight line over `range`.

    From frame to frame the table goes towards that of the newest frame with a time constant, and no entry of it by
    more than `most_change`. Where the sensor itself changes its gain or level from one frame to the next, as after its
    shutter, the table moves along at once, and the bound is on what the counts were before. The same frame a second
    time, with the same timestamp, changes nothing. The first frame, and one of another size or depth, starts anew.

    All attributes without an underscore may be changed between two calls; the picture follows without a jump.

    Args:
        mode: one of the above. Set to "fixed" without a range while it runs, the table stays as it is.
        range: (low, high) in counts that become 0 and 255, for "fixed".
        damping_s: time constant in seconds, >= 0; 0 follows at once, within `most_change`.
        most_change: of a table's entry from frame to frame in grey levels, > 0; that of a pixel is rounded up.
        share: of the pixels left out at either end by "linear", 0..0.05.
        min_span: counts that are spread over 0..255 at the least; default 32, or 128 if the counts have 8 bits.

    Raises:
        ConfigError: the range is none, or is missing for "fixed".
    """

    def __init__(
        self,
        mode: AgcMode = "linear",
        range: tuple[float, float] | None = None,
        damping_s: float = 1.0,
        most_change: float = 6.0,
        share: float = 0.005,
        min_span: float | None = None,
    ) -> None:
        if mode == "fixed" and range is None:
            raise ConfigError("a fixed gain has no range; set agc_range: [low, high], the counts of black and white")
        if range is not None and not range[0] < range[1]:
            raise ConfigError(f"the range of a gain is [{range[0]:g}, {range[1]:g}]; legal is low < high, in counts")
        self.mode, self.range = mode, range
        self.damping_s, self.most_change = damping_s, most_change
        self.share, self.min_span = share, min_span
        self._kind: object = None
        self._table = np.zeros(0, np.float32)  # grey level of each count, before rounding
        self._cells = np.zeros(0, np.float32)
        self._time_ns = self._interval_ns = 0

    def __call__(self, counts: np.ndarray, timestamp_ns: int) -> np.ndarray:
        """One frame of a stream: (H, W) uint8, 0..255. As `table`."""
        return np.take(self.table(counts, timestamp_ns), counts)

    def table(self, counts: np.ndarray, timestamp_ns: int) -> np.ndarray:
        """The table for one frame of a stream.

        Args:
            counts: (H, W) uint16 or uint8.
            timestamp_ns: its capture time in nanoseconds.

        Returns:
            (65536,) or (256,) uint8: the grey level of each count.

        Raises:
            ValueError: other shapes and types.
        """
        if counts.ndim != 2 or counts.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"counts are (H, W) uint8 or uint16, got {counts.shape} {counts.dtype}")
        kind, cells = (counts.shape, counts.dtype), in_cells(counts)
        if kind != self._kind:
            self.restart()
            self._kind, self._table = kind, self._target(counts)
        else:
            self._follow(cells, self._target(counts), timestamp_ns)
        self._cells, self._time_ns = cells, timestamp_ns
        return (self._table + np.float32(0.5)).astype(np.uint8)

    def restart(self) -> None:
        """The next frame has nothing to do with the last: as if it were the first."""
        self._kind, self._table = None, np.zeros(0, np.float32)

    def _follow(self, cells: np.ndarray, target: np.ndarray, timestamp_ns: int) -> None:
        """Move the table towards the target by what the time since the last frame allows."""
        step = None if self.mode == "fixed" else sensor_step(self._cells, cells, self._table)
        if step is not None:
            self._table = moved(self._table, *step)
        if timestamp_ns >= self._time_ns:  # else the clock was set back
            self._interval_ns = timestamp_ns - self._time_ns
        way = 1 - np.exp(-self._interval_ns / 1e9 / self.damping_s) if self.damping_s > 0 else self._interval_ns > 0
        change = (target - self._table) * np.float32(way)
        self._table = self._table + np.clip(change, -self.most_change, self.most_change, dtype=np.float32)

    def _target(self, counts: np.ndarray) -> np.ndarray:
        """(256,) or (65536,) float32, 0..255, never falling: the table that this frame alone would have."""
        size = 1 << 8 * counts.itemsize
        if self.mode == "fixed" and self.range is not None:
            return line(size, *self.range)
        if self.mode == "fixed" and self._table.size:
            return self._table
        least = self.min_span or (MIN_SPAN_8 if counts.itemsize == 1 else MIN_SPAN)
        least = max(least, NOISE_SPAN * noise_of(counts))
        stride = max(1, int(np.sqrt(counts.size / SAMPLES)))
        ordered = np.sort(counts[::stride, ::stride], axis=None, kind="stable")  # of 16 bits the fastest: radix
        straight = line(size, *limits(ordered, self.share, least))
        if self.mode != "plateau":
            return straight
        return STRAIGHT * straight + (1 - STRAIGHT) * equalised(size, ordered, 255 / least)


def line(size: int, low: float, high: float) -> np.ndarray:
    """(size,) float32: 0 up to count `low`, 255 from count `high` on."""
    grey = (np.arange(size, dtype=np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(grey, 0, 255, out=grey)


def limits(ordered: np.ndarray, share: float, least: float) -> tuple[float, float]:
    """The counts that become black and white.

    Args:
        ordered: (N,) counts of the pixels, sorted.
        share: of the pixels left out at either end.
        least: counts that lie between the limits at the least.
    """
    low, bulk_low, bulk_high, high = (at(ordered, q) for q in (share, *BULK, 1 - share))
    wider = max(0.0, least - (bulk_high - bulk_low)) / 2
    bulk_low, bulk_high = bulk_low - wider, bulk_high + wider
    reach = REACH * (bulk_high - bulk_low)
    return min(bulk_low, max(low, bulk_low - reach)), max(bulk_high, min(high, bulk_high + reach))


def equalised(size: int, ordered: np.ndarray, steepest: float) -> np.ndarray:
    """A table by plateau equalisation.

    Args:
        size: of the table.
        ordered: (N,) counts of the pixels, sorted.
        steepest: grey levels that a count may rise by; a scene that has not enough contrast for 0..255 is in the
            middle.

    Returns:
        (size,) float32, 0..255, never falling.
    """
    low, high = at(ordered, OUTER), at(ordered, 1 - OUTER)
    edges = np.linspace(low - 0.5, high + 0.5, min(BINS, int(high - low) + 1) + 1)
    heights = np.diff(np.searchsorted(ordered, edges)).astype(float)
    heights = np.minimum(heights, PLATEAU * heights[heights > 0].mean())
    rises = np.minimum(heights * (255 / heights.sum()), steepest * (edges[1] - edges[0]))
    grey = np.concatenate([[0], np.cumsum(rises)])
    return np.interp(np.arange(size), edges, grey + (255 - grey[-1]) / 2).astype(np.float32)


def at(ordered: np.ndarray, quantile: float) -> float:
    return float(ordered[round(quantile * (ordered.size - 1))])


def noise_of(counts: np.ndarray) -> float:
    """Standard deviation of the noise in counts, from what neighbours in a row do not explain of a pixel.

    Of the second differences the smaller half counts, so that edges do not. It is 0 in less than three columns.
    """
    rows = counts[:: 1 + counts.shape[0] // NOISE_ROWS].astype(np.int32)
    bends = np.abs(2 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]).ravel()
    if bends.size < 2:
        return 0.0
    smaller = np.partition(bends, bends.size // 2)[: bends.size // 2]
    # Gaussian noise: a second difference has sqrt(6) times its deviation, and the smaller half a mean of 0.325 of that.
    return float(smaller.mean()) / (0.325 * np.sqrt(6))


def in_cells(counts: np.ndarray) -> np.ndarray:
    """(N,) float32: the means of some thousand cells of a picture, with little noise left."""
    size = min(CELLS[0], counts.shape[1]), min(CELLS[1], counts.shape[0])
    return cv2.resize(counts.astype(np.float32), size, interpolation=cv2.INTER_AREA).ravel()


def sensor_step(before: np.ndarray, after: np.ndarray, table: np.ndarray) -> tuple[float, float] | None:
    """What the sensor did to its own gain and level between two frames, if it did.

    It is a step if most of the picture would change, and one gain and offset for all cells explain most of that. An
    object that comes in leaves the others as they were, and a camera that turns leaves nothing to explain.

    Args:
        before: (N,) float32 counts in the cells of the frame before.
        after: (N,) float32, of the same cells.
        table: (256,) or (65536,) float32: grey level of a count.

    Returns:
        (gain, offset): a count is `gain` times what it was plus `offset`; None without a step.
    """
    grey = looked_up(table, before)
    change = np.median(np.abs(looked_up(table, after) - grey))
    if change < STEP_LEVELS:
        return None
    gain, offset = affine(before, after)
    if not 1 / STEP_GAIN <= gain <= STEP_GAIN:
        return None
    left = np.median(np.abs(looked_up(table, (after - offset) / gain) - grey))
    return (gain, offset) if left <= STEP_LEFT * change else None


def affine(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Gain and offset from (N,) to (N,) by their quantiles, which unlike least squares are not flattened by noise.

    Fitted again with the cells that it suits best, so that those that show something else now have no say.
    """
    gain, offset = 1.0, 0.0
    cells = np.ones(before.shape, bool)
    for _ in range(3):
        x, y = np.quantile(before[cells], STEP_SHARES), np.quantile(after[cells], STEP_SHARES)
        x_off, y_off = x - x.mean(), y - y.mean()
        tiny = 1e-3  # counts squared: two constant frames have a gain of 1
        gain = float((x_off @ y_off + tiny) / (x_off @ x_off + tiny))
        offset = float(y.mean() - gain * x.mean())
        off = np.abs(after - gain * before - offset)
        cells = off <= np.quantile(off, STEP_KEPT)
    return gain, offset


def moved(table: np.ndarray, gain: float, offset: float) -> np.ndarray:
    """The table that gives counts after a step the grey levels that they had before."""
    return looked_up(table, (np.arange(table.size, dtype=np.float32) - np.float32(offset)) / np.float32(gain))


def looked_up(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Entries of a table for (N,) float32 counts, also between whole ones; beyond its ends it goes on level."""
    counts = np.clip(counts, 0, table.size - 1)
    below = counts.astype(np.intp)
    lower, upper = table[below], table[np.minimum(below + 1, table.size - 1)]
    return lower + (counts - below.astype(np.float32)) * (upper - lower)
