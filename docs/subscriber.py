"""Raw frames as they are now, from a publisher on this host: python subscriber.py ADDRESS STREAM. Format: wire.md."""

import json
import sys
import threading
import time

import numpy as np
import zmq

socket, newest, news = zmq.Context().socket(zmq.SUB), [], threading.Condition()
socket.subscribe(f"{sys.argv[2]}/frame")
socket.connect(sys.argv[1])


def receive() -> None:  # at once, all that comes: frames that wait in a socket grow old
    while True:
        _, header, payload = socket.recv_multipart(copy=False)
        with news:
            newest[:] = [(json.loads(header.bytes), payload)]
            news.notify()


threading.Thread(target=receive, daemon=True).start()
while True:
    with news:
        news.wait_for(lambda: newest)
        header, payload = newest.pop()
    pixels = np.frombuffer(payload, np.dtype(header["dtype"]).newbyteorder("<")).reshape(header["shape"])
    print(header["sequence"], pixels.shape, pixels.sum(), time.monotonic_ns() - header["timestamp_ns"], flush=True)
