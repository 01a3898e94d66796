"""Light 2D networks of pyramids of dilated convolutions: ESPNet and ESPNetv2.

N: batch. C: channels. *size: (Y, X).
    x       (N, in_channels, *size)
    bottom  (N, C, *size / 8), ESPNetv2 (N, C, *size / 16)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import Style


class ESPNet(nn.Module):
    """Pyramids of dilated convolutions, the image again at every scale, a decoder of class scores.

    Source: Mehta et al., ECCV 2018, fig. 4d. `blocks`: pyramids at a quarter and at an eighth of the size.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, spatial_dims: int, blocks: tuple[int, ...], norm: str
    ) -> None:
        super().__init__()
        style, c = Style(spatial_dims, norm, "prelu"), out_channels
        self.shrink = style.shrink()
        self.stem = style.convolution(in_channels, 16, stride=2)
        self.finish = nn.ModuleList(
            (style.finish(16 + in_channels), style.finish(128 + in_channels), style.finish(256))
        )
        self.down = nn.ModuleList(
            (_Pyramid(style, 16 + in_channels, 64, stride=2), _Pyramid(style, 128 + in_channels, 128, stride=2))
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Pyramid(style, n, n) for _ in range(count)))
            for n, count in zip((64, 128), blocks, strict=True)
        )
        self.scores = nn.ModuleList(
            (style.plain(128 + in_channels, c, 1), nn.Sequential(style.plain(256, c, 1), style.finish(c, active=False)))
        )
        self.up = nn.ModuleList(style.by_two(c, c, transposed=True) for _ in range(3))
        self.merge = nn.Sequential(style.finish(2 * c), _Pyramid(style, 2 * c, c))
        self.finish_up = style.finish(c)
        self.last = style.convolution(16 + in_channels + c, c)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 8)
        half = self.shrink(padded)
        first = self.finish[0](torch.cat((self.stem(padded), half), dim=1))
        y = self.down[0](first)
        second = self.finish[1](torch.cat((self.stages[0](y), y, self.shrink(half)), dim=1))
        y = self.down[1](second)
        y = self.scores[1](self.finish[2](torch.cat((y, self.stages[1](y)), dim=1)))
        y = self.merge(torch.cat((self.scores[0](second), self.up[0](y)), dim=1))
        y = self.last(torch.cat((self.finish_up(self.up[1](y)), first), dim=1))
        return crop(self.up[2](y), x.shape[2:])


