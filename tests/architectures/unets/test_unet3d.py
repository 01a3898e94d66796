from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from napari_medseg import registry
from napari_medseg.architectures.unets.unet3d import UNet3D
from network_suite import NetworkSuite, noise


def build(**overrides: object) -> nn.Module:
    return registry.network("unet3d").build(**{"channels": (4, 8, 16), **overrides})  # type: ignore[arg-type]


class TestUNet3D(NetworkSuite):
    network = "unet3d"
    small: ClassVar = {"channels": (8, 16, 32)}
    learning_rate = 1e-2
    overfit_size = (32, 32)


def test_paper_preset_has_the_published_number_of_parameters() -> None:
    # Çiçek et al. 2016, section 3: 19,069,955, which counts the convolutions and not the batch normalisation.
    network = registry.network("unet3d").build("paper", in_channels=3, out_channels=3)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert sum(p.numel() for m in convolutions for p in m.parameters()) == 19_069_955
    others = {type(m) for m in network.modules() if list(m.parameters(recurse=False))} - {nn.Conv3d, nn.ConvTranspose3d}
    assert others == {nn.BatchNorm3d}


def test_presets_are_one_class_told_apart_by_arguments() -> None:
    spec = registry.network("unet3d")
    assert type(spec.build("default")) is type(spec.build("paper")) is UNet3D


def test_default_has_instance_norm_strides_and_supervision() -> None:
    modules = [type(m) for m in build().modules()]
    assert nn.InstanceNorm3d in modules
    assert nn.LeakyReLU in modules
    assert nn.MaxPool3d not in modules
    assert nn.BatchNorm3d not in modules


@pytest.mark.parametrize(
    ("size", "halves", "quarters"),
    [
        pytest.param((16, 24, 32), (8, 12, 16), (4, 6, 8), id="aligned"),
        pytest.param((9, 17, 1), (5, 9, 1), (3, 5, 1), id="odd"),
        pytest.param((9, 30), (5, 15), (3, 8), id="2D"),
    ],
)
def test_deep_supervision_lists_the_scales_in_training_only(
    size: tuple[int, ...], halves: tuple[int, ...], quarters: tuple[int, ...]
) -> None:
    network = build(channels=(4, 4, 8, 8), out_channels=3, spatial_dims=len(size))
    shapes = [tuple(o.shape) for o in network.train()(noise(1, 1, size)).supervised]
    assert shapes == [(1, 3, *size), (1, 3, *halves), (1, 3, *quarters)]
    assert network.eval()(noise(1, 1, size)).shape == (1, 3, *size)
    alone = build(deep_supervision=False, spatial_dims=len(size)).train()
    assert isinstance(alone(noise(1, 1, size)), torch.Tensor)


def test_first_supervised_logits_are_those_of_eval() -> None:
    network = build()
    x = noise(1, 1, (16, 8, 9))
    assert torch.equal(network.train()(x).logits, network.eval()(x)), "instance norm knows no modes"


def test_a_network_without_supervision_takes_the_weights_of_one_with() -> None:
    with_heads, without = build(), build(deep_supervision=False)
    missing, surplus = without.load_state_dict(with_heads.state_dict(), strict=False)
    assert not missing
    assert {name.rsplit(".", 1)[0] for name in surplus} == {"heads.1"}


def test_channels_last_changes_nothing_but_the_layout() -> None:
    network = build().eval()
    x = noise(1, 1, (16, 16, 16))
    with torch.inference_mode():
        expected = network(x)
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # accepted, not in the stubs
        torch.testing.assert_close(network(x.to(memory_format=torch.channels_last_3d)), expected)
