"""UNet++ (Zhou et al. 2018): a U-Net of every depth at once, nested, in 2D and 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Node X(i, j): level i, the j-th along it; L: the deepest level.
    x           (N, in_channels, *size)
    X(i, j)     (N, channels[i], *size / 2^i), for i + j <= L
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *size)] of X(0, L) .. X(0, 1)
"""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.unet import UpSample, two_convolutions


class UNetPlusPlus(nn.Module):
    """Node X(i, j) joins all nodes before it on its level with the one below, up-sampled linearly (eq. 1).

    Source: Zhou et al., DLMIA 2018. With deep supervision every node X(0, j) has a head, so that the network can be
    cut to X(0, 1) .. X(0, l): the first l + 1 `channels` make a network that has just the nodes i + j <= l, under the
    same names (`training.prune`).
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
        super().__init__()
        self.deep_supervision = deep_supervision
        self.deepest = len(channels) - 1
        self.multiple = 2**self.deepest
        self.down = Pool[Pool.MAX, spatial_dims](kernel_size=2)
        self.up = UpSample()
        self.nodes = nn.ModuleDict()
        for i, after in enumerate(channels):
            first = channels[i - 1] if i else in_channels
            self.nodes[_name(i, 0)] = two_convolutions(spatial_dims, norm, first, after)
            for j in range(1, len(channels) - i):
                self.nodes[_name(i, j)] = two_convolutions(spatial_dims, norm, j * after + channels[i + 1], after)
        head = Conv[Conv.CONV, spatial_dims]
        supervised = range(1 if deep_supervision else self.deepest, len(channels))
        self.heads = nn.ModuleDict({_name(0, j): head(channels[0], out_channels, kernel_size=1) for j in supervised})
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of X(0, L) .. X(0, 1), all of full size.
        """
        size = x.shape[2:]
        levels = [[self._node(0, 0)(pad_to_multiple(x, self.multiple))]]
        for i in range(1, self.deepest + 1):
            levels.append([self._node(i, 0)(self.down(levels[-1][0]))])
            # The diagonal that the new node makes possible: X(i - 1, 1) .. X(0, i).
            for k in range(i - 1, -1, -1):
                joined = torch.cat([*levels[k], self.up(levels[k + 1][-1])], dim=1)
                levels[k].append(self._node(k, i - k)(joined))
        if not (self.training and self.deep_supervision):
            return self._logits(levels[0], self.deepest, size)
        return Outputs.of([self._logits(levels[0], j, size) for j in range(self.deepest, 0, -1)])

    def _node(self, i: int, j: int) -> nn.Module:
        return self.nodes[_name(i, j)]

    def _logits(self, finest: list[Tensor], j: int, size: torch.Size) -> Tensor:
        return crop(self.heads[_name(0, j)](finest[j]), size)


def _name(i: int, j: int) -> str:
    return f"{i}_{j}"
