"""The volumetric memory network: masks of some slices guide the segmentation of another (Zhou et al. 2021, 2023).

N: batch. C: channels of the image. T: slices in memory. (Y, X): a slice; (y, x): of a sixteenth of its size, or of an
eighth.
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
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn.functional import relu

from napari_medseg.architectures.blocks.attention import DotProductAttention
from napari_medseg.architectures.blocks.base import crop, he_init, normalisation, pad_to_multiple, resize
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import Bottleneck, ResNetEncoder, conv_unit
from napari_medseg.errors import InputError

DILATIONS = (2, 4, 8)
QUALITY_FEATURES = 1000
_QUIET = 0.1
"""Factor of the first weights where residuals and scores are made."""
_LEAK = 0.2
"""Slope below 0 at the end of the decoder."""
_conv3 = partial(nn.Conv2d, kernel_size=3, padding=1)


@dataclass(frozen=True)
class Memory:
    """The keys and values of slices with masks."""

    keys: Tensor
    """(N, key, T, y, x)"""
    values: Tensor
    """(N, value, T, y, x)"""
    last: Tensor
    """(N, C + 1, Y, X): image and mask of the last slice."""

    def with_later(self, other: Memory) -> Memory:
        """This memory and then another."""
        keys, values = torch.cat((self.keys, other.keys), dim=2), torch.cat((self.values, other.values), dim=2)
        return Memory(keys, values, other.last)


class Mem3D(nn.Module):
    """Two residual encoders, one of slices with masks; the slice asked for reads from the memory, and is decoded.

    `aspp`: dilated branches where the decoder starts; without, one convolution (Oh et al., ICCV 2019). `quality`: a
    head that rates the mask, so that the next slice to correct is proposed without the ground truth.

    As published, the memory says what looks like the object, and not where it was; a place of it stands for 16 samples,
    and masks are decoded at a quarter of the size. A network that learns for minutes then loses a small object from a
    slice to the next. `carry`: the slice is seen beside the last one in memory and its mask (Perazzi et al., CVPR
    2017). `dense`: a place stands for 8 samples. `fine`: masks are decoded at full size.
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
        dense: bool,
        carry: bool,
        fine: bool,
    ) -> None:
        super().__init__()
        if out_channels != 2:
            raise InputError(f"the memory holds one object and its background; got out_channels={out_channels}")
        encoder = partial(
            ResNetEncoder,
            spatial_dims,
            blocks=blocks,
            bottleneck=True,
            width=width,
            dilations=(1, 1, 2 if dense else 1),
            norm=norm,
        )
        self.carries = carry
        seen = 2 * in_channels + 1 if carry else in_channels
        self.remember = encoder(in_channels=in_channels + 2)
        self.look = encoder(in_channels=seen)
        half, quarter, eighth, deepest = self.look.channels
        self.memory_key, self.memory_value = _conv3(deepest, key), _conv3(deepest, value)
        self.query_key, self.query_value = _conv3(deepest, key), _conv3(deepest, value)
        self.attention = DotProductAttention()
        start = _DilatedBranches(norm, 2 * value, decoder) if aspp else _conv3(2 * value, decoder)
        self.start = nn.Sequential(start, _Residual(decoder))
        refine = [_Refinement(eighth, decoder, decoder), _Refinement(quarter, decoder, decoder)]
        self.finish = None
        if fine:
            refine.append(_Refinement(half, decoder, decoder // 2))
            self.finish = _Finish(norm, seen, decoder // 2, decoder // 4)
        self.refine = nn.ModuleList(refine)
        # The published decoder has no norm, and takes long to say "object" at all.
        widths = (decoder, decoder, decoder, decoder // 2) if fine else ()
        self.norms = nn.ModuleList(get_norm_layer(normalisation(norm, n), spatial_dims, n) for n in widths)
        self.trust = nn.Parameter(torch.ones(())) if carry else None
        self.head = _conv3(decoder // 4 if fine else decoder, out_channels)
        self.quality = _Quality(norm, deepest) if quality else None
        he_init(self)
        if fine:
            self._begin_quietly()

    def _begin_quietly(self) -> None:
        """Make first answers unsure: the residuals of the decoder would add up to scores of hundreds."""
        last = [module.body[-1] for module in self.modules() if isinstance(module, _Residual)]
        with torch.no_grad():
            for layer in (*last, self.head):
                assert isinstance(layer, nn.Conv2d), "each ends with a convolution"
                layer.weight.mul_(_QUIET)

    def forward(self, x: Tensor, images: Tensor, masks: Tensor) -> Outputs:
        """A slice, and images and masks in memory -> logits (N, 2, Y, X), and under "quality" (N,) with that head."""
        return self.segment(x, self.memorise(images, masks))

    def memorise(self, images: Tensor, masks: Tensor) -> Memory:
        """(N, C, T, Y, X), (N, 1, T, Y, X) -> the memory of T slices; any size."""
        slices = torch.cat((images, masks, 1 - masks), dim=1).transpose(1, 2)
        deep = self.remember(pad_to_multiple(slices.flatten(0, 1), self.multiple))[-1]
        apart = slices.shape[:2]
        keys, values = (of(deep).unflatten(0, apart).transpose(1, 2) for of in (self.memory_key, self.memory_value))
        return Memory(keys, values, torch.cat((images, masks), dim=1)[:, :, -1])

    def segment(self, x: Tensor, memory: Memory) -> Outputs:
        """(N, C, Y, X) -> logits (N, 2, Y, X), and under "quality" (N,) with that head; any size."""
        size = x.shape[2:]
        seen = pad_to_multiple(torch.cat((x, memory.last), dim=1) if self.carries else x, self.multiple)
        half, quarter, eighth, deep = self.look(seen)
        y = self.start(torch.cat((self._read(deep, memory), self.query_value(deep)), dim=1))
        norms: list[nn.Module] = [*self.norms] or [nn.Identity()] * 3
        y = norms[0](y)
        for refine, norm, skip in zip(self.refine, norms[1:], (eighth, quarter, half), strict=False):
            y = norm(refine(skip, y))
        y = relu(y) if self.finish is None else self.finish(seen, y)
        logits = crop(resize(self.head(y), seen.shape[2:]), size)
        if self.trust is not None:
            before = self.trust * (2 * memory.last[:, -1:] - 1)
            logits = logits + torch.cat((-before, before), dim=1)
        heads = {} if self.quality is None else {"quality": self.quality(deep, logits)}
        return Outputs(logits, heads=heads)

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

    def __init__(self, skip: int, before: int, after: int) -> None:
        super().__init__()
        self.skip = nn.Sequential(_conv3(skip, after), _Residual(after))
        self.narrow: nn.Module = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.residual = _Residual(after)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """(N, skip, Y, X), (N, before, y, x) -> (N, after, Y, X)."""
        refined: Tensor = self.residual(self.skip(skip) + resize(self.narrow(coarse), skip.shape[2:]))
        return refined


class _Finish(nn.Module):
    """The decoder's map, brought to the size of the slice, beside what the slice itself shows."""

    def __init__(self, norm: str, seen: int, before: int, after: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(before, after, 1)
        self.skip = _conv3(seen, after)
        # With ReLU, "object" becomes what no unit answers to: nothing is learned from there any more.
        self.body = nn.Sequential(
            nn.LeakyReLU(_LEAK), conv_unit(2, norm, after, after, active=False), nn.LeakyReLU(_LEAK)
        )

    def forward(self, seen: Tensor, coarse: Tensor) -> Tensor:
        """(N, seen, Y, X), (N, before, y, x) -> (N, after, Y, X)."""
        finished: Tensor = self.body(resize(self.narrow(relu(coarse)), seen.shape[2:]) + self.skip(seen))
        return finished


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
