"""Light 2D networks whose features are weighted by a view of the whole image: CGNet and FPENet.

N: batch. C: channels. *size: (Y, X).
    x       (N, in_channels, *size)
    bottom  (N, C, *size / 8)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from napari_medseg.architectures.blocks.attention import SqueezeExcitation
from napari_medseg.architectures.blocks.base import AttentionMap, crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import Style


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
