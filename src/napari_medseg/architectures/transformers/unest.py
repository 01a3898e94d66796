"""UNesT: a hierarchical transformer whose blocks of tokens see themselves only, as the encoder of a U-Net.

N: batch. C: channels. G: tokens along the axes of a level. B: tokens along each axis of a block, T: blocks.
    x          (N, in_channels, Z, Y, X)
    level k    (N, 8 * 2^k * feature_size, G_k), G_0 = size / 4, G_k = G_0 / 2^k
    attention  (N, heads, T, B^3, B^3)
    logits     (N, out_channels, Z, Y, X)
"""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock, get_conv_layer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_medseg.architectures.blocks.base import AttentionMap, crop, pad_to_multiple
from napari_medseg.architectures.unets.nnunet import Sizes, require_length

_PATCH = 4
"""Voxels of a token along each axis."""
_BLOCKS = 4
"""Blocks along each axis of the finest level at the size of the positions; half as many in each level above."""
_EPSILON = 1e-6


class UNesT(nn.Module):
    """Yu et al., Medical Image Analysis 2023, doi:10.1016/j.media.2023.102939, on NesT (Zhang et al., AAAI 2022).

    The learnt positions are those of an image of `positions` tokens along each axis. For other sizes they are
    interpolated.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        feature_size: int,
        depths: Sizes,
        num_heads: Sizes,
        positions: int,
    ) -> None:
        super().__init__()
        require_length("num_heads", num_heads, len(depths))
        if positions % _BLOCKS:
            raise ValueError(f"positions must be a multiple of {_BLOCKS}; got {positions}")
        block, fine = positions // _BLOCKS, feature_size
        widths = (8 * fine, 16 * fine, 32 * fine)
        if any(width % heads for width, heads in zip(widths, num_heads, strict=True)):
            raise ValueError(f"num_heads must divide {widths}; got {num_heads}")
        self._multiple = _PATCH * 4 * block * (1 + block % 2)
        self.nestViT = _Encoder(in_channels, widths, depths, num_heads, block)
        self.encoder1 = _Skip(in_channels, 2 * fine)
        self.encoder2 = _Up(widths[0], 4 * fine)
        self.encoder3 = _Skip(widths[0], 8 * fine)
        self.encoder4 = _Skip(widths[1], 16 * fine)
        self.encoder10 = Convolution(3, 32 * fine, 64 * fine, strides=2, adn_ordering="ADN", dropout=0.0)
        for k in range(5, 0, -1):
            self.add_module(f"decoder{k}", _Decoder(2 ** (k + 1) * fine, 2**k * fine))
        self.out = UnetOutBlock(spatial_dims=3, in_channels=2 * fine, out_channels=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, Z, Y, X) -> logits (N, out_channels, Z, Y, X); any size."""
        size = x.shape[2:]
        x = pad_to_multiple(x, self._multiple)
        last, states = self.nestViT(x)
        skips = [self.encoder1(x), self.encoder2(states[0]), self.encoder3(states[1]), self.encoder4(states[2])]
        y = self.encoder10(last)
        for k, skip in zip(range(5, 0, -1), (states[3], *reversed(skips)), strict=True):
            y = self.get_submodule(f"decoder{k}")(y, skip)
        return crop(self.out(y), size)


class _Encoder(nn.Module):
    """Tokens of 4^3 voxels, then levels of transformers, each on half the size of the one before."""

    def __init__(self, in_channels: int, widths: Sizes, depths: Sizes, num_heads: Sizes, block: int) -> None:
        super().__init__()
        self.patch_embed = _Tokens(in_channels, widths[0])
        before = (None, *widths[:-1])
        self.levels = nn.ModuleList(
            _Level(before[k], widths[k], depths[k], num_heads[k], block, _BLOCKS // 2**k) for k in range(len(depths))
        )
        self.norm = nn.LayerNorm(widths[-1], eps=_EPSILON)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, C, Z, Y, X) -> the last level normalised, and the tokens before and after each level."""
        x = self.patch_embed(x)
        states = [x]
        for level in self.levels:
            x = level(x)
            states.append(x)
        return self.norm(x.movedim(1, -1)).movedim(-1, 1), states


class _Tokens(nn.Module):
    """Every 4^3 voxels as a token."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, width, _PATCH, _PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, Z, Y, X) -> (N, width, G_0)."""
        y: Tensor = self.proj(x)
        return y


