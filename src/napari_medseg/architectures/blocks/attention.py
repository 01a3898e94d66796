"""Attention as networks share it: every voxel of a map looks at all others, or a gate lets voxels through.

N: batch. C: channels. H: heads. Q, K: number of queries and of keys. *size: (Z, Y, X) or (Y, X).
    x        (N, C, *size)
    weights  (N, H, Q, K), each row a distribution over the keys
    gate     (N, 1, *size), in [0, 1]
"""

from __future__ import annotations

from functools import partial
from math import prod

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention

from napari_medseg.architectures.blocks.base import AttentionMap
from napari_medseg.architectures.blocks.resnet import conv_unit

WEIGHTS_AT_MOST = 2**24
"""Of H * Q * K. Larger maps are never held: 64 MiB in float32."""


class DotProductAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V over heads (Vaswani et al., NeurIPS 2017, eq. 1), in memory linear in the queries.

    Weights that are small enough to be held can be read with `blocks.attention_maps`.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.map = AttentionMap()

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, H, Q, d), (N, H, K, d), (N, H, K, e) -> (N, H, Q, e)."""
        heads, queries, width = query.shape[1:]
        if heads * queries * key.shape[2] > WEIGHTS_AT_MOST:
            return scaled_dot_product_attention(query, key, value, dropout_p=self.dropout.p if self.training else 0.0)
        weights = (query @ key.transpose(2, 3) * width**-0.5).softmax(3)
        attended: Tensor = self.dropout(self.map(weights)) @ value
        return attended


class GlobalAggregation(nn.Module):
    """Each voxel of the output gathers from the whole input (Wang et al., AAAI 2020, section "Global Aggregation").

    Keys and values are 1^n convolutions of the input; queries too, or, with `up`, a 3^n transposed convolution of
    stride 2, which doubles the size. The input is averaged to at most `keys_per_axis` keys along each axis.
    """

    def __init__(
        self,
        spatial_dims: int,
        before: int,
        after: int,
        *,
        heads: int,
        dropout: float,
        keys_per_axis: int,
        up: bool = False,
    ) -> None:
        super().__init__()
        conv = partial(Conv[Conv.CONV, spatial_dims], kernel_size=1)
        self.query = doubling(spatial_dims, before, after, bias=True) if up else conv(before, after)
        self.key = conv(before, after)
        self.value = conv(before, after)
        self.out = conv(after, after)
        self.attention = DotProductAttention(dropout)
        self.heads = heads
        self.keys_per_axis = keys_per_axis

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size), the size doubled with `up`."""
        query, seen = self.query(x), at_most(x, self.keys_per_axis)
        tokens = (self._tokens(t) for t in (query, self.key(seen), self.value(seen)))
        gathered = self.attention(*tokens).transpose(2, 3).reshape(query.shape)
        y: Tensor = self.out(gathered)
        return y

    def _tokens(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, H, voxels, C / H)."""
        return x.reshape(len(x), self.heads, x.shape[1] // self.heads, prod(x.shape[2:])).transpose(2, 3)


class GatedSkip(nn.Module):
    """An additive gate on the skip, then concatenation (Oktay et al., MIDL 2018, eq. 1 and 2).

    The gate: sigmoid of a 1^n convolution of ReLU(skip + up), each projected by a 1^n convolution to half the channels.
    """

    def __init__(self, spatial_dims: int, norm: str, channels: int) -> None:
        super().__init__()
        project = partial(conv_unit, spatial_dims, norm, channels, max(1, channels // 2), kernel=1, active=False)
        self.skip = project(bias=True)
        self.up = project(bias=True)
        self.score = conv_unit(spatial_dims, norm, max(1, channels // 2), 1, kernel=1, active=False, bias=True)
        self.map = AttentionMap()

    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        """(N, C, *size), (N, C, *size) -> (N, 2 C, *size); the gate is (N, 1, *size)."""
        gate = self.map(self.score(relu(self.skip(skip) + self.up(up))).sigmoid())
        return torch.cat((gate * skip, up), dim=1)


class SqueezeExcitation(nn.Module):
    """Each channel times a weight in [0, 1], computed from the means of all channels (Hu et al., CVPR 2018)."""

    def __init__(self, spatial_dims: int, channels: int, reduction: int = 16) -> None:
        super().__init__()
        conv, narrow = partial(Conv[Conv.CONV, spatial_dims], kernel_size=1), max(1, channels // reduction)
        self.weigh = nn.Sequential(
            conv(channels, narrow), nn.ReLU(inplace=True), conv(narrow, channels), nn.Sigmoid(), AttentionMap()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        weighted: Tensor = x * self.weigh(at_most(x, 1))
        return weighted


def at_most(x: Tensor, n: int) -> Tensor:
    """(N, C, *size) -> the same averaged to at most n along each axis."""
    size = [min(m, n) for m in x.shape[2:]]
    if list(x.shape[2:]) == size:
        return x
    averaged: Tensor = Pool[Pool.ADAPTIVEAVG, len(size)](tuple(size))(x)
    return averaged


def doubling(spatial_dims: int, before: int, after: int, *, bias: bool) -> nn.Module:
    """A 3^n transposed convolution of stride 2 that exactly doubles the size."""
    up: nn.Module = Conv[Conv.CONVTRANS, spatial_dims](
        before, after, kernel_size=3, stride=2, padding=1, output_padding=1, bias=bias
    )
    return up
