"""FCN-8s (Long et al., CVPR 2015), in 2D as published and in 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k in 1 .. 5 has size / 2^k.
    x       (N, in_channels, *size)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple
from napari_medseg.architectures.blocks.light import Style

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Of VGG-16, per level."""


class FCN(nn.Module):
    """VGG-16 made convolutional; class scores of three levels are summed up and interpolated by learnt weights.

    The 7^n convolution keeps the size, where the published one, without padding, needs the image padded by 100.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        features: tuple[int, ...],
        hidden: int,
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, bias=True)
        self.levels = nn.ModuleList(
            nn.Sequential(*(style.convolution(n, after) for n in [before, *[after] * (count - 1)]), style.max_pool())
            for before, after, count in zip((in_channels, *features), features, CONVOLUTIONS, strict=False)
        )
        self.hidden = nn.Sequential(
            style.convolution(features[-1], hidden, 7, normed=False),
            style.dropout(dropout),
            style.convolution(hidden, hidden, 1, normed=False),
            style.dropout(dropout),
        )
        self.scores = nn.ModuleList(style.plain(n, out_channels, 1) for n in (hidden, features[3], features[2]))
        he_init(self)
        enlarge = partial(_enlarging, spatial_dims, out_channels)
        self.up = nn.ModuleList((enlarge(2), enlarge(2), enlarge(8)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        y = pad_to_multiple(x, 32)
        pools = []
        for level in self.levels:
            y = level(y)
            pools.append(y)
        y = self.up[0](self.scores[0](self.hidden(y)))
        y = self.up[1](y + self.scores[1](pools[3]))
        y = self.up[2](y + self.scores[2](pools[2]))
        return crop(y, x.shape[2:])


def _enlarging(spatial_dims: int, channels: int, factor: int) -> nn.Module:
    """A transposed convolution that begins as linear interpolation, each channel for itself."""
    up: nn.ConvTranspose2d | nn.ConvTranspose3d = Conv[Conv.CONVTRANS, spatial_dims](
        channels, channels, kernel_size=2 * factor, stride=factor, padding=factor // 2, bias=False
    )
    ramp = 1 - ((torch.arange(2 * factor) - factor + 0.5) / factor).abs()
    kernel = ramp
    for _ in range(spatial_dims - 1):
        kernel = kernel[..., None] * ramp
    with torch.no_grad():
        up.weight.copy_(torch.eye(channels).reshape(channels, channels, *[1] * spatial_dims) * kernel)
    return up
