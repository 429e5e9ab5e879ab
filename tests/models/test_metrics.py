"""The metrics against the golden values of the shared data, and against what must hold on any image."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from models import metrics
from models.metrics import Grey, hot_parts
from tests.models.greys import ABSENT, FUSIONS, SHARED, flat, noise

GOLDEN = SHARED / "reference" / "metrics.json"
ROWS = json.loads(GOLDEN.read_text())["rows"] if GOLDEN.exists() else []
PAIR_METRICS = (
    metrics.mutual_information,
    metrics.correlation,
    metrics.sum_of_correlations_of_differences,
    metrics.visual_fidelity,
    metrics.structural_similarity,
    metrics.multiscale_structural_similarity,
    metrics.edge_preservation,
    metrics.edge_artefacts,
    metrics.exposure_similarity,
)


def golden_name(row: dict[str, str]) -> str:
    return f"{Path(row['a']).parent.name}-{Path(row['a']).stem}-{row['fused']}"


# Golden values


@pytest.mark.skipif(not ROWS, reason=ABSENT)
@pytest.mark.parametrize("row", ROWS, ids=golden_name)
def test_each_metric_meets_its_golden_value(
    row: dict[str, str | float], record_property: Callable[[str, object], None]
) -> None:
    # Grey by the decoder: colour first and BGR2GRAY after differs by a level here and there, and misses the 1e-4.
    a, b = (np.asarray(cv2.imread(str(SHARED / str(row[key])), cv2.IMREAD_GRAYSCALE), np.uint8) for key in ("a", "b"))
    fused = FUSIONS[str(row["fused"])](a, b)
    if "MEFSSIM" in row:
        values = {"MEFSSIM": metrics.exposure_similarity(a, b, fused)}
    else:
        values = metrics.evaluate_pair(a, b, fused, "infrared")
    expected = {key: float(value) for key, value in row.items() if key not in ("a", "b", "fused")}
    errors = {key: abs(values[key] / value - 1) for key, value in expected.items()}
    worst = max(errors, key=lambda key: errors[key])
    record_property("worst_relative_error", f"{worst} {errors[worst]:.1e}")
    assert errors[worst] < 1e-4, {key: f"{error:.1e}" for key, error in errors.items()}


# What must hold on any image


@pytest.mark.parametrize(
    ("image", "bits"),
    [
        (flat(7), 0.0),
        (np.array([[0, 255]] * 4, np.uint8), 1.0),
        (np.array([[1, 1, 2, 3]], np.uint8), 1.5),
        (np.arange(256, dtype=np.uint8).reshape(16, 16), 8.0),
    ],
)
def test_entropy_of_a_known_histogram_is_known(image: Grey, bits: float) -> None:
    assert metrics.entropy(image) == pytest.approx(bits, abs=1e-12)


def test_a_chequerboard_has_the_contrast_and_frequency_that_arithmetic_gives() -> None:
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 100).astype(np.uint8)
    assert metrics.standard_deviation(board) == pytest.approx(50)
    assert metrics.spatial_frequency(board) == pytest.approx(100 * math.sqrt(2))


def test_a_ramp_has_one_gradient_everywhere() -> None:
    ramp = np.tile(np.arange(0, 60, 3, dtype=np.uint8), (5, 1))
    assert metrics.average_gradient(ramp) == pytest.approx(3 / math.sqrt(2))
    assert metrics.spatial_frequency(ramp) == pytest.approx(3)


def test_three_equal_images_reach_the_top_of_every_scale() -> None:
    image = noise(1)
    values = metrics.evaluate_pair(image, image, image, "exposure")
    assert values["MI"] == pytest.approx(2 * math.log(2) * values["EN"])  # information with itself is its entropy
    assert values["CC"] == pytest.approx(1)
    assert values["SCD"] == 0  # the difference is a constant
    assert values["VIF"] == pytest.approx(2, abs=1e-6)
    assert values["SSIM"] == pytest.approx(2)
    assert values["MSSSIM"] == pytest.approx(1)
    assert values["MEF-SSIM"] == pytest.approx(1, abs=1e-6)
    assert values["Qabf"] == pytest.approx(0.9994 * 0.9879 / (1 + math.exp(-22 * 0.2)), abs=1e-4)
    assert values["Nabf"] == 0


@pytest.mark.parametrize("metric", PAIR_METRICS, ids=lambda metric: metric.__name__)
def test_swapping_the_sources_changes_nothing(metric: Callable[[Grey, Grey, Grey], float]) -> None:
    a, b = noise(1), noise(2)
    fused = FUSIONS["mix"](a, b)
    assert metric(a, b, fused) == pytest.approx(metric(b, a, fused), rel=1e-9)


def test_the_sum_of_both_sources_explains_all_differences() -> None:
    a, b = noise(1) // 2, noise(2) // 2
    assert metrics.sum_of_correlations_of_differences(a, b, a + b) == pytest.approx(2)


def test_a_negative_correlates_at_minus_one() -> None:
    image = noise(3)
    assert metrics.correlation(image, image, 255 - image) == pytest.approx(-1)


def test_a_blurred_fusion_keeps_less_than_a_sharp_one() -> None:
    a, b = noise(1), noise(2)
    sharp = FUSIONS["average"](a, b)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 3), np.uint8)
    for metric in (metrics.visual_fidelity, metrics.edge_preservation, metrics.exposure_similarity):
        assert metric(a, b, blurred) < metric(a, b, sharp), metric.__name__


def test_edges_that_no_source_has_count_as_artefacts() -> None:
    a, b = noise(1), noise(2)
    fused = FUSIONS["average"](a, b)
    noisy = np.clip(fused + np.random.default_rng(0).normal(0, 40, fused.shape), 0, 255).astype(np.uint8)
    assert metrics.edge_artefacts(a, b, noisy) > 10 * metrics.edge_artefacts(a, b, fused)


def test_ssim_agrees_with_one_window_written_out() -> None:
    a, fused = noise(1, (11, 11)), noise(2, (11, 11))
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    mean_a, mean_f = np.average(a, weights=weights), np.average(fused, weights=weights)
    deviation_a, deviation_f = a - mean_a, fused - mean_f
    covariance = np.average(deviation_a * deviation_f, weights=weights)
    variances = np.average(deviation_a**2 + deviation_f**2, weights=weights)
    luminance = (2 * mean_a * mean_f + 2.55**2) / (mean_a**2 + mean_f**2 + 2.55**2)
    expected = luminance * (2 * covariance + 7.65**2) / (variances + 7.65**2)
    assert metrics.structural_similarity(a, a, fused) == pytest.approx(2 * expected)


def patch_structure(patches: np.ndarray) -> float:
    """One window of MEF-SSIM from its (3, 121) pixels: both exposures, then the fused image."""
    first, second, fused = (patch - patch.mean() for patch in patches)
    norms = np.linalg.norm(first), np.linalg.norm(second)
    agreement = np.linalg.norm(first + second) / sum(norms)
    power = min(math.tan(math.pi / 2 * agreement), 10)
    direction = first / norms[0] * norms[0] ** power + second / norms[1] * norms[1] ** power
    wanted = direction / np.linalg.norm(direction) * max(norms)
    c = 7.65**2
    return float((2 * np.mean(wanted * fused) + c) / (np.mean(wanted**2) + np.mean(fused**2) + c))


def test_mef_ssim_agrees_with_its_patches_written_out() -> None:
    a, b = noise(1, (44, 46)), noise(2, (44, 46))
    images = np.stack([a, b, FUSIONS["mix"](a, b)])
    expected, weights, planes = 1.0, np.array([0.0448, 0.2856, 0.3001]), images.astype(np.float64)
    for weight in weights / weights.sum():
        windows = np.lib.stride_tricks.sliding_window_view(planes, (11, 11), axis=(1, 2))
        patches = windows.transpose(1, 2, 0, 3, 4).reshape(-1, 3, 121)
        expected *= float(np.mean([patch_structure(patch) for patch in patches])) ** weight
        even = planes[:, : planes.shape[1] // 2 * 2, : planes.shape[2] // 2 * 2]
        planes = (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
    assert metrics.exposure_similarity(*images) == pytest.approx(expected, rel=1e-6)


def test_a_scale_of_opposite_structure_is_floored_not_complex() -> None:
    image = noise(4)
    assert 0 < metrics.multiscale_structural_similarity(image, image, 255 - image) < 1e-3
    assert 0 < metrics.exposure_similarity(image, image, 255 - image) < 1e-3


@pytest.mark.parametrize("task", metrics.TASKS)
def test_each_task_reports_its_columns_in_order(task: str) -> None:
    left_out = {"infrared": {"MEF-SSIM"}, "exposure": {"Hot"}}.get(task, {"MEF-SSIM", "Hot"})
    values = metrics.evaluate_pair(noise(1), noise(2), noise(3), task)
    assert list(values) == [name for name in metrics.COLUMNS if name not in left_out]
    assert all(type(value) is float for value in values.values())


# Degenerate images


SHAPES = [(1, 1), (1, 7), (7, 1), (3, 3), (10, 300), (11, 11), (40, 41), (41, 41), (44, 44), (176, 177)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("levels", [(0, 0, 0), (255, 255, 255), (10, 250, 77), (None, None, 199), (77, None, None)])
def test_tiny_and_constant_images_give_a_number_or_nan(shape: tuple[int, int], levels: tuple[int | None, ...]) -> None:
    a, b, fused = (
        noise(seed)[: shape[0], : shape[1]] if level is None else flat(level, shape)
        for seed, level in enumerate(levels)
    )
    with np.errstate(all="raise", under="ignore"):
        infrared = metrics.evaluate_pair(a, b, fused, "infrared")
        exposure = metrics.evaluate_pair(a, b, fused, "exposure")
    smaller = min(shape)
    assert math.isnan(infrared["SSIM"]) == (smaller < 11)
    assert math.isnan(infrared["MSSSIM"]) == (smaller < 176)
    assert math.isnan(exposure["MEF-SSIM"]) == (smaller < 44)
    assert math.isnan(infrared["VIF"]) == (smaller < 41 or levels[0] is not None)
    assert not any(math.isnan(infrared[name]) for name in ("EN", "SD", "SF", "AG", "MI", "CC", "SCD"))
    assert not any(math.isinf(value) for value in (infrared | exposure).values())


def test_black_sources_have_no_edges_to_keep() -> None:
    black = flat(0)
    assert math.isnan(metrics.edge_preservation(black, black, noise(1)))
    assert math.isnan(metrics.edge_artefacts(black, black, noise(1)))


def test_a_constant_has_no_correlation_and_no_information() -> None:
    constant, image = flat(90), noise(1)
    assert metrics.correlation(image, image, constant) == 0
    assert metrics.mutual_information(image, image, constant) == pytest.approx(0, abs=1e-12)


# Errors


@pytest.mark.parametrize("metric", PAIR_METRICS, ids=lambda metric: metric.__name__)
def test_a_shape_that_differs_is_named(metric: Callable[[Grey, Grey, Grey], float]) -> None:
    with pytest.raises(ValueError, match=r"a is \(3, 4\), b is \(3, 4\), fused is \(4, 3\); legal is one shape"):
        metric(flat(1, (3, 4)), flat(1, (3, 4)), flat(1, (4, 3)))


@pytest.mark.parametrize(
    ("image", "came"),
    [
        (np.zeros((3, 4), np.float32), r"\(3, 4\) float32"),
        (np.zeros((3, 4, 3), np.uint8), r"\(3, 4, 3\) uint8"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\) uint8"),
        (None, "NoneType"),
    ],
)
def test_an_image_that_is_not_8_bit_grey_is_named(image: Grey, came: str) -> None:
    for metric in (
        metrics.entropy,
        metrics.standard_deviation,
        metrics.spatial_frequency,
        metrics.average_gradient,
        lambda fused: metrics.correlation(flat(1), flat(1), fused),
        lambda fused: hot_parts(flat(1), fused),
    ):
        with pytest.raises(ValueError, match=rf"fused is {came}; legal is an \(H, W\) uint8 numpy array"):
            metric(image)


def test_an_unknown_task_is_answered_with_the_legal_ones() -> None:
    with pytest.raises(ValueError, match=r"task is 'thermal'; legal are infrared, exposure, focus, medical"):
        metrics.evaluate_pair(flat(1), flat(1), flat(1), "thermal")


# Ranks


def test_mean_rank_counts_from_the_best_and_turns_round_where_lower_is_better() -> None:
    rows = {"good": {"EN": 7.0, "Nabf": 0.01}, "bad": {"EN": 6.0, "Nabf": 0.2}, "mixed": {"EN": 8.0, "Nabf": 0.3}}
    assert metrics.mean_rank(rows, ["EN", "Nabf"]) == {"good": 1.5, "bad": 2.5, "mixed": 2.0}


def test_ties_share_their_average_rank() -> None:
    rows = {name: {"EN": value} for name, value in zip("abcd", (7.0, 6.0, 6.0, 5.0), strict=True)}
    assert metrics.mean_rank(rows, ["EN"]) == {"a": 1.0, "b": 2.5, "c": 2.5, "d": 4.0}


def test_an_undefined_metric_ranks_last_in_either_direction() -> None:
    rows = {"known": {"EN": 1.0, "Nabf": 9.0}, "undefined": {"EN": math.nan, "Nabf": math.nan}}
    assert metrics.mean_rank(rows, ["EN", "Nabf"]) == {"known": 1.0, "undefined": 2.0}


def test_no_rows_have_no_ranks() -> None:
    assert metrics.mean_rank({}) == {}


def test_ranking_by_what_is_not_there_says_so() -> None:
    with pytest.raises(ValueError, match=r"columns are \['PSNR'\]; legal is one or more of EN, SD"):
        metrics.mean_rank({"a": {"PSNR": 1.0}}, ["PSNR"])
    with pytest.raises(ValueError, match=r"row 'a' lacks SD; legal"):
        metrics.mean_rank({"a": {"EN": 1.0}}, ["EN", "SD"])
