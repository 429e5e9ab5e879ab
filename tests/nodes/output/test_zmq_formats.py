"""The formats of output.zmq: what JPEG and PNG keep of a frame, and what the receivers of other projects make of it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import imagezmq
import numpy as np
import pytest
import zmq

from nodes.output.zmq import ZmqOutput
from nodes.output.zmq_formats import encoded, foreign_header, stages_of, why_unfit
from nodes.pictures import image_of
from pipeline import wire
from pipeline.errors import ConfigError, OutputError
from pipeline.frame import Frame, PixelFormat
from streamfuse.decoding import decoded
from streamfuse.sockets import context
from tests.nodes.capture.media import bgr_of, flat_frame, make_frame
from tests.pipeline.fakes import PATIENCE

HEAD = wire.Head("fused", "0123456789abcdef", 0, wire.PRESENTATION, 0, 0)
TOLD = ("pixel_format", "size", "timestamp_ns", "sequence", "color_range", "color_matrix", "frame_rate", "name")
SIZES = [(64, 48), (33, 17), (1, 7)]


def through(frame: Frame, encoding: wire.Encoding, quality: int = 90) -> Frame:
    """A frame encoded, packed, unpacked and decoded."""
    after, payload = encoded(frame, encoding, quality)
    message = wire.unpack(wire.pack_frame(HEAD, after, wire.About(encoding, payload)))
    assert isinstance(message, wire.FrameMessage)
    return decoded(message.frame, message)


def told(frame: Frame) -> dict[str, Any]:
    return {key: getattr(frame, key) for key in TOLD}


# Our own format:


@pytest.mark.parametrize("pixel_format", ["gray8", "gray16", "bgr24"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("color_range", ["full", "limited"])
def test_png_keeps_every_number_and_what_it_means(pixel_format: PixelFormat, size: Any, color_range: Any) -> None:
    frame = make_frame(3, pixel_format, size, color_range=color_range, color_matrix="bt709", name="street 7")
    after = through(frame, "png")
    assert np.array_equal(after.data, frame.data)
    assert told(after) == told(frame)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_planes_become_colour_of_full_range_by_their_matrix(encoding: wire.Encoding) -> None:
    after = through(flat_frame(120, 90, 150, (41, 29), "limited", "bt709"), encoding, 100)
    assert (after.pixel_format, after.size, after.color_range, after.color_matrix) == (
        *("bgr24", (41, 29), "full"),
        "bt709",
    )
    assert np.abs(after.data - bgr_of(120, 90, 150, "limited", "bt709")).max() <= (1 if encoding == "png" else 3)


@pytest.mark.parametrize("pixel_format", ["gray8", "bgr24"])
def test_jpeg_is_close_and_the_closer_the_better_its_quality(pixel_format: PixelFormat) -> None:
    shape = (48, 64) if pixel_format == "gray8" else (48, 64, 3)
    slope = np.broadcast_to(np.linspace(20, 220, 64)[:, None] if len(shape) == 3 else np.linspace(20, 220, 64), shape)
    speckled = slope + np.random.default_rng(0).integers(-8, 8, (48, 64) + (1,) * (len(shape) - 2))
    frame = make_frame(0, pixel_format, data=speckled.astype(np.uint8), color_range="limited")
    errors = [np.abs(through(frame, "jpeg", q).data.astype(int) - frame.data).mean() for q in (20, 95)]
    assert errors[1] < 2 < errors[0] < 8
    assert told(through(frame, "jpeg")) == told(frame)


@pytest.mark.parametrize(("format", "legal"), [("streamfuse", "raw or png"), ("imagezmq", "raw")])
def test_what_jpeg_cannot_hold_is_refused_with_what_can(format: Any, legal: str) -> None:
    why = why_unfit(make_frame(0, "gray16"), format, "jpeg")
    assert why is not None
    assert "16 bits" in why
    assert why.endswith(f"set encoding: {legal}")
    assert why_unfit(make_frame(0, "gray16"), format, "raw") is None


def test_what_no_receiver_would_take_is_refused() -> None:
    long = make_frame(0, "gray8", (wire.MOST_SIDE + 1, 1))
    assert "is too large" in str(why_unfit(long, "streamfuse", "raw"))
    assert why_unfit(make_frame(0, "gray8", (wire.MOST_SIDE, 1)), "streamfuse", "raw") is None


def test_times_of_stages_are_those_of_the_nodes_on_the_way() -> None:
    def entry(p50_ms: float, source: bool = False, sink: bool = False) -> dict[str, Any]:
        return {"p50_ms": p50_ms, "source": source, "sink": sink}

    nodes = {"camera": entry(33.1, source=True), "fuse": entry(12.34567), "idle": entry(math.nan)}
    nodes |= {"publish": entry(1, sink=True), "n" * 300: entry(1)}
    assert stages_of(nodes, live=True) == {"fuse": 12.346}
    assert stages_of(nodes, live=False) == {"camera": 33.1, "fuse": 12.346}  # which has not to wait for what it reads
    assert len(stages_of({str(number): entry(1) for number in range(100)}, live=True)) == wire.MOST_ENTRIES


# Others':


@contextmanager
def publishing(format: str, encoding: str = "raw", **settings: Any) -> Iterator[ZmqOutput]:
    node = ZmqOutput("tcp://127.0.0.1:0", format=format, encoding=encoding, **settings)  # type: ignore[arg-type]
    node.name = "fused"
    node.open({})
    try:
        yield node
    finally:
        node.close()


@contextmanager
def hub_at(address: str) -> Iterator[Any]:
    """imagezmq's receiver, the real one."""
    hub = imagezmq.ImageHub(open_port=address, REQ_REP=False)
    hub.zmq_socket.rcvtimeo = round(PATIENCE * 1000)
    try:
        yield hub
    finally:
        hub.close()


