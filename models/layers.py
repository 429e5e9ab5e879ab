"""The layers that the networks are built from.

Shapes are (B, C, H, W); features have no fixed range. Convolutions have stride 1 and zero padding that keeps
the size. Source of the layers: Shen et al., "Cross Attention-guided Dense Network for Images Fusion",
arXiv 2109.11393; where the released training graph differs from the paper's words, the graph is followed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAKY_SLOPE = 0.2
VOTERS = 7  # cells: side of the square that decides together which source is in focus
Normalisation = Literal["frozen", "instance"]
# Of oneDNN's convolutions: the activation within, and its numbers.
FUSED: dict[str, tuple[str, list[float]]] = {
    "leaky": ("leaky_relu", [LEAKY_SLOPE]),
    "sigmoid": ("sigmoid", []),
    "tanh": ("tanh", []),
    "none": ("none", []),
}
Activation = Literal["leaky", "sigmoid", "tanh", "none"]


class Conv(nn.Module):
    """Convolution of one or more feature maps as if concatenated, then (optionally) normalisation and leaky ReLU.

    After `prepare` it computes the same without ever building the concatenation, which otherwise costs a quarter of the
    time of a densely connected network: each map is convolved with its own slice of the weights into one sum.

    Args:
        inputs, outputs: number of channels.
        kernel: side of the square kernel, odd.
        dilation: spacing of its taps.
        norm: None for no normalisation; "instance" normalises with the statistics of the image itself, as the
            released network does at test time too; "frozen" with those of the batch while training and with
            fixed running ones afterwards, so that one bright object does not shift the whole picture.
        activation: "leaky" (slope 0.2), "sigmoid", "tanh" or "none".
        eps: added to the variance.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        dilation: int = 1,
        norm: Normalisation | None = None,
        activation: Activation = "leaky",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation)
        nn.init.kaiming_normal_(self.conv.weight, a=LEAKY_SLOPE)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.norm: nn.Module
        if norm == "frozen":
            self.norm = nn.BatchNorm2d(outputs, eps=eps, momentum=0.02)
        elif norm == "instance":
            self.norm = InstanceNorm(outputs, eps)
        else:
            self.norm = nn.Identity()
        self.activation = activation
        self._accumulate = self._split = False
        self._slices: list[Tensor] = []

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps of (B, C_i, H, W), the C_i adding up to `inputs`, to (B, outputs, H, W)."""
        if self._accumulate:
            return self._accumulated(maps)
        if self._split and len(maps) > 1:
            return activated(self.norm(self._summed(maps)), self.activation)
        x = self.norm(self.conv(maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)))
        return activated(x, self.activation)

    def prepare(self, accumulate: bool, split: bool = False) -> None:
        """Get ready for inference: put frozen normalisation into the weights.

        Args:
            accumulate: use oneDNN's convolutions that add to their output; for the CPU.
            split: convolve each map with its own slice of the weights and add, in place of concatenating. A map that is
                copied is read and written once more, and so is a sum: what is faster has to be measured.
        """
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = nn.utils.fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            self.norm = nn.Identity()
        self._accumulate = accumulate and isinstance(self.norm, nn.Identity)
        self._split = split

    def _summed(self, maps: tuple[Tensor, ...]) -> Tensor:
        conv = self.conv
        if not self._slices:
            slices = conv.weight.detach().split([x.shape[1] for x in maps], dim=1)
            self._slices = [part.contiguous(memory_format=torch.channels_last) for part in slices]
        out: Tensor = conv._conv_forward(maps[0], self._slices[0], conv.bias)
        for x, weight in zip(maps[1:], self._slices[1:], strict=True):
            out += conv._conv_forward(x, weight, None)
        return out

    def _accumulated(self, maps: tuple[Tensor, ...]) -> Tensor:
        conv = self.conv
        # A 1x1 convolution of narrow maps has little to compute: passing over its wide output for each costs more.
        if conv.kernel_size == (1, 1) and min(x.shape[1] for x in maps) < conv.out_channels:
            maps = (torch.cat(maps, dim=1),) if len(maps) > 1 else maps
        ops = torch.ops.mkldnn
        how = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        if not self._slices:  # laid out as the processor's convolutions want them, once
            slices = conv.weight.detach().split([x.shape[1] for x in maps], dim=1)
            self._slices = [
                ops._reorder_convolution_weight(part.contiguous(), *how, list(x.shape))
                for part, x in zip(slices, maps, strict=True)
            ]
        act = FUSED[self.activation if len(maps) == 1 else "none"]
        out: Tensor = ops._convolution_pointwise(maps[0], self._slices[0], conv.bias, *how, *act, "")
        for x, weight in zip(maps[1:], self._slices[1:], strict=True):
            ops._convolution_pointwise_.binary(out, x, weight, None, *how, "add", 1.0, None, [], None)
        return out if len(maps) == 1 else activated(out, self.activation, inplace=True)


def activated(x: Tensor, activation: Activation, *, inplace: bool = False) -> Tensor:
    if activation == "leaky":
        return F.leaky_relu(x, LEAKY_SLOPE, inplace)
    if activation == "none":
        return x
    return torch.sigmoid(x) if activation == "sigmoid" else torch.tanh(x)


class InstanceNorm(nn.Module):
    """Normalise each channel by its own mean and (biased) variance over height and width, then scale and shift.

    Written out because `nn.InstanceNorm2d` refuses a single pixel, whose normalised value is plainly the shift.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
        scale = self.weight.view(1, -1, 1, 1) * torch.rsqrt(variance + self.eps)
        return (x - mean) * scale + self.bias.view(1, -1, 1, 1)


