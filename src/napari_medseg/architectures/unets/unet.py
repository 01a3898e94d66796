"""U-Net (Ronneberger et al. 2015), in 2D and 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has channels[k] and size / 2^k.
    x           (N, in_channels, *size)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. levels - 2]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from monai.networks.layers.factories import Conv

from napari_medseg.architectures.blocks.unet import (
    Concatenate,
    EncoderDecoder,
    heads_1x1,
    pooled_between,
    two_convolutions,
)


class UNet(EncoderDecoder):
    """Two 3^n convolutions per level, max-pooling, 2^n up-convolutions, skips by concatenation.

    Source: Ronneberger et al., MICCAI 2015. The convolutions are padded, so that logits have the size of the image.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: tuple[int, ...],
        norm: str,
        deep_supervision: bool,
    ) -> None:
        stage = partial(two_convolutions, spatial_dims, norm)
        upsample = partial(Conv[Conv.CONVTRANS, spatial_dims], kernel_size=2, stride=2)
        fine_widths = channels[-2::-1]
        super().__init__(
            encoder=pooled_between(spatial_dims, (stage(*pair) for pair in pairwise((in_channels, *channels)))),
            up=[upsample(*pair) for pair in pairwise(channels[::-1])],
            joins=[Concatenate() for _ in fine_widths],
            decoder=[stage(2 * c, c) for c in fine_widths],
            heads=heads_1x1(spatial_dims, channels[:-1], out_channels, deep_supervision),
        )
