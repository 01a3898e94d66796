from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from napari_medseg import registry
from network_suite import NetworkSuite, noise


class TestR2UNet(NetworkSuite):
    network = "r2unet"
    small: ClassVar = {"channels": (8, 8, 16)}


@pytest.mark.parametrize("steps", [1, 3])
def test_every_step_uses_the_same_weights(steps: int) -> None:
    network = registry.network("r2unet").build(channels=(4, 4), steps=steps)
    runs: list[nn.Module] = []
    for name, module in network.named_modules():
        if name.endswith(".unit.conv"):
            module.register_forward_hook(lambda unit, *_: runs.append(unit))
    network(noise(1, 1, (8, 8, 8)))
    # Two convolutions in each of two stages down and one up.
    assert len(set(runs)) == 6
    assert len(runs) == 6 * (steps + 1)


def test_training_and_evaluation_agree() -> None:
    # A batch norm shared by the steps would not: its running mean mixes them.
    network = registry.network("r2unet").build(channels=(4, 8), deep_supervision=False)
    x = noise(2, 1, (8, 8, 8))
    trained = network.train()(x)
    assert torch.equal(network.eval()(x), trained)
    assert not list(network.buffers())
