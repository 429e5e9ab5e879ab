"""The lane on a GPU: what overlaps, in which order frames come, and how long one waits for another: not at all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nodes.fusion.bench_lane import TimedCuda, frames_per_second, moments_of, overlap
from nodes.fusion.cuda import SLOTS, Lane
from nodes.fusion.cuda_device import Cuda
from nodes.fusion.gpu import OnDevice
from nodes.fusion.network import Network
from tests.cuda.nodes import PRECISION, SAME, furthest, moments, open_node, open_reference
from tests.nodes.fusion.test_on_device import all_of

pytestmark = pytest.mark.cuda

PATIENCE_S = 60


def test_uploads_work_and_downloads_overlap() -> None:
    network = Network("cadnif", "infrared", None, "cuda", PRECISION)  # type: ignore[arg-type]
    device = TimedCuda(network.device)
    on, given = OnDevice("infrared", network, device), moments_of((1280, 720))
    frames_per_second(on, given, 6)
    device.noting = True
    frames_per_second(on, given, 30)
    torch.cuda.synchronize()
    uploads, computed, downloads = device.spans()
    assert len(uploads) == len(computed) == len(downloads) == 30
    for number in range(30):  # no stage before the one before it has ended
        assert uploads[number][1] <= computed[number][0] + 1e-3
        assert computed[number][1] <= downloads[number][0] + 1e-3
    ahead = sum(uploads[n + 1][0] < computed[n][1] for n in range(29))
    beside = sum(downloads[n][0] < computed[n + 1][1] and computed[n + 1][0] < downloads[n][1] for n in range(29))
    assert ahead > 15, "the next frame is uploaded while one is computed"
    assert beside > 15, "the frame before is downloaded while one is computed"
    assert overlap(uploads, computed, downloads)["transfers_hidden"] > 0.5


def test_frames_come_in_order_and_each_is_its_own() -> None:
    def add(arrays: Any, out: Tensor, options: dict[str, Any]) -> None:
        torch.cuda._sleep(200_000 * (options["number"] % 3))  # some take longer
        out.copy_(arrays["a"].to(torch.int32).add(options["number"] % 50).clamp(0, 255).to(torch.uint8))

    lane = Lane(Cuda(torch.device("cuda")), add)
    given = [np.full((480, 640), number % 200, np.uint16) for number in range(300)]
    with ThreadPoolExecutor(1) as waiter:
        on_way: list[Any] = []
        for number, plane in enumerate(given):
            if number >= SLOTS:
                on_way[number - SLOTS].result()
            on_way.append(waiter.submit(lane.submit({"a": plane}, (480, 640), number=number).wait))
        made = [each.result() for each in on_way]
    for number, picture in enumerate(made):
        assert (picture == number % 200 + number % 50).all(), number


def test_what_was_given_may_be_written_over_at_once() -> None:
    def copy(arrays: Any, out: Tensor, _: dict[str, Any]) -> None:
        torch.cuda._sleep(2_000_000)
        out.copy_(arrays["a"])

    lane = Lane(Cuda(torch.device("cuda")), copy)
    plane = np.full((1080, 1920), 5, np.uint8)
    ticket = lane.submit({"a": plane}, (1080, 1920))
    plane[:] = 77
    assert (ticket.wait() == 5).all()


def test_a_lone_frame_needs_no_other_to_come_out() -> None:
    size = (320, 240)
    node = open_node(size, live=True)
    for moment in moments("infrared", size, count=4):
        begun = node.process(**moment)
        assert callable(begun)
        done = threading.Event()
        thread = threading.Thread(target=lambda begun=begun, done=done: (begun(), done.set()), daemon=True)
        thread.start()
        assert done.wait(PATIENCE_S)


def test_frames_of_changing_sizes_are_right() -> None:
    sizes = [(64, 48), (320, 240), (66, 50)]
    given = [moments("infrared", sizes[n % 3], count=n + 1)[n] for n in range(12)]
    node = open_node(sizes[0])
    assert furthest(all_of(node, given), all_of(open_reference(sizes[0]), given)) <= SAME


def test_three_nodes_in_one_process_do_not_disturb_one_another() -> None:
    sizes = [(320, 240), (160, 128), (65, 47)]
    models = ["realtime", "cadnif", "realtime"]
    given = [
        [moment for _ in range(3) for moment in moments("infrared", size, count=6)]
        + moments("infrared", (96, 64), count=4)  # all record anew, about at once
        for size in sizes
    ]

    def do(number: int) -> Any:
        return all_of(open_node(sizes[number], live=True, model=models[number]), given[number])

    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(do, range(3)))
    for number in range(3):
        wanted = all_of(open_reference(sizes[number], live=True, model=models[number]), given[number])
        assert furthest(made[number], wanted) <= SAME, models[number]
