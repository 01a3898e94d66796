"""R2U-Net (Alom et al. 2018): a U-Net of recurrent residual convolutions, in 2D and 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has channels[k] and size / 2^k.
    x           (N, in_channels, *size)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. levels - 2]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.resnet import conv_unit
from napari_medseg.architectures.blocks.unet import (
    Concatenate,
    EncoderDecoder,
    heads_1x1,
    interpolated_up,
    pooled_between,
)

NORM = "instance"
"""Instance norm: a batch norm would keep one mean and variance for steps whose statistics differ."""


class R2UNet(EncoderDecoder):
    """Each stage: a 1^n convolution, beside two recurrent convolutions whose weights serve every step.

    Source: Alom et al., arXiv 1802.06955, 2018. steps: how often a convolution sees its own output, beside the input.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: tuple[int, ...],
        steps: int,
        deep_supervision: bool,
    ) -> None:
        stage = partial(_Stage, spatial_dims, steps)
        fine_widths = channels[-2::-1]
        super().__init__(
            encoder=pooled_between(spatial_dims, (stage(*pair) for pair in pairwise((in_channels, *channels)))),
            up=[interpolated_up(spatial_dims, NORM, *pair) for pair in pairwise(channels[::-1])],
            joins=[Concatenate() for _ in fine_widths],
            decoder=[stage(2 * c, c) for c in fine_widths],
            heads=heads_1x1(spatial_dims, channels[:-1], out_channels, deep_supervision),
        )


class _Stage(nn.Module):
    """Two recurrent convolutions beside their input, brought to their width."""

    def __init__(self, spatial_dims: int, steps: int, before: int, after: int) -> None:
        super().__init__()
        self.project = Conv[Conv.CONV, spatial_dims](before, after, kernel_size=1)
        self.body = nn.Sequential(*(_Recurrent(spatial_dims, steps, after) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size)."""
        x = self.project(x)
        y: Tensor = x + self.body(x)
        return y


class _Recurrent(nn.Module):
    """A 3^n convolution of the input, then of the input plus the last output, with the same weights."""

    def __init__(self, spatial_dims: int, steps: int, channels: int) -> None:
        super().__init__()
        self.steps = steps
        self.unit = conv_unit(spatial_dims, NORM, channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> (N, C, *size)."""
        y: Tensor = self.unit(x)
        for _ in range(self.steps):
            y = self.unit(x + y)
        return y
