from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from monai.networks.nets.vnet import VNet as Peer
from torch import nn

from napari_medseg import registry
from network_suite import NetworkSuite, noise


class TestVNet(NetworkSuite):
    network = "vnet"
    small: ClassVar[Mapping[str, object]] = {"width": 4}
    learning_rate = 1e-2
    overfit_size = (32, 32)


def test_the_published_arguments_are_the_defaults() -> None:
    spec = registry.network("vnet")
    assert spec.arguments("paper") == spec.arguments("default", in_channels=1, out_channels=2)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_number_of_parameters(preset: registry.PresetName) -> None:
    network = registry.network("vnet").build(preset, in_channels=1, out_channels=2)
    assert sum(p.numel() for p in network.parameters()) == 45_597_898


@pytest.mark.parametrize("in_channels", [1, 4])
def test_equals_monai_where_monai_takes_the_input(in_channels: int) -> None:
    peer = Peer(3, in_channels, 2).eval()
    network = registry.network("vnet").build(in_channels=in_channels).eval()
    ours = (f"stages.{name.replace('in_tr.conv_block', 'in_tr.convolution')}" for name in peer.state_dict())
    network.load_state_dict(dict(zip(ours, peer.state_dict().values(), strict=True)))
    x = noise(1, in_channels, (32, 16, 16))
    with torch.inference_mode():
        assert torch.equal(network(x), peer(x))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_dropout_is_what_was_asked_for_everywhere(spatial_dims: int) -> None:
    x = noise(2, 1, (16, 16, 16)[:spatial_dims])
    kinds = {2: nn.Dropout2d, 3: nn.Dropout3d}
    for dropout in (0.0, 0.3):
        network = registry.network("vnet").build(dropout=dropout, width=2, spatial_dims=spatial_dims).train()
        dropping = [m for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d | nn.Dropout3d)]
        assert {(type(m), m.p) for m in dropping} == {(kinds[spatial_dims], dropout)}
        assert torch.equal(network(x), network(x)) == (dropout == 0)
