"""V-Net (Milletari et al. 2016) from MONAI's stages.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Level k has 16 * 2^k channels and size / 2^k, k in 0 .. 4.
    x       (N, in_channels, *size)
    level k (N, 16 * 2^k, *size / 2^k)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Dropout
from monai.networks.nets.vnet import VNet as Stages
from torch import Tensor, nn

from napari_medseg.networks.blocks import crop, he_init, pad_to_multiple

WIDTH = 16


class VNet(nn.Module):
    """5^n convolutions in residual stages, 2^n strided convolutions down and up, skips by concatenation; 2D or 3D.

    Source: Milletari et al., 3DV 2016, with the batch norm and ELU of its usual implementations. 45,597,898 parameters
    for one channel and two classes.
    """

    multiple = 16

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, dropout: float) -> None:
        super().__init__()
        stages = Stages(spatial_dims, in_channels=1, out_channels=out_channels)
        stages.in_tr = _Input(spatial_dims, in_channels)
        _set_dropout(stages, Dropout[Dropout.DROPOUT, spatial_dims], dropout)
        self.stages = stages
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        logits: Tensor = self.stages(pad_to_multiple(x, self.multiple))
        return crop(logits, x.shape[2:])


def _set_dropout(stages: Stages, kind: type[nn.Module], probability: float) -> None:
    """Dropout in the two deepest levels. MONAI's is 3D whatever the data, and always drops half of the finest skips."""
    for stage in (stages.down_tr128, stages.down_tr256, stages.up_tr256, stages.up_tr128):
        stage.dropout = kind(probability)
    for stage in (stages.up_tr256, stages.up_tr128):
        stage.dropout2 = kind(probability)
    for stage in (stages.up_tr64, stages.up_tr32):
        stage.dropout2 = nn.Identity()


class _Input(nn.Module):
    """The first residual stage. MONAI's takes only numbers of channels that divide 16."""

    def __init__(self, spatial_dims: int, in_channels: int) -> None:
        super().__init__()
        self.convolution = Convolution(
            spatial_dims, in_channels, WIDTH, kernel_size=5, act=None, norm="batch", bias=False
        )
        self.activation = nn.ELU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> (N, 16, *size): the convolution plus the channels, in turn, until there are 16."""
        in_turn = torch.arange(WIDTH, device=x.device) % x.shape[1]
        added: Tensor = self.activation(self.convolution(x) + x[:, in_turn])
        return added
