"""UNeXt: three convolutional stages, two of tokenised perceptrons that see sideways by shifts (Valanarasu et al. 2022).

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x           (N, in_channels, *size)
    stage k     (N, channels[k], *size / 2^(k + 1)), k in 0 .. 4
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. 4]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from napari_medseg.architectures.blocks.resnet import conv_unit
from napari_medseg.architectures.blocks.unet import Add, EncoderDecoder, UpSample, heads_1x1

REACH = 2
"""Voxels by which the outermost fifths of the channels are shifted, there and back."""


class UNeXt(EncoderDecoder):
    """Few, narrow convolutions; perceptrons on tokens whose channels are shifted along one axis and then the others.

    Source: Valanarasu and Patel, MICCAI 2022. In 3D the second shift is along both remaining axes.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: tuple[int, ...],
        norm: str,
        deep_supervision: bool,
    ) -> None:
        fine, middle = channels[0], channels[2]
        convolved = partial(_convolved, spatial_dims, norm)
        tokenised, raised = partial(_tokenised, spatial_dims), partial(_raised, spatial_dims, norm)
        last = Conv[Conv.CONV, spatial_dims](fine, fine, kernel_size=3, padding=1)
        super().__init__(
            encoder=[
                nn.Identity(),
                *(convolved(*pair) for pair in pairwise((in_channels, *channels[:3]))),
                *(tokenised(*pair) for pair in pairwise(channels[2:])),
            ],
            up=[
                *(raised(*pair) for pair in pairwise(channels[::-1])),
                nn.Sequential(last, UpSample(), nn.ReLU(inplace=True)),
            ],
            joins=[Add(), Add(), Add(), Add(), _Alone()],
            decoder=[_mixed(spatial_dims, channels[3]), _mixed(spatial_dims, middle), *[nn.Identity()] * 3],
            heads=heads_1x1(spatial_dims, (fine, *channels[:4]), out_channels, deep_supervision),
        )


class _Alone(nn.Module):
    """The up-sampled features alone: the finest level has no skip."""

    def forward(self, _: Tensor, up: Tensor) -> Tensor:
        """The second tensor as it is."""
        return up


class ShiftedPerceptron(nn.Module):
    """Tokens, normalised and shifted, through a layer, a depthwise 3^n convolution and, shifted again, another layer.

    Layers on tokens are 1^n convolutions of their map. The result is added to the input.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.norm = _ChannelNorm(channels)
        self.first = conv(channels, channels, kernel_size=1)
        self.depthwise = conv(channels, channels, kernel_size=3, padding=1, groups=channels)
        self.second = conv(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        y = self.first(shifted(self.norm(x), 2))
        y = gelu(self.depthwise(y))
        for axis in range(3, x.ndim):
            y = shifted(y, axis)
        added: Tensor = x + self.second(y)
        return added


def shifted(x: Tensor, axis: int) -> Tensor:
    """The channels in fifths, shifted along the axis by -2, -1, 0, 1 and 2 voxels; zeros come in from outside."""
    behind = 2 * (x.ndim - 1 - axis)
    padded = pad(x, [0] * behind + [REACH, REACH])
    fifths = padded.chunk(2 * REACH + 1, dim=1)
    shifts = range(-REACH, REACH + 1)
    return torch.cat([f.narrow(axis, REACH - s, x.shape[axis]) for f, s in zip(fifths, shifts, strict=False)], dim=1)


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _convolved(spatial_dims: int, norm: str, before: int, after: int) -> nn.Module:
    """Convolution, norm, half the size, ReLU."""
    unit = conv_unit(spatial_dims, norm, before, after, active=False, bias=True)
    return nn.Sequential(unit, Pool[Pool.MAX, spatial_dims](kernel_size=2), nn.ReLU(inplace=True))


def _tokenised(spatial_dims: int, before: int, after: int) -> nn.Module:
    """Overlapping patches of stride 2 become tokens, which a perceptron mixes."""
    patches = Conv[Conv.CONV, spatial_dims](before, after, kernel_size=3, stride=2, padding=1)
    return nn.Sequential(patches, _ChannelNorm(after), _mixed(spatial_dims, after))


def _mixed(spatial_dims: int, channels: int) -> nn.Module:
    """A perceptron on tokens, and a norm."""
    return nn.Sequential(ShiftedPerceptron(spatial_dims, channels), _ChannelNorm(channels))


def _raised(spatial_dims: int, norm: str, before: int, after: int) -> nn.Module:
    """Convolution, norm, twice the size, ReLU."""
    unit = conv_unit(spatial_dims, norm, before, after, active=False, bias=True)
    return nn.Sequential(unit, UpSample(), nn.ReLU(inplace=True))
