"""What a fused picture is trained to be: unsupervised losses of (fused, source, source, ...).

Where the wanted picture is known, it stands in the place of every source. All planes are (B, 1, H, W) in -1..1, each
loss a scalar tensor. Convolutions of the losses use no padding, so that the border of a crop, where nobody knows what
lies beyond, teaches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce

import torch
from torch import Tensor
from torch.nn import functional as F

LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel.to(x)[None, None])


def paper(fused: Tensor, *sources: Tensor) -> Tensor:
    """The paper's loss (sec. III, as in the released script): 100 (MSE to each source + 3 MSE of Laplacians to each).

    Its minimum is the average of the sources; kept for comparison.
    """
    total = fused.new_zeros(())
    for source in sources:
        total = total + F.mse_loss(fused, source)
        total = total + 3 * F.mse_loss(filtered(fused, LAPLACIAN), filtered(source, LAPLACIAN))
    return 100 * total


def intensity(fused: Tensor, *sources: Tensor) -> Tensor:
    """Mean distance to the brightest of the sources: what is hot or lit stays so (SeAFusion, PIAFusion and others)."""
    return F.l1_loss(fused, brightest(sources))


def brightest(sources: Sequence[Tensor]) -> Tensor:
    """The largest value at each pixel."""
    return reduce(torch.maximum, sources)


def gradient(fused: Tensor, *sources: Tensor) -> Tensor:
    """Mean distance of the Sobel gradient to that of the source where it is strongest, with its direction."""
    gx, gy = gradients(sources[0])
    for source in sources[1:]:
        hx, hy = gradients(source)
        stronger = gx.square() + gy.square() >= hx.square() + hy.square()
        gx, gy = torch.where(stronger, gx, hx), torch.where(stronger, gy, hy)
    fx, fy = gradients(fused)
    return F.l1_loss(fx, gx) + F.l1_loss(fy, gy)


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical Sobel derivatives, in units of x per pixel."""
    across, down = x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
    gx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    gy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return gx / 8, gy / 8


def structure(fused: Tensor, *sources: Tensor) -> Tensor:
    """1 - mean SSIM to the sources (Wang et al. 2004: Gaussian of 11 px, sigma 1.5)."""
    return 1 - torch.stack([ssim(fused, source) for source in sources]).mean()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean structural similarity of planes in -1..1, in -1..1; 1 for equal ones.

    It compares local means as a ratio, which only makes sense above zero: the planes are brought to 0..1 first.
    """
    x, y = (x + 1) / 2, (y + 1) / 2
    c1, c2 = 0.01**2, 0.03**2
    mx, my, vx, vy, cov = moments(x, y, gaussian(11, 1.5).to(x))
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()


def gaussian(size: int, sigma: float) -> Tensor:
    x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    window = torch.exp(-x.square() / (2 * sigma * sigma))
    return window / window.sum()


def correlation(fused: Tensor, *sources: Tensor) -> Tensor:
    """1 - half the sum of correlations of differences (SCD, Aslantas and Bendes 2015).

    What the fused picture has beyond the other sources should look like this one.
    """
    total = fused.new_zeros(len(fused))
    for i, source in enumerate(sources):
        others = torch.stack([other for j, other in enumerate(sources) if j != i]).mean(0)
        total = total + pearson(fused - others, source)
    return 1 - total.mean() / len(sources)


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation of each picture of a batch, (B,); 0 where one is constant."""
    x, y = (z.flatten(1) - z.flatten(1).mean(1, keepdim=True) for z in (x, y))
    return (x * y).sum(1) / (x.square().sum(1) * y.square().sum(1) + 1e-6).sqrt()


def fidelity(fused: Tensor, *sources: Tensor) -> Tensor:
    """1 - the mean visual information fidelity to the sources (Sheikh and Bovik 2006): 0 where all are fully there."""
    return 1 - torch.stack([vif(fused, source) for source in sources]).mean()


def vif(image: Tensor, reference: Tensor) -> Tensor:
    """Pixel-domain visual information fidelity of planes in -1..1: a scalar from 0 up, 1 for equal ones. H, W >= 41."""
    image, reference = 127.5 * image, 127.5 * reference  # the noise of the model of seeing is in grey levels
    passed, available = image.new_zeros(()), image.new_zeros(())
    for size in (17, 9, 5, 3):
        window = gaussian(size, size / 5).to(image)
        if size < 17:
            image, reference = (blurred(x, window)[..., ::2, ::2] for x in (image, reference))
        _, _, variance, variance_image, covariance = moments(reference, image, window)
        gain = covariance.clamp(min=0) / (variance + 1e-3)
        noise = (variance_image - gain * covariance).clamp(min=0)
        passed = passed + torch.log1p(gain.square() * variance / (noise + 2)).sum()
        available = available + torch.log1p(variance / 2).sum()
    return passed / available.clamp(min=1e-3)


def blurred(x: Tensor, window: Tensor) -> Tensor:
    """Convolved with the window along both sides; whole windows only.

    As products with band matrices: for one channel the gradient of these is fifty times as fast as a convolution's.
    """
    rows, columns = (band(window, side).to(x) for side in x.shape[-2:])
    return rows @ x @ columns.T


def band(window: Tensor, side: int) -> Tensor:
    """(side - k + 1, side): the matrix that convolves `side` values with a window of k."""
    rows = torch.arange(side - len(window) + 1)[:, None]
    matrix = torch.zeros(len(rows), side)
    matrix[rows, rows + torch.arange(len(window))] = window.cpu()
    return matrix


