"""The residual U-Net of Isensee et al. (BrainLes 2017): pre-activation context modules, class scores of three scales.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has width * 2^k channels and size / 2^k.
    x       (N, in_channels, *size)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.layers.factories import Conv, Dropout
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple

LEAK = 0.01
SUPERVISED = 3
"""Levels whose class scores are summed."""


class ResUNet3D(nn.Module):
    """Strided residual encoder, decoder of up-sampling and convolutions; the class scores of its levels are summed.

    Source: Isensee et al., BrainLes 2017, fig. 1. No two convolutions of a context module share weights.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, spatial_dims: int, width: int, levels: int, dropout: float
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (levels - 1)
        widths = [width * 2**k for k in range(levels)]
        conv, finish = partial(_convolution, spatial_dims), partial(_finish, spatial_dims)
        self.down = nn.ModuleList(
            conv(before, after, stride=1 if k == 0 else 2)
            for k, (before, after) in enumerate(zip((in_channels, *widths), widths, strict=False))
        )
        self.context = nn.ModuleList(_Context(spatial_dims, n, dropout) for n in widths)
        self.finish = nn.ModuleList(finish(n) for n in widths)
        fine = widths[-2::-1]
        self.up = nn.ModuleList(nn.Sequential(conv(2 * n, n), finish(n)) for n in fine)
        self.localise = nn.ModuleList(nn.Sequential(conv(2 * n, 2 * n), finish(2 * n)) for n in fine)
        self.narrow = nn.ModuleList(nn.Sequential(conv(2 * n, n, kernel=1), finish(n)) for n in fine[:-1])
        self.heads = nn.ModuleList(conv(2 * n, out_channels, kernel=1) for n in fine[-SUPERVISED:])
        he_init(self, LEAK)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        skips, y = [], pad_to_multiple(x, self.multiple)
        for down, context, finish in zip(self.down, self.context, self.finish, strict=True):
            y = finish(context(down(y)))
            skips.append(y)
        skips.pop()
        wide = []
        for k, (up, localise) in enumerate(zip(self.up, self.localise, strict=True)):
            y = localise(torch.cat((up(_doubled(y)), skips.pop()), dim=1))
            wide.append(y)
            if k < len(self.narrow):
                y = self.narrow[k](y)
        scores = [head(scale) for head, scale in zip(self.heads[::-1], wide[::-1], strict=False)]
        logits = scores.pop()
        while scores:
            logits = _doubled(logits) + scores.pop()
        return crop(logits, x.shape[2:])


class _Context(nn.Module):
    """Norm, leaky ReLU, 3^n convolution, twice, with dropout between them; added to the input."""

    def __init__(self, spatial_dims: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _finish(spatial_dims, channels),
            _convolution(spatial_dims, channels, channels),
            Dropout[Dropout.DROPOUT, spatial_dims](dropout),
            _finish(spatial_dims, channels),
            _convolution(spatial_dims, channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        y: Tensor = x + self.body(x)
        return y


def _convolution(spatial_dims: int, before: int, after: int, *, kernel: int = 3, stride: int = 1) -> nn.Module:
    convolution: nn.Module = Conv[Conv.CONV, spatial_dims](
        before, after, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=False
    )
    return convolution


def _finish(spatial_dims: int, channels: int) -> nn.Sequential:
    """Instance norm and leaky ReLU."""
    norm = get_norm_layer(("instance", {"affine": True}), spatial_dims, channels)
    return nn.Sequential(norm, nn.LeakyReLU(LEAK, inplace=True))


def _doubled(x: Tensor) -> Tensor:
    """(N, C, *size) -> (N, C, *2 size), every voxel repeated."""
    return interpolate(x, scale_factor=2.0, mode="nearest")
