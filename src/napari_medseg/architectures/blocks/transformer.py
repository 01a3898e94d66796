"""The transformer encoder (Vaswani et al., NeurIPS 2017; Dosovitskiy et al., ICLR 2021) on a map of any size.

N: batch. C: channels. T: tokens, the voxels of the map. *size: (Z, Y, X) or (Y, X).
    x       (N, C, *size)
    tokens  (N, T, hidden)
"""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.attention import DotProductAttention
from napari_medseg.architectures.blocks.base import resize
from napari_medseg.errors import InputError

EPSILON = 1e-6


class MapTransformer(nn.Module):
    """Every voxel of a map becomes a token, with its learned position; layers of attention; back to a map.

    Positions are learned on a grid and interpolated to the size of the map. `grid`: one number for all axes, or one per
    axis. `patch`: voxels of a token along each axis; the size is a multiple of it. Raises InputError for a grid of
    another length, or heads that do not divide `hidden`.
    """

    def __init__(
        self,
        spatial_dims: int,
        before: int,
        hidden: int,
        *,
        layers: int,
        heads: int,
        mlp: int,
        grid: tuple[int, ...],
        dropout: float = 0.0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        if len(grid) not in (1, spatial_dims):
            raise InputError(f"grid needs one number, or one per axis ({spatial_dims}); got {len(grid)}")
        if hidden % heads:
            raise InputError(f"hidden must be a multiple of heads ({heads}); got {hidden}")
        self.embedding = Conv[Conv.CONV, spatial_dims](before, hidden, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(1, hidden, *(grid * spatial_dims)[:spatial_dims]))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*(TransformerLayer(hidden, heads, mlp, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(hidden, eps=EPSILON)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, hidden, *size / patch)."""
        return self.states(x)[-1]

    def states(self, x: Tensor) -> list[Tensor]:
        """(N, before, *size) -> the map (N, hidden, *size / patch) after every layer; the last one is normalised."""
        x = self.embedding(x)
        x = x + resize(self.positions, x.shape[2:])
        tokens, states = self.dropout(x.flatten(2).transpose(1, 2)), []
        for layer in self.layers:
            tokens = layer(tokens)
            states.append(tokens)
        states[-1] = self.norm(tokens)
        return [state.transpose(1, 2).reshape(x.shape) for state in states]


class TransformerLayer(nn.Module):
    """Attention, then a perceptron, each on normalised tokens and added to them."""

    def __init__(self, hidden: int, heads: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hidden, eps=EPSILON)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attention = DotProductAttention()
        self.out = nn.Sequential(nn.Linear(hidden, hidden), nn.Dropout(dropout))
        self.norm2 = nn.LayerNorm(hidden, eps=EPSILON)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, mlp), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp, hidden), nn.Dropout(dropout)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, hidden) -> (N, T, hidden)."""
        batch, count, hidden = tokens.shape
        parts = self.qkv(self.norm1(tokens)).reshape(batch, count, 3, self.heads, hidden // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = self.attention(query, key, value).transpose(1, 2).reshape(tokens.shape)
        tokens = tokens + self.out(attended)
        added: Tensor = tokens + self.mlp(self.norm2(tokens))
        return added
