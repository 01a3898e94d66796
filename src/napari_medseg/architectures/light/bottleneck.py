"""Light 2D networks of bottlenecks to a quarter of the channels: ENet and FSSNet.

N: batch. C: channels. *size: (Y, X).
    x       (N, in_channels, *size)
    bottom  (N, 128, *size / 8)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, max_unpool2d

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import Halving, Style

SHALLOW = 0.1
"""Dropout in the finer stages, times that of the deepest."""


class ENet(nn.Module):
    """Plain, dilated and asymmetric bottlenecks; the decoder puts values back where pooling took them from.

    Source: Paszke et al., arXiv:1606.02147, table 1.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, norm: str, dropout: float) -> None:
        super().__init__()
        encoding, decoding = Style(spatial_dims, norm, "prelu"), Style(spatial_dims, norm)
        shallow = SHALLOW * dropout
        up = partial(_Bottleneck, decoding, dropout=dropout)
        self.first = Halving(encoding, in_channels, 16)
        self.down = nn.ModuleList((_Down(encoding, 16, 64, dropout=shallow), _Down(encoding, 64, 128, dropout=dropout)))
        self.encode = nn.ModuleList(
            (
                nn.Sequential(*(_Bottleneck(encoding, 64, dropout=shallow) for _ in range(4))),
                nn.Sequential(*_varied(encoding, 128, dropout), *_varied(encoding, 128, dropout)),
            )
        )
        self.up = nn.ModuleList((_Up(decoding, 128, 64, dropout=dropout), _Up(decoding, 64, 16, dropout=dropout)))
        self.decode = nn.ModuleList((nn.Sequential(up(64), up(64)), up(16)))
        self.head = decoding.convolution(16, out_channels, stride=2, transposed=True, normed=False, active=False)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        y = self.first(pad_to_multiple(x, 8))
        places = []
        for down, stage in zip(self.down, self.encode, strict=True):
            y, indices = down(y)
            places.append(indices)
            y = stage(y)
        for up, stage in zip(self.up, self.decode, strict=True):
            y = stage(up(y, places.pop()))
        return crop(self.head(y), x.shape[2:])


