"""Gate: says to libzmq who may come in, for all sockets of a process (ZAP, https://rfc.zeromq.org/spec/27/)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import zmq
from zmq.utils import z85

from pipeline.errors import OutputError

log = logging.getLogger("streamfuse")

ENDPOINT = "inproc://zeromq.zap.01"
WELCOME = b"200"
NOT_NOW = b"300"
"""Not 400, "no": a client that is told so never comes again, and would not come in when its key has been allowed. Of
this code it is told nothing: it is put out when the time for shaking hands is over, and tries anew."""
TOLD_EVERY_S = 10.0

Ask = Callable[[bytes], bool]
"""Whether a client with this public key, 40 characters of Z85, may come in."""


class Gate:
    """A thread that answers for a context, until that is terminated; it does not keep the process alive."""

    _all: dict[zmq.Context[zmq.Socket[bytes]], Gate] = {}  # noqa: RUF012
    _lock = threading.Lock()

    @classmethod
    def of(cls, context: zmq.Context[zmq.Socket[bytes]]) -> Gate:
        """The one of a context.

        Raises:
            OutputError: another part of the program has put up its own.
        """
        with cls._lock:
            if context not in cls._all:
                cls._all[context] = cls(context)
            return cls._all[context]

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._context = context
        self._asked: dict[bytes, Ask] = {}
        self._refused, self._told_s = 0, -TOLD_EVERY_S
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        try:
            self._socket.bind(ENDPOINT)
        except zmq.ZMQError as error:
            self._socket.close()
            raise OutputError(
                "keys: this program has an authenticator of ZeroMQ already, and there can be only one"
            ) from error
        threading.Thread(target=self._run, name="keys", daemon=True).start()

    def ask(self, domain: bytes, ask: Ask) -> None:
        """For sockets of this ZAP domain, who may come in."""
        self._asked[domain] = ask

    def _run(self) -> None:
        try:
            while True:
                self._socket.send_multipart(self.answer(self._socket.recv_multipart()))
        except zmq.ContextTerminated:
            pass
        except zmq.ZMQError as error:
            log.error("keys: nobody new is let in any more: %s", error)
        with self._lock:
            self._all.pop(self._context, None)
        self._socket.close()

    def answer(self, parts: list[bytes]) -> list[bytes]:
        """The reply to a request; whatever comes or breaks, there is one, and in doubt it is no."""
        request = parts[1] if len(parts) > 1 else b""
        try:
            welcome = self._is_welcome(parts)
        except Exception as error:  # one fault must not lock out everybody
            log.error("keys: a client is not let in: %s: %s", type(error).__name__, error)
            welcome = False
        return [b"1.0", request, WELCOME if welcome else NOT_NOW, b"", b"", b""]

    def _is_welcome(self, parts: list[bytes]) -> bool:
        version, _, domain, address, _, mechanism, *credentials = parts
        if version != b"1.0" or mechanism != b"CURVE" or len(credentials) != 1 or len(credentials[0]) != 32:
            return False
        ask = self._asked.get(domain)
        welcome = ask is not None and ask(z85.encode(credentials[0]))
        if not welcome:
            self._tell(address.decode("ascii", "replace"), ask)
        return welcome

    def _tell(self, address: str, ask: Ask | None) -> None:
        """Say that somebody was refused, but not each time, for strangers could fill the log."""
        self._refused += 1
        if time.monotonic() - self._told_s >= TOLD_EVERY_S:
            often = f" ({self._refused} since the last time this was said)" if self._refused > 1 else ""
            log.warning("a client from %s was not let in: its key is not in %s%s", address, ask, often)
            self._refused, self._told_s = 0, time.monotonic()
