"""A dilated ResNet and context at its end: PSPNet and DeepLabV3, in 2D or 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x       (N, in_channels, *size)
    bottom  (N, 32 * width, *size / 8), DeepLabV3 (N, 32 * width, *size / 16)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_medseg.architectures.blocks.attention import at_most
from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import PooledPyramid, Style
from napari_medseg.architectures.blocks.resnet import dilated_resnet


class PSPNet(nn.Module):
    """Averages over the whole image and its halves, thirds and sixths beside the features of a dilated ResNet.

    Source: Zhao et al., CVPR 2017. `width`: channels of the stem of the ResNet, whose stages have 4 to 32 times them.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        blocks: tuple[int, ...],
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm)
        self.encoder = dilated_resnet(spatial_dims, in_channels, blocks, width, norm)
        deep = self.encoder.channels[-1]
        self.head = nn.Sequential(
            PooledPyramid(style, deep, deep // 4),
            style.convolution(2 * deep, deep // 4),
            style.dropout(dropout),
            Style(spatial_dims, norm, bias=True).plain(deep // 4, out_channels, 1),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 8)
        logits = self.head(self.encoder(padded)[-1])
        return crop(resize(logits, padded.shape[2:]), x.shape[2:])


class DeepLabV3(nn.Module):
    """Dilations of 6, 12 and 18 and the average of the image, beside each other at the end of a dilated ResNet.

    Source: Chen et al., arXiv:1706.05587. 58,158,402 parameters for one channel and two classes on ResNet-101.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        blocks: tuple[int, ...],
        norm: str,
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm)
        self.encoder = dilated_resnet(spatial_dims, in_channels, blocks, width, norm, dilations=(1, 1, 1, 2))
        self.context = _AtrousPyramid(style, self.encoder.channels[-1], 4 * width)
        self.head = Style(spatial_dims, norm, bias=True).plain(4 * width, out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 16)
        logits = self.head(self.context(self.encoder(padded)[-1]))
        return crop(resize(logits, padded.shape[2:]), x.shape[2:])


class _AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling with the average of the image (Chen et al., section 3.3)."""

    def __init__(self, style: Style, before: int, after: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            (style.convolution(before, after, 1), *(style.convolution(before, after, dilation=d) for d in (6, 12, 18)))
        )
        self.image = style.convolution(before, after, 1)
        self.project = style.convolution(5 * after, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size)."""
        image = resize(self.image(at_most(x, 1)), x.shape[2:])
        projected: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), image], dim=1))
        return projected
