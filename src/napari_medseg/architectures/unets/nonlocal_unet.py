"""Non-local U-Net (Wang et al. 2020): a small U-Net whose bottom and first up-sampling see the whole image.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has channels[k] and size / 2^k.
    x           (N, in_channels, *size)
    level k     (N, channels[k], *size / 2^k)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. levels - 2]
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from monai.networks.blocks import ADN
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.attention import GlobalAggregation, doubling
from napari_medseg.architectures.blocks.base import normalisation
from napari_medseg.architectures.blocks.unet import Add, EncoderDecoder

HEADS = 2
"""At the bottom; the up-sampling block has one."""


class NonLocalUNet(EncoderDecoder):
    """Pre-activation residual blocks; global aggregation at the bottom and in the first decoder level; skips added.

    Source: Wang, Zou, Liu and Ji, AAAI 2020. Keys are bounded (`keys_per_axis`), so that memory stays linear in the
    number of voxels. Raises ValueError for a deepest level whose channels are odd.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: tuple[int, ...],
        norm: str,
        dropout: float,
        keys_per_axis: int,
        deep_supervision: bool,
    ) -> None:
        deepest = channels[-1]
        if deepest % HEADS:
            raise ValueError(f"the deepest level has {HEADS} heads, which must divide its {deepest} channels")
        conv = Conv[Conv.CONV, spatial_dims]
        residual = partial(_Residual, spatial_dims, norm)
        aggregate = partial(GlobalAggregation, spatial_dims, dropout=dropout, keys_per_axis=keys_per_axis)
        aggregation = partial(_Aggregation, spatial_dims, norm, deepest)
        stem = conv(in_channels, channels[0], kernel_size=3, padding=1, bias=False)
        encoder = [nn.Sequential(stem, residual(channels[0], channels[0], projected=True))]
        encoder += [nn.Sequential(residual(*pair, stride=2, projected=True)) for pair in pairwise(channels)]
        encoder[-1].append(aggregation(aggregate(deepest, deepest, heads=HEADS), nn.Identity()))
        up = [doubling(spatial_dims, *pair, bias=False) for pair in pairwise(channels[::-1])]
        up[0] = aggregation(aggregate(deepest, channels[-2], heads=1, up=True), up[0], shared=True)
        supervised = channels[:-1] if deep_supervision else channels[:1]
        super().__init__(
            encoder=encoder,
            up=up,
            joins=[Add() for _ in up],
            decoder=[residual(c, c) for c in channels[-2::-1]],
            heads=[
                nn.Sequential(_activation(spatial_dims, norm, c, dropout), conv(c, out_channels, kernel_size=1))
                for c in supervised
            ],
        )


class _Residual(nn.Module):
    """Twice norm, ReLU6 and 3^n convolution, beside the input, or the activated one `projected`."""

    def __init__(
        self, spatial_dims: int, norm: str, before: int, after: int, *, stride: int = 1, projected: bool = False
    ) -> None:
        super().__init__()
        conv = partial(Conv[Conv.CONV, spatial_dims], bias=False)
        self.activation = _activation(spatial_dims, norm, before)
        self.shortcut = conv(before, after, kernel_size=1, stride=stride) if projected else None
        self.body = nn.Sequential(
            conv(before, after, kernel_size=3, stride=stride, padding=1),
            _activation(spatial_dims, norm, after),
            conv(after, after, kernel_size=3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size / stride)."""
        active = self.activation(x)
        y: Tensor = self.body(active) + (x if self.shortcut is None else self.shortcut(active))
        return y


class _Aggregation(nn.Module):
    """Norm, ReLU6 and global aggregation beside a shortcut; `shared`: both start from the activated input."""

    def __init__(
        self, spatial_dims: int, norm: str, before: int, body: nn.Module, shortcut: nn.Module, *, shared: bool = False
    ) -> None:
        super().__init__()
        self.activation = _activation(spatial_dims, norm, before)
        self.body = body
        self.shortcut = shortcut
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, channels of the body, *size), doubled where the body doubles it."""
        active = self.activation(x)
        y: Tensor = self.body(active) + self.shortcut(active if self.shared else x)
        return y


def _activation(spatial_dims: int, norm: str, channels: int, dropout: float = 0.0) -> nn.Module:
    """Norm, ReLU6 and, where asked, dropout."""
    unit: nn.Module = ADN(
        "NAD",
        in_channels=channels,
        act="relu6",
        norm=normalisation(norm, channels),
        norm_dim=spatial_dims,
        dropout=dropout or None,
        dropout_dim=1,
    )
    return unit
