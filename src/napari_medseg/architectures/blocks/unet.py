"""The skeleton of the U-Net family: stages down, up-sampling, skips joined, stages up, a head per supervised level.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has size / 2^k.
    x           (N, in_channels, *size)
    skip k      (N, channels[k], *size / 2^k)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. levels - 2]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import conv_unit


class EncoderDecoder(nn.Module):
    """A U-Net of the parts that its subclasses give.

    encoder: finest first, each stage but the first halves the size. up, joins, decoder: coarsest first; a join takes
    (skip, up-sampled). heads: finest first; more than one are supervised in training.
    """

    def __init__(
        self,
        *,
        encoder: Iterable[nn.Module],
        up: Iterable[nn.Module],
        joins: Iterable[nn.Module],
        decoder: Iterable[nn.Module],
        heads: Iterable[nn.Module],
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(encoder)
        self.up = nn.ModuleList(up)
        self.joins = nn.ModuleList(joins)
        self.decoder = nn.ModuleList(decoder)
        self.heads = nn.ModuleList(heads)
        self.multiple = 2 ** (len(self.encoder) - 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of every decoder level.
        """
        return supervised(self.heads if self.training else self.heads[:1], self.decoded(x), x.shape[2:])

    def decoded(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, *size) -> the features of every decoder level, finest first, of the padded size / 2^k."""
        x = pad_to_multiple(x, self.multiple)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        scales: list[Tensor] = []
        for up, join, stage in zip(self.up, self.joins, self.decoder, strict=True):
            x = stage(join(skips.pop(), up(x)))
            scales.insert(0, x)
        return scales


def supervised(
    heads: Sequence[nn.Module] | nn.ModuleList, scales: Sequence[Tensor], size: Sequence[int]
) -> Tensor | Outputs:
    """The logits at the size of the input (*size); with several heads, Outputs with the logits of their scales.

    heads and scales: finest first; scale k is (N, C, *size / 2^k) or larger.
    """
    return Outputs.of(logits_at(heads, scales, size))


def logits_at(
    heads: Sequence[nn.Module] | nn.ModuleList, scales: Sequence[Tensor], size: Sequence[int]
) -> list[Tensor]:
    """The logits of every head (N, K, *size / 2^k), finest first; heads and scales as for `supervised`."""
    return [
        crop(head(scale), [-(-n // 2**k) for n in size])
        for k, (head, scale) in enumerate(zip(heads, scales, strict=False))
    ]


class Concatenate(nn.Module):
    """The skip, then the up-sampled features, along the channels."""

    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        """(N, C, *size), (N, D, *size) -> (N, C + D, *size)."""
        return torch.cat((skip, up), dim=1)


class Add(nn.Module):
    """The sum of the skip and the up-sampled features."""

    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        """(N, C, *size), (N, C, *size) -> (N, C, *size)."""
        return skip + up


class UpSample(nn.Module):
    """Linear interpolation to a multiple of the size."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *factor * size)."""
        return resize(x, [self.factor * n for n in x.shape[2:]])


def pooled_between(spatial_dims: int, stages: Iterable[nn.Module]) -> list[nn.Module]:
    """The stages, all but the first behind the maximum of 2^n voxels."""
    first, *others = stages
    return [first, *(nn.Sequential(Pool[Pool.MAX, spatial_dims](kernel_size=2), stage) for stage in others)]


def two_convolutions(spatial_dims: int, norm: str, before: int, after: int) -> nn.Module:
    """Twice 3^n convolution (with bias), norm and ReLU."""
    unit = partial(conv_unit, spatial_dims, norm, bias=True)
    return nn.Sequential(unit(before, after), unit(after, after))


def heads_1x1(spatial_dims: int, widths: Sequence[int], out_channels: int, deep_supervision: bool) -> list[nn.Module]:
    """1^n convolutions to logits, of every width or of the first only."""
    head = Conv[Conv.CONV, spatial_dims]
    return [head(c, out_channels, kernel_size=1) for c in (widths if deep_supervision else widths[:1])]


def interpolated_up(spatial_dims: int, norm: str, before: int, after: int) -> nn.Module:
    """Double the size linearly, then 3^n convolution (with bias), norm and ReLU."""
    return nn.Sequential(UpSample(), conv_unit(spatial_dims, norm, before, after, bias=True))
