"""A dilated ResNet whose coarsest map attends to itself: CCNet along its axes, DANet as a whole; in 2D or 3D.

N: batch. C: channels. V: voxels of a map. *size: (Z, Y, X) or (Y, X).
    x        (N, in_channels, *size)
    bottom   (N, 32 * width, *size / 8)
    context  (N, 8 * width, *size / 8)
    logits   (N, out_channels, *size)
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.attention import DotProductAttention, at_most
from napari_medseg.architectures.blocks.base import AttentionMap, crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import Style
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import dilated_resnet

FRACTION = 8
"""Queries and keys have one of so many channels."""
START = 0.1
"""The first weight of what attention adds. Published as 0, from which its convolutions learn nothing at first."""
SUPERVISED = 3
"""Classifiers of DANet in training: of both kinds of attention together, and of each."""
STRIDE = 8


class CCNet(nn.Module):
    """Each voxel attends to those on the lines through it along the axes, twice over (Huang et al., ICCV 2019).

    The same weights are used each time. After as many times as there are axes, every voxel has seen every other; in 3D
    the published two leave that out for voxels that differ in all three. Keys grow with the length of the lines only.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        blocks: tuple[int, ...],
        recurrence: int,
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm)
        self.encoder = dilated_resnet(spatial_dims, in_channels, blocks, width, norm)
        deep = self.encoder.channels[-1]
        self.reduce = style.convolution(deep, deep // 4)
        self.attend = CrissCrossAttention(spatial_dims, deep // 4)
        self.recurrence = recurrence
        self.after = style.convolution(deep // 4, deep // 4)
        self.head = nn.Sequential(
            style.convolution(deep + deep // 4, deep // 4),
            style.dropout(dropout),
            Style(spatial_dims, norm, bias=True).plain(deep // 4, out_channels, 1),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, STRIDE)
        bottom = self.encoder(padded)[-1]
        context = self.reduce(bottom)
        for _ in range(self.recurrence):
            context = self.attend(context)
        logits = self.head(torch.cat((bottom, self.after(context)), dim=1))
        return crop(resize(logits, padded.shape[2:]), x.shape[2:])


class DANet(nn.Module):
    """Attention among all places beside attention among all channels, summed (Fu et al., CVPR 2019).

    In training with deep supervision each kind of attention is classified by itself too. `keys_per_axis` bounds the
    places that a voxel looks at: the map is averaged to as many along each axis.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        blocks: tuple[int, ...],
        keys_per_axis: int,
        norm: str,
        dropout: float,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        style = Style(spatial_dims, norm)
        self.encoder = dilated_resnet(spatial_dims, in_channels, blocks, width, norm)
        deep = self.encoder.channels[-1]
        narrow = deep // 4
        self.position = nn.Sequential(
            style.convolution(deep, narrow),
            PositionAttention(spatial_dims, narrow, keys_per_axis),
            style.convolution(narrow, narrow),
        )
        self.channel = nn.Sequential(
            style.convolution(deep, narrow), ChannelAttention(), style.convolution(narrow, narrow)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(style.dropout(dropout), Style(spatial_dims, norm, bias=True).plain(narrow, out_channels, 1))
            for _ in range(SUPERVISED if deep_supervision else 1)
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of the two kinds of attention.
        """
        padded = pad_to_multiple(x, STRIDE)
        bottom = self.encoder(padded)[-1]
        position, channel = self.position(bottom), self.channel(bottom)
        maps = (position + channel, position, channel)
        heads = self.heads if self.training else self.heads[:1]
        logits = [head(y) for head, y in zip(heads, maps, strict=False)]
        return Outputs.of([crop(resize(y, padded.shape[2:]), x.shape[2:]) for y in logits])


class CrissCrossAttention(nn.Module):
    """Each voxel gathers from the lines through it along the axes, itself counted once (Huang et al., eq. 1 and 2).

    Its map is (N, 1, V, sum of *size): for every voxel, the keys along the first axis, then along the next.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        conv = partial(Conv[Conv.CONV, spatial_dims], channels, kernel_size=1)
        narrow = max(1, channels // FRACTION)
        self.query, self.key, self.value = conv(narrow), conv(narrow), conv(channels)
        self.share = nn.Parameter(torch.full((1,), START))
        self.map = AttentionMap()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        query, key, value = (conv(x).movedim(1, -1) for conv in (self.query, self.key, self.value))
        axes = range(1, query.ndim - 1)
        scores = torch.cat([self._scores(query, key, axis, last=axis == axes[-1]) for axis in axes], dim=-1)
        weights = scores.softmax(-1)
        self.map(weights.flatten(1, -2)[:, None])
        gathered, start = torch.zeros_like(value), 0
        for axis in axes:
            part = weights.narrow(-1, start, query.shape[axis])
            gathered = gathered + (part.movedim(axis, -2) @ value.movedim(axis, -2)).movedim(-2, axis)
            start += query.shape[axis]
        return self.share * gathered.movedim(-1, 1) + x

    @staticmethod
    def _scores(query: Tensor, key: Tensor, axis: int, *, last: bool) -> Tensor:
        """(N, *size, c) twice -> (N, *size, n): with the n voxels along an axis, itself among them on the last only."""
        scores = query.movedim(axis, -2) @ key.movedim(axis, -2).transpose(-2, -1)
        if not last:
            itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
            scores = scores.masked_fill(itself, -torch.inf)
        return scores.movedim(-2, axis)


class PositionAttention(nn.Module):
    """Each voxel gathers from the whole map by alikeness (Fu et al., section 3.2); the scores are not scaled."""

    def __init__(self, spatial_dims: int, channels: int, keys_per_axis: int) -> None:
        super().__init__()
        conv = partial(Conv[Conv.CONV, spatial_dims], channels, kernel_size=1)
        narrow = max(1, channels // FRACTION)
        self.query, self.key, self.value = conv(narrow), conv(narrow), conv(channels)
        self.keys_per_axis = keys_per_axis
        self.attention = DotProductAttention()
        self.scale = narrow**0.5  # dot-product attention divides by it
        self.share = nn.Parameter(torch.full((1,), START))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        seen = at_most(x, self.keys_per_axis)
        parts = (self.scale * self.query(x), self.key(seen), self.value(seen))
        query, key, value = (part.flatten(2).transpose(1, 2)[:, None] for part in parts)
        gathered = self.attention(query, key, value)[:, 0].transpose(1, 2).reshape(x.shape)
        y: Tensor = self.share * gathered + x
        return y


class ChannelAttention(nn.Module):
    """Each channel gathers from the channels that are unlike it (Fu et al., section 3.3).

    Scores are the largest product of a channel less its products, as in the authors' code. They are sums over all
    voxels, which half the digits would round away: float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.full((1,), START))
        self.map = AttentionMap()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size); the map is (N, 1, C, C)."""
        with _in_float32(x.device.type):
            rows = x.float().flatten(2)
            products = rows @ rows.transpose(1, 2)
            weights = (products.amax(-1, keepdim=True) - products).softmax(-1)
            gathered = (self.map(weights[:, None])[:, 0] @ rows).reshape(x.shape)
        y: Tensor = self.share * gathered.to(x.dtype) + x
        return y


def _in_float32(device: str) -> AbstractContextManager[object]:
    """Inside, matrix products keep their digits; the meta device, which computes nothing, knows no number formats."""
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