class FSSNet(nn.Module):
    """Factorised bottlenecks, then dilated ones; the decoder adds the input of each encoder stage.

    Source: Zhang et al., IEEE Transactions on Industrial Informatics 2019, tables I and II.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, norm: str, dropout: float) -> None:
        super().__init__()
        style = Style(spatial_dims, norm)
        shallow = SHALLOW * dropout
        block = partial(_Bottleneck, style)
        self.first = Halving(style, in_channels, 16)
        self.down = nn.ModuleList(
            (_Merge(style, 16, 64, down=True, dropout=shallow), _Merge(style, 64, 128, down=True, dropout=dropout))
        )
        self.encode = nn.ModuleList(
            (
                nn.Sequential(*(block(64, asymmetric=True, dropout=shallow) for _ in range(4))),
                nn.Sequential(*(block(128, dilation=d, dropout=dropout) for d in (2, 5, 9, 2, 5, 9))),
            )
        )
        self.up = nn.ModuleList(
            (_Merge(style, 128, 64, down=False, dropout=dropout), _Merge(style, 64, 16, down=False, dropout=dropout))
        )
        self.decode = nn.ModuleList(
            nn.Sequential(block(n, dropout=dropout), block(n, dropout=dropout)) for n in (64, 16)
        )
        self.head = style.convolution(16, out_channels, stride=2, transposed=True, normed=False, active=False)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        y = self.first(pad_to_multiple(x, 8))
        skips = []
        for down, stage in zip(self.down, self.encode, strict=True):
            skips.append(down(y))
            y = stage(skips[-1])
        for up, stage in zip(self.up, self.decode, strict=True):
            y = stage(up(y, skips.pop()))
        return crop(self.head(y), x.shape[2:])


def _varied(style: Style, channels: int, dropout: float) -> list[nn.Module]:
    """Plain, dilated and asymmetric bottlenecks by turns, the dilation doubled each time."""
    block = partial(_Bottleneck, style, channels, dropout=dropout)
    along = partial(block, kernel=5, asymmetric=True)
    return [
        block(),
        block(dilation=2),
        along(),
        block(dilation=4),
        block(),
        block(dilation=8),
        along(),
        block(dilation=16),
    ]


class _Bottleneck(nn.Module):
    """1 x 1 to a quarter, k x k (or along each axis, or dilated), 1 x 1 back; added to the input."""

    def __init__(
        self,
        style: Style,
        channels: int,
        *,
        kernel: int = 3,
        dilation: int = 1,
        asymmetric: bool = False,
        dropout: float,
    ) -> None:
        super().__init__()
        quarter = channels // 4
        if asymmetric:
            middle: nn.Module = style.along_axes(quarter, kernel, dilation)
        else:
            middle = style.convolution(quarter, quarter, kernel, dilation=dilation)
        self.body = nn.Sequential(
            style.convolution(channels, quarter, 1),
            middle,
            style.convolution(quarter, channels, 1, active=False),
            style.dropout(dropout),
        )
        self.activation = style.activate(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        y: Tensor = self.activation(x + self.body(x))
        return y


class _Down(nn.Module):
    """A bottleneck of stride 2 beside a max-pooling, whose channels are filled up with zeros."""

    def __init__(self, style: Style, before: int, after: int, *, dropout: float) -> None:
        super().__init__()
        self.missing = after - before
        self.body = _resizing(style, before, after, down=True, dropout=dropout)
        self.activation = style.activate(after)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, before, *size) -> (N, after, *size / 2) and the places of the maxima, (N, before, *size / 2)."""
        pooled, places = max_pool2d(x, 2, return_indices=True)
        zeros = pooled.new_zeros(()).expand(pooled.shape[0], self.missing, *pooled.shape[2:])
        return self.activation(self.body(x) + torch.cat((pooled, zeros), dim=1)), places


class _Up(nn.Module):
    """A bottleneck of a transposed convolution, beside a projection put back at the places of the maxima."""

    def __init__(self, style: Style, before: int, after: int, *, dropout: float) -> None:
        super().__init__()
        self.body = _resizing(style, before, after, down=False, dropout=dropout)
        self.project = style.convolution(before, after, 1, active=False)
        self.activation = style.activate(after)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """(N, before, *size), places (N, after, *size) -> (N, after, *2 size)."""
        y: Tensor = self.activation(self.body(x) + max_unpool2d(self.project(x), places, (2, 2)))
        return y


class _Merge(nn.Module):
    """A bottleneck that halves or doubles the size beside a projection of the pooled or interpolated input."""

    def __init__(self, style: Style, before: int, after: int, *, down: bool, dropout: float) -> None:
        super().__init__()
        self.body = _resizing(style, before, after, down=down, dropout=dropout)
        self.pool = style.max_pool() if down else None
        self.project = style.plain(before, after, 1) if down else style.convolution(before, after, 1, active=False)
        self.activation = style.activate(after)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """(N, before, *size), skip the same -> (N, after, *size / 2 or *2 size)."""
        y = self.body(x)
        straight = self.project(x if skip is None else x + skip)
        straight = self.pool(straight) if self.pool is not None else resize(straight, y.shape[2:])
        merged: Tensor = self.activation(y + straight)
        return merged


def _resizing(style: Style, before: int, after: int, *, down: bool, dropout: float) -> nn.Sequential:
    """To a quarter of the channels and 3 x 3, halving the size first or doubling it then; 1 x 1 to `after`."""
    quarter = before // 4
    inner: tuple[nn.Module, ...]
    if down:
        inner = (
            nn.Sequential(style.by_two(before, quarter), style.finish(quarter)),
            style.convolution(quarter, quarter),
        )
    else:
        inner = (
            style.convolution(before, quarter, 1),
            style.convolution(quarter, quarter, stride=2, transposed=True),
        )
    return nn.Sequential(*inner, style.convolution(quarter, after, 1, active=False), style.dropout(dropout))
