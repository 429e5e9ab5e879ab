"""Image-fusion metrics: one pure function each, on 8-bit grey images, as the float64 figures the field prints.

`a` and `b` are the sources (for infrared: `a` is the infrared one), `fused` is the result; all are (H, W) uint8 of one
shape. Where a metric is undefined (an image smaller than its window, black sources without an edge) it is NaN.
A correlation with a constant image is 0.
"""

from collections.abc import Iterable, Mapping

import cv2
import numpy as np

from models.metrics_video import Grey as Grey
from models.metrics_video import Plane, check, planes, ratio
from models.metrics_video import UnexplainedChange as UnexplainedChange
from models.metrics_video import hot_contrast as hot_contrast
from models.metrics_video import hot_parts as hot_parts
from models.metrics_video import unexplained_change as unexplained_change

_NAMES = ("EN", "SD", "SF", "AG", "MI", "CC", "SCD", "VIF", "SSIM", "MSSSIM", "Qabf", "Nabf", "MEF-SSIM", "Hot")
COLUMNS = {name: name != "Nabf" for name in _NAMES}  # name -> whether higher is better
RANKED_COLUMNS = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM", "Nabf", "Hot")  # of the published mean rank
TASKS = ("infrared", "exposure", "focus", "medical")

_SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # of MS-SSIM, finest first
_MEF_WEIGHTS = _SCALE_WEIGHTS[:3] / _SCALE_WEIGHTS[:3].sum()
_SCALE_FLOOR = 1e-6  # a scale's mean can be negative, which has no fractional power
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # of SSIM and MEF-SSIM: they rule where a window is flat
_SSIM_WINDOW = np.asarray(cv2.getGaussianKernel(11, 1.5, cv2.CV_64F), np.float64)
_MEF_WINDOW = np.full((11, 1), 1 / 11)
_VIF_SMALLEST = 41  # px: below it the fourth scale is smaller than its window
_TINY = 1e-10  # grey levels (squared): no natural window varies so little, so it changes no figure


def entropy(fused: Grey) -> float:
    """EN, 0 to 8 bit, higher is better: of the 256-bin histogram of (H, W) uint8 (Roberts et al. 2008)."""
    check(fused=fused)
    counts = np.bincount(fused.ravel())
    share = counts[counts > 0] / fused.size
    return float(np.sum(share * np.log2(1 / share)))


def standard_deviation(fused: Grey) -> float:
    """SD, 0 to 127.5 grey levels, higher is better: the population's, of (H, W) uint8 (Rao 1997)."""
    check(fused=fused)
    return float(np.std(fused, dtype=np.float64))


def spatial_frequency(fused: Grey) -> float:
    """SF, 0 to 361 grey levels, higher is better: root of the mean squared horizontal plus vertical first difference
    of (H, W) uint8 (Eskicioglu and Fisher 1995). A direction one pixel wide counts 0.
    """
    check(fused=fused)
    steps = (np.diff(fused.astype(np.float64), axis=axis) for axis in (0, 1))
    return float(np.sqrt(sum(np.mean(step**2) for step in steps if step.size)))


def average_gradient(fused: Grey) -> float:
    """AG, 0 to 255 grey levels, higher is better: mean of sqrt((gx^2 + gy^2) / 2) of (H, W) uint8 (Cui et al. 2015).

    Central differences, one-sided at the borders. A direction one pixel wide counts 0.
    """
    check(fused=fused)
    plane = fused.astype(np.float64)
    energy = np.zeros_like(plane)
    for axis in (0, 1):
        if plane.shape[axis] > 1:
            energy += np.gradient(plane, axis=axis) ** 2
    return float(np.mean(np.sqrt(energy / 2)))


def mutual_information(a: Grey, b: Grey, fused: Grey) -> float:
    """MI, 0 to 11.1 nat, higher is better: `a` with `fused` plus `b` with `fused`, (H, W) uint8 (Qu et al. 2002)."""
    check(a=a, b=b, fused=fused)
    return sum(_information(source, fused) for source in (a, b))


def correlation(a: Grey, b: Grey, fused: Grey) -> float:
    """CC, -1 to 1, higher is better: mean correlation of `a` and `b` with `fused`, (H, W) uint8 (Deshmukh 2010)."""
    first, second, result = planes(a, b, fused)
    return (_correlation(first, result) + _correlation(second, result)) / 2


