"""Light 2D networks that look at several dilations at once: ESPNet, ESPNetv2, CGNet, FPENet.

N: batch. C: channels. *size: (Y, X).
    x       (N, in_channels, *size)
    bottom  (N, C, *size / 8), ESPNetv2 (N, C, *size / 16)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from napari_medseg.networks.blocks import AttentionMap, crop, he_init, pad_to_multiple, resize
from napari_medseg.networks.blocks_attention import SqueezeExcitation
from napari_medseg.networks.blocks_light import Style


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
        self.up = nn.ModuleList(style.halved_by_two(c, c, transposed=True) for _ in range(3))
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


class CGNet(nn.Module):
    """Each block joins a voxel's neighbourhood with its wider surroundings, weighted by the whole image.

    Source: Wu et al., IEEE TIP 2021, table I. `blocks`: context guided blocks at a quarter and an eighth of the size.
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
        widths, dilations, reductions = (64, 128), (2, 4), (8, 16)
        self.finish = nn.ModuleList(
            (style.finish(32 + in_channels), style.finish(128 + in_channels), style.finish(256))
        )
        self.down = nn.ModuleList(
            _Guided(style, before + in_channels, n, dilation=d, reduction=r, down=True)
            for before, n, d, r in zip((32, 128), widths, dilations, reductions, strict=True)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Guided(style, n, n, dilation=d, reduction=r) for _ in range(count - 1)))
            for n, count, d, r in zip(widths, blocks, dilations, reductions, strict=True)
        )
        self.head = style.plain(256, out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 8)
        half = self.shrink(padded)
        y = self.down[0](self.finish[0](torch.cat((self.stem(padded), half), dim=1)))
        y = self.down[1](self.finish[1](torch.cat((self.stages[0](y), y, self.shrink(half)), dim=1)))
        y = self.head(self.finish[2](torch.cat((y, self.stages[1](y)), dim=1)))
        return crop(resize(y, padded.shape[2:]), x.shape[2:])


class FPENet(nn.Module):
    """Blocks whose quarters of the channels pass on to each other through ever larger dilations.

    Source: Liu and Yin, BMVC 2019, table 1. `blocks`: per level.
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
        self.stem = style.convolution(in_channels, width, stride=2)
        self.firsts, self.rests = nn.ModuleList(), nn.ModuleList()
        before = width
        for k, count in enumerate(blocks):
            after, wider = width * 2**k, 1 if k == 0 else 4
            self.firsts.append(_Cascade(style, before, after, stride=1 if k == 0 else 2, expansion=wider))
            rest = (_Cascade(style, after, after, stride=1, expansion=wider) for _ in range(count - 1))
            self.rests.append(nn.Sequential(*rest))
            before = after
        self.up = nn.ModuleList(
            (_MutualUp(style, 4 * width, 2 * width, 4 * width), _MutualUp(style, 4 * width, width, 2 * width))
        )
        self.head = Style(spatial_dims, norm, bias=True).plain(2 * width, out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 8)
        y = self.stem(padded)
        scales = []
        for k, (first, rest) in enumerate(zip(self.firsts, self.rests, strict=True)):
            y = first(y)
            y = rest(y) if k == 0 else y + rest(y)
            scales.append(y)
        y = self.up[1](self.up[0](scales[2], scales[1]), scales[0])
        return crop(resize(self.head(y), padded.shape[2:]), x.shape[2:])


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


class _Guided(nn.Module):
    """A depthwise convolution beside a dilated one, weighted by channel; added to the input unless it halves it."""

    def __init__(
        self, style: Style, before: int, after: int, *, dilation: int, reduction: int, down: bool = False
    ) -> None:
        super().__init__()
        middle = after if down else after // 2
        self.adds = not down
        self.reduce = style.convolution(before, middle, 3 if down else 1, stride=2 if down else 1)
        self.near = style.depthwise(middle, finished=False)
        self.around = style.depthwise(middle, dilation=dilation, finished=False)
        self.finish = nn.Sequential(
            style.finish(2 * middle),
            style.plain(2 * middle, after, 1) if down else nn.Identity(),
            SqueezeExcitation(style.spatial_dims, after, reduction),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size), half of it where it is down."""
        y = self.reduce(x)
        joined: Tensor = self.finish(torch.cat((self.near(y), self.around(y)), dim=1))
        return x + joined if self.adds else joined


class _Cascade(nn.Module):
    """1 x 1, four quarters of the channels through depthwise dilations 1, 2, 4, 8 onto each other, 1 x 1; added."""

    def __init__(self, style: Style, before: int, after: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * before
        self.expand = style.convolution(before, wide, 1, stride=stride)
        self.dilated = nn.ModuleList(style.depthwise(wide // 4, dilation=d) for d in (1, 2, 4, 8))
        self.project = style.convolution(wide, after, 1, active=False)
        straight = stride == 1 and before == after
        self.shortcut = nn.Identity() if straight else style.convolution(before, after, 1, stride=stride, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size / stride)."""
        quarters = self.expand(x).chunk(4, dim=1)
        passed = [self.dilated[0](quarters[0])]
        for branch, quarter in zip(self.dilated[1:], quarters[1:], strict=True):
            passed.append(branch(quarter + passed[-1]))
        return relu(self.project(torch.cat(passed, dim=1)) + self.shortcut(x))


class _MutualUp(nn.Module):
    """Fine features weighted by channel as the coarse say, coarse ones weighted by place as the fine say; added."""

    def __init__(self, style: Style, coarse: int, fine: int, after: int) -> None:
        super().__init__()
        self.fine = style.convolution(fine, after, 1, active=False)
        self.coarse = style.convolution(coarse, after, 1, active=False)
        self.by_place = nn.Sequential(style.plain(1, 1, 1), nn.Sigmoid(), AttentionMap())
        self.by_channel = nn.Sequential(style.plain(after, after, 1), nn.ReLU(), nn.Sigmoid(), AttentionMap())

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, coarse, *size / 2), (N, fine, *size) -> (N, after, *size)."""
        fine, coarse = self.fine(fine), self.coarse(coarse)
        places = self.by_place(fine.mean(1, keepdim=True))
        channels = self.by_channel(coarse.mean(dim=tuple(range(2, coarse.ndim)), keepdim=True))
        weighted: Tensor = channels * fine + places * resize(coarse, fine.shape[2:])
        return weighted
