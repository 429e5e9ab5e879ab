"""Streamfuse: receive what a pipeline publishes over ZeroMQ, in any program. Needs numpy and pyzmq alone.

    with streamfuse.subscribe("tcp://127.0.0.1:5555") as stream:
        for received in stream:
            print(received.frame, received.age_ms)

The other files are both ends of the link; the nodes `output.zmq` and `capture.zmq` are thin over them.
"""

from __future__ import annotations

from streamfuse.subscription import Received, Subscription

subscribe = Subscription
"""`subscribe(address, ...)` is the way in: see `Subscription` for what it takes."""

__all__ = ["Received", "Subscription", "subscribe"]
