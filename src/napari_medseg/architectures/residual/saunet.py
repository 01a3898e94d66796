"""SAUNet: a texture stream (DenseNet), a gated shape stream, a decoder with dual attention (Sun et al. 2020).

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). f: `filters`.
    x           (N, in_channels, *size)
    texture     stages of size / 4, / 8, / 16 and / 16
    shape       (N, shape[k], *size), k in 0 .. 3; edges (N, 1, *size)
    decoder     (N, 16 f, *size / 16), 8 f / 8, 4 f / 4, 2 f / 2, (N, f, *size)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. 4]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from monai.networks.blocks import ADN, Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.attention import SqueezeExcitation
from napari_medseg.architectures.blocks.base import (
    AttentionMap,
    ShapeMap,
    crop,
    he_init,
    normalisation,
    pad_to_multiple,
    resize,
)
from napari_medseg.architectures.blocks.dense import dense_block, transition
from napari_medseg.architectures.blocks.edge import relative_gradient
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import BasicBlock, conv_unit
from napari_medseg.architectures.blocks.unet import heads_1x1, logits_at


class SAUNet(nn.Module):
    """Texture and shape side by side: a second stream finds edges, which join the last decoder stage; 2D or 3D.

    The published network adds the Canny edges of 8-bit images to the shape stream's, computed on the CPU; here they are
    the image's relative gradient magnitude, computed with the rest. Source: Sun et al., MIDL 2020.
    """

    multiple = 32

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        features: int,
        growth: int,
        blocks: tuple[int, ...],
        shape: tuple[int, ...],
        filters: int,
        norm: str,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        conv, unit = Conv[Conv.CONV, spatial_dims], partial(conv_unit, spatial_dims, norm, bias=True)
        self.texture = _Texture(spatial_dims, in_channels, features=features, growth=growth, blocks=blocks, norm=norm)
        textures = self.texture.channels
        self.shape = _Shape(spatial_dims, norm, textures, shape)
        self.seen_edges = ShapeMap()
        self.both_edges = nn.Sequential(conv(2, 1, kernel_size=1, bias=False), nn.Sigmoid())
        self.widen_edges = unit(1, filters, kernel=1)
        self.centre = nn.Sequential(Pool[Pool.MAX, spatial_dims](kernel_size=2), unit(textures[-1], 16 * filters))
        widths = [16 * filters, 16 * filters, 8 * filters, 4 * filters, 2 * filters]
        self.decoder = nn.ModuleList(
            _DualAttention(spatial_dims, norm, before, skip, after)
            for before, skip, after in zip(widths[:-1], textures[::-1], widths[1:], strict=True)
        )
        middle = 3 * filters // 2
        self.last_up = nn.Sequential(
            unit(2 * filters, middle), _doubled(spatial_dims, middle, filters), _normed(spatial_dims, norm, filters)
        )
        self.last = unit(2 * filters, filters)
        scales = (filters, *widths[:0:-1])
        self.heads = nn.ModuleList(heads_1x1(spatial_dims, scales, out_channels, deep_supervision))
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training: Outputs with the logits of every decoder level, if they are supervised, and under "edges" the
        logits (N, 1, *size) of edges, for an edge loss.
        """
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        textures = self.texture(x)
        edges = self.shape(textures, x.shape[2:])
        both = self.both_edges(torch.cat((self.seen_edges(edges.sigmoid()), relative_gradient(x)), dim=1))
        y = self.centre(textures[-1])
        scales: list[Tensor] = []
        for stage in self.decoder:
            y = stage(y, textures[-1 - len(scales)])
            scales.insert(0, y)
        scales.insert(0, self.last(torch.cat((self.last_up(y), self.widen_edges(both)), dim=1)))
        logits = logits_at(self.heads if self.training else self.heads[:1], scales, size)
        return Outputs.of(logits, {"edges": crop(edges, size)}) if self.training else logits[0]


