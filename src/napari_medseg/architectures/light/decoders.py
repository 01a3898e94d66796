"""2D networks whose decoders take up features or places of the encoder: LinkNet, SegNet, SQNet.

N: batch. C: channels. *size: (Y, X).
    x       (N, in_channels, *size)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, max_pool2d, max_unpool2d

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple
from napari_medseg.architectures.blocks.light import Style
from napari_medseg.architectures.blocks.resnet import DEPTHS, ResNetEncoder


class LinkNet(nn.Module):
    """A ResNet-18 whose scales are added to the decoder's; in 2D or 3D.

    Source: Chaurasia and Culurciello, VCIP 2017, tables I and figs. 1 and 2.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, width: int, norm: str) -> None:
        super().__init__()
        style = Style(spatial_dims, norm)
        biased = Style(spatial_dims, norm, bias=True)
        self.encoder = ResNetEncoder(spatial_dims, in_channels, DEPTHS[18][0], width=width, norm=norm)
        widths = [width * 2**k for k in range(4)]
        self.up = nn.ModuleList(
            _LinkUp(style, deep, fine, stride=2) for deep, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last_up = _LinkUp(style, width, width, stride=1)
        half = width // 2
        self.head = nn.Sequential(
            biased.convolution(width, half, stride=2, transposed=True),
            biased.convolution(half, half),
            biased.by_two(half, out_channels, transposed=True),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        stem, *scales = self.encoder(pad_to_multiple(x, 32))
        y = scales.pop()
        for up in self.up:
            y = up(y) + scales.pop()
        y = self.last_up(y) + self.encoder.pool(stem)
        return crop(self.head(y), x.shape[2:])


class SegNet(nn.Module):
    """VGG-16 and its mirror image, which puts values back to the places where pooling took them from.

    Source: Badrinarayanan et al., IEEE TPAMI 2017, fig. 2. 29,443,010 parameters for one channel and two classes.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, spatial_dims: int, features: tuple[int, ...], norm: str
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, bias=True)
        depths = (2, 2, 3, 3, 3)
        levels = list(zip((in_channels, *features), features, depths, strict=False))
        self.encode = nn.ModuleList(_row(style, [before, *[after] * n]) for before, after, n in levels)
        self.decode = nn.ModuleList(_row(style, [*[after] * n, before]) for before, after, n in levels[:0:-1])
        self.decode.append(_row(style, [features[0]] * depths[0]))
        self.head = style.plain(features[0], out_channels)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        y = pad_to_multiple(x, 32)
        places = []
        for stage in self.encode:
            y, indices = max_pool2d(stage(y), 2, return_indices=True)
            places.append(indices)
        for stage in self.decode:
            y = stage(max_unpool2d(y, places.pop(), (2, 2)))
        return crop(self.head(y), x.shape[2:])


class SQNet(nn.Module):
    """SqueezeNet's fire modules, dilations side by side at the bottom, skips refined before and after joining.

    Source: Treml et al., NIPS workshop MLITS 2016, fig. 2. `width` is that of the first fire modules.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, width: int, norm: str) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, "elu", bias=True)
        normed = norm != "none"
        stem, one, two, three = 3 * width // 2, 2 * width, 4 * width, 8 * width
        self.pool = style.max_pool()
        self.encode = nn.ModuleList(
            (
                style.convolution(in_channels, stem, stride=2, normed=normed),
                nn.Sequential(_Fire(style, stem, one), _Fire(style, one, one)),
                nn.Sequential(_Fire(style, one, two), _Fire(style, two, two)),
                nn.Sequential(_Fire(style, two, three), _Fire(style, three, three), _Fire(style, three, three)),
            )
        )
        self.dilated = nn.ModuleList(style.convolution(three, three, dilation=d, normed=normed) for d in (1, 2, 3, 4))
        self.up = nn.ModuleList(
            style.convolution(before, after, stride=2, transposed=True, normed=normed)
            for before, after in ((three, two), (2 * two, one), (2 * one, stem))
        )
        self.refine = nn.ModuleList(style.convolution(n, n, normed=normed) for n in (two, one, stem))
        self.join = nn.ModuleList(style.convolution(2 * n, 2 * n, normed=normed) for n in (two, one, stem))
        self.head = style.convolution(2 * stem, out_channels, stride=2, transposed=True, normed=False, active=False)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        y = self.encode[0](pad_to_multiple(x, 16))
        skips = []
        for stage in self.encode[1:]:
            skips.append(y)
            y = stage(self.pool(y))
        y = torch.stack([branch(y) for branch in self.dilated]).sum(0)
        for up, refine, join in zip(self.up, self.refine, self.join, strict=True):
            y = join(torch.cat((refine(skips.pop()), up(y)), dim=1))
        return crop(self.head(y), x.shape[2:])


class _LinkUp(nn.Module):
    """1^n to a quarter of the channels, a 3^n transposed convolution, 1^n to `after`."""

    def __init__(self, style: Style, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        quarter = before // 4
        self.body = nn.Sequential(
            style.convolution(before, quarter, 1),
            style.convolution(quarter, quarter, stride=stride, transposed=True),
            style.convolution(quarter, after, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size * stride)."""
        y: Tensor = self.body(x)
        return y


def _row(style: Style, widths: list[int]) -> nn.Sequential:
    """3^n convolutions in a row."""
    return nn.Sequential(*(style.convolution(before, after) for before, after in pairwise(widths)))


class _Fire(nn.Module):
    """1 x 1 to an eighth of the channels; 1 x 1 and 3 x 3 beside each other (Iandola et al., arXiv:1602.07360)."""

    def __init__(self, style: Style, before: int, after: int) -> None:
        super().__init__()
        narrow, normed = after // 8, style.norm != "none"
        self.squeeze = style.convolution(before, narrow, 1, normed=normed)
        self.expand = nn.ModuleList(
            style.convolution(narrow, after // 2, k, normed=normed, active=False) for k in (1, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size)."""
        squeezed = self.squeeze(x)
        return elu(torch.cat([branch(squeezed) for branch in self.expand], dim=1))