@contextmanager
def plain_subscriber(address: str) -> Iterator[zmq.Socket[bytes]]:
    with context().socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.rcvtimeo = round(PATIENCE * 1000)
        socket.linger = 0
        socket.connect(address)
        yield socket


def publish_until_it_comes(node: ZmqOutput, socket: Any, frame: Frame) -> None:
    """Who subscribes is heard some time later; of the frames until then nobody gets any."""
    for attempt in itertools.count():
        assert attempt < 50 * PATIENCE, f"no message came: {node.gauges()}"
        node.process(frame)
        if socket.poll(20):
            return


def recv_array(socket: zmq.Socket[bytes]) -> np.ndarray:
    """The recipe of pyzmq's documentation: dtype and shape, then the array."""
    described: Any = socket.recv_json()
    return np.frombuffer(socket.recv(), dtype=described["dtype"]).reshape(described["shape"])


PLANES = flat_frame(120, 90, 150, (41, 29), "limited", "bt709")


@pytest.mark.parametrize("pixel_format", ["gray8", "gray16", "bgr24"])
def test_the_imagezmq_client_receives_frames_and_their_name(pixel_format: PixelFormat) -> None:
    frame = make_frame(0, pixel_format, (33, 17))
    with publishing("imagezmq", stream="cellar") as node, hub_at(node.address) as hub:
        publish_until_it_comes(node, hub.zmq_socket, frame)
        name, image = hub.recv_image()
        assert name == "cellar"
        assert image.dtype == frame.data.dtype
        assert np.array_equal(image, frame.data)


def test_the_imagezmq_client_receives_planes_as_colour() -> None:
    with publishing("imagezmq") as node, hub_at(node.address) as hub:
        publish_until_it_comes(node, hub.zmq_socket, PLANES)
        name, image = hub.recv_image()
        assert name == "fused"
        assert np.array_equal(image, image_of(PLANES))


def test_the_imagezmq_client_receives_jpeg() -> None:
    with publishing("imagezmq", "jpeg") as node, hub_at(node.address) as hub:
        publish_until_it_comes(node, hub.zmq_socket, PLANES)
        name, jpeg = hub.recv_jpg()
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert name == "fused"
        assert np.abs(image.astype(int) - image_of(PLANES)).max() <= 4


@pytest.mark.parametrize("frame", [PLANES, make_frame(1, "gray16"), make_frame(1, "gray8", color_range="limited")])
def test_the_recipe_for_arrays_receives_frames(frame: Frame) -> None:
    with publishing("send_array") as node, plain_subscriber(node.address) as socket:
        publish_until_it_comes(node, socket, frame)
        assert np.array_equal(recv_array(socket), image_of(frame))


def test_others_get_nothing_but_frames() -> None:
    """Neither stats nor a goodbye, of which they know nothing."""
    parts: list[list[bytes]] = []
    with publishing("send_array") as node, plain_subscriber(node.address) as socket:
        now_s = [node.now()]
        node.now = lambda: now_s[0]  # type: ignore[method-assign]
        publish_until_it_comes(node, socket, PLANES)
        now_s[0] += 100
        node.process(PLANES)
        node.close()
        while socket.poll(200):
            parts.append(socket.recv_multipart())
    assert {len(message) for message in parts} == {2}
    assert {json.loads(header)["shape"][2] for header, _ in parts} == {3}


def test_a_header_is_the_same_with_and_without_the_pixels() -> None:
    """It is what is looked at to know whether anybody listens, before anything is encoded."""
    assert json.loads(foreign_header(PLANES, "imagezmq", "jpeg", "a")) == {"msg": "a"}
    assert json.loads(foreign_header(PLANES, "send_array", "raw", "a")) == {"dtype": "uint8", "shape": [29, 41, 3]}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "imagezmq", "encoding": "png"}, "legal is raw or jpeg"),
        ({"format": "send_array", "encoding": "jpeg"}, "legal is raw"),
        ({"format": "imagezmq", "delivery": "lossless"}, "set format: streamfuse"),
    ],
)
def test_what_another_format_has_not_is_a_mistake(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ZmqOutput("tcp://127.0.0.1:5555", **settings)


def test_a_first_frame_that_cannot_go_out_is_told_even_if_nobody_listens() -> None:
    with publishing("streamfuse", "jpeg") as node, pytest.raises(OutputError, match="Node 'fused': jpeg cannot hold"):
        node.process(make_frame(0, "gray16"))
