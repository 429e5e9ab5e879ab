"""Link: what a process that runs one of several configs says to the one that started it, and hears from it.

Both hold an end of a socket pair. Up go lines of JSON: `mode` (the config is right, and nothing is open yet), `ready`
(all nodes are open), `summary` with `gave_up` and `error` at the end. Down come single bytes: GO, and FAIL where
another process has failed. The end of what comes down means to stop: the other has closed its end, or is no more.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

from pipeline.errors import INTERRUPTED, ConfigError, StreamfuseError
from pipeline.pipeline import Pipeline

GO, FAIL = b"g", b"f"


class Abandoned(StreamfuseError):
    """Another process of the same run has failed; what was made so far is not whole."""

    exit_code = INTERRUPTED


class Link:
    """The end of the process that was started.

    Args:
        number: of the file descriptor that it was lent.

    Raises:
        ConfigError: that is no socket.
    """

    def __init__(self, number: int) -> None:
        try:
            self._socket = socket.socket(fileno=number)
            self._socket.set_inheritable(False)
        except OSError as error:
            raise ConfigError("--link: it is for processes that run.py starts by itself; leave it out") from error
        self.ended = False
        """Told to stop, or left alone."""
        self._failed = self._is_ready = False

    def tell(self, **what: Any) -> None:
        """Say something; that nobody hears it is no fault of ours."""
        with suppress(OSError):
            self._socket.setblocking(True)
            self._socket.sendall(json.dumps(what).encode() + b"\n")

    def wait_for_go(self) -> bool:
        """Until all configs have been found right; False when there is nothing to be done after all."""
        self._socket.setblocking(True)
        self._hear(1)
        return not (self.ended or self._failed)

    def look(self, pipeline: Pipeline) -> None:
        """Called from time to time, while it runs.

        Raises:
            Abandoned: results are to be given up, as after a failure of our own.
        """
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            self._hear(16)
        if self._failed:
            raise Abandoned("given up, since another process failed")
        if self.ended and not pipeline.stopping:
            pipeline.stop()
        ready = not pipeline.stopping and all(step.ready.is_set() for step in pipeline.steps.values())
        if ready and not self._is_ready:
            self._is_ready = True
            self.tell(ready=True)

    def _hear(self, most: int) -> None:
        try:
            heard = self._socket.recv(most)
        except ConnectionError:
            heard = b""
        self.ended |= not heard
        self._failed |= FAIL in heard
