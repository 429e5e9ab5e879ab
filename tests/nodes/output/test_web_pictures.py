"""The pictures of output.web: newest ones only, encoded once, and only while somebody watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from nodes.output.web_views import Stretch
from pipeline.frame import PixelFormat
from tests.nodes.output.web_fakes import Watcher, get, picture, served, wait_for


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The suffix of each picture that is encoded."""
    real, calls = cv2.imencode, []

    def counted(suffix: str, *rest: Any) -> Any:
        calls.append(suffix)
        return real(suffix, *rest)

    monkeypatch.setattr(cv2, "imencode", counted)
    return calls


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def test_nothing_is_encoded_while_nobody_watches(encodings: list[str]) -> None:
    with served() as node:
        for number in range(50):
            node.process(fused=picture(number))
        get(node, "/api/state")
        with Watcher(node) as watcher:
            assert watcher.next().sequence == 49
        wait_for(lambda: node.gauges() == {"watchers": 0})
        for number in range(50, 100):
            node.process(fused=picture(number))
        assert get(node, "/api/state").json["views"]["fused"]["watchers"] == 0
    assert encodings == [".jpg"]


def test_a_picture_is_encoded_once_however_many_watch(encodings: list[str]) -> None:
    with served() as node:
        watchers = [Watcher(node) for _ in range(5)]
        assert node.gauges() == {"watchers": 5}
        for number in range(4):
            node.process(fused=picture(number))
            parts = [watcher.next() for watcher in watchers]
            assert {part.sequence for part in parts} == {number}
            assert len({part.jpeg for part in parts}) == 1
        for watcher in watchers:
            watcher.close()
    assert encodings == [".jpg"] * 4


def test_only_the_view_that_is_watched_is_encoded(encodings: list[str]) -> None:
    with served(views=("fused", "infrared")) as node, Watcher(node, "infrared") as watcher:
        for number in range(3):
            node.process(fused=picture(number), infrared=picture(10 + number))
            assert watcher.next().sequence == 10 + number
    assert len(encodings) == 3


def test_a_frame_that_is_held_is_not_sent_again(encodings: list[str]) -> None:
    held = picture(0)
    with served() as node, Watcher(node) as watcher:
        for _ in range(5):
            node.process(fused=held)
        node.process(fused=picture(1))
        sequences = [watcher.next().sequence]
        if sequences == [0]:
            sequences.append(watcher.next().sequence)
    assert sequences[-1] == 1
    assert len(encodings) == len(sequences)


def test_a_slow_client_gets_the_newest_picture_and_holds_up_nobody(encodings: list[str]) -> None:
    frames = 40
    with served() as node, Watcher(node) as fast, Watcher(node, buffer=4096) as slow:
        for number in range(frames):
            node.process(fused=picture(number, size=(320, 240)))
            assert fast.next().sequence == number  # so that the server had its time for both
        got = [slow.next().sequence]
        while got[-1] < frames - 1:
            got.append(slow.next().sequence)
    assert got == sorted(set(got))
    assert len(got) <= 4  # what was in the line when it stalled, and the newest
    assert encodings == [".jpg"] * frames


def test_a_client_that_leaves_is_forgotten_though_no_picture_comes() -> None:
    with served() as node:
        watcher = Watcher(node)
        assert node.gauges() == {"watchers": 1}
        watcher.close()
        wait_for(lambda: node.gauges() == {"watchers": 0})


def test_more_clients_than_the_machine_can_serve_are_told() -> None:
    with served() as node:
        watchers = [Watcher(node) for _ in range(32)]
        answer = get(node, "/stream/fused.mjpg")
        assert (answer.status, answer.text) == (503, "32 clients watch already; close one\n")
        for watcher in watchers:
            watcher.close()


