"""Densely connected networks for volumes: DenseVoxelNet and SkipDenseNet3D, in 2D or 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x           (N, in_channels, *size)
    logits      (N, out_channels, *size)
    supervised  DenseVoxelNet: [(N, out_channels, *size)] * 2, from a quarter and from half the size
"""

from __future__ import annotations

from functools import partial
from math import gcd

import torch
from monai.networks.layers.factories import Conv, Dropout, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple
from napari_medseg.architectures.blocks.dense import dense_block, norm_relu
from napari_medseg.architectures.blocks.outputs import Outputs


class DenseVoxelNet(nn.Module):
    """Two dense blocks at half and a quarter of the size; an auxiliary output after the first.

    Source: Yu et al., MICCAI 2017. 1,783,152 parameters for one channel and two classes.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        growth: int,
        layers: int,
        norm: str,
        dropout: float,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        conv, up = Conv[Conv.CONV, spatial_dims], partial(Conv[Conv.CONVTRANS, spatial_dims], kernel_size=2, stride=2)
        block = partial(_dense_block, spatial_dims, norm, growth=growth, layers=layers, dropout=dropout)
        half = 16 + layers * growth
        quarter = half + layers * growth
        self.stem = conv(in_channels, 16, kernel_size=1, stride=2, bias=False)
        self.first = nn.Sequential(block(16), norm_relu(spatial_dims, norm, half), conv(half, half, kernel_size=1))
        self.pool = Pool[Pool.MAX, spatial_dims](kernel_size=2)
        self.second = nn.Sequential(
            block(half), norm_relu(spatial_dims, norm, quarter), conv(quarter, quarter, kernel_size=1, bias=False)
        )
        self.up = nn.Sequential(up(quarter, 128), up(128, 64))
        self.auxiliary = up(half, 64) if deep_supervision else None
        self.head = conv(64, out_channels, kernel_size=1, bias=False)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of both branches, of full size.
        """
        size = x.shape[2:]
        half = self.first(self.stem(pad_to_multiple(x, 4)))
        logits = crop(self.head(self.up(self.second(self.pool(half)))), size)
        if not self.training or self.auxiliary is None:
            return logits
        return Outputs(logits, (crop(self.head(self.auxiliary(half)), size),))


class SkipDenseNet3D(nn.Module):
    """Dense blocks at a half to a sixteenth of the size, each enlarged at once to full size and joined.

    Source: Bui et al., arXiv:1709.03199, 2017. 1,551,262 parameters for one channel and two classes.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        growth: int,
        layers: tuple[int, ...],
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        conv, finish = partial(Conv[Conv.CONV, spatial_dims], bias=False), partial(norm_relu, spatial_dims, norm)
        three = partial(conv, kernel_size=3, padding=1)
        self.stem = nn.Sequential(
            three(in_channels, width), finish(width), three(width, width), finish(width), three(width, width)
        )
        self.down = nn.ModuleList((nn.Sequential(finish(width), conv(width, width, kernel_size=2, stride=2)),))
        self.blocks, self.up = nn.ModuleList(), nn.ModuleList()
        before = width
        for k, count in enumerate(layers):
            after = before + count * growth
            self.blocks.append(dense_block(spatial_dims, norm, before, growth, count, dropout=dropout))
            self.up.append(_enlarging(spatial_dims, after, out_channels, 2 ** (k + 1)))
            before = after // 2
            if k + 1 < len(layers):
                self.down.append(_halving(spatial_dims, norm, after, before))
        joined = len(layers) * out_channels + width
        self.head = nn.Sequential(finish(joined), Conv[Conv.CONV, spatial_dims](joined, out_channels, kernel_size=1))
        self.multiple = 2 ** len(layers)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        full = self.stem(pad_to_multiple(x, self.multiple))
        scores, y = [], full
        for down, block, up in zip(self.down, self.blocks, self.up, strict=True):
            y = block(down(y))
            scores.append(up(y))
        return crop(self.head(torch.cat((*scores, full), dim=1)), x.shape[2:])


class _Layer(nn.Module):
    """Norm, ReLU, 3^n convolution; appended to the input."""

    def __init__(self, spatial_dims: int, norm: str, before: int, *, growth: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm_relu(spatial_dims, norm, before),
            Conv[Conv.CONV, spatial_dims](before, growth, kernel_size=3, padding=1, bias=False),
            Dropout[Dropout.DROPOUT, spatial_dims](dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, before + growth, *size)."""
        return torch.cat((x, self.body(x)), dim=1)


def _dense_block(
    spatial_dims: int, norm: str, before: int, *, growth: int, layers: int, dropout: float
) -> nn.Sequential:
    """Layers without a bottleneck in a row."""
    return nn.Sequential(
        *(_Layer(spatial_dims, norm, before + k * growth, growth=growth, dropout=dropout) for k in range(layers))
    )


def _halving(spatial_dims: int, norm: str, before: int, after: int) -> nn.Sequential:
    """Norm, ReLU, 1^n convolution to `after`; norm, ReLU, 2^n convolution of stride 2."""
    conv = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        norm_relu(spatial_dims, norm, before),
        conv(before, after, kernel_size=1, bias=False),
        norm_relu(spatial_dims, norm, after),
        conv(after, after, kernel_size=2, stride=2),
    )


def _enlarging(spatial_dims: int, before: int, out_channels: int, factor: int) -> nn.Module:
    """A transposed convolution to class scores of `factor` times the size, a class from its share of the channels."""
    up: nn.Module = Conv[Conv.CONVTRANS, spatial_dims](
        before,
        out_channels,
        kernel_size=factor + 2,
        stride=factor,
        padding=1,
        groups=gcd(before, out_channels),
        bias=False,
    )
    return up
