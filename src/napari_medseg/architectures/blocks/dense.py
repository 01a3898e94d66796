"""Densely connected blocks (Huang et al., CVPR 2017): every layer sees the features of all layers before it.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x   (N, before, *size)
    y   (N, before + layers * growth, *size)
"""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.blocks import ADN
from monai.networks.layers.factories import Conv, Dropout, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import normalisation

BOTTLENECK = 4
"""Times the growth: the channels between the two convolutions of a layer."""


class DenseLayer(nn.Module):
    """Norm, ReLU, 1^n convolution to a bottleneck; norm, ReLU, 3^n convolution; appended to the input."""

    def __init__(self, spatial_dims: int, norm: str, before: int, growth: int, dropout: float = 0.0) -> None:
        super().__init__()
        conv, narrow = partial(Conv[Conv.CONV, spatial_dims], bias=False), BOTTLENECK * growth
        self.body = nn.Sequential(
            norm_relu(spatial_dims, norm, before),
            conv(before, narrow, kernel_size=1),
            norm_relu(spatial_dims, norm, narrow),
            conv(narrow, growth, kernel_size=3, padding=1),
        )
        if dropout:
            self.body.append(Dropout[Dropout.DROPOUT, spatial_dims](dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, before + growth, *size)."""
        return torch.cat((x, self.body(x)), dim=1)


def dense_block(
    spatial_dims: int, norm: str, before: int, growth: int, layers: int, *, dropout: float = 0.0
) -> nn.Sequential:
    """Dense layers in a row: (N, before, *size) -> (N, before + layers * growth, *size)."""
    return nn.Sequential(*(DenseLayer(spatial_dims, norm, before + i * growth, growth, dropout) for i in range(layers)))


def transition(
    spatial_dims: int, norm: str, before: int, after: int, stride: int | tuple[int, ...] = 2
) -> nn.Sequential:
    """Norm, ReLU, 1^n convolution and the average of `stride`^n voxels: (N, after, *size / stride)."""
    return nn.Sequential(
        norm_relu(spatial_dims, norm, before),
        Conv[Conv.CONV, spatial_dims](before, after, kernel_size=1, bias=False),
        Pool[Pool.AVG, spatial_dims](stride, stride),
    )


def norm_relu(spatial_dims: int, norm: str, channels: int) -> nn.Module:
    """Norm and ReLU, before a convolution."""
    unit: nn.Module = ADN(
        "NA",
        in_channels=channels,
        act=("relu", {"inplace": True}),
        norm=normalisation(norm, channels),
        norm_dim=spatial_dims,
    )
    return unit
