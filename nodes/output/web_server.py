"""The server of output.web: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from contextlib import suppress

from aiohttp import web

from nodes.output.web_answers import Answers
from nodes.output.web_journal import gauges_of

log = logging.getLogger("streamfuse")

CLOSING_SECONDS = 0.2  # for answers on their way when the server stops


class Server:
    """Answers until stopped.

    Args:
        answers: what to answer.
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.failure: BaseException | None = None
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None

    def start(self, listener: socket.socket) -> None:
        """Answer what comes to a socket that is bound; returns when it does."""
        self._thread = threading.Thread(target=self._live, args=(listener,), name="web server", daemon=True)
        self._thread.start()
        self._started.wait()
        if self.failure is not None:
            raise self.failure

    def stop(self, patience_seconds: float = 1.0) -> bool:
        """Let go of all clients, and end; whether it did in time."""
        if self._thread is None or self._loop is None:
            return True
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(patience_seconds)
        return not self._thread.is_alive()

    # In the thread of the server:

    def _live(self, listener: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listener))
        except Exception as error:
            self.failure = error
            log.warning("the server of the page has ended: %s", error)
        finally:
            listener.close()
            self._started.set()

    async def _serve(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        for view in self.answers.views.values():
            view.serve_in(self._loop)
        # A client that leaves ends its answer at once, also where no picture comes that could not be sent to it.
        runner = web.AppRunner(
            self.answers.application(), access_log=None, handler_cancellation=True, shutdown_timeout=CLOSING_SECONDS
        )
        await runner.setup()
        await web.SockSite(runner, listener).start()
        sampling = asyncio.create_task(self._sample())
        self._started.set()
        try:
            await self._stop.wait()
        finally:
            sampling.cancel()
            self.answers.end_streams()
            await runner.cleanup()

    async def _sample(self) -> None:
        """A sample each second, whether or not somebody watches: who opens the page wants to see what was."""
        journal, told = self.answers.journal, False
        while True:
            await asyncio.sleep(1.0)
            try:
                gauges = gauges_of(self.answers.snapshot())
            except Exception as error:  # of a node that cannot say how it does: the rest is still worth a sample
                gauges = {}
                if not told:
                    log.warning("the page has no gauges: %s: %s", type(error).__name__, error)
                told = True
            journal.sample(time.monotonic_ns(), gauges)
