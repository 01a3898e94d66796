from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from napari_medseg import registry
from napari_medseg.architectures import costs_of
from network_suite import NetworkSuite, noise

SPEC = registry.network("unetpp")


class TestUNetPlusPlus(NetworkSuite):
    network = "unetpp"
    small: ClassVar = {"channels": (8, 8, 16)}
    learning_rate = 1e-2
    overfit_size = (32, 32)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"deep_supervision": True}, 9_163_428, id="supervised"),
        pytest.param({"channels": (32, 64, 128, 256)}, 2_236_161, id="L3"),
        pytest.param({"channels": (32, 64, 128)}, 519_105, id="L2"),
        pytest.param({"channels": (32, 64)}, 103_041, id="L1"),
    ],
)
def test_parameters_of_the_variants(change: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        network = SPEC.build("paper", **change)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_multiply_adds_of_the_paper() -> None:
    assert round(costs_of(SPEC, (256, 256), "paper").macs / 1e9, 1) == 34.5


def test_every_head_has_the_full_size_and_the_same_weight() -> None:
    network = SPEC.build(channels=(4, 4, 8, 8), out_channels=3).train()
    assert [tuple(o.shape) for o in network(noise(1, 1, (9, 17, 2))).supervised] == [(1, 3, 9, 17, 2)] * 3
    assert SPEC.supervision == "equal"


@pytest.mark.parametrize("node", ["0_1", "1_1", "0_2"])
def test_nodes_join_all_before_them_and_the_one_below(node: str) -> None:
    network = SPEC.build(channels=(2, 4, 8), spatial_dims=2).eval()
    outputs: dict[str, Tensor] = {}
    joined: list[Tensor] = []
    for name, module in network.named_modules():
        if name.startswith("nodes.") and name.count(".") == 1:
            keep(module, name.removeprefix("nodes."), outputs)
    network.get_submodule(f"nodes.{node}").register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    network(noise(1, 1, (8, 12)))
    i, j = map(int, node.split("_"))
    below = nn.functional.interpolate(outputs[f"{i + 1}_{j - 1}"], scale_factor=2, mode="bilinear")
    torch.testing.assert_close(joined[0], torch.cat([*(outputs[f"{i}_{k}"] for k in range(j)), below], 1))


def keep(module: nn.Module, name: str, outputs: dict[str, Tensor]) -> None:
    module.register_forward_hook(lambda _, __, output: outputs.update({name: output}))
