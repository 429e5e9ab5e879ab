"""What output.web has seen of the run: rates, ages and skews of now, and a sample a second of the last minutes."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.frame import Frame
from pipeline.stats import percentile

FRESH_SECONDS = 2.0  # an output that is older is none
RATE_SECONDS = 5.0  # over which frames a second are counted
AGE_SECONDS = 10.0  # over which percentiles of age are taken
HISTORY_SECONDS = 300  # of samples, one a second
MOST_SEEN = 4096  # frames of a view to remember: AGE_SECONDS of 400 a second
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Seen(NamedTuple):
    """A frame as it came."""

    at_ns: int
    """Arrival here, on the monotonic clock."""
    age_ms: float | None
    """Arrival less capture; None in recorded mode, where frames have the times of the file."""
    skew_ms: float | None
    state: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A second of the run."""

    at_ns: int
    fps: float
    latency_ms: float | None
    """Median age."""
    skew_ms: float | None
    """The largest of this second."""
    state: str | None
    drift_ppm: Mapping[str, float]
    """By stream."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether there is a picture that is now."""

    ready: bool
    degraded: bool
    """A sensor is lost, and the picture goes on without it."""
    reason: str
    """One line."""


class Journal:
    """Written by the node's thread, read by the server's.

    Args:
        views: names of the streams; the first is the one that counts.
        live: frames have capture times on the monotonic clock.
    """

    def __init__(self, views: tuple[str, ...], live: bool) -> None:
        self.views, self.live = views, live
        self.main = views[0]
        self._lock = threading.Lock()
        self._seen: dict[str, deque[Seen]] = {name: deque(maxlen=MOST_SEEN) for name in views}
        self._began_ns: int | None = None
        self._samples: deque[Sample] = deque(maxlen=HISTORY_SECONDS)

    def note(self, view: str, frame: Frame, now_ns: int) -> None:
        """A frame has come."""
        age_ms = (now_ns - frame.timestamp_ns) / 1e6 if self.live else None
        fusion = frame.fusion
        made = (fusion.skew_ns / 1e6, fusion.state) if fusion is not None else (None, None)
        with self._lock:
            self._began_ns = now_ns if self._began_ns is None else self._began_ns
            self._seen[view].append(Seen(now_ns, age_ms, *made))

    def last(self, view: str) -> Seen | None:
        with self._lock:
            return self._seen[view][-1] if self._seen[view] else None

    def fps(self, view: str, now_ns: int) -> float:
        """Frames a second, over the last seconds."""
        if self._began_ns is None:
            return 0.0
        seconds = min(RATE_SECONDS, max(1.0, (now_ns - self._began_ns) / 1e9))
        return len(self._since(view, now_ns, seconds)) / seconds

    def latency_ms(self, now_ns: int) -> dict[str, float | None]:
        """Percentiles of the age of the main view's frames when they came here, over the last seconds."""
        ages = [seen.age_ms for seen in self._since(self.main, now_ns, AGE_SECONDS) if seen.age_ms is not None]
        return {name: percentile(ages, share) if ages else None for name, share in SHARES.items()}

    def age_ms(self, now_ns: int) -> float | None:
        """How long ago what the main view shows was captured; in recorded mode, how long ago it came."""
        seen = self.last(self.main)
        return None if seen is None else (now_ns - seen.at_ns) / 1e6 + (seen.age_ms or 0.0)

    def readiness(self, now_ns: int) -> Readiness:
        seen, age_ms = self.last(self.main), self.age_ms(now_ns)
        if seen is None or age_ms is None:
            return Readiness(False, False, f"no frame of {self.main} came yet")
        if age_ms > FRESH_SECONDS * 1e3:
            return Readiness(False, False, f"the newest frame of {self.main} is {age_ms / 1e3:.1f} s old")
        if seen.state is not None and seen.state.endswith("_only"):
            return Readiness(True, True, f"degraded: {seen.state}, a sensor is lost")
        return Readiness(True, False, "ready")

    def sample(self, now_ns: int, gauges: Mapping[str, Mapping[str, float]]) -> None:
        """Keep a sample of now. Called once a second.

        Args:
            now_ns: on the monotonic clock.
            gauges: by node and name.
        """
        second = self._since(self.main, now_ns, 1.0)
        ages = [seen.age_ms for seen in second if seen.age_ms is not None]
        skews = [seen.skew_ms for seen in second if seen.skew_ms is not None]
        self._samples.append(
            Sample(
                now_ns,
                self.fps(self.main, now_ns),
                percentile(ages, 0.5) if ages else None,
                max(skews) if skews else None,
                second[-1].state if second else None,
                drifts(gauges),
            )
        )

    def history(self, now_ns: int) -> dict[str, Any]:
        """The samples as columns, oldest first; `seconds` is 0 for now and less for before."""
        samples = list(self._samples)
        streams = dict.fromkeys(stream for sample in samples for stream in sample.drift_ppm)
        return {
            "seconds": [round((sample.at_ns - now_ns) / 1e9, 1) for sample in samples],
            "fps": [rounded(sample.fps) for sample in samples],
            "latency_ms": [rounded(sample.latency_ms) for sample in samples],
            "skew_ms": [rounded(sample.skew_ms) for sample in samples],
            "state": [sample.state for sample in samples],
            "drift_ppm": {name: [rounded(sample.drift_ppm.get(name)) for sample in samples] for name in streams},
        }

    def _since(self, view: str, now_ns: int, seconds: float) -> list[Seen]:
        """Frames that came in the last seconds, oldest first."""
        from_ns, found = now_ns - round(seconds * 1e9), []
        with self._lock:
            for seen in reversed(self._seen[view]):
                if seen.at_ns <= from_ns:
                    break
                found.append(seen)
        return found[::-1]


def drifts(gauges: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Drift of clocks in ppm by stream: gauge `drift_ppm` is of the node's own stream, `infrared_drift_ppm` of that."""
    found = {}
    for node, values in gauges.items():
        for name, value in values.items():
            if name.endswith("drift_ppm") and math.isfinite(value):
                stream = name.removesuffix("drift_ppm").strip("_")
                found[f"{node} {stream}".rstrip()] = value
    return found


def gauges_of(snapshot: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, float]]:
    """Gauges by node, of what the pipeline tells."""
    return {node: entry.get("gauges") or {} for node, entry in snapshot.items()}


def rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 3)


def finite(figures: Any) -> Any:
    """With None in place of what is not finite, for which JSON has no word."""
    if isinstance(figures, Mapping):
        return {str(key): finite(value) for key, value in figures.items()}
    if isinstance(figures, Iterable) and not isinstance(figures, str | bytes):
        return [finite(value) for value in figures]
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures
