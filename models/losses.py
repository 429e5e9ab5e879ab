"""What a fused picture is trained to be: unsupervised losses of (fused, first, second).

All planes are (B, 1, H, W) in -1..1, each loss a scalar tensor. Convolutions of the losses use no padding, so that the
border of a crop, where nobody knows what lies beyond, teaches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

SOBEL_X = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel.to(x)[None, None])


def paper(fused: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The paper's loss (sec. III, as in the released script): 100 (MSE to each source + 3 MSE of Laplacians to each).

    Its minimum is the average of the sources; kept for comparison.
    """
    total = fused.new_zeros(())
    for source in (first, second):
        total = total + F.mse_loss(fused, source)
        total = total + 3 * F.mse_loss(filtered(fused, LAPLACIAN), filtered(source, LAPLACIAN))
    return 100 * total


def intensity(fused: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Mean distance to the brighter of the sources: what is hot or lit stays so (SeAFusion, PIAFusion and others)."""
    return F.l1_loss(fused, torch.maximum(first, second))


def gradient(fused: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Mean distance of the Sobel gradient to that of the source where it is stronger, with its direction."""
    gx, gy = gradients(first)
    hx, hy = gradients(second)
    stronger = gx.square() + gy.square() >= hx.square() + hy.square()
    fx, fy = gradients(fused)
    return F.l1_loss(fx, torch.where(stronger, gx, hx)) + F.l1_loss(fy, torch.where(stronger, gy, hy))


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical Sobel derivatives, in units of x per pixel."""
    return filtered(x, SOBEL_X), filtered(x, SOBEL_X.T)


def structure(fused: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """1 - mean SSIM to the sources (Wang et al. 2004: Gaussian of 11 px, sigma 1.5)."""
    return 1 - (ssim(fused, first) + ssim(fused, second)) / 2


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean structural similarity of planes in -1..1, in -1..1; 1 for equal ones.

    It compares local means as a ratio, which only makes sense above zero: the planes are brought to 0..1 first.
    """
    x, y = (x + 1) / 2, (y + 1) / 2
    window = gaussian(11, 1.5).to(x)
    blur = lambda z: F.conv2d(F.conv2d(z, window[None, None, None, :]), window[None, None, :, None])  # noqa: E731
    c1, c2 = 0.01**2, 0.03**2
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()


def gaussian(size: int, sigma: float) -> Tensor:
    x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    window = torch.exp(-x.square() / (2 * sigma * sigma))
    return window / window.sum()


def correlation(fused: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """1 - half the sum of correlations of differences (SCD, Aslantas and Bendes 2015).

    What the fused picture has beyond one source should look like the other.
    """
    return 1 - (pearson(fused - second, first) + pearson(fused - first, second)).mean() / 2


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation of each picture of a batch, (B,); 0 where one is constant."""
    x, y = (z.flatten(1) - z.flatten(1).mean(1, keepdim=True) for z in (x, y))
    return (x * y).sum(1) / (x.square().sum(1) * y.square().sum(1) + 1e-6).sqrt()


TERMS = {term.__name__: term for term in (paper, intensity, gradient, structure, correlation)}


def weighted(weights: Mapping[str, float], fused: Tensor, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Each named term times its weight, in float32 whatever the network computed in; the loss is their sum."""
    fused = fused.float()
    return {name: weight * TERMS[name](fused, first, second) for name, weight in weights.items()}
