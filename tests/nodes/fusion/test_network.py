"""Planes in, a plane out: ranges, precision, devices, memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models import catalog, inference
from models.steady import steady
from nodes.fusion.network import Network, Precision, find_device
from pipeline.errors import ConfigError, DeviceError
from pipeline.frame import ColorRange
from tests import media
from tests.conftest import WeightsOf

CPU = torch.device("cpu")
RANGES: dict[ColorRange, tuple[int, int]] = {"full": (0, 255), "limited": (16, 235)}


@pytest.fixture(params=[("cadnif", {}), ("realtime", {"symmetric": True})], ids=lambda param: param[0])
def bracket(request: pytest.FixtureRequest, weights_of: WeightsOf) -> tuple[Network, torch.nn.Module]:
    """A network that takes any number of planes, and the same one bare."""
    model, options = request.param
    network = Network(None, "exposure", weights_of(model, **options), "cpu", "fp32")
    return network, media.tiny_network(model, **options)


def by_hand(bare: torch.nn.Module, *planes: np.ndarray) -> np.ndarray:
    """Full-range planes through the bare network, in float, 0..255."""
    tensors = [torch.from_numpy(plane / 127.5 - 1).float()[None, None] for plane in planes]
    with torch.inference_mode():
        fused = bare.eval()(*tensors)
    values: np.ndarray = (fused[0, 0].numpy() + 1) * 127.5
    assert values.std() > 2  # or else the comparison says little
    return values


def luma(number: int = 0) -> np.ndarray:
    plane: np.ndarray = media.scene(number)[:, :, 1]
    return np.ascontiguousarray(plane)


def test_planes_are_fused_as_the_bare_network_does_it(network: Network, model: str) -> None:
    fused, state = network.fuse((media.heat(), luma()), ("full", "full"), "full")
    assert fused.dtype == np.uint8
    assert state is None
    assert np.abs(fused - by_hand(media.tiny_network(model), media.heat(), luma())).max() <= 1


@pytest.mark.parametrize("count", [2, 3, 4])
def test_as_many_planes_are_fused_as_come(bracket: tuple[Network, torch.nn.Module], count: int) -> None:
    network, bare = bracket
    planes = [media.heat(), luma(), luma(5), media.heat(20)][:count]
    network.warm_up(media.SIZE, count)
    fused, _ = network.fuse(planes, ["full"] * count, "full")
    assert np.abs(fused - by_hand(bare, *planes)).max() <= 1
    fewer = [*planes[:-1], np.full_like(planes[-1], 90)]
    assert np.abs(fused.astype(int) - network.fuse(fewer, ["full"] * count, "full")[0]).max() > 2, "the last counts too"


def test_each_plane_needs_its_range(network: Network) -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        network.fuse((media.heat(), luma()), ("full",), "full")


def test_limited_range_is_the_same_picture_on_another_scale(network: Network, model: str) -> None:
    levels = np.arange(16, 236, dtype=np.uint8).repeat(8).reshape(20, 88)
    heat = media.heat(size=(88, 20))
    full = (levels.astype(float) - 16) * 255 / 219
    expected = by_hand(media.tiny_network(model), heat, full) * 219 / 255 + 16
    assert np.abs(network.fuse((heat, levels), ("full", "limited"), "limited")[0] - expected).max() <= 1


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
    assert beyond.flatten().tolist() == [-1.5, 1.5], "what is downloaded is left as it is"


def test_a_read_only_plane_is_taken_and_left_alone(network: Network) -> None:
    plane = luma()
    plane.flags.writeable = False
    before = plane.copy()
    network.fuse((plane, plane), ("full", "limited"), "full")
    assert np.array_equal(plane, before)


def test_still_input_gives_still_output(network: Network) -> None:
    first, _ = network.fuse((media.heat(), luma()), ("full", "full"), "full")
    network.fuse((media.heat(9), luma(9)), ("full", "full"), "full")
    assert np.array_equal(network.fuse((media.heat(), luma()), ("full", "full"), "full")[0], first)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steadily_it_fuses_as_steady_says(weights_of: WeightsOf, count: int, precision: Precision) -> None:
    network = Network(None, "exposure", weights_of("realtime", symmetric=True), "cpu", precision)
    state = expected_state = None
    for number in range(3):
        planes = [media.heat(5 * number), luma(5 * number), luma(7)][:count]
        fused, state = network.fuse(planes, ["limited"] * count, "full", state, steadily=True)
        with torch.inference_mode():
            sources = [network.upload(plane, "limited") for plane in planes]
            expected, expected_state = steady(network.compute(*sources).float(), sources, expected_state)
        assert np.array_equal(fused, network.download(expected, "full"))
        assert state is not None
        assert {part.dtype for part in (state.fused, *state.sources)} == {torch.float32}
        alone, _ = network.fuse(planes, ["limited"] * count, "full")
        assert np.array_equal(fused, alone) == (number == 0), "the first frame has none before it"


def test_a_still_picture_in_between_leaves_the_state_of_the_video_alone(network: Network) -> None:
    pair = media.heat(), luma()
    _, state = network.fuse(pair, ("full", "full"), "full", steadily=True)
    still, after = network.fuse((luma(9), luma(3)), ("full", "full"), "full", state)
    assert after is state
    assert np.array_equal(still, network.fuse((luma(9), luma(3)), ("full", "full"), "full")[0])


def test_both_ways_are_those_of_one_at_a_time(network: Network) -> None:
    before = state = None
    for number in range(3):
        pair = media.heat(7 * number), luma(7 * number)
        steadied, plain, state = network.fuse_both_ways(*pair, state)
        alone, before = network.fuse(pair, ("full", "full"), "full", before, steadily=True)
        assert np.array_equal(steadied, alone)
        assert np.array_equal(plain, network.fuse_full_range("", *pair))


def test_planes_are_float32_whatever_the_network_computes_in(weights: Path) -> None:
    fast = Network(None, "infrared", weights, "cpu", "bf16")
    assert fast.upload(luma(), "full").dtype == torch.float32
    assert {parameter.dtype for parameter in fast.module.parameters()} == {torch.bfloat16}


def test_bf16_is_within_a_few_levels_of_fp32(weights: Path, network: Network) -> None:
    fast = Network(None, "infrared", weights, "cpu", "bf16")
    pair = media.heat(), luma()
    exact, near = (each.fuse(pair, ("full", "full"), "full")[0].astype(int) for each in (network, fast))
    assert np.abs(exact - near).max() <= 6
    assert np.abs(exact - near).mean() <= 1


def test_auto_takes_what_the_machine_does_best(weights: Path) -> None:
    network = Network(None, "infrared", weights, "auto", "auto")
    assert network.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert network.precision == inference.best_precision(network.device)
    assert str(network).startswith(f"{network.precision} on ")


def test_warming_up_takes_any_size_and_changes_nothing(network: Network) -> None:
    before, _ = network.fuse((media.heat(), luma()), ("full", "full"), "full")
    for size in ((1, 1), (33, 17), media.SIZE):
        network.warm_up(size)
    assert np.array_equal(network.fuse((media.heat(), luma()), ("full", "full"), "full")[0], before)


def test_the_model_is_that_of_the_weights_unless_it_is_named(weights: Path, model: str) -> None:
    for named in (None, model):
        assert Network(named, "infrared", weights, "cpu", "fp32").model == model


def test_without_weights_and_a_name_it_is_the_network_for_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    for name in media.NETWORKS:
        media.write_weights(tmp_path / f"{name}-medical.safetensors", "medical", name)
    assert Network(None, "medical", None, "cpu", "fp32").model == "realtime"
    assert Network("cadnif", "medical", None, "cpu", "fp32").model == "cadnif"


def test_an_unknown_model_is_a_mistake_of_the_config() -> None:
    with pytest.raises(ConfigError, match=r"'cadnife'; there is: cadnif, realtime\. Did you mean 'cadnif'\?"):
        Network("cadnife", "infrared", None, "cpu", "fp32")


@pytest.mark.parametrize("wanted", ["cadnif", "realtime", "other"])
def test_weights_of_another_model_are_a_mistake_of_the_config(weights: Path, model: str, wanted: str) -> None:
    if wanted == model:
        assert Network(wanted, "infrared", weights, "cpu", "fp32").model == wanted
        return
    with pytest.raises(ConfigError, match=f"weights of '{model}', but '{wanted}' is asked for"):
        Network(wanted, "infrared", weights, "cpu", "fp32")


@pytest.mark.parametrize(("model", "says"), [("cadnif", "cadnif"), ("realtime", "realtime"), (None, "realtime")])
def test_weights_that_did_not_come_with_us_are_a_mistake_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str | None, says: str
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    with pytest.raises(ConfigError, match=f"no weights of '{says}' for task 'focus'"):
        Network(model, "focus", None, "cpu", "fp32")


def test_a_cpu_has_no_fp16(weights: Path) -> None:
    with pytest.raises(DeviceError, match="'fp16'"):
        Network(None, "infrared", weights, "cpu", "fp16")


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
        network.fuse((media.heat(), luma()), ("full", "full"), "full")


def test_a_fault_of_ours_is_not_taken_for_a_lack_of_memory(network: Network) -> None:
    with pytest.raises(RuntimeError, match=r"size|shape"):
        network.fuse((media.heat(), luma()[:20]), ("full", "full"), "full")


def test_weights_for_another_task_are_told(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    Network(None, "focus", weights, "cpu", "fp32")
    assert "these weights are for task 'infrared', used for 'focus'" in caplog.text
    caplog.clear()
    Network(None, "infrared", weights, "cpu", "fp32")
    assert not caplog.text
