"""The residual encoder of He et al. (CVPR 2016) for networks that segment: five scales, dilated where asked.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x       (N, in_channels, *size)
    scales  [(N, channels[k], *ceil(size / stride[k])) for k in 0 .. 4]; strides 2, 4, 8, 16, 32 without dilation
"""

from __future__ import annotations

from functools import partial

from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import normalisation

EXPANSION = 4
DEPTHS: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
"""Blocks per stage and whether they are bottlenecks, by the number of layers (He et al. 2016, table 1)."""


class ResNetEncoder(nn.Module):
    """A 7^n stem of stride 2, max-pooling and four stages of basic blocks or bottlenecks; in 2D or 3D.

    `deep_stem`: three 3^n convolutions, the last with twice the width, in place of the 7^n one.
    `dilations`: per stage; above 1 the stage keeps the size and dilates its kernels instead (Yu et al., CVPR 2017).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        blocks: tuple[int, ...] = (3, 4, 6, 3),
        *,
        bottleneck: bool = False,
        width: int = 64,
        dilations: tuple[int, ...] = (1, 1, 1, 1),
        norm: str = "batch",
        deep_stem: bool = False,
    ) -> None:
        super().__init__()
        self.stem: nn.Module = conv_unit(spatial_dims, norm, in_channels, width, kernel=7, stride=2)
        before = width
        if deep_stem:
            unit = partial(conv_unit, spatial_dims, norm)
            before = 2 * width
            self.stem = nn.Sequential(unit(in_channels, width, stride=2), unit(width, width), unit(width, before))
        self.pool = Pool[Pool.MAX, spatial_dims](kernel_size=3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        block = partial(Bottleneck if bottleneck else BasicBlock, spatial_dims, norm)
        expansion = EXPANSION if bottleneck else 1
        channels = [before]
        for k, (count, dilation) in enumerate(zip(blocks, dilations, strict=True)):
            after = width * 2**k * expansion
            stride = 2 if k > 0 and dilation == 1 else 1
            self.stages.append(
                nn.Sequential(
                    block(before, after, stride=stride, dilation=dilation),
                    *(block(after, after, dilation=dilation) for _ in range(count - 1)),
                )
            )
            before = after
            channels.append(after)
        self.channels = tuple(channels)
        """Of each scale, the stem first."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, *size) -> the five scales, the finest first."""
        scales = [self.stem(x)]
        x = self.pool(scales[0])
        for stage in self.stages:
            x = stage(x)
            scales.append(x)
        return scales


class _Residual(nn.Module):
    """Convolutions beside a shortcut, which is projected where size or width change."""

    def __init__(self, spatial_dims: int, norm: str, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = conv_unit(spatial_dims, norm, before, after, kernel=1, stride=stride, active=False)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *ceil(size / stride))."""
        y: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return y


class BasicBlock(_Residual):
    """Two 3^n convolutions."""

    def __init__(
        self, spatial_dims: int, norm: str, before: int, after: int, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(spatial_dims, norm, before, after, stride)
        unit = partial(conv_unit, spatial_dims, norm)
        self.body = nn.Sequential(
            unit(before, after, stride=stride, dilation=dilation),
            unit(after, after, dilation=dilation, active=False),
        )


class Bottleneck(_Residual):
    """1^n to a quarter of the channels, 3^n (which carries the stride), 1^n back."""

    def __init__(
        self, spatial_dims: int, norm: str, before: int, after: int, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(spatial_dims, norm, before, after, stride)
        unit, middle = partial(conv_unit, spatial_dims, norm), after // EXPANSION
        self.body = nn.Sequential(
            unit(before, middle, kernel=1),
            unit(middle, middle, stride=stride, dilation=dilation),
            unit(middle, after, kernel=1, active=False),
        )


def conv_unit(
    spatial_dims: int,
    norm: str,
    before: int,
    after: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    active: bool = True,
    bias: bool = False,
) -> nn.Module:
    """Convolution, norm and, where active, ReLU."""
    unit: nn.Module = Convolution(
        spatial_dims,
        before,
        after,
        kernel_size=kernel,
        strides=stride,
        dilation=dilation,
        norm=normalisation(norm, after),
        act=("relu", {"inplace": True}) if active else None,
        bias=bias,
    )
    return unit


def dilated_resnet(
    spatial_dims: int,
    in_channels: int,
    blocks: tuple[int, ...],
    width: int,
    norm: str,
    *,
    dilations: tuple[int, ...] = (1, 1, 2, 4),
) -> ResNetEncoder:
    """An encoder of bottlenecks with a deep stem; by default to stride 8, its last two stages dilated by 2 and 4."""
    return ResNetEncoder(
        spatial_dims,
        in_channels,
        blocks,
        bottleneck=True,
        width=width,
        dilations=dilations,
        norm=norm,
        deep_stem=True,
    )
