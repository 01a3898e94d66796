"""2D networks on volumes: slice by slice, with their neighbours as channels, or in all three planes.

Each mode wraps a 2D network and is itself a network of volumes. N: batch. C: channels. K: classes.
    x       (N, C, Z, Y, X)
    logits  (N, K, Z - 2 halo, Y, X)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_medseg.architectures.blocks.outputs import Outputs, logits_of


class SliceWise(nn.Module):
    """Every slice alone: the first axis is the one across them."""

    halo = 0

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, C, Z, Y, X) -> (N, K, Z, Y, X), or Outputs of volumes, each with its own Y and X."""
        return _stacked(self.net(x.transpose(1, 2).flatten(0, 1)), len(x))


class AdjacentSlices(nn.Module):
    """Every slice with its neighbours as channels: 2.5D."""

    def __init__(self, net: nn.Module, slices: int) -> None:
        super().__init__()
        self.net = net
        self.slices = slices
        self.halo = slices // 2
        """Slices at either end that serve as neighbours only."""

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, C, Z, Y, X) -> (N, K, Z - slices + 1, Y, X); the network sees (channel, neighbour) in that order."""
        neighbours = x.unfold(2, self.slices, 1)  # N, C, Z', Y, X, slices
        as_channels = neighbours.permute(0, 2, 1, 5, 3, 4).flatten(2, 3)  # N, Z', C * slices, Y, X
        return _stacked(self.net(as_channels.flatten(0, 1)), len(x))


class TriPlanar(nn.Module):
    """One 2D network in the three planes through every voxel; their probabilities are averaged."""

    halo = 0

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, Z, Y, X) -> (N, K, Z, Y, X), the logarithm of the mean probability."""
        views = [self._along(x, axis).log_softmax(1) for axis in (2, 3, 4)]
        return torch.stack(views).logsumexp(0)

    def _along(self, x: Tensor, axis: int) -> Tensor:
        outputs = _stacked(self.net(x.movedim(axis, 1).flatten(0, 1)), len(x))
        return logits_of(outputs).movedim(2, axis)


def in_mode(network: nn.Module, mode: str, slices: int = 1) -> nn.Module:
    """The network of volumes that a mode ("2d", "2.5d", "triplanar" or "3d") makes of a network.

    A network that takes no image says itself, by `on_volumes`, how it is used on volumes.
    """
    if mode == "2d":
        return SliceWise(network)
    if mode == "2.5d":
        return AdjacentSlices(network, slices)
    if mode == "triplanar":
        return TriPlanar(network)
    on_volumes = getattr(network, "on_volumes", None)
    return network if on_volumes is None else on_volumes()


def _stacked(outputs: Tensor | Outputs, batch: int) -> Tensor | Outputs:
    """Slices (N * Z, K, Y, X) back as volumes (N, K, Z, Y, X)."""
    if isinstance(outputs, Outputs):
        return outputs.map(lambda slices: _volumes(slices, batch))
    return _volumes(outputs, batch)


def _volumes(slices: Tensor, batch: int) -> Tensor:
    return slices.reshape(batch, -1, *slices.shape[1:]).transpose(1, 2)
