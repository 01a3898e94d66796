from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from napari_medseg import registry
from network_suite import NetworkSuite, noise


class TestUNet(NetworkSuite):
    network = "unet"
    small: ClassVar = {"channels": (8, 16, 32)}


def test_the_paper_has_convolutions_only() -> None:
    with torch.device("meta"):
        network = registry.network("unet").build("paper")
    assert {type(m) for m in network.modules() if list(m.parameters(recurse=False))} == {nn.Conv2d, nn.ConvTranspose2d}


@pytest.mark.parametrize("name", ["unet", "attention_unet", "r2unet", "multiresunet"])
def test_supervised_levels_have_their_own_sizes(name: str) -> None:
    network = registry.network(name).build(channels=(4, 4, 8, 8), out_channels=3).train()
    shapes = [tuple(o.shape) for o in network(noise(1, 1, (9, 17, 2))).supervised]
    assert shapes == [(1, 3, 9, 17, 2), (1, 3, 5, 9, 1), (1, 3, 3, 5, 1)]


@pytest.mark.parametrize("name", ["unet", "attention_unet", "r2unet", "multiresunet"])
def test_a_network_without_supervision_takes_the_weights_of_one_with(name: str) -> None:
    supervised, alone = (registry.network(name).build(channels=(4, 4, 8), deep_supervision=s) for s in (True, False))
    missing, surplus = alone.load_state_dict(supervised.state_dict(), strict=False)
    assert not missing
    assert {key.rsplit(".", 1)[0] for key in surplus} == {"heads.1"}
    x = noise(1, 1, (16, 8, 8))
    assert torch.equal(alone.eval()(x), supervised.eval()(x))
