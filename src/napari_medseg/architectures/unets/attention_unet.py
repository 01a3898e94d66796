"""Attention U-Net (Oktay et al. 2018): the coarser level gates the skips; in 2D and 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has channels[k] and size / 2^k.
    x           (N, in_channels, *size)
    logits      (N, out_channels, *size)
    gate k      (N, 1, *size / 2^k), read with `blocks.attention_maps`
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. levels - 2]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from napari_medseg.architectures.blocks.attention import GatedSkip
from napari_medseg.architectures.blocks.unet import (
    EncoderDecoder,
    heads_1x1,
    interpolated_up,
    pooled_between,
    two_convolutions,
)


class AttentionUNet(EncoderDecoder):
    """A U-Net whose skips pass additive gates, driven by the up-sampled features of the level below.

    Source: Oktay et al., MIDL 2018; as usually implemented, with linear up-sampling before a 3^n convolution and the
    gate at the size of the skip.
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
        fine_widths = channels[-2::-1]
        super().__init__(
            encoder=pooled_between(spatial_dims, (stage(*pair) for pair in pairwise((in_channels, *channels)))),
            up=[interpolated_up(spatial_dims, norm, *pair) for pair in pairwise(channels[::-1])],
            joins=[GatedSkip(spatial_dims, norm, c) for c in fine_widths],
            decoder=[stage(2 * c, c) for c in fine_widths],
            heads=heads_1x1(spatial_dims, channels[:-1], out_channels, deep_supervision),
        )