def sum_of_correlations_of_differences(a: Grey, b: Grey, fused: Grey) -> float:
    """SCD, -2 to 2, higher is better: corr(a, fused - b) + corr(b, fused - a), (H, W) uint8 (Aslantas 2015)."""
    first, second, result = planes(a, b, fused)
    return _correlation(first, result - second) + _correlation(second, result - first)


def visual_fidelity(a: Grey, b: Grey, fused: Grey) -> float:
    """VIF, 0 up, about 2 where all three are equal, higher is better: pixel-domain, `fused` against `a` plus against
    `b`, (H, W) uint8 (Sheikh and Bovik 2006). NaN below 41 px or for a constant source.
    """
    first, second, result = planes(a, b, fused)
    return _fidelity(first, result) + _fidelity(second, result)


def structural_similarity(a: Grey, b: Grey, fused: Grey) -> float:
    """SSIM, -2 to 2, higher is better: `fused` with `a` plus with `b`, (H, W) uint8, NaN below 11 px (Wang 2004)."""
    first, second, result = planes(a, b, fused)
    return _similarity(first, result)[0] + _similarity(second, result)[0]


def multiscale_structural_similarity(a: Grey, b: Grey, fused: Grey) -> float:
    """MSSSIM, 0 to 1, higher is better: mean of `fused` with `a` and with `b` over five scales, (H, W) uint8
    (Wang, Simoncelli and Bovik 2003). NaN below 176 px.
    """
    first, second, result = planes(a, b, fused)
    return (_multiscale_similarity(first, result) + _multiscale_similarity(second, result)) / 2


def edge_preservation(a: Grey, b: Grey, fused: Grey) -> float:
    """Qabf, 0 to 1, higher is better: share of the sources' edges that `fused` kept, weighted by their strength,
    (H, W) uint8 (Xydeas and Petrovic 2000). NaN where neither source has an edge.
    """
    edges_a, edges_b, edges_fused = map(_edges, planes(a, b, fused))
    kept = _kept(edges_a, edges_fused) * edges_a[0] + _kept(edges_b, edges_fused) * edges_b[0]
    return ratio(np.sum(kept), np.sum(edges_a[0] + edges_b[0]))


def edge_artefacts(a: Grey, b: Grey, fused: Grey) -> float:
    """Nabf, 0 to 1, lower is better: the edge share lost to edges stronger than both sources', (H, W) uint8
    (Petrovic and Xydeas 2005, as weighted by Kumar 2013). NaN where neither source has an edge.
    """
    edges_a, edges_b, edges_fused = map(_edges, planes(a, b, fused))
    invented = edges_fused[0] > np.maximum(edges_a[0], edges_b[0])
    lost = (1 - _kept(edges_a, edges_fused)) * edges_a[0] + (1 - _kept(edges_b, edges_fused)) * edges_b[0]
    return ratio(np.sum(lost[invented]), np.sum(edges_a[0] + edges_b[0]))


def exposure_similarity(a: Grey, b: Grey, fused: Grey) -> float:
    """MEF-SSIM, 0 to 1, higher is better: structure of `fused` against the best of both exposures over three scales,
    (H, W) uint8 (Ma, Zeng and Wang 2015). NaN below 44 px.
    """
    scale = planes(a, b, fused)
    if min(a.shape) < 11 * 2 ** (len(_MEF_WEIGHTS) - 1):
        return float("nan")
    value = 1.0
    for weight in _MEF_WEIGHTS:
        value *= max(_exposure_structure(*scale), _SCALE_FLOOR) ** weight
        scale = [_halve(plane) for plane in scale]
    return float(value)


