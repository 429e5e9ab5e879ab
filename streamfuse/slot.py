"""Slot: where the thread that receives leaves the newest frames for who reads them."""

from __future__ import annotations

import threading
from collections import deque

from streamfuse.arrivals import Arrival


class Slot:
    """The newest few of what came; the oldest goes when there is no room.

    Args:
        keep: how many.
    """

    skipped: int
    """So many went, for newer ones came before they were taken."""

    def __init__(self, keep: int) -> None:
        self.skipped = 0
        self._keep = keep
        self._kept: deque[Arrival] = deque()
        self._news = threading.Condition(threading.Lock())
        self._closed = False
        self._error: Exception | None = None

    def put(self, arrival: Arrival) -> None:
        with self._news:
            if self._closed:
                return
            if len(self._kept) == self._keep:
                self._kept.popleft()
                self.skipped += 1
            self._kept.append(arrival)
            self._news.notify()

    def take(self, timeout_s: float | None) -> Arrival | None:
        """The oldest that is kept; None when there is none for so long, or when it is closed."""
        with self._news:
            if not self._kept:
                self._news.wait_for(lambda: self._kept or self._closed, timeout_s)
            if self._error is not None:
                raise self._error
            return self._kept.popleft() if self._kept else None

    def close(self, error: Exception | None = None) -> None:
        """Nothing comes any more: who waits gets None, or the error that is why."""
        with self._news:
            self._closed, self._error = True, self._error or error
            self._kept.clear()
            self._news.notify_all()
