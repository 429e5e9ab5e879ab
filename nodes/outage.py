"""Outage: a time without a camera or a connection; shared by the nodes that come back by themselves."""

from __future__ import annotations

import random
import time

MOST_LINES = 3  # in the log, of one outage


class Outage:
    """From when it began to when it is over: how long to pause between attempts, and what of it to tell.

    Args:
        first_s: pause after the first attempt, in seconds; doubled at each, less up to half of it at random, so that
            many do not come back at the same moment.
        most_s: the longest pause.
    """

    attempts: int
    """That have failed."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self.attempts = 0
        self._first_s, self._most_s = first_s, most_s
        self._began = time.monotonic()
        self._reasons: set[str] = set()

    @property
    def lasted_s(self) -> float:
        return time.monotonic() - self._began

    def failed(self) -> float:
        """An attempt has failed; says for how many seconds to pause."""
        pause_s = min(self._most_s, self._first_s * 2 ** min(self.attempts, 30))
        self.attempts += 1
        return pause_s * random.uniform(0.5, 1)

    def is_news(self, reason: str) -> bool:
        """Whether to tell a reason: each once, and not too many of them."""
        if reason in self._reasons or len(self._reasons) >= MOST_LINES:
            return False
        self._reasons.add(reason)
        return True
