"""TransUNet: a residual encoder, a transformer on its coarsest map, a U-Net's decoder (Chen et al. 2021).

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x           (N, in_channels, *size)
    scales      [(N, width, *size / 2), (N, 4 width, *size / 4), (N, 8 width, *size / 8), (N, 16 width, *size / 16)]
    hidden      (N, hidden, *size / 16)
    decoder k   (N, decoder[k], *size / 2^(3 - k)), k in 0 .. 3
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. 3]
"""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from napari_medseg.architectures.blocks.base import he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import ResNetEncoder, conv_unit
from napari_medseg.architectures.blocks.transformer import MapTransformer
from napari_medseg.architectures.blocks.unet import supervised


class TransUNet(nn.Module):
    """ResNet-50 with standardised weights to stride 16, a vision transformer, three skips; in 2D or 3D.

    Sources: Chen et al., arXiv:2102.04306 (2D); the encoder is that of Kolesnikov et al., ECCV 2020. In 3D the
    transformer attends to the voxels of the coarsest scale, as in Chen et al., MedIA 2024. The decoder interpolates
    with the edges of the images aligned, where the authors' aligns the centres of the corner voxels.
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
        hidden: int,
        layers: int,
        heads: int,
        mlp: int,
        grid: tuple[int, ...],
        decoder: tuple[int, ...],
        norm: str,
        dropout: float,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        unit = partial(conv_unit, spatial_dims, norm)
        self.encoder = ResNetEncoder(
            spatial_dims, in_channels, blocks, bottleneck=True, width=width, dilations=(1, 1, 1), norm="group32"
        )
        *skips, deepest = self.encoder.channels
        self.transformer = MapTransformer(
            spatial_dims, deepest, hidden, layers=layers, heads=heads, mlp=mlp, grid=grid, dropout=dropout
        )
        self.widen = unit(hidden, 2 * decoder[0])
        befores = [2 * decoder[0], *decoder[:-1]]
        self.decoder = nn.ModuleList(
            nn.Sequential(unit(before + skip, after), unit(after, after))
            for before, skip, after in zip(befores, [*skips[::-1], 0], decoder, strict=True)
        )
        head = partial(Conv[Conv.CONV, spatial_dims], out_channels=out_channels, kernel_size=3, padding=1)
        self.heads = nn.ModuleList(head(c) for c in (decoder[::-1] if deep_supervision else decoder[-1:]))
        he_init(self)
        for module in self.encoder.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                register_parametrization(module, "weight", _Standardised())

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of every decoder level.
        """
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        *skips, deepest = self.encoder(x)
        y = self.widen(self.transformer(deepest))
        scales: list[Tensor] = []
        for stage in self.decoder:
            y = resize(y, [2 * n for n in y.shape[2:]])
            y = stage(torch.cat((y, skips.pop()), dim=1) if skips else y)
            scales.insert(0, y)
        return supervised(self.heads if self.training else self.heads[:1], scales, size)


class _Standardised(nn.Module):
    """The weights of each output channel brought to mean 0 and variance 1 (Qiao et al., arXiv:1903.10520)."""

    def forward(self, weight: Tensor) -> Tensor:
        """(after, before, *kernel) -> the same shape."""
        axes = tuple(range(1, weight.ndim))
        variance, mean = torch.var_mean(weight, dim=axes, keepdim=True, correction=0)
        return (weight - mean) * torch.rsqrt(variance + 1e-5)
