"""Blocks of light 2D networks: convolutions of one style, halving beside a pooling, convolutions along one axis each.

N: batch. C: channels. *size: (Y, X), or (Z, Y, X).
    x   (N, C, *size)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.blocks import ADN, Convolution
from monai.networks.layers.factories import Conv, Dropout, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.attention import at_most
from napari_medseg.architectures.blocks.base import normalisation, resize

Kernel = int | tuple[int, ...]


@dataclass(frozen=True)
class Style:
    """Which convolution, norm and activation a network has throughout; its methods make the layers."""

    spatial_dims: int
    norm: str
    activation: str = "relu"
    """"relu", "elu", or "prelu" with a slope per channel."""
    bias: bool = False

    def convolution(
        self,
        before: int,
        after: int,
        kernel: Kernel = 3,
        *,
        stride: int = 1,
        dilation: Kernel = 1,
        groups: int = 1,
        normed: bool = True,
        active: bool = True,
        transposed: bool = False,
    ) -> nn.Module:
        """A convolution that keeps (or divides by the stride, or multiplies with it) the size; norm; activation."""
        layer: nn.Module = Convolution(
            self.spatial_dims,
            before,
            after,
            strides=stride,
            kernel_size=kernel,
            dilation=dilation,
            groups=groups,
            bias=self.bias,
            norm=normalisation(self.norm, after) if normed else None,
            act=self._activation(after) if active else None,
            is_transposed=transposed,
        )
        return layer

    def plain(self, before: int, after: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1) -> nn.Module:
        """A convolution alone."""
        return self.convolution(before, after, kernel, stride=stride, dilation=dilation, normed=False, active=False)

    def depthwise(
        self, channels: int, kernel: Kernel = 3, *, stride: int = 1, dilation: Kernel = 1, finished: bool = True
    ) -> nn.Module:
        """A convolution of each channel alone; finished: followed by norm and activation."""
        return self.convolution(
            channels,
            channels,
            kernel,
            stride=stride,
            dilation=dilation,
            groups=channels,
            normed=finished,
            active=finished,
        )

    def finish(self, channels: int, *, active: bool = True) -> nn.Module:
        """Norm and activation."""
        layer: nn.Module = ADN(
            "NA",
            in_channels=channels,
            act=self._activation(channels) if active else None,
            norm=normalisation(self.norm, channels),
            norm_dim=self.spatial_dims,
        )
        return layer

    def activate(self, channels: int) -> nn.Module:
        """The activation alone."""
        layer: nn.Module = ADN("A", act=self._activation(channels))
        return layer

    def by_two(self, before: int, after: int, *, transposed: bool = False) -> nn.Module:
        """A 2^n convolution of stride 2, which halves the size; transposed, it doubles it."""
        kind = Conv[Conv.CONVTRANS if transposed else Conv.CONV, self.spatial_dims]
        layer: nn.Module = kind(before, after, kernel_size=2, stride=2, bias=self.bias)
        return layer

    def dropout(self, probability: float) -> nn.Module:
        """Whole feature maps dropped."""
        layer: nn.Module = Dropout[Dropout.DROPOUT, self.spatial_dims](probability)
        return layer

    def max_pool(self) -> nn.Module:
        """Half the size."""
        layer: nn.Module = Pool[Pool.MAX, self.spatial_dims](kernel_size=2)
        return layer

    def shrink(self) -> nn.Module:
        """The average of 3^n voxels in steps of two: how an image is carried to coarser levels."""
        layer: nn.Module = Pool[Pool.AVG, self.spatial_dims](kernel_size=3, stride=2, padding=1)
        return layer

    def along_axes(
        self,
        channels: int,
        kernel: int = 3,
        dilation: int = 1,
        *,
        active: bool = True,
        between: bool = True,
        reverse: bool = False,
    ) -> nn.Sequential:
        """A k^n convolution as one along each axis; the activation between them, norm and activation at the end."""
        axes = list(range(self.spatial_dims))[:: -1 if reverse else 1]
        return nn.Sequential(
            *(
                self.convolution(
                    channels,
                    channels,
                    along(axis, kernel, self.spatial_dims),
                    dilation=along(axis, dilation, self.spatial_dims),
                    normed=axis == axes[-1],
                    active=active if axis == axes[-1] else between,
                )
                for axis in axes
            )
        )

    def _activation(self, channels: int) -> tuple[str, dict[str, Any]]:
        if self.activation == "prelu":
            return "prelu", {"num_parameters": channels}
        return self.activation, {"inplace": True}


def along(axis: int, n: int, spatial_dims: int) -> tuple[int, ...]:
    """n along one axis, 1 along the others."""
    return tuple(n if k == axis else 1 for k in range(spatial_dims))


class Halving(nn.Module):
    """A convolution of stride 2 beside a max-pooling, for the channels that the pooling leaves; norm, activation.

    Source: ENet, Paszke et al., arXiv:1606.02147, fig. 2a. The convolution alone where the channels do not grow.
    """

    def __init__(self, style: Style, before: int, after: int) -> None:
        super().__init__()
        grows = before < after
        self.convolution = style.plain(before, after - before if grows else after, stride=2)
        self.pool = style.max_pool() if grows else None
        self.finish = style.finish(after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size / 2); every size even."""
        y = self.convolution(x)
        if self.pool is not None:
            y = torch.cat((y, self.pool(x)), dim=1)
        finished: Tensor = self.finish(y)
        return finished


class PooledPyramid(nn.Module):
    """Averages over the whole image and over its parts, each projected and interpolated back, beside the input.

    Source: PSPNet, Zhao et al., CVPR 2017, section 3.2.
    """

    def __init__(self, style: Style, channels: int, branch: int, parts: Iterable[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.project = nn.ModuleList(style.convolution(channels, branch, 1) for _ in self.parts)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, *size) -> (N, channels + branch * parts, *size)."""
        size = x.shape[2:]
        context = (resize(layer(at_most(x, n)), size) for n, layer in zip(self.parts, self.project, strict=True))
        return torch.cat((x, *context), dim=1)