class Gate(nn.Module):
    """How much of one source to let through where, judged by what is known of both: a map in 0..1 (paper, sec. III)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = Conv(2 * channels, channels, 3)
        self.judge = Conv(channels, channels, 3)

    def forward(self, source: Tensor, context: Tensor) -> Tensor:
        return torch.sigmoid(self.judge(self.look(source, context)))


class CrossAttentionBlock(nn.Module):
    """Gate each source by its correlation with the fused features so far, then merge all three.

    In: first, second and context, each (B, C, H, W). Out: (B, C, H, W).
    """

    def __init__(self, channels: int, norm: Normalisation) -> None:
        super().__init__()
        self.first_gate = Gate(channels)
        self.second_gate = Gate(channels)
        self.merge = Conv(3 * channels, channels, 3, norm=norm, activation="none")

    def forward(self, first: Tensor, second: Tensor, context: Tensor) -> Tensor:
        first = first * self.first_gate(first, context)
        second = second * self.second_gate(second, context)
        return self.merge(first, second, context)


class LongRangeAttention(nn.Module):
    """Add to each position of one source what the other source knows anywhere in the picture.

    Query from `source`, key and value from `other`: scaled dot-product attention between tokens. A token is the mean
    over a cell of `cell` px (larger for large pictures, so that there are never more than `max_side` a side): the cost
    stays linear in the number of pixels. The result is brought back to full size and added.

    This is the correlation over long range that the paper describes (sec. III) and that its released graph lacks.
    """

    def __init__(self, channels: int, norm: Normalisation | None, *, cell: int = 16, max_side: int = 64) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = Conv(channels, channels, 1, norm=norm, activation="none", eps=1e-3)
        self.cell = cell
        self.max_side = max_side

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to cell means (B, C, h, w) with h, w <= max_side."""
        height, width = x.shape[-2:]
        cell = max(self.cell, math.ceil(max(height, width) / self.max_side))
        return F.adaptive_avg_pool2d(x, (math.ceil(height / cell), math.ceil(width / cell)))

    def forward(self, source: Tensor, other: Tensor) -> Tensor:
        return source + F.interpolate(self.found(source, other), size=source.shape[-2:], mode="bilinear")

    def found(self, source: Tensor, other: Tensor) -> Tensor:
        """What each token of the source found in the other: (B, C, H, W) twice to (B, C, h, w)."""
        queries, others = self.tokens(source), self.tokens(other)
        q, k, v = (
            # As a product: a 1x1 convolution of so few tokens takes twenty times as long.
            F.linear(tokens.flatten(2).transpose(1, 2), layer.weight[:, :, 0, 0], layer.bias)  # (B, h*w, C)
            for layer, tokens in ((self.query, queries), (self.key, others), (self.value, others))
        )
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(queries.shape)
        result: Tensor = self.out(found)
        return result


def agreed(score: Tensor, cell: int = 4) -> Tensor:
    """Scores for a choice, (B, 1, H, W), that neighbours make together: where a place cannot tell, those around it can.

    Args:
        score: of each pixel.
        cell: side of the square of pixels that have one score.

    Returns:
        (B, 1, H, W) float32, smooth.
    """
    size = score.shape[-2:]
    cells = F.avg_pool2d(score.float(), cell, ceil_mode=True)
    return F.interpolate(voted(cells), size=size, mode="bilinear")


def voted(scores: Tensor) -> Tensor:
    """Means over squares of VOTERS cells, (B, 1, h, w) to float32; at the border of what there is of them."""
    # In the layout of one plane, since torch takes one channel for many, and a hundred times as long.
    plain = scores.float().clone(memory_format=torch.contiguous_format)
    return F.avg_pool2d(plain, VOTERS, 1, VOTERS // 2, count_include_pad=False)


def weighted_mean(planes: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Mean of planes, (B, 1, H, W), in their precision.

    Args:
        planes: N of them.
        weights: of each, adding up to 1; of two planes that of the first alone, for the other has the rest.
    """
    weights = [weight.to(planes[0].dtype) for weight in weights]
    if len(weights) == 1:
        return torch.lerp(planes[1], planes[0], weights[0])
    return torch.stack([plane * weight for plane, weight in zip(planes, weights, strict=True)]).sum(0)


class PointwiseExchange(nn.Module):
    """What the released graph has in place of long-range attention: add a 1x1 convolution of the other source."""

    def __init__(self, channels: int, norm: Normalisation) -> None:
        super().__init__()
        self.out = Conv(channels, channels, 1, norm=norm, activation="none", eps=1e-3)

    def forward(self, source: Tensor, other: Tensor) -> Tensor:
        return source + self.out(other)


class DilatedDense(nn.Module):
    """Densely connected convolutions with spaced taps: a wide view at full resolution (merging network)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.grow = nn.ModuleList(Conv(channels + i * growth, growth, 3, dilation=2) for i in range(3))
        self.mix = Conv(channels + 3 * growth, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, H, W) to itself and what was found, of the same shape."""
        known = [x]
        for layer in self.grow:
            known.append(layer(*known))
        return x, self.mix(*known)
