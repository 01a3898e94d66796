"""The U-Net that nnU-Net plans: any kernel and stride per level and axis, plain or residual encoder.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). S_k: the product of the strides of levels 0 .. k, per axis.
    x           (N, in_channels, *size)
    skip k      (N, features[k], *size / S_k)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / S_k)) for k in 0 .. levels - 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.errors import InputError

LEAK = 0.01
_NORMS = {"instance": ("instance", {"affine": True}), "batch": ("batch", {})}
_ACTIVATION = ("leakyrelu", {"negative_slope": LEAK, "inplace": True})
Sizes = tuple[int, ...]


class NnUNet(nn.Module):
    """Convolution, instance norm, leaky ReLU; strided down, transposed convolutions up, skips by concatenation.

    Sources: Isensee et al., Nature Methods 2021 (plain); Isensee et al., MICCAI 2024, arXiv:2404.09556 (residual, with
    the pooled projections of ResNet-D). Raises InputError for lists that do not have the length of `features`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        features: Sizes,
        kernel_sizes: Sizes,
        strides: Sizes,
        blocks: Sizes,
        decoder_blocks: Sizes,
        residual: bool,
        bias: bool,
        deep_supervision: bool,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        levels = len(features)
        kernels = per_level("kernel_sizes", kernel_sizes, levels, spatial_dims)
        steps = per_level("strides", strides, levels, spatial_dims)
        require_length("blocks", blocks, levels)
        require_length("decoder_blocks", decoder_blocks, levels - 1)
        self.scales = [[prod(axis) for axis in zip(*steps[: k + 1], strict=True)] for k in range(levels)]
        unit = partial(_unit, spatial_dims, bias, norm)
        before = features[0] if residual else in_channels
        self.stem = unit(in_channels, features[0], kernels[0]) if residual else nn.Identity()
        self.encoder = nn.ModuleList()
        for count, after, kernel, stride in zip(blocks, features, kernels, steps, strict=True):
            part = partial(_Residual, spatial_dims, bias, norm) if residual else unit
            firsts = [(before, stride), *[(after, (1,) * spatial_dims)] * (count - 1)]
            self.encoder.append(nn.Sequential(*(part(n, after, kernel, step) for n, step in firsts)))
            before = after
        self.up, self.decoder, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        upsample, head = Conv[Conv.CONVTRANS, spatial_dims], Conv[Conv.CONV, spatial_dims]
        for k, count in zip(range(levels - 2, -1, -1), decoder_blocks, strict=True):
            fine, step = features[k], steps[k + 1]
            self.up.append(upsample(features[k + 1], fine, kernel_size=step, stride=step, bias=bias))
            widths = [2 * fine, *[fine] * (count - 1)]
            self.decoder.append(nn.Sequential(*(unit(n, fine, kernels[k]) for n in widths)))
            if deep_supervision or k == 0:
                self.heads.append(head(fine, out_channels, kernel_size=1))
        he_init(self, LEAK)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of every decoder level.
        """
        size = x.shape[2:]
        x = self.stem(pad_to_multiple(x, self.scales[-1]))
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        decoded: list[Tensor] = []
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(torch.cat((up(x), skips.pop()), dim=1))
            decoded.append(x)
        if not (self.training and self.deep_supervision):
            return crop(self.heads[-1](x), [-(-n // s) for n, s in zip(size, self.scales[0], strict=True)])
        logits = [head(scale) for head, scale in zip(self.heads, decoded, strict=True)][::-1]
        return Outputs.of(
            [
                crop(scale, [-(-n // s) for n, s in zip(size, steps, strict=True)])
                for scale, steps in zip(logits, self.scales, strict=False)
            ]
        )


class _Residual(nn.Module):
    """Two convolutions beside a shortcut that is pooled where the size changes and projected where the width does."""

    def __init__(
        self, spatial_dims: int, bias: bool, norm: str, before: int, after: int, kernel: Sizes, stride: Sizes
    ) -> None:
        super().__init__()
        self.conv1 = _unit(spatial_dims, bias, norm, before, after, kernel, stride)
        self.conv2 = _unit(spatial_dims, bias, norm, after, after, kernel, active=False)
        self.skip = nn.Sequential()
        if max(stride) > 1:
            self.skip.append(Pool[Pool.AVG, spatial_dims](stride, stride))
        if before != after:
            self.skip.append(_unit(spatial_dims, False, norm, before, after, (1,) * spatial_dims, active=False))
        self.activation = nn.LeakyReLU(LEAK, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size / stride)."""
        y: Tensor = self.activation(self.conv2(self.conv1(x)) + self.skip(x))
        return y


def per_level(name: str, numbers: Sizes, levels: int, spatial_dims: int) -> list[Sizes]:
    """One tuple per level, from one number per level or one per level and axis; InputError for another count."""
    if len(numbers) == levels:
        return [(n,) * spatial_dims for n in numbers]
    require_length(name, numbers, levels * spatial_dims)
    return [numbers[i : i + spatial_dims] for i in range(0, len(numbers), spatial_dims)]


def require_length(name: str, numbers: Sequence[int], length: int) -> None:
    """Raise InputError for a list of another length."""
    if len(numbers) != length:
        raise InputError(f"{name} needs {length} numbers to go with the features; got {len(numbers)}")


def _unit(
    spatial_dims: int,
    bias: bool,
    norm: str,
    before: int,
    after: int,
    kernel: Sizes,
    stride: Sizes | int = 1,
    *,
    active: bool = True,
) -> nn.Module:
    """Convolution, norm and, where active, leaky ReLU."""
    style: dict[str, Any] = {"norm": _NORMS[norm], "act": _ACTIVATION if active else None, "bias": bias}
    unit: nn.Module = Convolution(spatial_dims, before, after, strides=stride, kernel_size=kernel, **style)
    return unit
