"""A clock for tests: sleeping is what makes it go."""

from __future__ import annotations


class Clock:
    """Stands in for the module `time`."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_ns = round(now_s * 1e9)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