def evaluate_pair(a: Grey, b: Grey, fused: Grey, task: str) -> dict[str, float]:
    """Every metric that `task` is judged by, in the order of COLUMNS, of one pair of (H, W) uint8 and its fusion.

    Hot ("infrared" only) is this image's own: of a set it is `hot_contrast` over all `hot_parts`, not their mean.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; legal are {', '.join(TASKS)}")
    values = {
        "EN": entropy(fused),
        "SD": standard_deviation(fused),
        "SF": spatial_frequency(fused),
        "AG": average_gradient(fused),
        "MI": mutual_information(a, b, fused),
        "CC": correlation(a, b, fused),
        "SCD": sum_of_correlations_of_differences(a, b, fused),
        "VIF": visual_fidelity(a, b, fused),
        "SSIM": structural_similarity(a, b, fused),
        "MSSSIM": multiscale_structural_similarity(a, b, fused),
        "Qabf": edge_preservation(a, b, fused),
        "Nabf": edge_artefacts(a, b, fused),
    }
    if task == "exposure":
        values["MEF-SSIM"] = exposure_similarity(a, b, fused)
    if task == "infrared":
        values["Hot"] = hot_contrast(hot_parts(a, fused))
    return values


def mean_rank(rows: Mapping[str, Mapping[str, float]], columns: Iterable[str] = RANKED_COLUMNS) -> dict[str, float]:
    """Mean rank of each method over `columns`, from 1 for the best; ties share their average rank, NaN ranks last.

    `rows` maps a method's name to its metrics; COLUMNS says in which direction each is better.
    """
    columns = list(columns)
    if not columns or not set(columns) <= set(COLUMNS):
        raise ValueError(f"columns are {columns}; legal is one or more of {', '.join(COLUMNS)}")
    for method, row in rows.items():
        if missing := [column for column in columns if column not in row]:
            raise ValueError(f"row {method!r} lacks {', '.join(missing)}; legal is a row with every ranked column")
    signed = [[row[column] if COLUMNS[column] else -row[column] for column in columns] for row in rows.values()]
    scores = np.nan_to_num(np.reshape(signed, (len(rows), len(columns))), nan=-np.inf)
    better = np.sum(scores[None] > scores[:, None], axis=1)  # (methods, columns)
    equal = np.sum(scores[None] == scores[:, None], axis=1)
    return dict(zip(rows, np.mean(better + (equal + 1) / 2, axis=1).tolist(), strict=True))


def _information(source: Grey, fused: Grey) -> float:
    pairs = source.ravel().astype(np.intp) * 256 + fused.ravel()
    joint = np.bincount(pairs, minlength=256 * 256).reshape(256, 256) / source.size
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return max(0.0, float(np.sum(joint[seen] * np.log(joint[seen] / apart[seen]))))


def _correlation(first: Plane, second: Plane) -> float:
    first, second = first - first.mean(), second - second.mean()
    spread = np.sqrt(np.sum(first**2) * np.sum(second**2))
    return float(np.sum(first * second) / spread) if spread else 0.0


def _local_mean(plane: Plane, window: Plane) -> Plane:
    """Weighted mean in the window (k, 1), separable; (H, W) -> (H - k + 1, W - k + 1): only whole windows."""
    margin = len(window) // 2
    return np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, window, window)[margin:-margin, margin:-margin])


def _local_moments(first: Plane, second: Plane, window: Plane) -> tuple[Plane, Plane, Plane, Plane, Plane]:
    """Both means, both variances and the covariance in each whole window."""
    mean_1, mean_2 = _local_mean(first, window), _local_mean(second, window)
    variance_1 = np.maximum(_local_mean(first**2, window) - mean_1**2, 0)
    variance_2 = np.maximum(_local_mean(second**2, window) - mean_2**2, 0)
    return mean_1, mean_2, variance_1, variance_2, _local_mean(first * second, window) - mean_1 * mean_2


def _halve(plane: Plane) -> Plane:
    """Mean of each 2x2 block; an odd last row or column is left out."""
    height, width = plane.shape[0] // 2, plane.shape[1] // 2
    return np.asarray(plane[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3)))


def _similarity(first: Plane, second: Plane) -> tuple[float, float]:
    """Mean SSIM, and the mean of its contrast and structure part alone."""
    if min(first.shape) < 11:
        return float("nan"), float("nan")
    mean_1, mean_2, variance_1, variance_2, covariance = _local_moments(first, second, _SSIM_WINDOW)
    structure = (2 * covariance + _C2) / (variance_1 + variance_2 + _C2)
    luminance = (2 * mean_1 * mean_2 + _C1) / (mean_1**2 + mean_2**2 + _C1)
    return float(np.mean(luminance * structure)), float(np.mean(structure))


def _multiscale_similarity(first: Plane, second: Plane) -> float:
    last = len(_SCALE_WEIGHTS) - 1
    if min(first.shape) < 11 * 2**last:
        return float("nan")
    value = 1.0
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        whole, structure = _similarity(first, second)
        value *= max(whole if scale == last else structure, _SCALE_FLOOR) ** weight
        first, second = _halve(first), _halve(second)
    return float(value)


def _fidelity(reference: Plane, image: Plane) -> float:
    if min(reference.shape) < _VIF_SMALLEST:
        return float("nan")
    # VIF knows variances only; without the mean a constant image has none, not some rounding error.
    reference, image = reference - reference.mean(), image - image.mean()
    passed = available = 0.0
    for size in (17, 9, 5, 3):
        window = np.asarray(cv2.getGaussianKernel(size, size / 5, cv2.CV_64F), np.float64)
        if size < 17:  # the first scale is the image itself
            reference, image = (_local_mean(plane, window)[::2, ::2] for plane in (reference, image))
        _, _, variance, variance_image, covariance = _local_moments(reference, image, window)
        gain = np.where(variance < _TINY, 0, np.maximum(covariance, 0) / (variance + _TINY))
        noise = np.maximum(variance_image - gain * covariance, _TINY)
        passed += np.sum(np.log10(1 + gain**2 * variance / (noise + 2)))
        available += np.sum(np.log10(1 + variance / 2))
    return ratio(passed, available)


def _edges(plane: Plane) -> tuple[Plane, Plane]:
    """Sobel strength and orientation, zero outside the image."""
    # A true convolution flips the kernel. The sign matters, as gx = 0 is pi/2 whatever its neighbours tend to.
    gx = -cv2.Sobel(plane, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_CONSTANT)
    gy = cv2.Sobel(plane, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_CONSTANT)
    slope = np.divide(gy, gx, out=np.full_like(gx, np.inf), where=gx != 0)
    return np.hypot(gx, gy), np.arctan(slope)


def _kept(source: tuple[Plane, Plane], fused: tuple[Plane, Plane]) -> Plane:
    """How far each of the source's edges survives in the fused image, 0 to 1."""
    smaller, larger = np.minimum(source[0], fused[0]), np.maximum(source[0], fused[0])
    # Equal strengths give the strength itself, not 1: the figures to compare with are computed so.
    strength = np.divide(smaller, larger, out=fused[0].copy(), where=smaller != larger)
    alignment = 1 - np.abs(source[1] - fused[1]) / (np.pi / 2)
    kept: Plane = 0.9994 / (1 + np.exp(-15 * (strength - 0.5))) * 0.9879 / (1 + np.exp(-22 * (alignment - 0.8)))
    return kept


