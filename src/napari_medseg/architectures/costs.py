"""The costs of a network: parameters, multiply-adds and memory per patch, counted on the meta device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from napari_medseg.registry import NetworkSpec, PresetName

ADAM_BYTES = 16
"""Bytes per parameter while Adam trains in float32: weight, gradient and two moments."""


@dataclass(frozen=True)
class Costs:
    """The costs of a network on one patch."""

    parameters: int
    macs: int
    """Multiply-adds of one forward pass: convolutions, matrix products and attention."""
    activation_bytes: int
    """Bytes that a forward pass in training keeps for the backward pass, in float32, each storage once."""

    @property
    def training_bytes(self) -> int:
        """Bytes of the parameters, their gradients and Adam's moments, and of the activations of one patch."""
        return self.parameters * ADAM_BYTES + self.activation_bytes


def costs_of(spec: NetworkSpec, patch: tuple[int, ...], preset: PresetName = "default", **overrides: object) -> Costs:
    """The costs of a network on a patch (*size) of one image; overrides as those of `NetworkSpec.build`."""
    with torch.device("meta"):
        network = spec.build(preset, **{"spatial_dims": len(patch), **overrides})
        channels = spec.arguments(preset, **overrides)["in_channels"]
        assert isinstance(channels, int)
        x = torch.empty(1, channels, *patch)
        macs = _macs(network, x)
        with _kept_bytes() as kept:
            network.train()(torch.cat([x, x]))  # batch norm wants more than one value per channel
    return Costs(sum(p.numel() for p in network.parameters()), macs, _without(kept, network) // 2)


def _macs(network: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(x)
    flops: int = counter.get_total_flops()
    return flops // 2


@contextmanager
def _kept_bytes() -> Iterator[dict[int, Tensor]]:
    """The tensors kept for the backward pass, one per storage."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _without(kept: dict[int, Tensor], network: nn.Module) -> int:
    """Bytes of the kept tensors that are no parameters or buffers of the network."""
    own = {t.untyped_storage()._cdata for t in (*network.parameters(), *network.buffers())}
    return sum(t.untyped_storage().nbytes() for storage, t in kept.items() if storage not in own)
