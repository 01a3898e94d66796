"""Light 2D networks whose 3 x 3 convolutions are a 3 x 1 and a 1 x 3: ERFNet, ESNet and LEDNet.

N: batch. C: channels. *size: (Y, X).
    x       (N, in_channels, *size)
    bottom  (N, C, *size / 8)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import Halving, Style

SHALLOW = 0.1
"""Dropout in the finer stages, times that of the deepest."""


class ERFNet(nn.Module):
    """Residual pairs of factorised convolutions, dilated by 2 to 16 at an eighth of the size.

    Source: Romera et al., IEEE TITS 2018, table I; without the classifier that only pretrains the encoder.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, norm: str, dropout: float) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, bias=True)
        block = partial(_Factorised, style)
        self.body = nn.Sequential(
            Halving(style, in_channels, 16),
            Halving(style, 16, 64),
            *(block(64, dropout=SHALLOW * dropout) for _ in range(5)),
            Halving(style, 64, 128),
            *(block(128, dilation=d, dropout=dropout) for d in (2, 4, 8, 16) * 2),
            style.convolution(128, 64, stride=2, transposed=True),
            block(64),
            block(64),
            style.convolution(64, 16, stride=2, transposed=True),
            block(16),
            block(16),
            style.by_two(16, out_channels, transposed=True),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        return crop(self.body(pad_to_multiple(x, 8)), x.shape[2:])


class ESNet(nn.Module):
    """ERFNet made symmetric, its dilations beside each other in three parallel units.

    Source: Wang et al., PRCV 2019, table 1. The branches of a parallel unit are normalised apart.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, norm: str, dropout: float) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, bias=True)
        block = partial(_Factorised, style)
        shallow = SHALLOW * dropout
        self.body = nn.Sequential(
            Halving(style, in_channels, 16),
            *(block(16, dropout=shallow) for _ in range(3)),
            Halving(style, 16, 64),
            *(block(64, kernel=5, dropout=shallow) for _ in range(2)),
            Halving(style, 64, 128),
            *(_Parallel(style, 128, dropout=dropout) for _ in range(3)),
            style.convolution(128, 64, stride=2, transposed=True),
            *(block(64, kernel=5) for _ in range(2)),
            style.convolution(64, 16, stride=2, transposed=True),
            *(block(16) for _ in range(2)),
            style.by_two(16, out_channels, transposed=True),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        return crop(self.body(pad_to_multiple(x, 8)), x.shape[2:])


class LEDNet(nn.Module):
    """Channels split in two halves that are convolved along the axes in opposite order, then shuffled.

    Source: Wang et al., ICIP 2019, table 1 and fig. 3: the decoder weighs the classes by an attention pyramid.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, norm: str, dropout: float) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, bias=True)
        block = partial(_SplitShuffle, style)
        shallow = SHALLOW * dropout
        self.body = nn.Sequential(
            Halving(style, in_channels, 32),
            *(block(32, dropout=shallow) for _ in range(3)),
            Halving(style, 32, 64),
            *(block(64, dropout=shallow) for _ in range(2)),
            Halving(style, 64, 128),
            *(block(128, dilation=d, dropout=dropout) for d in (1, 2, 5, 9, 2, 5, 9, 17)),
        )
        self.decoder = _AttentionPyramid(style, 128, out_channels)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 8)
        return crop(resize(self.decoder(self.body(padded)), padded.shape[2:]), x.shape[2:])


class _Factorised(nn.Module):
    """Two factorised convolutions, the second dilated, added to the input."""

    def __init__(
        self, style: Style, channels: int, *, kernel: int = 3, dilation: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            style.along_axes(channels, kernel),
            style.along_axes(channels, kernel, dilation, active=False),
            style.dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        return relu(x + self.body(x))


class _Parallel(nn.Module):
    """A factorised convolution, then three beside each other, dilated by 2, 5 and 9; all added to the input."""

    def __init__(self, style: Style, channels: int, *, dropout: float) -> None:
        super().__init__()
        self.first = style.along_axes(channels)
        self.branches = nn.ModuleList(
            nn.Sequential(style.along_axes(channels, 3, d, active=False), style.dropout(dropout)) for d in (2, 5, 9)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        y = self.first(x)
        for branch in self.branches:
            x = x + branch(y)
        return relu(x)


class _SplitShuffle(nn.Module):
    """Each half of the channels convolved along the axes, the halves in opposite order; added; shuffled."""

    def __init__(self, style: Style, channels: int, *, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.halves = nn.ModuleList(
            nn.Sequential(
                style.along_axes(channels // 2, reverse=reverse),
                style.along_axes(channels // 2, 3, dilation, active=False, reverse=reverse),
                style.dropout(dropout),
            )
            for reverse in (False, True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        halves = (layer(half) for layer, half in zip(self.halves, x.chunk(2, dim=1), strict=True))
        return interleave(relu(x + torch.cat(tuple(halves), dim=1)))


def interleave(x: Tensor) -> Tensor:
    """(N, C, *size) -> the same with channels in the order 0, C/2, 1, C/2 + 1, ... (a shuffle of two groups)."""
    return torch.stack(x.chunk(2, dim=1), dim=2).flatten(1, 2)


class _AttentionPyramid(nn.Module):
    """Class scores times a map of one channel that three coarser scales vote on, plus scores of the whole image."""

    def __init__(self, style: Style, channels: int, out_channels: int) -> None:
        super().__init__()
        self.image = style.convolution(channels, out_channels, 1)
        self.scores = style.convolution(channels, out_channels, 1)
        widths = (channels, 1, 1)
        self.down = nn.ModuleList(style.convolution(n, 1, k, stride=2) for n, k in zip(widths, (7, 5, 3), strict=True))
        self.across = nn.ModuleList(style.convolution(1, 1, k, active=False) for k in (7, 5, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, *size) -> (N, out_channels, *size)."""
        size = x.shape[2:]
        scales = [pad_to_multiple(x, 16)]  # one channel needs some voxels to be normalised by
        for down in self.down:
            scales.append(down(scales[-1]))
        votes = self.across[2](scales[3])
        for k in (1, 0):
            votes = resize(votes, scales[k + 1].shape[2:]) + self.across[k](scales[k + 1])
        weighed: Tensor = self.scores(x) * crop(resize(votes, scales[0].shape[2:]), size)
        return weighed + resize(self.image(x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)), size)
