"""The volumetric memory network: masks of some slices guide the segmentation of another (Zhou et al. 2021, 2023).

N: batch. C: channels of the image. T: slices in memory. (Y, X): a slice; (y, x): of a sixteenth of its size.
    x              (N, C, Y, X), the slice asked for
    memory         (N, C, T, Y, X) images, (N, 1, T, Y, X) masks of one object, in [0, 1]
    keys, values   (N, key, T, y, x), (N, value, T, y, x)
    logits         (N, 2, Y, X): background, object
    quality        (N,): the intersection over union that the network expects of its own mask
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from napari_medseg.architectures.blocks.attention import DotProductAttention
from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import Bottleneck, ResNetEncoder, conv_unit
from napari_medseg.errors import InputError

DILATIONS = (2, 4, 8)
QUALITY_FEATURES = 1000
_conv3 = partial(nn.Conv2d, kernel_size=3, padding=1)


@dataclass(frozen=True)
class Memory:
    """The keys and values of slices with masks."""

    keys: Tensor
    """(N, key, T, y, x)"""
    values: Tensor
    """(N, value, T, y, x)"""

    def with_later(self, other: Memory) -> Memory:
        """This memory and then another."""
        return Memory(torch.cat((self.keys, other.keys), dim=2), torch.cat((self.values, other.values), dim=2))


class Mem3D(nn.Module):
    """Two residual encoders, one of slices with masks; the slice asked for reads from the memory, and is decoded.

    `aspp`: dilated branches where the decoder starts; without, one convolution (Oh et al., ICCV 2019). `quality`: a
    head that rates the mask, so that the next slice to correct is proposed without the ground truth.
    Sources: Zhou et al., MICCAI 2021; Zhou et al., MedIA 2023. Raises InputError for other than two classes:
    every object is propagated by itself.
    """

    multiple = 16

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        blocks: tuple[int, ...],
        key: int,
        value: int,
        decoder: int,
        aspp: bool,
        quality: bool,
        norm: str,
    ) -> None:
        super().__init__()
        if out_channels != 2:
            raise InputError(f"the memory holds one object and its background; got out_channels={out_channels}")
        encoder = partial(
            ResNetEncoder, spatial_dims, blocks=blocks, bottleneck=True, width=width, dilations=(1, 1, 1), norm=norm
        )
        self.remember = encoder(in_channels=in_channels + 2)
        self.look = encoder(in_channels=in_channels)
        *_, quarter, eighth, deepest = self.look.channels
        self.memory_key, self.memory_value = _conv3(deepest, key), _conv3(deepest, value)
        self.query_key, self.query_value = _conv3(deepest, key), _conv3(deepest, value)
        self.attention = DotProductAttention()
        start = _DilatedBranches(norm, 2 * value, decoder) if aspp else _conv3(2 * value, decoder)
        self.start = nn.Sequential(start, _Residual(decoder))
        self.refine = nn.ModuleList(_Refinement(skip, decoder) for skip in (eighth, quarter))
        self.head = _conv3(decoder, out_channels)
        self.quality = _Quality(norm, deepest) if quality else None
        he_init(self)

    def forward(self, x: Tensor, images: Tensor, masks: Tensor) -> Outputs:
        """A slice, and images and masks in memory -> logits (N, 2, Y, X), and under "quality" (N,) with that head."""
        return self.segment(x, self.memorise(images, masks))

    def memorise(self, images: Tensor, masks: Tensor) -> Memory:
        """(N, C, T, Y, X), (N, 1, T, Y, X) -> the memory of T slices; any size."""
        slices = torch.cat((images, masks, 1 - masks), dim=1).transpose(1, 2)
        deep = self.remember(pad_to_multiple(slices.flatten(0, 1), self.multiple))[-1]
        apart = slices.shape[:2]
        keys, values = (of(deep).unflatten(0, apart).transpose(1, 2) for of in (self.memory_key, self.memory_value))
        return Memory(keys, values)

    def segment(self, x: Tensor, memory: Memory) -> Outputs:
        """(N, C, Y, X) -> logits (N, 2, Y, X), and under "quality" (N,) with that head; any size."""
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        *_, quarter, eighth, deep = self.look(x)
        y = self.start(torch.cat((self._read(deep, memory), self.query_value(deep)), dim=1))
        for refine, skip in zip(self.refine, (eighth, quarter), strict=True):
            y = refine(skip, y)
        logits = resize(self.head(relu(y)), x.shape[2:])
        heads = {} if self.quality is None else {"quality": self.quality(deep, logits)}
        return Outputs(crop(logits, size), heads=heads)

    def _read(self, deep: Tensor, memory: Memory) -> Tensor:
        """softmax(K^T Q / sqrt(key)) V over all voxels of all slices in memory: (N, value, y, x)."""
        query, keys, values = (_tokens(t) for t in (self.query_key(deep), memory.keys, memory.values))
        read = self.attention(query, keys, values)[:, 0].transpose(1, 2)
        mapped: Tensor = read.unflatten(2, deep.shape[2:])
        return mapped


class _DilatedBranches(nn.Module):
    """The mean of the map, a 1^2 and three dilated 3^2 convolutions side by side, joined by one of 3^2."""

    def __init__(self, norm: str, before: int, after: int) -> None:
        super().__init__()
        unit = partial(conv_unit, 2, norm, before, after, bias=True)
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), unit(kernel=1))
        self.branches = nn.ModuleList([unit(kernel=1), *(unit(dilation=d) for d in DILATIONS)])
        self.join = _conv3(after * (2 + len(DILATIONS)), after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, y, x) -> (N, after, y, x)."""
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        joined: Tensor = self.join(torch.cat((mean, *(branch(x) for branch in self.branches)), dim=1))
        return joined


