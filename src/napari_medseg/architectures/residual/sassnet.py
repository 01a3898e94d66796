"""The V-Net of semi-supervised segmentation, which also finds signed distances (SASSNet, Li et al. 2020; CA-Net, 2023).

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has width * 2^k channels and size / 2^k, k in 0 .. 4.
    x           (N, in_channels, *size)
    logits      (N, out_channels, *size)
    sdf         (N, max(1, out_channels - 1), *size), in (-1, 1): of each class but the background
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. 3]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Dropout
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, normalisation
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import conv_unit
from napari_medseg.architectures.blocks.transformer import MapTransformer
from napari_medseg.architectures.blocks.unet import Add, EncoderDecoder, heads_1x1, logits_at, supervised

CONVOLUTIONS = (1, 2, 3, 3, 3)
"""Convolutions per level of the encoder and of the decoder, the finest first."""


class SASSNet(EncoderDecoder):
    """One to three 3^n convolutions per level, 2^n strided ones down and up, skips added; 2D or 3D.

    `sdf`: a second head with a tanh, of the signed distance to the surface of each class, for a shape-aware loss.
    Source: Li, Zhang and He, MICCAI 2020, after the V-Net of Yu et al., MICCAI 2019.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        norm: str,
        dropout: float,
        sdf: bool,
        deep_supervision: bool,
    ) -> None:
        widths = [width * 2**k for k in range(len(CONVOLUTIONS))]
        convolved, halved = partial(_convolved, spatial_dims, norm), partial(_halved, spatial_dims, norm)
        doubled, dropping = partial(_doubled, spatial_dims, norm), Dropout[Dropout.DROPOUT, spatial_dims]
        encoder = [convolved(in_channels, width, CONVOLUTIONS[0])]
        for (before, after), count in zip(pairwise(widths), CONVOLUTIONS[1:], strict=True):
            encoder.append(nn.Sequential(halved(before, after), *convolved(after, after, count)))
        decoder = [convolved(c, c, n) for c, n in list(zip(widths, CONVOLUTIONS, strict=True))[-2::-1]]
        for last in (encoder[-1], decoder[-1]):
            last.append(dropping(dropout))
        super().__init__(
            encoder=encoder,
            up=[doubled(before, after) for before, after in pairwise(widths[::-1])],
            joins=[Add() for _ in decoder],
            decoder=decoder,
            heads=heads_1x1(spatial_dims, widths[:-1], out_channels, deep_supervision),
        )
        self.sdf: nn.Module | None = None
        if sdf:
            foreground = max(1, out_channels - 1)
            self.sdf = nn.Sequential(Conv[Conv.CONV, spatial_dims](width, foreground, kernel_size=1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision or `sdf`: Outputs with the logits of every decoder level, and under "sdf" the
        signed distances, negative inside.
        """
        scales, size = self.decoded(x), x.shape[2:]
        if self.sdf is None or not self.training:
            return supervised(self.heads if self.training else self.heads[:1], scales, size)
        return Outputs.of(logits_at(self.heads, scales, size), {"sdf": crop(self.sdf(scales[0]), size)})


class CANet(SASSNet):
    """The same V-Net with a transformer on its coarsest level, of any size.

    Source: Zhao et al., Expert Systems with Applications 2023.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        norm: str,
        dropout: float,
        sdf: bool,
        deep_supervision: bool,
        hidden: int,
        layers: int,
        heads: int,
        mlp: int,
        grid: tuple[int, ...],
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            spatial_dims=spatial_dims,
            width=width,
            norm=norm,
            dropout=dropout,
            sdf=sdf,
            deep_supervision=deep_supervision,
        )
        deepest = width * 2 ** (len(CONVOLUTIONS) - 1)
        transformer = MapTransformer(spatial_dims, deepest, hidden, layers=layers, heads=heads, mlp=mlp, grid=grid)
        context = nn.Sequential(transformer, conv_unit(spatial_dims, norm, hidden, deepest))
        he_init(context)
        self.encoder[-1] = nn.Sequential(self.encoder[-1], context)


def _convolved(spatial_dims: int, norm: str, before: int, after: int, count: int) -> nn.Sequential:
    """`count` 3^n convolutions, each with norm and ReLU."""
    unit = partial(conv_unit, spatial_dims, norm, bias=True)
    return nn.Sequential(unit(before, after), *(unit(after, after) for _ in range(count - 1)))


def _halved(spatial_dims: int, norm: str, before: int, after: int) -> nn.Module:
    """A 2^n convolution of stride 2, norm, ReLU."""
    return _resized(spatial_dims, norm, before, after, is_transposed=False)


def _doubled(spatial_dims: int, norm: str, before: int, after: int) -> nn.Module:
    """A 2^n transposed convolution of stride 2, norm, ReLU."""
    return _resized(spatial_dims, norm, before, after, is_transposed=True)


def _resized(spatial_dims: int, norm: str, before: int, after: int, *, is_transposed: bool) -> nn.Module:
    unit: nn.Module = Convolution(
        spatial_dims,
        before,
        after,
        kernel_size=2,
        strides=2,
        padding=0,
        output_padding=0 if is_transposed else None,
        norm=normalisation(norm, after),
        act=("relu", {"inplace": True}),
        is_transposed=is_transposed,
    )
    return unit
