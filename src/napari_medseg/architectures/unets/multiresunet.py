"""MultiResUNet (Ibtehaz and Rahman 2020): several fields of view per stage, convolutions along the skips.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has channels[k] and size / 2^k.
    x           (N, in_channels, *size)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. levels - 2]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import normalisation
from napari_medseg.architectures.blocks.resnet import conv_unit
from napari_medseg.architectures.blocks.unet import EncoderDecoder, heads_1x1, pooled_between

ALPHA = 1.67
"""By how much the stages are wider than those of the U-Net that they replace."""
SHARES = (0.167, 0.333, 0.5)
"""The shares of that width for the 3^n, 5^n and 7^n fields of view."""


class MultiResUNet(EncoderDecoder):
    """MultiRes blocks (3^n convolutions in a row, all their outputs kept) and ResPaths of 4, 3, 2 and 1 steps.

    Source: Ibtehaz and Rahman, Neural Networks 2020; widths rounded down as the authors do. channels: of the U-Net that
    it replaces.
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
        stage = partial(_MultiRes, spatial_dims, norm)
        upsample = partial(Conv[Conv.CONVTRANS, spatial_dims], kernel_size=2, stride=2)
        wide = [sum(_shares(c)) for c in channels]
        fine = range(len(channels) - 2, -1, -1)
        super().__init__(
            encoder=pooled_between(
                spatial_dims, (stage(*pair) for pair in zip((in_channels, *wide), channels, strict=False))
            ),
            up=[upsample(wide[k + 1], channels[k]) for k in fine],
            joins=[_ResPath(spatial_dims, norm, wide[k], channels[k], len(channels) - 1 - k) for k in fine],
            decoder=[stage(2 * channels[k], channels[k]) for k in fine],
            heads=heads_1x1(spatial_dims, wide[:-1], out_channels, deep_supervision),
        )


def _shares(channels: int) -> list[int]:
    """Channels of the three convolutions of a block."""
    return [max(1, int(channels * ALPHA * share)) for share in SHARES]


class _MultiRes(nn.Module):
    """Three 3^n convolutions in a row, their outputs side by side, plus the projected input."""

    def __init__(self, spatial_dims: int, norm: str, before: int, channels: int) -> None:
        super().__init__()
        shares = _shares(channels)
        after = sum(shares)
        unit = partial(conv_unit, spatial_dims, norm, bias=True)
        self.shortcut = unit(before, after, kernel=1, active=False)
        self.convolutions = nn.ModuleList(unit(*pair) for pair in pairwise((before, *shares)))
        self.norms = nn.ModuleList(get_norm_layer(normalisation(norm, after), spatial_dims, after) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, sum of the shares, *size)."""
        shortcut, fields = self.shortcut(x), []
        for convolution in self.convolutions:
            x = convolution(x)
            fields.append(x)
        y: Tensor = self.norms[1](torch.relu(self.norms[0](torch.cat(fields, dim=1)) + shortcut))
        return y


class _ResPath(nn.Module):
    """Residual steps along the skip, then concatenation with the up-sampled features."""

    def __init__(self, spatial_dims: int, norm: str, before: int, after: int, steps: int) -> None:
        super().__init__()
        widths = [before, *[after] * steps]
        self.steps = nn.Sequential(*(_ResStep(spatial_dims, norm, *pair) for pair in pairwise(widths)))

    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        """(N, before, *size), (N, C, *size) -> (N, after + C, *size)."""
        return torch.cat((self.steps(skip), up), dim=1)


class _ResStep(nn.Module):
    """A 3^n and a 1^n convolution, added; the sum is normalised again."""

    def __init__(self, spatial_dims: int, norm: str, before: int, after: int) -> None:
        super().__init__()
        unit = partial(conv_unit, spatial_dims, norm, before, after, bias=True)
        self.body = unit()
        self.shortcut = unit(kernel=1, active=False)
        self.norm = get_norm_layer(normalisation(norm, after), spatial_dims, after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size)."""
        y: Tensor = self.norm(torch.relu(self.body(x) + self.shortcut(x)))
        return y
