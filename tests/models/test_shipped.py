"""The weights that come with the project, on sources that real sensors deliver on a bad day."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import catalog, inference

SHIPPED = sorted(catalog.WEIGHTS.glob("*.safetensors"))
CPU = torch.device("cpu")
GREY = 2 / 255  # one grey level on the scale of -1..1

pytestmark = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


@pytest.fixture
def network(path: Path) -> nn.Module:
    return inference.prepare(catalog.load(path), CPU, "fp32")


@torch.inference_mode()
def fused(network: nn.Module, *planes: Tensor) -> Tensor:
    picture: Tensor = network(*planes)
    assert torch.isfinite(picture).all()
    assert picture.shape == planes[0].shape
    return picture


def scene(height: int = 96, width: int = 128, seed: int = 0) -> Tensor:
    """Something smooth with edges in it, (1, 1, H, W) in -1..1."""
    torch.manual_seed(seed)
    coarse = nn.functional.interpolate(torch.rand(1, 1, 6, 8), size=(height, width), mode="bicubic")
    return torch.where(coarse > 0.6, coarse, coarse - 0.5).clamp(0, 1) * 2 - 1


def level(value: float, height: int = 96, width: int = 128) -> Tensor:
    return torch.full((1, 1, height, width), value)


def test_the_same_sources_give_the_same_picture_bit_for_bit(path: Path, network: nn.Module) -> None:
    planes = scene(), scene(seed=1)
    first = fused(network, *planes)
    fused(network, scene(33, 57, 2), scene(33, 57, 3))
    assert torch.equal(fused(network, *planes), first)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (96, 170), (61, 131), (8, 3840), (2160, 8)], ids=str)
def test_any_size_will_do(path: Path, network: nn.Module, size: tuple[int, int]) -> None:
    assert fused(network, scene(*size), scene(*size, seed=1)).shape == (1, 1, *size)


def test_a_batch_is_its_pictures_one_by_one(path: Path, network: nn.Module) -> None:
    first, second = (torch.cat([scene(seed=seed), scene(seed=seed + 2)]) for seed in (0, 1))
    apart = torch.cat([fused(network, first[i : i + 1], second[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(fused(network, first, second), apart, atol=1e-4, rtol=0)


@pytest.mark.parametrize("first", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("second", [-1.0, 0.0, 1.0])
def test_flat_sources_give_a_flat_picture(path: Path, network: nn.Module, first: float, second: float) -> None:
    inside = fused(network, level(first), level(second))[..., 32:-32, 32:-32]
    # Each of the 4x4 pixels of a cell has a weight of its own: between black and white a little remains to be seen.
    assert inside.max() - inside.min() <= 12 * GREY
    if path.stem.endswith(("infrared", "medical")):
        slack = 40 * GREY  # contrast is worked on, levels hardly
        assert min(first, second) - slack <= inside.mean() <= max(first, second) + slack


@pytest.mark.parametrize("dead", [-1.0, 1.0], ids=["black", "white"])
def test_a_dead_infrared_leaves_the_visible_picture(path: Path, network: nn.Module, dead: float) -> None:
    if path.stem.endswith("infrared"):
        alive = scene()
        picture = fused(network, level(dead), alive).flatten()
        together = torch.corrcoef(torch.stack([picture, alive.flatten()]))[0, 1]
        assert together > (0.9 if dead < 0 else 0.6)


def test_a_bright_spot_has_no_halo_beyond_what_a_network_sees_at_once(path: Path, network: nn.Module) -> None:
    dark, ground = level(-0.6, 256, 256), level(-0.2, 256, 256)
    spot = dark.clone()
    spot[..., 112:144, 112:144] = 1
    change = (fused(network, spot, ground) - fused(network, dark, ground)).abs()
    change[..., 48:208, 48:208] = 0  # 64 px around it
    assert change.max() <= 6 * GREY  # what attention over the whole picture may do
