"""Light 2D networks of factorised convolutions in dense modules or depthwise bottlenecks: EDANet and DABNet.

N: batch. C: channels. *size: (Y, X).
    x       (N, in_channels, *size)
    bottom  (N, C, *size / 8)
    logits  (N, out_channels, *size), interpolated from the bottom
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import Halving, Style, along


class EDANet(nn.Module):
    """Densely connected modules of factorised convolutions, dilated by up to 16.

    Source: Lo et al., ACM MMAsia 2019, table 1.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        growth: int,
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, bias=True)
        first, second = (1, 1, 1, 2, 2), (2, 2, 4, 4, 8, 8, 16, 16)
        after_first = 60 + growth * len(first)
        middle = after_first // 2
        module = partial(_DenseModule, style, growth=growth, dropout=dropout)
        self.body = nn.Sequential(
            Halving(style, in_channels, 15),
            Halving(style, 15, 60),
            *(module(60 + k * growth, dilation=d) for k, d in enumerate(first)),
            Halving(style, after_first, middle),
            *(module(middle + k * growth, dilation=d) for k, d in enumerate(second)),
            style.plain(middle + len(second) * growth, out_channels, 1),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 8)
        return crop(resize(self.body(padded), padded.shape[2:]), x.shape[2:])


class DABNet(nn.Module):
    """Bottlenecks of depthwise factorised convolutions, plain beside dilated; the image again at every scale.

    Source: Li et al., BMVC 2019, table 2.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, spatial_dims: int, blocks: tuple[int, ...], norm: str
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, "prelu")
        self.shrink = style.shrink()
        self.stem = nn.Sequential(
            style.convolution(in_channels, 32, stride=2), style.convolution(32, 32), style.convolution(32, 32)
        )
        self.finish = nn.ModuleList(style.finish(n + in_channels) for n in (32, 128, 256))
        self.halve = nn.ModuleList(
            Halving(style, before + in_channels, after) for before, after in ((32, 64), (128, 128))
        )
        dilations = [2] * blocks[0], [min(4 * 2 ** (k // 2), 16) for k in range(blocks[1])]
        self.stages = nn.ModuleList(
            nn.Sequential(*(_AsymmetricBottleneck(style, channels, d) for d in stage))
            for channels, stage in zip((64, 128), dilations, strict=True)
        )
        self.head = style.plain(256 + in_channels, out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 8)
        image = self.shrink(padded)
        y = self.finish[0](torch.cat((self.stem(padded), image), dim=1))
        for halve, stage, finish in zip(self.halve, self.stages, self.finish[1:], strict=True):
            y, image = halve(y), self.shrink(image)
            y = finish(torch.cat((stage(y), y, image), dim=1))
        return crop(resize(self.head(y), padded.shape[2:]), x.shape[2:])


class _DenseModule(nn.Module):
    """A 1 x 1 convolution to `growth` channels, a factorised one, a dilated factorised one; before the input."""

    def __init__(self, style: Style, before: int, *, growth: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            style.convolution(before, growth, 1),
            style.along_axes(growth, between=False),
            style.along_axes(growth, 3, dilation, between=False),
            style.dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, before + growth, *size)."""
        return torch.cat((self.body(x), x), dim=1)


class _AsymmetricBottleneck(nn.Module):
    """A 3 x 3 convolution to half the channels, depthwise ones along the axes, plain beside dilated; added."""

    def __init__(self, style: Style, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = nn.Sequential(style.finish(channels), style.convolution(channels, half))
        self.plain = _depthwise_along_axes(style, half, 1)
        self.dilated = _depthwise_along_axes(style, half, dilation)
        self.expand = nn.Sequential(style.finish(half), style.plain(half, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        y = self.reduce(x)
        expanded: Tensor = self.expand(self.plain(y) + self.dilated(y))
        return x + expanded


def _depthwise_along_axes(style: Style, channels: int, dilation: int) -> nn.Sequential:
    dims = style.spatial_dims
    return nn.Sequential(
        *(style.depthwise(channels, along(k, 3, dims), dilation=along(k, dilation, dims)) for k in range(dims))
    )
