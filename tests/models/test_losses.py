"""What the losses want, shown on pictures whose best fusion is known."""

from __future__ import annotations

import pytest
import torch

from models import losses, metrics


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(2, 1, 40, 40) * 2 - 1, torch.rand(2, 1, 40, 40) * 2 - 1


def test_the_papers_loss_is_least_for_the_average(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    average = sum(pair) / 2
    best = losses.paper(average, *pair)
    assert best < losses.paper(torch.maximum(*pair), *pair)
    assert best < losses.paper(average + 0.01 * torch.randn_like(average), *pair)


def test_the_papers_loss_weighs_as_published() -> None:
    zero, one = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    assert losses.paper(one, zero, zero).item() == pytest.approx(200)  # 100 x (1 + 1), flat: no Laplacian
    dot = zero.clone()
    dot[..., 4, 4] = 1
    # MSE 1/64 each; Laplacian of a dot: 16 + 4 over the 36 places without padding.
    assert losses.paper(dot, zero, zero).item() == pytest.approx(200 * (1 / 64 + 3 * 20 / 36), rel=1e-5)


def test_intensity_wants_the_brighter_source(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert losses.intensity(torch.maximum(*pair), *pair) == 0


def test_gradient_wants_the_stronger_edge_with_its_direction() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    flat = torch.zeros_like(ramp)
    assert losses.gradient(ramp, ramp, flat) == 0
    assert losses.gradient(ramp, flat, ramp) == 0
    assert losses.gradient(ramp + 0.3, flat, ramp) == pytest.approx(0, abs=1e-6)
    assert losses.gradient(-ramp, ramp, flat) > losses.gradient(flat, ramp, flat) > 0


def test_gradient_is_in_units_a_pixel() -> None:
    ramp = torch.arange(16.0).expand(1, 1, 16, 16) * 0.1
    gx, gy = losses.gradients(ramp)
    torch.testing.assert_close(gx, torch.full_like(gx, 0.1))
    assert gy.abs().max() < 1e-6


def test_ssim_of_a_picture_with_itself_is_one(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert losses.ssim(pair[0], pair[0]).item() == pytest.approx(1)
    assert losses.ssim(pair[0], -pair[0]).item() < 0.2  # the same means, turned about


def test_ssim_agrees_with_the_metric() -> None:
    torch.manual_seed(1)
    first, second = (torch.randint(0, 256, (48, 64), dtype=torch.uint8) for _ in range(2))
    planes = [x.float()[None, None] / 127.5 - 1 for x in (first, second)]
    metric = metrics.structural_similarity(first.numpy(), first.numpy(), second.numpy()) / 2
    assert losses.ssim(*planes).item() == pytest.approx(metric, abs=1e-4)


def test_correlation_is_nought_for_the_sum_of_both(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert losses.correlation(pair[0] + pair[1], *pair).item() == pytest.approx(0, abs=1e-4)
    assert losses.correlation(-pair[0] - pair[1], *pair).item() > 1


def test_constant_pictures_have_finite_losses_and_gradients() -> None:
    first, second = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    fused = torch.full((1, 1, 32, 32), 0.5, requires_grad=True)
    terms = losses.weighted(dict.fromkeys(losses.TERMS, 1.0), fused, first, second)
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert fused.grad is not None
    assert torch.isfinite(fused.grad).all()


def test_terms_are_weighted_and_computed_in_float32(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    fused = pair[0].bfloat16()
    terms = losses.weighted({"intensity": 5.0}, fused, *pair)
    assert terms["intensity"].dtype == torch.float32
    assert terms["intensity"] == 5 * losses.intensity(fused.float(), *pair)