class _Texture(nn.Module):
    """DenseNet's stages: the first at half the size, each but the last behind it halving."""

    def __init__(
        self, spatial_dims: int, in_channels: int, *, features: int, growth: int, blocks: tuple[int, ...], norm: str
    ) -> None:
        super().__init__()
        stem = Convolution(
            spatial_dims,
            in_channels,
            features,
            kernel_size=7,
            strides=2,
            act=None,
            norm=normalisation(norm, features),
            bias=False,
        )
        stages: list[nn.Sequential] = []
        channels = [features]
        for layers in blocks:
            before = channels[-1]
            dense = before + layers * growth
            last = len(stages) == len(blocks) - 1
            after = dense if last else dense // 2
            end = _norm(spatial_dims, norm, dense) if last else transition(spatial_dims, norm, dense, after)
            stages.append(nn.Sequential(dense_block(spatial_dims, norm, before, growth, layers), end))
            channels.append(after)
        self.stages = nn.ModuleList([nn.Sequential(stem, stages[0]), *stages[1:]])
        self.channels = tuple(channels[1:])

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, *size) -> [(N, channels[k], *size / 4, 8, 16, 16)]."""
        scales: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            scales.append(x)
        return scales


class _Shape(nn.Module):
    """Residual blocks at full size, narrower and narrower, each gated by one texture stage."""

    def __init__(self, spatial_dims: int, norm: str, textures: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        one = partial(Conv[Conv.CONV, spatial_dims], kernel_size=1)
        self.start = one(textures[0], widths[0])
        self.seen = nn.ModuleList(one(c, 1) for c in textures[1:])
        pairs = list(pairwise(widths))
        self.blocks = nn.ModuleList(
            nn.Sequential(BasicBlock(spatial_dims, norm, before, before), one(before, after)) for before, after in pairs
        )
        self.gates = nn.ModuleList(_Gate(spatial_dims, norm, after) for _, after in pairs)
        self.edges = one(widths[-1], 1, bias=False)

    def forward(self, textures: list[Tensor], size: tuple[int, ...]) -> Tensor:
        """The texture stages -> logits (N, 1, *size) of edges."""
        x = resize(self.start(textures[0]), size)
        for block, gate, seen, texture in zip(self.blocks, self.gates, self.seen, textures[1:], strict=True):
            x = gate(block(x), resize(seen(texture), size))
        edges: Tensor = self.edges(x)
        return edges


class _Gate(nn.Module):
    """Features times one plus a weight that they and the texture decide (Takikawa et al., ICCV 2019, section 3.1)."""

    def __init__(self, spatial_dims: int, norm: str, channels: int) -> None:
        super().__init__()
        one = partial(Conv[Conv.CONV, spatial_dims], kernel_size=1)
        together = channels + 1
        self.weigh = nn.Sequential(
            _norm(spatial_dims, norm, together),
            one(together, together),
            nn.ReLU(inplace=True),
            one(together, 1),
            _norm(spatial_dims, norm, 1),
            nn.Sigmoid(),
            AttentionMap(),
        )
        self.mix = one(channels, channels, bias=False)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """(N, C, *size), (N, 1, *size) -> (N, C, *size)."""
        mixed: Tensor = self.mix(x * (1 + self.weigh(torch.cat((x, seen), dim=1))))
        return mixed


class _DualAttention(nn.Module):
    """The coarser stage doubled, beside the texture of that size; channels weighted, and places once more."""

    def __init__(self, spatial_dims: int, norm: str, before: int, skip: int, after: int) -> None:
        super().__init__()
        one, unit = partial(Conv[Conv.CONV, spatial_dims], kernel_size=1), partial(conv_unit, spatial_dims, norm)
        self.up = nn.Sequential(_doubled(spatial_dims, before, before), _normed(spatial_dims, norm, before))
        self.fuse = unit(before + skip, after, bias=True)
        narrow = max(1, after // 4)
        self.places = nn.Sequential(unit(after, narrow, kernel=1), one(narrow, 1), nn.Sigmoid(), AttentionMap())
        self.channels = SqueezeExcitation(spatial_dims, after)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, before, *size / 2), (N, skip, *size or half of it) -> (N, after, *size)."""
        x = self.up(x)
        fused = self.fuse(torch.cat((resize(skip, x.shape[2:]), x), dim=1))
        attended: Tensor = self.channels(fused) * (1 + self.places(fused))
        return attended


def _doubled(spatial_dims: int, before: int, after: int) -> nn.Module:
    """A 4^n transposed convolution of stride 2."""
    up: nn.Module = Conv[Conv.CONVTRANS, spatial_dims](before, after, kernel_size=4, stride=2, padding=1)
    return up


def _norm(spatial_dims: int, norm: str, channels: int) -> nn.Module:
    """The norm alone."""
    made: nn.Module = ADN("N", in_channels=channels, norm=normalisation(norm, channels), norm_dim=spatial_dims)
    return made


def _normed(spatial_dims: int, norm: str, channels: int) -> nn.Module:
    """Norm and ReLU."""
    return nn.Sequential(_norm(spatial_dims, norm, channels), nn.ReLU(inplace=True))