@pytest.mark.parametrize("pixel_format", ["gray8", "gray16", "yuv420p", "bgr24"])
@pytest.mark.parametrize("size", [(64, 48), (33, 17), (1, 1)])
def test_every_format_and_size_is_shown(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    with served() as node, Watcher(node) as watcher:
        node.process(fused=picture(pixel_format=pixel_format, size=size))
        assert decoded(watcher.next().jpeg).shape[1::-1] == size
        for suffix, kind in (("png", "image/png"), ("jpg", "image/jpeg")):
            answer = get(node, f"/snapshot/fused.{suffix}")
            assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
            assert decoded(answer.body).shape[1::-1] == size


def test_size_and_format_may_change_while_it_is_watched() -> None:
    with served() as node, Watcher(node) as watcher:
        for number, pixel_format in enumerate(("gray8", "gray16", "bgr24", "yuv420p", "gray16")):
            frame = picture(number, pixel_format=pixel_format, size=(20 + 2 * number, 16))  # type: ignore[arg-type]
            node.process(fused=frame)
            assert decoded(watcher.next().jpeg).shape[1] == 20 + 2 * number


def test_colour_is_shown_as_it_is() -> None:
    data = np.full((48, 64, 3), (200, 80, 20), np.uint8)
    with served(quality=95) as node, Watcher(node) as watcher:
        node.process(fused=picture(pixel_format="bgr24", data=data))
        assert np.abs(decoded(watcher.next().jpeg).astype(int) - data).max() <= 4


def test_large_pictures_are_watched_smaller_and_saved_whole() -> None:
    with served(max_side=100) as node, Watcher(node) as watcher:
        node.process(fused=picture(size=(400, 100)))
        assert decoded(watcher.next().jpeg).shape == (25, 100)
        for suffix in ("png", "jpg"):
            assert decoded(get(node, f"/snapshot/fused.{suffix}").body).shape == (100, 400)


def test_a_better_quality_is_a_larger_picture() -> None:
    sizes = []
    for quality in (20, 95):
        with served(quality=quality) as node, Watcher(node) as watcher:
            node.process(fused=picture())
            sizes.append(len(watcher.next().jpeg))
    assert sizes[0] < sizes[1] / 2


def test_a_snapshot_keeps_sixteen_bits() -> None:
    frame = picture(pixel_format="gray16")
    with served() as node:
        node.process(fused=frame)
        answer = get(node, "/snapshot/fused.png")
    assert np.array_equal(decoded(answer.body), frame.data)
    assert answer.headers["Content-Disposition"].startswith('inline; filename="fused_')


def test_a_snapshot_before_the_first_frame_says_so() -> None:
    with served() as node:
        answer = get(node, "/snapshot/fused.png")
    assert (answer.status, answer.text) == (503, "no frame of fused came yet\n")


def slope(low: int, high: int) -> np.ndarray:
    return np.linspace(low, high, 64 * 48).reshape(48, 64).astype(np.uint16)


def shown(stretch: Callable[[np.ndarray, int], np.ndarray], counts: np.ndarray, at_s: float) -> tuple[int, int]:
    image = stretch(counts, round(at_s * 1e9))
    assert image.dtype == np.uint8
    return int(image.min()), int(image.max())


def test_sixteen_bits_fill_the_range_of_the_eye() -> None:
    assert shown(Stretch(), slope(30_000, 30_400), 0) == (0, 255)


def test_a_flat_scene_is_gray_and_not_all_noise() -> None:
    assert shown(Stretch(), np.full((48, 64), 30_000, np.uint16), 0) == (128, 128)
    low, high = shown(Stretch(), np.random.default_rng(0).integers(30_000, 30_004, (48, 64)).astype(np.uint16), 0)
    assert 100 < low < high < 156


def test_a_hot_object_does_not_make_the_picture_jump() -> None:
    stretch, scene = Stretch(), slope(30_000, 30_400)
    before = stretch(scene, 0)
    hot = scene.copy()
    hot[:12] = 40_000
    after = stretch(hot, 33_000_000)
    assert np.abs(after[12:].astype(int) - before[12:]).max() > 0  # it follows
    later = stretch(hot, 10_000_000_000)
    assert later[12:].max() < 30  # and after some seconds it is there
    assert after[12:].max() > 100