def moments(x: Tensor, y: Tensor, window: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Means, variances and covariance in each window."""
    mx, my = blurred(x, window), blurred(y, window)
    vx, vy = blurred(x * x, window) - mx * mx, blurred(y * y, window) - my * my
    return mx, my, vx.clamp(min=0), vy.clamp(min=0), blurred(x * y, window) - mx * my


def contrast(fused: Tensor, *sources: Tensor) -> Tensor:
    """`gradient` of the pictures shrunk 4 and 8 times: what stands out from what is around it still does."""
    total = fused.new_zeros(())
    for shrink in (4, 8):
        total = total + shrink * gradient(*(F.avg_pool2d(x, shrink) for x in (fused, *sources)))
    return total


def hot(fused: Tensor, infrared: Tensor, *others: Tensor) -> Tensor:
    """How much of the contrast of what is hot is lost: a warm body stands out from its surroundings as in the infrared.

    What is hot: what is brighter in the infrared than the mean around it, by 20 grey levels and more.
    """
    around = gaussian(41, 10.0).to(fused)
    stands_out, still = (x[..., 20:-20, 20:-20] - blurred(x, around) for x in (infrared, fused))
    weight = F.relu(stands_out - 20 / 127.5)
    return (weight * F.relu(stands_out - still)).sum() / (weight.sum() + 1)


def edges(fused: Tensor, *sources: Tensor) -> Tensor:
    """1 - the share of the sources' edges that is kept, weighted by their strength (Xydeas and Petrovic 2000)."""
    strength, angle = polar(fused)
    kept, there = fused.new_zeros(()), fused.new_zeros(())
    for source in sources:
        weight, direction = polar(source)
        ratio = torch.minimum(strength, weight) / torch.maximum(strength, weight)
        turned = (angle - direction).abs()
        aligned = 1 - torch.minimum(turned, math.pi - turned) / (math.pi / 2)
        quality = torch.sigmoid(15 * (ratio - 0.5)) * torch.sigmoid(22 * (aligned - 0.8))
        kept, there = kept + (quality * weight).sum(), there + weight.sum()
    return 1 - kept / there


def polar(x: Tensor) -> tuple[Tensor, Tensor]:
    """Strength of the gradient, above 0, and its orientation, -pi/2..pi/2."""
    gx, gy = gradients(x)
    gx = torch.where(gx.abs() < 1e-4, torch.full_like(gx, 1e-4), gx)
    return (gx.square() + gy.square()).sqrt(), torch.atan(gy / gx)


def invented(fused: Tensor, *sources: Tensor) -> Tensor:
    """Mean excess of the gradient's strength over that of every source: halos, noise blown up."""
    strongest = brightest([polar(source)[0] for source in sources])
    return F.relu(polar(fused)[0] - strongest).mean()


def exposure(fused: Tensor, *sources: Tensor) -> Tensor:
    """1 - MEF-SSIM (Ma, Zeng and Wang 2015): the structure of the exposures that have it, at three scales."""
    weights = torch.tensor([0.0448, 0.2856, 0.3001])
    total = fused.new_zeros(())
    planes = [127.5 * x for x in (fused, *sources)]
    for weight in weights / weights.sum():
        total = total + weight * torch.log(exposure_structure(*planes).clamp(min=1e-3))
        planes = [F.avg_pool2d(x, 2) for x in planes]
    return 1 - torch.exp(total)


def exposure_structure(fused: Tensor, *sources: Tensor) -> Tensor:
    """One scale of MEF-SSIM, planes in grey levels: against the patch wanted from all exposures, without its mean."""
    window = torch.full((11,), 1 / 11).to(fused)
    blur = partial(blurred, window=window)
    means = [blur(x) for x in sources]
    spreads = [(blur(x * x) - m * m).clamp(min=1e-2).sqrt() for x, m in zip(sources, means, strict=True)]
    whole = torch.stack(sources).sum(0)
    together = (blur(whole * whole) - blur(whole).square()).clamp(min=1e-2).sqrt()
    # How far all patches point the same way; the more they do, the more the stronger one counts.
    alike = (together / torch.stack(spreads).sum(0)).clamp(max=0.93655)  # there the exponent is 10
    power = torch.tan(math.pi / 2 * alike)
    top = brightest(spreads)
    shares = [(spread / top) ** power / spread for spread in spreads]
    norm = torch.stack([share * spread for share, spread in zip(shares, spreads, strict=True)]).sum(0)
    # The wanted patch is the sum of share * patch, stretched to the strongest contrast of all.
    shares = [share / norm for share in shares]
    length = fused.new_zeros(())
    shared = fused.new_zeros(())
    mean_fused = blur(fused)
    for i, (share, x, m) in enumerate(zip(shares, sources, means, strict=True)):
        shared = shared + share * (blur(x * fused) - m * mean_fused)
        for j, (other, y, n) in enumerate(zip(shares, sources, means, strict=True)):
            if j >= i:
                length = length + (1 if i == j else 2) * share * other * (blur(x * y) - m * n)
    scale = top / length.clamp(min=1e-2).sqrt()
    variance = (blur(fused * fused) - mean_fused.square()).clamp(min=0)
    c = (0.03 * 255) ** 2
    return ((2 * scale * shared + c) / (top.square() + variance + c)).mean()


def exposedness(fused: Tensor, *sources: Tensor) -> Tensor:
    """Distance of the local mean to that of the sources where each is neither dark nor bright (Mertens et al. 2007).

    MEF-SSIM knows nothing of brightness; this is what gives the picture its tones.
    """
    coarse = [F.avg_pool2d(x, 16) for x in sources]
    weights = torch.softmax(torch.stack([-((x / 2) ** 2) / (2 * 0.2**2) for x in coarse]), dim=0)
    return F.l1_loss(F.avg_pool2d(fused, 16), (weights * torch.stack(coarse)).sum(0))


def unexplained(fused: Tensor, other: Tensor, sources: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Mean change of the fused picture beyond that of every source, smoothed as eyes do: flicker.

    Args:
        fused, sources: one moment.
        other, others: the next.
    """
    window = gaussian(9, 1.5).to(fused)
    change = blurred(other - fused, window).abs()
    explained = brightest([blurred(now - before, window).abs() for now, before in zip(others, sources, strict=True)])
    return F.relu(change - explained).mean()


def wrong_choices(weight: Tensor, choice: Tensor) -> Tensor:
    """Cross-entropy of the first source's weight with the right choice, (B, 1, H, W) in 0..1 both."""
    weight = weight.float().clamp(1e-4, 1 - 1e-4)
    return -(choice * weight.log() + (1 - choice) * (1 - weight).log()).mean()


TERMS: dict[str, Callable[..., Tensor]] = {
    term.__name__: term
    for term in (
        *(paper, intensity, gradient, contrast, hot, structure, correlation, fidelity, edges, invented),
        *(exposure, exposedness),
    )
}


def weighted(weights: Mapping[str, float], fused: Tensor, *sources: Tensor) -> dict[str, Tensor]:
    """Each named term times its weight, in float32 whatever the network computed in; the loss is their sum."""
    fused = fused.float()
    return {name: weight * TERMS[name](fused, *sources) for name, weight in weights.items()}