class _Residual(nn.Module):
    """Twice ReLU and a 3^2 convolution, beside the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), _conv3(channels, channels), nn.ReLU(), _conv3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, Y, X) -> (N, C, Y, X)."""
        added: Tensor = x + self.body(x)
        return added


class _Refinement(nn.Module):
    """A finer map of the encoder and the coarser one of the decoder, brought to its size, added."""

    def __init__(self, skip: int, channels: int) -> None:
        super().__init__()
        self.skip = nn.Sequential(_conv3(skip, channels), _Residual(channels))
        self.residual = _Residual(channels)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """(N, skip, Y, X), (N, C, y, x) -> (N, C, Y, X)."""
        refined: Tensor = self.residual(self.skip(skip) + resize(coarse, skip.shape[2:]))
        return refined


class _Quality(nn.Module):
    """Features of the slice, and logits -> the expected intersection over union (N,); any size."""

    def __init__(self, norm: str, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.mix = _conv3(channels + 2, channels, bias=False)
        self.stage = nn.Sequential(
            Bottleneck(2, norm, channels, wide, stride=2), *(Bottleneck(2, norm, wide, wide) for _ in range(2))
        )
        self.rate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(wide, QUALITY_FEATURES),
            nn.ReLU(),
            nn.Linear(QUALITY_FEATURES, 1),
            nn.Sigmoid(),
        )

    def forward(self, deep: Tensor, logits: Tensor) -> Tensor:
        """(N, channels, y, x), (N, 2, Y, X) -> (N,), in (0, 1). The mask itself is rated, not changed."""
        sure, mask = logits.detach().softmax(1).max(1, keepdim=True)
        seen = resize(torch.cat((mask.to(sure.dtype), sure), dim=1), deep.shape[2:])
        rated: Tensor = self.rate(self.stage(self.mix(torch.cat((deep, seen), dim=1))))
        return rated[:, 0]


def _tokens(x: Tensor) -> Tensor:
    """(N, C, *size) -> (N, 1, voxels, C)."""
    return x.flatten(2).transpose(1, 2)[:, None]
