from __future__ import annotations

import re
from typing import ClassVar

import torch

from napari_medseg import registry
from network_suite import NetworkSuite, noise


class TestMultiResUNet(NetworkSuite):
    network = "multiresunet"
    small: ClassVar = {"channels": (8, 16, 16)}


def test_widths_and_skips_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        shapes = {
            name: tuple(p.shape) for name, p in registry.network("multiresunet").build("paper").named_parameters()
        }
    # Table 1 of the paper: 8, 17 and 26 filters in the first block; 4, 3, 2 and 1 steps along the skips.
    first = [
        shape[:2] for name, shape in shapes.items() if re.fullmatch(r"encoder.0.convolutions.\d.conv.weight", name)
    ]
    assert first == [(8, 3), (17, 8), (26, 17)]
    steps = [
        sum(name.startswith(f"joins.{k}.") and name.endswith("body.conv.weight") for name in shapes) for k in range(4)
    ]
    assert steps == [1, 2, 3, 4]


def test_no_norm_is_run_twice() -> None:
    network = registry.network("multiresunet").build("paper", channels=(8, 16), spatial_dims=2)
    runs: list[torch.nn.Module] = []
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda norm, *_: runs.append(norm))
    network(noise(2, 3, (8, 8)))
    assert len(runs) == len(set(runs)) > 0
