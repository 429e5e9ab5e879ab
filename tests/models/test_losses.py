"""What the losses want, shown on pictures whose best fusion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models import losses, metrics


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, twice: nothing in common."""
    torch.manual_seed(0)
    return torch.rand(2, 1, 40, 40) * 2 - 1, torch.rand(2, 1, 40, 40) * 2 - 1


def picture(seed: int, size: tuple[int, int] = (72, 88)) -> np.ndarray:
    """Smooth shapes with some detail, all grey levels from 0 to 255: (H, W) uint8."""
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.random(size), (0, 0), 2.5) + 0.4 * cv2.GaussianBlur(rng.random(size), (0, 0), 0.8)
    return np.asarray(np.rint(255 * (field - field.min()) / np.ptp(field)), np.uint8)


def plane(grey: np.ndarray) -> torch.Tensor:
    """(H, W) uint8 to (1, 1, H, W) in -1..1."""
    return torch.from_numpy(grey).float()[None, None] / 127.5 - 1


def flat(value: float, size: int = 64) -> torch.Tensor:
    return torch.full((1, 1, size, size), value)


def fusions() -> dict[str, np.ndarray]:
    """Of pictures 1 and 2; from good to bad by the edges kept."""
    a, b = picture(1), picture(2)
    return {
        "first": a,
        "maximum": np.maximum(a, b),
        "average": (a // 2 + b // 2).astype(np.uint8),
        "blurred": np.asarray(cv2.GaussianBlur(a, (0, 0), 2), np.uint8),
    }


def test_the_papers_loss_is_least_for_the_average(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    average = (pair[0] + pair[1]) / 2
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


def test_intensity_wants_the_brightest_source(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert losses.intensity(torch.maximum(*pair), *pair) == 0
    assert losses.intensity(torch.maximum(*pair), *pair, flat(0.5, 40)) > 0
    assert losses.intensity(torch.maximum(*pair).clamp(min=0.5), *pair, flat(0.5, 40)) == 0


def test_gradient_wants_the_strongest_edge_with_its_direction() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    flat = torch.zeros_like(ramp)
    assert losses.gradient(ramp, ramp, flat) == 0
    assert losses.gradient(ramp, flat, ramp) == 0
    assert losses.gradient(ramp, flat, ramp, -ramp / 2) == 0
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


def test_structure_is_the_mean_over_the_sources(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    similar = losses.ssim(*pair)
    torch.testing.assert_close(losses.structure(pair[0], *pair, pair[0]), 1 - (2 + similar) / 3)


def test_correlation_is_nought_for_the_sum_of_both(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert losses.correlation(pair[0] + pair[1], *pair).item() == pytest.approx(0, abs=1e-4)
    assert losses.correlation(-pair[0] - pair[1], *pair).item() > 1


@pytest.mark.parametrize("name", fusions())
def test_fidelity_agrees_with_the_metric(name: str) -> None:
    a, b, fused = picture(1), picture(2), fusions()[name]
    metric = metrics.visual_fidelity(a, b, fused) / 2
    assert losses.fidelity(plane(fused), plane(a), plane(b)).item() == pytest.approx(1 - metric, abs=1e-3)


def test_fidelity_is_nought_for_the_picture_itself_and_less_for_more_contrast() -> None:
    source = plane(picture(1)) / 2
    assert losses.fidelity(source, source).item() == pytest.approx(0, abs=1e-3)
    assert losses.fidelity(1.5 * source, source) < -0.05
    assert losses.fidelity(0.5 * source, source) > 0.1
    assert losses.fidelity(flat(0), flat(1)) == 1, "of a flat source nothing is there to be seen"


@pytest.mark.parametrize("levels", [(0, 255), (40, 120)])
@pytest.mark.parametrize("name", fusions())
def test_exposure_agrees_with_the_metric(name: str, levels: tuple[int, int]) -> None:
    low, high = levels
    a, b, fused = (low + picture(1) // (256 // (high - low)), picture(2), fusions()[name])
    a = a.astype(np.uint8)
    metric = metrics.exposure_similarity(a, b, fused)
    assert losses.exposure(plane(fused), plane(a), plane(b)).item() == pytest.approx(1 - metric, abs=1e-4)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_exposure_wants_the_one_of_three_that_shows_something(place: int) -> None:
    shown = plane(picture(1)) / 2
    sources = [torch.full_like(shown, level) for level in (-1, 0, 1)]
    sources[place] = shown
    assert losses.exposure(shown, *sources) < 0.01
    assert losses.exposure(shown + 0.2, *sources) < 0.01, "whatever its brightness"
    assert losses.exposure(torch.stack(sources).mean(0), *sources) > 0.2, (
        "not the average, which has a third of its contrast"
    )
    assert losses.exposure(torch.zeros_like(shown), *sources) > 0.5


def test_exposedness_wants_the_source_that_is_neither_dark_nor_bright() -> None:
    dark, grey, white = flat(-0.9), flat(0.0), flat(1.0)
    # The weights are normal in the distance from grey on the scale of 0..1, with a deviation of 0.2.
    weights = np.exp(-np.square([-0.45, 0, 0.5]) / (2 * 0.2**2))
    wanted = float(weights @ [-0.9, 0, 1] / weights.sum())
    assert losses.exposedness(flat(wanted), dark, grey, white).item() == pytest.approx(0, abs=1e-6)
    assert losses.exposedness(flat(wanted + 0.1), dark, grey, white).item() == pytest.approx(0.1, abs=1e-6)
    assert abs(wanted) < 0.05


def test_exposedness_knows_nothing_of_detail() -> None:
    detail = flat(0.0)
    detail[..., ::2] += 0.3
    detail[..., 1::2] -= 0.3
    assert losses.exposedness(detail, flat(0.0), flat(0.0)).item() == pytest.approx(0, abs=1e-6)


def test_edges_ranks_as_the_metric_does() -> None:
    a, b = picture(1), picture(2)
    ours = {name: 1 - losses.edges(plane(fused), plane(a), plane(b)).item() for name, fused in fusions().items()}
    theirs = {name: metrics.edge_preservation(a, b, fused) for name, fused in fusions().items()}
    assert sorted(ours, key=ours.__getitem__) == sorted(theirs, key=theirs.__getitem__)
    for name, value in ours.items():  # which pads with zeros, and knows two orientations at either end of its scale
        assert value == pytest.approx(theirs[name], abs=0.1)


def test_edges_are_kept_by_the_picture_itself_whatever_its_brightness() -> None:
    source = plane(picture(1)) / 2
    assert losses.edges(source, source).item() == pytest.approx(0, abs=0.02)
    assert losses.edges(source + 0.3, source).item() == pytest.approx(0, abs=0.02)
    assert losses.edges(source / 2, source) > 0.4
    assert losses.edges(source.flip(3), source) > 0.4


def test_nothing_is_invented_by_a_weighted_mean_but_by_noise_and_by_more_contrast() -> None:
    a, b = plane(picture(1)), plane(picture(2))
    for fused in (a, b, (a + b) / 2, 0.3 * a + 0.7 * b, torch.zeros_like(a)):
        assert losses.invented(fused, a, b).item() == pytest.approx(0, abs=1e-5)
    torch.manual_seed(0)
    assert losses.invented(a + 0.1 * torch.randn_like(a), a, b) > 0.005
    assert losses.invented(2 * a, a, a) > 0.01


def test_contrast_wants_what_stands_out_and_not_its_texture() -> None:
    grey, body = flat(0.0), flat(0.0)
    body[..., 16:40, 16:40] = 0.8
    assert losses.contrast(body, body, grey) == 0
    assert losses.contrast(body - 0.1, grey, body).item() == pytest.approx(0, abs=1e-5)
    assert losses.contrast(grey, body, grey) > losses.contrast(body / 2, body, grey) > 0.05
    texture = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 0.5 - 0.25
    assert losses.contrast(grey + texture, grey, grey).item() == pytest.approx(0, abs=1e-6)


def test_hot_wants_a_warm_body_to_stand_out_as_in_the_infrared() -> None:
    grey, body = flat(0.0, 80), flat(-0.5, 80)
    body[..., 36:44, 36:44] = 0.8
    assert losses.hot(body, body, grey) == 0
    assert losses.hot(body + 0.2, body, grey).item() == pytest.approx(0, abs=1e-6)
    assert losses.hot(2 * body, body, grey) == 0, "it may stand out more"
    gone, half = losses.hot(grey, body, grey), losses.hot(body / 2, body, grey)
    assert half.item() == pytest.approx(gone.item() / 2, rel=1e-4)
    assert gone > 0.5


def test_what_stands_out_by_less_than_twenty_grey_levels_is_not_hot() -> None:
    for levels, lost in ((18, False), (40, True)):
        body = flat(0.0, 80)
        body[..., 38:42, 38:42] = levels / 127.5
        assert (losses.hot(flat(0.0, 80), body, flat(0.0, 80)) > 0) == lost


def test_blurred_is_a_separable_convolution_of_whole_windows() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 1, 23, 31, requires_grad=True)
    window = losses.gaussian(7, 1.5)
    ours, theirs = losses.blurred(x, window), F.conv2d(x, torch.outer(window, window)[None, None])
    assert ours.shape == (2, 1, 17, 25)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((weights * y).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_a_band_matrix_has_the_window_in_each_row() -> None:
    assert losses.band(torch.tensor([1.0, 2.0, 3.0]), 5).tolist() == [
        [1, 2, 3, 0, 0],
        [0, 1, 2, 3, 0],
        [0, 0, 1, 2, 3],
    ]


def test_moments_are_those_of_each_window() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 1, 9, 11)
    found = [moment.flatten() for moment in losses.moments(x, y, torch.full((3,), 1 / 3))]
    in_x, in_y = (F.unfold(z, 3)[0] for z in (x, y))  # (9, windows)
    torch.testing.assert_close(found[0], in_x.mean(0))
    torch.testing.assert_close(found[1], in_y.mean(0))
    torch.testing.assert_close(found[2], in_x.var(0, correction=0))
    torch.testing.assert_close(found[3], in_y.var(0, correction=0))
    torch.testing.assert_close(found[4], ((in_x - in_x.mean(0)) * (in_y - in_y.mean(0))).mean(0))


def test_a_change_is_explained_by_that_of_any_source(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(1)
    later = tuple(torch.rand(2, 1, 40, 40) * 2 - 1 for _ in pair)
    averages = (pair[0] + pair[1]) / 2, (later[0] + later[1]) / 2
    for before, after in ((pair[0], later[0]), (pair[1], later[1]), averages):
        assert losses.unexplained(before, after, pair, later).item() == pytest.approx(0, abs=1e-6)
    lit = tuple(x + change for x, change in zip(pair, (0.2, -0.1), strict=True))
    largest = losses.unexplained(torch.maximum(*pair), torch.maximum(*lit), pair, lit)
    assert largest.item() == pytest.approx(0, abs=1e-6)


def test_a_change_with_still_sources_or_beyond_theirs_is_flicker(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    fused = pair[0]
    assert losses.unexplained(fused, fused, pair, pair) == 0
    assert losses.unexplained(fused, fused + 0.1, pair, pair).item() == pytest.approx(0.1, abs=1e-5)
    lit = tuple(x + 0.04 for x in pair)
    assert losses.unexplained(fused, fused - 0.1, pair, lit).item() == pytest.approx(0.06, abs=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_wrong_choices_are_least_for_the_right_one_and_finite_for_the_worst(weight: float) -> None:
    right = flat(1.0)
    right[..., :32] = 0.0
    best, worst = losses.wrong_choices(right, right), losses.wrong_choices(1 - right, right)
    assert 0 <= best < 1e-3
    assert 5 < worst < 20
    given = flat(weight).bfloat16().requires_grad_()
    loss = losses.wrong_choices(given, right)
    (slope,) = torch.autograd.grad(loss, given)
    assert loss.dtype == torch.float32
    assert best < loss < worst
    assert torch.isfinite(slope).all()


def test_a_choice_without_an_opinion_costs_one_bit() -> None:
    assert losses.wrong_choices(flat(0.5), flat(1.0)).item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("name", sorted(losses.TERMS.keys() - {"correlation"}))
def test_the_wanted_picture_is_best_where_it_stands_in_the_place_of_every_source(name: str) -> None:
    torch.manual_seed(0)
    wanted = 0.8 * plane(picture(1))
    term = losses.TERMS[name]
    best = term(wanted, wanted, wanted)
    for worse in (0.7 * wanted, F.avg_pool2d(wanted, 5, 1, 2), wanted + 0.1 * torch.randn_like(wanted), -wanted):
        assert best <= term(worse, wanted, wanted) + 1e-4


@pytest.mark.parametrize("name", sorted(losses.TERMS.keys() - {"hot"}))
def test_all_terms_but_hot_take_the_sources_in_any_order(name: str) -> None:
    fused, *sources = (plane(picture(seed)) for seed in range(4))
    first, turned = (losses.TERMS[name](fused, *order) for order in (sources, sources[::-1]))
    torch.testing.assert_close(first, turned, atol=1e-5, rtol=1e-5)
    assert first != losses.TERMS[name](fused, *sources[:2]), "the third counts"


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", losses.TERMS)
def test_constant_pictures_have_finite_losses_and_gradients(name: str, count: int) -> None:
    for levels in ((0.0, 1.0, -1.0), (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)):
        for level in (0.5, -1.0, 1.0):
            fused = flat(level).requires_grad_()
            loss = losses.TERMS[name](fused, *(flat(value) for value in levels[:count]))
            (slope,) = torch.autograd.grad(loss, fused)
            assert loss.shape == ()
            assert torch.isfinite(loss)
            assert torch.isfinite(slope).all()


@pytest.mark.parametrize("name", losses.TERMS)
def test_every_term_teaches_something(name: str) -> None:
    fused, *sources = (plane(picture(seed)) for seed in range(3))
    fused.requires_grad_()
    (slope,) = torch.autograd.grad(losses.TERMS[name](fused, *sources), fused)
    assert torch.isfinite(slope).all()
    assert slope.abs().max() > 1e-6


def test_terms_are_weighted_and_computed_in_float32(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    fused = pair[0].bfloat16()
    terms = losses.weighted({"intensity": 5.0}, fused, *pair)
    assert terms["intensity"].dtype == torch.float32
    assert terms["intensity"] == 5 * losses.intensity(fused.float(), *pair)
