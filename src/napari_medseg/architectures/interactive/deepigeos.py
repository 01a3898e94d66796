"""DeepIGeoS: a network that proposes, and one that refines by clicks; both keep the full size (Wang et al. 2018).

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). K: classes, the background included.
    x              (N, in_channels, *size)
    block k        (N, width, *size), k in 0 .. 4
    logits         (N, K, *size)
    probabilities  (N, K - 1, *size): of each class but the background, as first proposed
    distances      (N, K, *size): to the nearest click of each class
"""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import he_init

DILATIONS = (1, 2, 4, 8, 16)
CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Per block."""
COMPRESSION = 4
"""Factor by which the features of a block are reduced for the classifier."""
_RELU = ("relu", {"inplace": True})


class PNet(nn.Module):
    """Five blocks, dilated further and further, that never change the size; a classifier reads them all; 2D or 3D.

    In 3D only the first convolution of a block sees along Z, the axis of the slices; the others are in-plane.
    Source: Wang et al., TPAMI 2018, in the 3D form (compressed blocks), in 2D too.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, width: int, dropout: float) -> None:
        super().__init__()
        narrow = max(1, width // COMPRESSION)
        befores = [in_channels] + [width] * (len(DILATIONS) - 1)
        self.blocks = nn.ModuleList(
            _block(spatial_dims, before, width, dilation, count)
            for before, dilation, count in zip(befores, DILATIONS, CONVOLUTIONS, strict=True)
        )
        self.compress = nn.ModuleList(_convolved(spatial_dims, width, narrow, kernel=1) for _ in DILATIONS)
        self.classify = nn.Sequential(
            nn.Dropout(dropout),
            _convolved(spatial_dims, narrow * len(DILATIONS), width, kernel=1),
            nn.Dropout(dropout),
            Conv[Conv.CONV, spatial_dims](width, out_channels, kernel_size=3, padding=1),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size, without padding."""
        seen = []
        for block, compress in zip(self.blocks, self.compress, strict=True):
            x = block(x)
            seen.append(compress(x))
        logits: Tensor = self.classify(torch.cat(seen, dim=1))
        return logits


class RNet(nn.Module):
    """The same network on the image, the first proposal, and the distances to the user's clicks.

    Distances are geodesic or not, in a unit of the caller's choice; where a class has no click its map is one constant,
    the largest distance that occurs, never the image. Source: Wang et al., TPAMI 2018.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, width: int, dropout: float) -> None:
        super().__init__()
        self.net = PNet(
            in_channels=in_channels + (out_channels - 1) + out_channels,
            out_channels=out_channels,
            spatial_dims=spatial_dims,
            width=width,
            dropout=dropout,
        )

    def forward(self, x: Tensor, probabilities: Tensor, distances: Tensor) -> Tensor:
        """(N, in_channels, *size), (N, K - 1, *size), (N, K, *size) -> logits (N, K, *size)."""
        logits: Tensor = self.net(torch.cat((x, probabilities, distances), dim=1))
        return logits


def _block(spatial_dims: int, before: int, width: int, dilation: int, count: int) -> nn.Module:
    """One 3^n convolution, then in-plane ones, all dilated alike."""
    in_plane = (1, 3, 3)[-spatial_dims:]
    return nn.Sequential(
        _convolved(spatial_dims, before, width, kernel=3, dilation=dilation),
        *(_convolved(spatial_dims, width, width, kernel=in_plane, dilation=dilation) for _ in range(count - 1)),
    )


def _convolved(
    spatial_dims: int, before: int, after: int, *, kernel: int | tuple[int, ...], dilation: int = 1
) -> nn.Module:
    """Convolution (with bias) and ReLU."""
    unit: nn.Module = Convolution(
        spatial_dims, before, after, kernel_size=kernel, dilation=dilation, norm=None, act=_RELU
    )
    return unit
