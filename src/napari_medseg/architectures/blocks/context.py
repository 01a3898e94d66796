"""Context at the bottom of an encoder: fields of several sizes beside each other.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x   (N, C, *size)
"""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, max_pool3d, relu

from napari_medseg.architectures.blocks.base import resize

POOLS = (2, 3, 5, 6)
"""Sizes over which residual multi-kernel pooling takes the maximum."""


class DenseAtrousConvolution(nn.Module):
    """Four cascades of dilated 3^n convolutions that see 3, 7, 9 and 19 voxels, added to the input.

    An Inception block. Source: CE-Net, Gu et al., IEEE TMI 2019, fig. 3. As in the authors' code, convolutions of one
    dilation (1, 3, 5) are one, and so are the 1^n convolutions that end the last three cascades.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        conv = partial(Conv[Conv.CONV, spatial_dims], channels, channels)
        self.dilated = nn.ModuleList(conv(kernel_size=3, padding=d, dilation=d) for d in (1, 3, 5))
        self.project = conv(kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        narrow, middle, wide = self.dilated
        after_narrow = narrow(x)
        after_middle = middle(after_narrow)
        y: Tensor = x + relu(after_narrow)
        for branch in (middle(x), after_middle, wide(after_middle)):
            y = y + relu(self.project(branch))
        return y


class ResidualMultiKernelPooling(nn.Module):
    """Maxima over several sizes, each projected to one channel and interpolated back, beside the input.

    Source: CE-Net, Gu et al., IEEE TMI 2019, fig. 4, with one projection for all sizes as in the authors' code; a
    pyramid pooling (He et al., TPAMI 2015) whose sizes are bounded by those of the image.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.project = Conv[Conv.CONV, spatial_dims](channels, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C + 4, *size)."""
        size = x.shape[2:]
        maxima = (resize(self.project(_maxima(x, n)), size) for n in POOLS)
        return torch.cat([*maxima, x], dim=1)


def _maxima(x: Tensor, n: int) -> Tensor:
    """(N, C, *size) -> (N, C, *(size // n)), at least one along each axis."""
    window = [min(n, m) for m in x.shape[2:]]
    return max_pool3d(x, window) if x.ndim == 5 else max_pool2d(x, window)
