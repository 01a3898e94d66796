"""The U-Net of Çiçek et al. 2016 and its strided descendant (Isensee et al. 2021): one wiring, two sets of arguments.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has size / 2^k.
    x           (N, in_channels, *size)
    skip k      (N, channels[k], *size / 2^k)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. levels - 2]
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import he_init, pad_to_multiple
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.unet import heads_1x1, supervised

LEAK = 0.01
_NORMS = {"instance": ("instance", {"affine": True}), "batch": "batch"}
_ACTIVATIONS = {
    "leakyrelu": ("leakyrelu", {"negative_slope": LEAK, "inplace": True}),
    "relu": ("relu", {"inplace": True}),
}


class UNet3D(nn.Module):
    """Two 3^n convolutions per level, 2^n up-convolutions, skips by concatenation; in 2D or 3D.

    Sources: Çiçek et al., MICCAI 2016 (pooling, batch norm, ReLU, up-convolutions that keep the channels);
    Isensee et al., Nature Methods 2021 (strides, instance norm, leaky ReLU, deep supervision).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: tuple[int, ...],
        norm: str,
        activation: str,
        down: str,
        bias: bool,
        narrow_first: bool,
        wide_up: bool,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(channels) - 1)
        style = {"norm": _NORMS[norm], "act": _ACTIVATIONS[activation], "bias": bias}
        self.encoder = nn.ModuleList(
            _encoder_stage(spatial_dims, before, after, "none" if k == 0 else down, narrow_first, style)
            for k, (before, after) in enumerate(zip((in_channels, *channels), channels, strict=False))
        )
        upsample = Conv[Conv.CONVTRANS, spatial_dims]
        coarse_to_fine = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList(
            upsample(deep, deep if wide_up else fine, kernel_size=2, stride=2, bias=False)
            for deep, fine in coarse_to_fine
        )
        self.decoder = nn.ModuleList(
            _two_convolutions(spatial_dims, fine + (deep if wide_up else fine), fine, fine, 1, style)
            for deep, fine in coarse_to_fine
        )
        self.heads = nn.ModuleList(heads_1x1(spatial_dims, channels[:-1], out_channels, deep_supervision))
        he_init(self, LEAK if activation == "leakyrelu" else 0.0)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of every decoder level.
        """
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        scales: list[Tensor] = []
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(torch.cat((skips.pop(), up(x)), dim=1))
            scales.insert(0, x)
        return supervised(self.heads if self.training else self.heads[:1], scales, size)


def _encoder_stage(
    spatial_dims: int, before: int, after: int, down: str, narrow_first: bool, style: dict[str, Any]
) -> nn.Sequential:
    """Half the size (not in the first stage: `down` "none"), then two convolutions to `after` channels."""
    middle = max(1, after // 2) if narrow_first else after
    stage = _two_convolutions(spatial_dims, before, middle, after, 2 if down == "stride" else 1, style)
    if down == "maxpool":
        stage.insert(0, Pool[Pool.MAX, spatial_dims](kernel_size=2))
    return stage


def _two_convolutions(
    spatial_dims: int, before: int, middle: int, after: int, stride: int, style: dict[str, Any]
) -> nn.Sequential:
    """Twice convolution, norm, activation; the first with the stride."""
    return nn.Sequential(
        Convolution(spatial_dims, before, middle, strides=stride, **style),
        Convolution(spatial_dims, middle, after, **style),
    )
