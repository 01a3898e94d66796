"""CE-Net (Gu et al. 2019): a residual encoder, context of several fields, a narrow decoder; in 2D and 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Scale k has width * 2^max(k - 1, 0) channels and size / 2^(k + 1).
    x        (N, in_channels, *size)
    scales   5 of them: the stem at half the size, the last at a 32nd
    logits   (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / s)) for s in 1, 2, 4, 8, 16]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import he_init, normalisation, pad_to_multiple
from napari_medseg.architectures.blocks.context import POOLS, DenseAtrousConvolution, ResidualMultiKernelPooling
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import ResNetEncoder, conv_unit
from napari_medseg.architectures.blocks.unet import heads_1x1, supervised


class CENet(nn.Module):
    """ResNet-34 encoder, dense atrous convolution and residual multi-kernel pooling, skips added in the decoder.

    Source: Gu et al., IEEE TMI 2019. Its first skip is at a quarter of the size; the stem has none.
    """

    multiple = 32

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        blocks: tuple[int, ...],
        norm: str,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(spatial_dims, in_channels, blocks, width=width, norm=norm)
        deepest = self.encoder.channels[-1]
        self.context = nn.Sequential(
            DenseAtrousConvolution(spatial_dims, deepest), ResidualMultiKernelPooling(spatial_dims, deepest)
        )
        fine = (*self.encoder.channels[-2:0:-1], width)
        widths = (deepest + len(POOLS), *fine)
        self.decoder = nn.ModuleList(_decoder_block(spatial_dims, norm, *pair) for pair in pairwise(widths))
        plain = partial(Convolution, spatial_dims, norm=None, act=("relu", {"inplace": True}))
        half = max(1, width // 2)
        self.last = nn.Sequential(
            plain(width, half, kernel_size=4, strides=2, padding=1, output_padding=0, is_transposed=True),
            plain(half, half),
        )
        self.heads = nn.ModuleList(
            [
                Conv[Conv.CONV, spatial_dims](half, out_channels, kernel_size=3, padding=1),
                *heads_1x1(spatial_dims, fine[::-1] if deep_supervision else (), out_channels, True),
            ]
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of every decoder level.
        """
        size = x.shape[2:]
        scales = self.encoder(pad_to_multiple(x, self.multiple))
        x = self.context(scales.pop())
        decoded: list[Tensor] = []
        for k, stage in enumerate(self.decoder):
            x = stage(x)
            if k < len(self.decoder) - 1:
                x = x + scales.pop()
            decoded.insert(0, x)
        return supervised(self.heads if self.training else self.heads[:1], [self.last(x), *decoded], size)


def _decoder_block(spatial_dims: int, norm: str, before: int, after: int) -> nn.Module:
    """1^n convolution to a quarter of the channels, 3^n transposed convolution of stride 2, 1^n convolution."""
    quarter = max(1, before // 4)
    doubled = Convolution(
        spatial_dims,
        quarter,
        quarter,
        strides=2,
        is_transposed=True,
        norm=normalisation(norm, quarter),
        act=("relu", {"inplace": True}),
    )
    unit = partial(conv_unit, spatial_dims, norm, kernel=1, bias=True)
    return nn.Sequential(unit(before, quarter), doubled, unit(quarter, after))