class ESPNetv2(nn.Module):
    """ESPNet of grouped and depthwise convolutions, the image added at every scale.

    Source: Mehta et al., CVPR 2019, table 1, and section 4.2 for the decoder. `width`: channels at half the size.
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
        style, c = Style(spatial_dims, norm, "prelu"), out_channels
        # The stem stays at 32 channels when the rest is wider (table 1).
        widths = (min(width, 32), 2 * width, 4 * width, 8 * width)
        self.shrink = style.shrink()
        self.stem = style.convolution(in_channels, widths[0], stride=2)
        self.down = nn.ModuleList(_GroupedDown(style, in_channels, before, after) for before, after in pairwise(widths))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Grouped(style, n, n, dilations=dilations) for _ in range(count)))
            for n, count, dilations in zip(
                widths[1:], (0, *blocks), ((1, 2, 3, 4), (1, 2, 3, 4), (1, 1, 2, 3)), strict=True
            )
        )
        self.coarse = style.convolution(widths[3], widths[2], 1)
        self.context = nn.Sequential(
            _Grouped(style, 2 * widths[2], widths[2], dilations=(1, 1, 2, 3)), _PooledDepthwise(style, widths[2])
        )
        self.scores = nn.Sequential(style.dropout(dropout), style.plain(widths[2], c, 1), style.finish(c))
        self.merge = style.convolution(widths[1] + c, c, 1)
        self.head = nn.Sequential(style.dropout(dropout), style.plain(widths[0] + c, c, 1))
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 16)
        image = self.shrink(padded)
        scales = [self.stem(padded)]
        for down, stage in zip(self.down, self.stages, strict=True):
            image = self.shrink(image)
            scales.append(stage(down(scales[-1], image)))
        half, quarter, eighth, bottom = scales
        y = self.context(torch.cat((eighth, resize(self.coarse(bottom), eighth.shape[2:])), dim=1))
        y = self.merge(torch.cat((quarter, resize(self.scores(y), quarter.shape[2:])), dim=1))
        y = self.head(torch.cat((half, resize(y, half.shape[2:])), dim=1))
        return crop(resize(y, padded.shape[2:]), x.shape[2:])


class _Pyramid(nn.Module):
    """A reduction, then up to five dilated convolutions whose outputs are summed up from the second on, and joined.

    With a stride the reduction is 3 x 3; without one, and where the channels stay, the input is added.
    """

    def __init__(self, style: Style, before: int, after: int, *, stride: int = 1) -> None:
        super().__init__()
        branches = min(5, after)
        narrow = after // branches
        self.adds = stride == 1 and before == after
        self.reduce = style.plain(before, narrow, 3 if stride > 1 else 1, stride=stride)
        widths = (after - (branches - 1) * narrow, *[narrow] * (branches - 1))
        self.dilated = nn.ModuleList(style.plain(narrow, n, 3, dilation=2**k) for k, n in enumerate(widths))
        self.finish = style.finish(after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size / stride)."""
        reduced = self.reduce(x)
        first, *others = (branch(reduced) for branch in self.dilated)
        y = torch.cat((first, *accumulate(others)), dim=1)
        finished: Tensor = self.finish(x + y if self.adds else y)
        return finished


class _Grouped(nn.Module):
    """A grouped reduction, four dilated depthwise convolutions summed up, a grouped expansion (the EESP unit)."""

    def __init__(
        self, style: Style, before: int, after: int, *, dilations: tuple[int, ...], stride: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        branches = len(dilations)
        narrow = after // branches
        self.adds = stride == 1 and before == after
        self.reduce = style.convolution(before, narrow, 1, groups=branches)
        self.dilated = nn.ModuleList(
            style.depthwise(narrow, stride=stride, dilation=d, finished=False) for d in dilations
        )
        self.expand = nn.Sequential(
            style.finish(after), style.convolution(after, after, 1, groups=branches, active=False)
        )
        self.activation = style.activate(after) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size / stride)."""
        reduced = self.reduce(x)
        y = self.expand(torch.cat(tuple(accumulate(branch(reduced) for branch in self.dilated)), dim=1))
        activated: Tensor = self.activation(x + y if self.adds else y)
        return activated


class _GroupedDown(nn.Module):
    """The average of the input beside a unit of stride 2; the image, convolved, is added."""

    def __init__(self, style: Style, in_channels: int, before: int, after: int) -> None:
        super().__init__()
        self.shrink = style.shrink()
        self.unit = _Grouped(style, before, after - before, dilations=(1, 2, 3, 4), stride=2, active=False)
        self.image = nn.Sequential(
            style.convolution(in_channels, in_channels), style.convolution(in_channels, after, 1, active=False)
        )
        self.activation = style.activate(after)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """(N, before, *size), image (N, in_channels, *size / 2) -> (N, after, *size / 2)."""
        y: Tensor = self.activation(torch.cat((self.shrink(x), self.unit(x)), dim=1) + self.image(image))
        return y


class _PooledDepthwise(nn.Module):
    """The input averaged once to four times over, each convolved by channel and interpolated back, joined."""

    def __init__(self, style: Style, channels: int) -> None:
        super().__init__()
        self.shrink = style.shrink()
        self.convolve = nn.ModuleList(style.depthwise(channels, finished=False) for _ in range(4))
        self.project = style.convolution(5 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        scales, pooled = [x], x
        for convolve in self.convolve:
            pooled = self.shrink(pooled)
            scales.append(resize(convolve(pooled), x.shape[2:]))
        projected: Tensor = self.project(torch.cat(scales, dim=1))
        return projected
