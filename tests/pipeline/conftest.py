"""Fixtures of the tests of the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline import pipeline as engine


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine looks at its threads more often and gives up on stuck ones sooner, so that a test needs not wait."""
    monkeypatch.setattr(engine, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(engine, "STOP_SECONDS", 0.4)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets go of nodes that a test has stuck, at its end."""
    event = threading.Event()
    yield event
    event.set()
