"""The networks of CycleGAN (Zhu et al. 2017): from images of one kind to another, and from images to a judgement.

N: batch. C: channels. w: width. *size: (Z, Y, X) or (Y, X).
    x           (N, channels, *size)
    bottom      (N, 4 w, *size / 4)
    translated  (N, channels, *size)
    judgement   (N, 1, *about size / 8): each value is of a patch of 70^n voxels
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import MappingProxyType

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn.functional import pad

from napari_medseg.architectures.blocks.base import crop, pad_to_multiple

_LEAK = 0.2
_DEVIATION = 0.02
"""Of the first weights, as published."""
_PATCH = 70
"""Voxels along an axis that a judgement is about."""
_LAST = 3
"""Voxels along an axis that a critic needs after its last halving."""
_SMALLEST_TO_TRANSLATE = 8
"""Voxels along an axis that a translator needs: its padding mirrors three."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the networks are."""

    width: int
    """Features of a translator at full size."""
    blocks: int
    """Residual blocks of a translator."""
    judge_width: int
    """Features of the first convolution of a judge."""


SIZES: Mapping[str, Sizes] = MappingProxyType(
    {
        "light": Sizes(width=8, blocks=4, judge_width=16),
        "paper": Sizes(width=64, blocks=9, judge_width=64),
    }
)
"""light: what a CPU trains in minutes. paper: 11,378,179 parameters of a translator and 2,764,737 of a judge of three
channels (Zhu et al., ICCV 2017)."""


class Translator(nn.Module):
    """Two strided convolutions, residual blocks, two up-convolutions, instance norms (Johnson et al., ECCV 2016).

    Without the tanh at their end: normalised intensities have no bounds.
    """

    def __init__(self, *, channels: int, spatial_dims: int, sizes: Sizes) -> None:
        super().__init__()
        w, relu = sizes.width, partial(nn.ReLU, inplace=True)
        conv, up = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        norm, mirrored = Norm[Norm.INSTANCE, spatial_dims], partial(conv, padding_mode="reflect")
        layers: list[nn.Module] = [mirrored(channels, w, kernel_size=7, padding=3), norm(w), relu()]
        for c in (w, 2 * w):
            layers += [conv(c, 2 * c, kernel_size=3, stride=2, padding=1), norm(2 * c), relu()]
        layers += [_Residual(4 * w, spatial_dims) for _ in range(sizes.blocks)]
        for c in (4 * w, 2 * w):
            layers += [up(c, c // 2, kernel_size=3, stride=2, padding=1, output_padding=1), norm(c // 2), relu()]
        layers.append(mirrored(w, channels, kernel_size=7, padding=3))
        self.layers = nn.Sequential(*layers)
        _draw_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, *size) -> the same shape; any size."""
        translated: Tensor = self.layers(pad_to_multiple(_at_least(x, [_SMALLEST_TO_TRANSLATE] * (x.ndim - 2)), 4))
        return crop(translated, x.shape[2:])


class _Residual(nn.Module):
    def __init__(self, width: int, spatial_dims: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_mirrored_convolution(width, spatial_dims), nn.ReLU(inplace=True))
        self.layers.extend(_mirrored_convolution(width, spatial_dims))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> the same shape."""
        added: Tensor = x + self.layers(x)
        return added


def _mirrored_convolution(width: int, spatial_dims: int) -> Iterator[nn.Module]:
    yield Conv[Conv.CONV, spatial_dims](width, width, kernel_size=3, padding=1, padding_mode="reflect")
    yield Norm[Norm.INSTANCE, spatial_dims](width)


class PatchCritic(nn.Module):
    """Whether patches of an image are real: convolutions of 4^n, instance norms (Isola et al., CVPR 2017).

    It is built for images of one size, and takes others. The 70^n PatchGAN where the sides are long enough: three of
    five convolutions halve. A shorter image is halved less often, and a short axis not at all, with kernels of 3.
    """

    def __init__(self, *, in_channels: int, size: Sequence[int], width: int = 64) -> None:
        """size: of the images, (Z, Y, X) or (Y, X)."""
        super().__init__()
        conv, norm = Conv[Conv.CONV, len(size)], Norm[Norm.INSTANCE, len(size)]
        halvings = _halvings(size)
        least = _LAST * 2**halvings
        short = [n < least for n in size]
        self._least = [1 if is_short else least for is_short in short]
        kernel = tuple(3 if is_short else 4 for is_short in short)
        halving = tuple(1 if is_short else 2 for is_short in short)
        widths = [width * min(8, 2**k) for k in range(halvings + 1)]
        layers: list[nn.Module] = [conv(in_channels, width, kernel, halving, 1), nn.LeakyReLU(_LEAK)]
        for k, (before, after) in enumerate(pairwise(widths), start=1):
            stride = halving if k < halvings else 1
            layers += [conv(before, after, kernel, stride, 1), norm(after), nn.LeakyReLU(_LEAK)]
        self.layers = nn.Sequential(*layers, conv(widths[-1], 1, kernel, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> (N, 1, *smaller); an image that is too small has its last planes repeated."""
        judged: Tensor = self.layers(_at_least(x, self._least))
        return judged


def judge(channels: int, spatial_dims: int, sizes: Sizes) -> PatchCritic:
    """A critic of images of any size, with first weights as in CycleGAN."""
    critic = PatchCritic(in_channels=channels, size=(_PATCH,) * spatial_dims, width=sizes.judge_width)
    _draw_weights(critic)
    return critic


def _halvings(size: Sequence[int]) -> int:
    """The halvings after which `_LAST` voxels are left of a side of middle length; 1 to 3."""
    typical = sorted(size)[(len(size) - 1) // 2]
    return min(3, max(1, int(math.log2(max(1, typical / _LAST)))))


def _at_least(x: Tensor, size: Sequence[int]) -> Tensor:
    missing = [max(0, least - n) for least, n in zip(size, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return pad(x, [side for m in reversed(missing) for side in (0, m)], mode="replicate")


def _draw_weights(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.normal_(module.weight, 0.0, _DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def slices_of(volumes: Tensor) -> Tensor:
    """(N, C, Z, Y, X) -> (N Z, C, Y, X)."""
    return volumes.transpose(1, 2).flatten(0, 1)


def translated_slices(translator: nn.Module, volumes: Tensor, at_once: int = 16) -> Tensor:
    """(N, C, Z, Y, X) -> the same shape: every slice through a translator of slices, without a gradient."""
    with torch.no_grad():
        made = torch.cat([translator(part) for part in torch.split(slices_of(volumes), at_once)])
    return torch.unflatten(made, 0, (len(volumes), -1)).transpose(1, 2)
