"""Planes in, a plane out: ranges, precision, devices, memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models import catalog, inference
from nodes.fusion.network import Network, find_device
from pipeline.errors import ConfigError, DeviceError
from pipeline.frame import ColorRange
from tests import media

CPU = torch.device("cpu")
RANGES: dict[ColorRange, tuple[int, int]] = {"full": (0, 255), "limited": (16, 235)}


@pytest.fixture
def network(weights: Path) -> Network:
    return Network("cadnif", "infrared", weights, "cpu", "fp32")


def by_hand(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Full-range planes through the bare network, in float, 0..255."""
    tensors = [torch.from_numpy(plane / 127.5 - 1).float()[None, None] for plane in (first, second)]
    with torch.inference_mode():
        fused = media.tiny_network().eval()(*tensors)
    values: np.ndarray = (fused[0, 0].numpy() + 1) * 127.5
    assert values.std() > 2  # or else the comparison says little
    return values


def luma(number: int = 0) -> np.ndarray:
    plane: np.ndarray = media.scene(number)[:, :, 1]
    return np.ascontiguousarray(plane)


def test_planes_are_fused_as_the_bare_network_does_it(network: Network) -> None:
    fused = network.fuse(media.heat(), luma(), ("full", "full"), "full")
    assert fused.dtype == np.uint8
    assert np.abs(fused - by_hand(media.heat(), luma())).max() <= 1


def test_limited_range_is_the_same_picture_on_another_scale(network: Network) -> None:
    levels = np.arange(16, 236, dtype=np.uint8).repeat(8).reshape(20, 88)
    heat = media.heat(size=(88, 20))
    full = (levels.astype(float) - 16) * 255 / 219
    expected = by_hand(heat, full) * 219 / 255 + 16
    assert np.abs(network.fuse(heat, levels, ("full", "limited"), "limited") - expected).max() <= 1


@pytest.mark.parametrize("color_range", RANGES)
def test_black_and_white_of_a_range_are_minus_one_and_one(network: Network, color_range: ColorRange) -> None:
    ends = network.upload(np.array([RANGES[color_range]], np.uint8), color_range)
    assert ends.shape == (1, 1, 1, 2)
    assert ends.flatten().tolist() == pytest.approx([-1, 1], abs=1e-6)


@pytest.mark.parametrize("color_range", RANGES)
def test_what_goes_up_comes_down_unchanged(network: Network, color_range: ColorRange) -> None:
    low, high = RANGES[color_range]
    levels = np.arange(low, high + 1, dtype=np.uint8)[None]
    assert np.array_equal(network.download(network.upload(levels, color_range), color_range), levels)


@pytest.mark.parametrize("color_range", RANGES)
def test_what_lies_beyond_the_range_is_clipped(network: Network, color_range: ColorRange) -> None:
    beyond = torch.tensor([[-1.5, 1.5]])[None, None]
    assert network.download(beyond, color_range).tolist() == [list(RANGES[color_range])]


def test_a_read_only_plane_is_taken_and_left_alone(network: Network) -> None:
    plane = luma()
    plane.flags.writeable = False
    before = plane.copy()
    network.fuse(plane, plane, ("full", "limited"), "full")
    assert np.array_equal(plane, before)


def test_still_input_gives_still_output(network: Network) -> None:
    first = network.fuse(media.heat(), luma(), ("full", "full"), "full")
    network.fuse(media.heat(9), luma(9), ("full", "full"), "full")
    assert np.array_equal(network.fuse(media.heat(), luma(), ("full", "full"), "full"), first)


def test_bf16_is_within_a_few_levels_of_fp32(weights: Path, network: Network) -> None:
    fast = Network("cadnif", "infrared", weights, "cpu", "bf16")
    assert fast.dtype == torch.bfloat16
    pair = media.heat(), luma()
    exact, near = (each.fuse(*pair, ("full", "full"), "full").astype(int) for each in (network, fast))
    assert np.abs(exact - near).max() <= 6
    assert np.abs(exact - near).mean() <= 1


def test_auto_takes_what_the_machine_does_best(weights: Path) -> None:
    network = Network("cadnif", "infrared", weights, "auto", "auto")
    assert network.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert network.precision == inference.best_precision(network.device)
    assert str(network).startswith(f"{network.precision} on ")


def test_warming_up_takes_any_size_and_changes_nothing(network: Network) -> None:
    before = network.fuse(media.heat(), luma(), ("full", "full"), "full")
    for size in ((1, 1), (33, 17), media.SIZE):
        network.warm_up(size)
    assert np.array_equal(network.fuse(media.heat(), luma(), ("full", "full"), "full"), before)


def test_an_unknown_model_is_a_mistake_of_the_config(weights: Path) -> None:
    with pytest.raises(ConfigError, match="'cadnife'"):
        Network("cadnife", "infrared", None, "cpu", "fp32")
    with pytest.raises(ConfigError, match="weights of 'cadnif', but 'other'"):
        Network("other", "infrared", weights, "cpu", "fp32")


def test_weights_that_did_not_come_with_us_are_a_mistake_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    with pytest.raises(ConfigError, match="no weights of 'cadnif' for task 'focus'"):
        Network("cadnif", "focus", None, "cpu", "fp32")


def test_a_cpu_has_no_fp16(weights: Path) -> None:
    with pytest.raises(DeviceError, match="'fp16'"):
        Network("cadnif", "infrared", weights, "cpu", "fp16")


@pytest.mark.parametrize(("build", "says"), [(None, "CPUs only"), ("13.0", "no driver or no GPU")])
def test_cuda_that_is_not_there_is_said_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, build: str | None, says: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", build)
    with pytest.raises(DeviceError, match=says):
        find_device("cuda")
    assert find_device("auto") == find_device("cpu") == CPU


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_a_failure_of_the_device(network: Network, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    network.module.forward = fail
    with pytest.raises(DeviceError, match="not enough memory to fuse frames of 64x48"):
        network.fuse(media.heat(), luma(), ("full", "full"), "full")


def test_a_fault_of_ours_is_not_taken_for_a_lack_of_memory(network: Network) -> None:
    with pytest.raises(RuntimeError, match="size"):
        network.fuse(media.heat(), luma()[:20], ("full", "full"), "full")
