"""MiniSeg (Qiu et al., AAAI 2021): a network of 83 thousand weights for lesions in slices.

N: batch. C: channels. *size: (Y, X). Level k in 1 .. 4 has size / 2^k.
    x       (N, in_channels, *size)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import AttentionMap, crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import Style

WIDTHS = (8, 24, 32, 64)
"""Channels of the four levels."""


class MiniSeg(nn.Module):
    """At each level a path of attentive dilated blocks and, beside it, one of large depthwise convolutions.

    Source: Qiu et al., AAAI 2021, fig. 2. `blocks`: per level. 82,506 parameters for one channel and two classes.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        blocks: tuple[int, ...],
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm, "prelu")
        self.levels = nn.ModuleList(
            _Level(style, before, after, count, first=k == 0)
            for k, (before, after, count) in enumerate(zip((in_channels, *WIDTHS), WIDTHS, blocks, strict=False))
        )
        self.joins = nn.ModuleList(style.convolution(2 * n, 2 * n, 1, active=False) for n in WIDTHS[:-1])
        biased = Style(spatial_dims, norm, "prelu", bias=True)
        self.bottom = biased.convolution(WIDTHS[-1], WIDTHS[-1], 1)
        self.up = nn.ModuleList(
            _Up(style, deep, fine) for deep, fine in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True)
        )
        self.head = nn.Sequential(style.dropout(dropout), biased.plain(WIDTHS[0], out_channels, 1))
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 16)
        path, long = padded, padded
        skips = []
        for k, level in enumerate(self.levels):
            path, long = level(path, long)
            skips.append(path)
            if k < len(self.joins):
                to_long, to_path = self.joins[k](torch.cat((long, path), dim=1)).chunk(2, dim=1)
                path, long = to_path + path, to_long + long
        y = self.bottom(skips.pop())
        for up in self.up:
            y = up(y, skips.pop())
        return crop(resize(self.head(y), padded.shape[2:]), x.shape[2:])


class _Level(nn.Module):
    """Half the size, then blocks; the first half of them has a depthwise convolution beside it."""

    def __init__(self, style: Style, before: int, after: int, blocks: int, *, first: bool) -> None:
        super().__init__()

        def block(n: int, stride: int = 1) -> nn.Module:
            return style.convolution(n, after, stride=stride) if first else _Attentive(style, n, after, stride)

        self.down, self.down_long = block(before, 2), _large(style, before, after, 2)
        self.blocks = nn.ModuleList(block(after) for _ in range(blocks))
        self.long = nn.ModuleList(_large(style, after, after, 1) for _ in range(blocks // 2))

    def forward(self, path: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
        """Twice (N, before, *size) -> twice (N, after, *size / 2)."""
        path, long = self.down(path), self.down_long(long)
        for k, block in enumerate(self.blocks):
            both = path + long
            path = block(both) + path
            if k < len(self.long):
                long = self.long[k](both) + long
        return path, long


def _large(style: Style, before: int, after: int, stride: int) -> nn.Sequential:
    """1 x 1, then depthwise 5 x 5."""
    return nn.Sequential(style.plain(before, after, 1), style.depthwise(after, 5, stride=stride))


class _Attentive(nn.Module):
    """Depthwise convolutions dilated by 1, 2, 4, 8, summed up onto the average, each weighted by place."""

    def __init__(self, style: Style, before: int, after: int, stride: int) -> None:
        super().__init__()
        quarter = after // 4
        self.reduce = style.plain(before, quarter, 1)
        self.average = nn.AvgPool2d(3, stride=stride, padding=1)
        self.dilated = nn.ModuleList(
            style.depthwise(quarter, stride=stride, dilation=d, finished=False) for d in (1, 2, 4, 8)
        )
        self.weigh = nn.Sequential(
            style.convolution(after, 4, 1, groups=4, normed=False, active=False), nn.Sigmoid(), AttentionMap()
        )
        self.fuse = style.convolution(after, after, 1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size / stride)."""
        reduced = self.reduce(x)
        total = self.average(reduced)
        sums = []
        for branch in self.dilated:
            total = total + branch(reduced)
            sums.append(total)
        y = torch.cat(sums, dim=1)
        weights = self.weigh(y).repeat_interleave(total.shape[1], dim=1)
        fused: Tensor = self.fuse(y + y * weights)
        return fused


class _Up(nn.Module):
    """The interpolated coarser level through two depthwise dilations, and the finer level, added."""

    def __init__(self, style: Style, deep: int, fine: int) -> None:
        super().__init__()
        self.reduce = style.plain(deep, fine, 1)
        self.dilated = nn.ModuleList(style.depthwise(fine, dilation=d, finished=False) for d in (1, 2))
        self.finish_deep = style.finish(fine, active=False)
        biased = Style(style.spatial_dims, style.norm, bias=True)
        self.skip = biased.convolution(fine, fine, 1, active=False)
        self.activation = style.activate(fine)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """(N, deep, *size / 2), (N, fine, *size) -> (N, fine, *size)."""
        reduced = self.reduce(resize(deep, skip.shape[2:]))
        coarse = self.finish_deep(self.dilated[0](reduced) + self.dilated[1](reduced))
        y: Tensor = self.activation(coarse + self.skip(skip))
        return y
