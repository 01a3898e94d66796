"""SETR: a vision transformer on patches as the encoder, and three decoders of its maps (Zheng et al. 2021).

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). F: features of the decoder.
    x           (N, in_channels, *size)
    taps        four of (N, hidden, *size / 16): after each quarter of the layers
    logits      (N, out_channels, *size)
    supervised  those, and (N, out_channels, *size / 16) of the three earlier taps, the latest first
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import conv_unit
from napari_medseg.architectures.blocks.transformer import EPSILON, MapTransformer

PATCH = 16
"""Voxels of a token along each axis."""
TAPS = 4


class SETR(nn.Module):
    """Tokens of 16^n voxels, layers of attention at that one scale, and a decoder; in 2D or 3D.

    `decoder`: "naive" classifies the last map; "pup" doubles its size four times, with a convolution before each; "mla"
    adds up the maps of four layers from the last to the first and joins them. Learned positions are interpolated to
    the image. Source: Zheng et al., CVPR 2021. The classifier comes before the last interpolation, which is the
    same, since interpolation and a 1^n convolution commute, and holds fewer maps of full size.

    The published count of "pup" is 8.7 million above this one (6.7 on ViT-B/16): the authors' configuration has four
    branches for auxiliary losses, of the layers 10, 15, 20 and 24, each a layer norm, a 3^n convolution to 256 features
    and a classifier. With them the counts are 319.06 and 98.07 million, published as 318.31 and 97.64. They classify
    nothing in use and are left out; `deep_supervision` has lighter ones.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        decoder: str,
        hidden: int,
        layers: int,
        heads: int,
        mlp: int,
        grid: tuple[int, ...],
        features: int,
        norm: str,
        dropout: float,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.transformer = MapTransformer(
            spatial_dims,
            in_channels,
            hidden,
            layers=layers,
            heads=heads,
            mlp=mlp,
            grid=grid,
            dropout=dropout,
            patch=PATCH,
        )
        self.taps = [(k + 1) * layers // TAPS - 1 for k in range(TAPS)]
        earlier = TAPS - 1 if decoder == "mla" or deep_supervision else 0
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, eps=EPSILON) for _ in range(earlier))
        unit = partial(conv_unit, spatial_dims, norm)
        conv = partial(Conv[Conv.CONV, spatial_dims], out_channels=out_channels, kernel_size=1)
        self.decoder = DECODERS[decoder](unit, hidden, features)
        self.classify = conv(self.decoder.channels)
        self.auxiliary = nn.ModuleList(
            nn.Sequential(unit(hidden, features, kernel=1), conv(features))
            for _ in range(TAPS - 1 if deep_supervision else 0)
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of the earlier taps.
        """
        size = x.shape[2:]
        x = pad_to_multiple(x, PATCH)
        states = self.transformer.states(x)
        *earlier, last = (states[k] for k in self.taps)
        taps = [_normed(norm, tap) for norm, tap in zip(self.norms, earlier, strict=False)]
        logits = self.classify(self.decoder([*taps, last]))
        for factor in self.decoder.enlarged:
            logits = resize(logits, [factor * n for n in logits.shape[2:]])
        logits = crop(resize(logits, x.shape[2:]), size)
        if not self.training:
            return Outputs.of([logits])
        others = [head(tap) for head, tap in zip(self.auxiliary, reversed(taps), strict=False)]
        return Outputs.of([logits, *others])


Unit = Callable[..., nn.Module]
"""A convolution with norm and ReLU: (before, after, kernel=3)."""


class _Decoder(nn.Module):
    """Makes the map that is classified, of `channels`; the logits are enlarged by each number of `enlarged` in turn."""

    channels: int
    enlarged: tuple[int, ...] = ()


class Naive(_Decoder):
    """One 1^n convolution."""

    def __init__(self, unit: Unit, hidden: int, features: int) -> None:
        super().__init__()
        self.unit = unit(hidden, features, kernel=1)
        self.channels = features

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """The taps -> (N, F, *size / 16)."""
        y: Tensor = self.unit(taps[-1])
        return y


class Progressive(_Decoder):
    """Four 3^n convolutions, the size doubled after each; the last doubling is that of the logits."""

    def __init__(self, unit: Unit, hidden: int, features: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(unit(before, features) for before in (hidden, *(features,) * 3))
        self.channels = features

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """The taps -> (N, F, *size / 2)."""
        first, *others = self.units
        y: Tensor = first(taps[-1])
        for unit in others:
            y = unit(resize(y, [2 * n for n in y.shape[2:]]))
        return y


class MultiLevel(_Decoder):
    """The taps narrowed, each added to what the later ones became; two more convolutions of each; joined.

    The size grows twofold twice over: by four before the maps are joined, and by four after.
    """

    def __init__(self, unit: Unit, hidden: int, features: int) -> None:
        super().__init__()
        narrow = max(1, features // 2)
        self.reduce = nn.ModuleList(unit(hidden, features, kernel=1) for _ in range(TAPS))
        self.streams = nn.ModuleList(
            nn.Sequential(unit(features, features), unit(features, narrow), unit(narrow, narrow)) for _ in range(TAPS)
        )
        self.channels = TAPS * narrow
        self.enlarged = (4,)

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """The taps -> (N, 2 F, *size / 16)."""
        reduced = [reduce(tap) for reduce, tap in zip(self.reduce, taps, strict=True)]
        for k in reversed(range(TAPS - 1)):
            reduced[k] = reduced[k] + reduced[k + 1]
        return torch.cat([stream(y) for stream, y in zip(self.streams, reduced, strict=True)], dim=1)


DECODERS: dict[str, type[Naive | Progressive | MultiLevel]] = {
    "naive": Naive,
    "pup": Progressive,
    "mla": MultiLevel,
}


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """(N, C, *size), normalised over the channels."""
    normed: Tensor = norm(x.movedim(1, -1)).movedim(-1, 1)
    return normed