def _exposure_structure(a: Plane, b: Plane, fused: Plane) -> float:
    """One scale of MEF-SSIM: `fused` against the patch wanted from both exposures."""
    _, _, variance_a, variance_b, covariance_ab = _local_moments(a, b, _MEF_WINDOW)
    _, _, _, variance_fused, covariance_a = _local_moments(a, fused, _MEF_WINDOW)
    covariance_b = _local_moments(b, fused, _MEF_WINDOW)[-1]
    spread_a, spread_b = np.sqrt(variance_a) + _TINY, np.sqrt(variance_b) + _TINY
    # R: how far both patches point the same way; p: the more they do, the more the stronger one counts.
    together = np.sqrt(np.maximum(variance_a + variance_b + 2 * covariance_ab, 0)) + _TINY
    exponent = np.minimum(np.tan(np.pi / 2 * np.minimum(together / (spread_a + spread_b), 1)), 10)
    weight_a = spread_a**exponent + np.finfo(np.float64).eps
    weight_b = spread_b**exponent + np.finfo(np.float64).eps
    # The wanted patch is x * a + y * b without its mean, stretched to the stronger contrast of the two.
    x, y = weight_a / (weight_a + weight_b) / spread_a, weight_b / (weight_a + weight_b) / spread_b
    length = np.sqrt(np.maximum(x**2 * variance_a + y**2 * variance_b + 2 * x * y * covariance_ab, 0))
    wanted = np.maximum(spread_a, spread_b) * (length > 0)
    shared = wanted * (x * covariance_a + y * covariance_b) / np.where(length > 0, length, 1)
    return float(np.mean((2 * shared + _C2) / (wanted**2 + variance_fused + _C2)))