class _Level(nn.Module):
    """Transformer layers on blocks of tokens; before them, where there is a level before, a convolution and a pool."""

    def __init__(self, before: int | None, width: int, depth: int, heads: int, block: int, blocks: int) -> None:
        super().__init__()
        self._block, self._blocks = block, blocks
        self.pos_embed = nn.Parameter(torch.zeros(1, blocks**3, block**3, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.pool = nn.Identity() if before is None else _Pool(before, width)
        self.transformer_encoder = nn.Sequential(*(_Layer(width, heads) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, 2 G) or (N, width, G) -> (N, width, G)."""
        x = self.pool(x)
        grid = x.shape[2:]
        tokens = self._blocked(x + self._places(grid))
        return self._joined(self.transformer_encoder(tokens), grid)

    def _places(self, grid: torch.Size) -> Tensor:
        """The learnt positions as a map (1, width, G)."""
        whole = (self._blocks * self._block,) * 3
        places = self._joined(self.pos_embed, torch.Size(whole))
        if places.shape[2:] == grid:
            return places
        return interpolate(places, size=tuple(grid), mode="trilinear", align_corners=False)

    def _blocked(self, x: Tensor) -> Tensor:
        """(N, C, G) -> (N, T, B^3, C)."""
        n, c, *grid = x.shape
        b = self._block
        z, y, x_ = (size // b for size in grid)
        parts = x.movedim(1, -1).reshape(n, z, b, y, b, x_, b, c)
        return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, z * y * x_, b**3, c)

    def _joined(self, tokens: Tensor, grid: torch.Size) -> Tensor:
        """(N, T, B^3, C) -> (N, C, G)."""
        n, _, _, c = tokens.shape
        b = self._block
        z, y, x = (size // b for size in grid)
        parts = tokens.reshape(n, z, y, x, b, b, b, c).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return parts.reshape(n, *grid, c).movedim(-1, 1)


class _Pool(nn.Module):
    """Convolution, layer norm over the channels, and the largest of 3^3 in steps of 2."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(before, after, 3, padding=1)
        self.norm = nn.LayerNorm(after, eps=_EPSILON)
        self.pool = nn.MaxPool3d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, G) -> (N, after, G / 2)."""
        x = self.norm(self.conv(x).movedim(1, -1)).movedim(-1, 1)
        pooled: Tensor = self.pool(x)
        return pooled


class _Layer(nn.Module):
    """Attention among the tokens of a block, then a perceptron, each on normalised tokens beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = _Perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, B^3, width) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        y: Tensor = self.mlp(self.norm2(x))
        return x + y


class _Perceptron(nn.Module):
    """Two layers, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, B^3, width) -> the same shape."""
        y: Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return y


class _Attention(nn.Module):
    """Self-attention inside each block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.map = AttentionMap()
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, B^3, C) -> the same shape."""
        n, t, tokens, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, tokens, 3, self._heads, -1).permute(3, 0, 4, 1, 2, 5)
        weights = (q @ k.transpose(-2, -1) * (c // self._heads) ** -0.5).softmax(-1)
        # The heads come last within a channel: published weights were trained so.
        mixed = (self.map(weights) @ v).permute(0, 2, 3, 4, 1).reshape(n, t, tokens, c)
        out: Tensor = self.proj(mixed)
        return out


class _Skip(nn.Module):
    """A residual block."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.layer = UnetResBlock(3, before, after, 3, 1, "instance")

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, G) -> (N, after, G)."""
        y: Tensor = self.layer(x)
        return y


class _Up(nn.Module):
    """Up-convolution to twice the size, then one of a single voxel."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.transp_conv_init = _up(before, after, 2)
        self.blocks = nn.ModuleList([_up(after, after, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, G) -> (N, after, 2 G)."""
        y: Tensor = self.blocks[0](self.transp_conv_init(x))
        return y


class _Decoder(nn.Module):
    """Up-convolution, then a residual block on it and the skip."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.transp_conv = _up(before, after, 2)
        self.conv_block = UnetResBlock(3, 2 * after, after, 3, 1, "instance")

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, before, G), (N, after, 2 G) -> (N, after, 2 G)."""
        y: Tensor = self.conv_block(torch.cat((self.transp_conv(x), skip), dim=1))
        return y


def _up(before: int, after: int, factor: int) -> nn.Module:
    up: nn.Module = get_conv_layer(3, before, after, factor, factor, is_transposed=True)
    return up
