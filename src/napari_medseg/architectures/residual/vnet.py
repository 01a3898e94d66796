"""V-Net (Milletari et al. 2016) from MONAI's stages.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has width * 2^k channels and size / 2^k, k in 0 .. 4.
    x       (N, in_channels, *size)
    level k (N, width * 2^k, *size / 2^k)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Dropout
from monai.networks.nets import vnet
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple

_ACTIVATION = ("elu", {"inplace": True})


class VNet(nn.Module):
    """5^n convolutions in residual stages, 2^n strided convolutions down and up, skips by concatenation; 2D or 3D.

    Source: Milletari et al., 3DV 2016, with the batch norm and ELU of its usual implementations. 45,597,898 parameters
    for one channel, two classes and a width of 16.
    """

    multiple = 16

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, width: int, dropout: float) -> None:
        super().__init__()
        self.stages = _Stages(spatial_dims, in_channels, out_channels, width)
        _set_dropout(self.stages, Dropout[Dropout.DROPOUT, spatial_dims], dropout)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        logits: Tensor = self.stages(pad_to_multiple(x, self.multiple))
        return crop(logits, x.shape[2:])


class _Stages(nn.Module):
    """The stages of MONAI's VNet, whose width is always 16, under the same names."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        down = partial(vnet.DownTransition, spatial_dims, act=_ACTIVATION)
        up = partial(vnet.UpTransition, spatial_dims, act=_ACTIVATION)
        self.in_tr = _Input(spatial_dims, in_channels, width)
        self.down_tr32 = down(width, 1)
        self.down_tr64 = down(2 * width, 2)
        self.down_tr128 = down(4 * width, 3)
        self.down_tr256 = down(8 * width, 2)
        self.up_tr256 = up(16 * width, 16 * width, 2)
        self.up_tr128 = up(16 * width, 8 * width, 2)
        self.up_tr64 = up(8 * width, 4 * width, 1)
        self.up_tr32 = up(4 * width, 2 * width, 1)
        self.out_tr = vnet.OutputTransition(spatial_dims, 2 * width, out_channels, _ACTIVATION)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> (N, out_channels, *size); every size a multiple of 16."""
        scales = [self.in_tr(x)]
        for down in (self.down_tr32, self.down_tr64, self.down_tr128, self.down_tr256):
            scales.append(down(scales[-1]))
        x = scales.pop()
        for up in (self.up_tr256, self.up_tr128, self.up_tr64, self.up_tr32):
            x = up(x, scales.pop())
        logits: Tensor = self.out_tr(x)
        return logits


def _set_dropout(stages: _Stages, kind: type[nn.Module], probability: float) -> None:
    """Dropout in the two deepest levels. MONAI's is 3D for 2D data too, and always drops half of the finest skips."""
    for stage in (stages.down_tr128, stages.down_tr256, stages.up_tr256, stages.up_tr128):
        stage.dropout = kind(probability)
    for stage in (stages.up_tr256, stages.up_tr128):
        stage.dropout2 = kind(probability)
    for stage in (stages.up_tr64, stages.up_tr32):
        stage.dropout2 = nn.Identity()


class _Input(nn.Module):
    """The first residual stage. MONAI's takes only numbers of channels that divide its width."""

    def __init__(self, spatial_dims: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.convolution = Convolution(
            spatial_dims, in_channels, width, kernel_size=5, act=None, norm="batch", bias=False
        )
        self.activation = nn.ELU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> (N, width, *size): the convolution plus the channels in turn, width of them."""
        in_turn = torch.arange(self.width, device=x.device) % x.shape[1]
        added: Tensor = self.activation(self.convolution(x) + x[:, in_turn])
        return added
