"""MONAI's U-Nets behind our contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise


class TestBasicUNet(NetworkSuite):
    network = "basicunet"
    overfit_size = (32, 32)
    small: ClassVar[Mapping[str, object]] = {"features": (4, 4, 8, 8, 8, 4)}


class TestBasicUNetPlusPlus(NetworkSuite):
    network = "basicunetplusplus"
    overfit_size = (32, 32)
    small: ClassVar[Mapping[str, object]] = {"features": (4, 4, 8, 8, 8, 4)}


class TestStridedUNet(NetworkSuite):
    network = "monai_unet"
    small: ClassVar[Mapping[str, object]] = {"channels": (4, 8, 16), "strides": (2, 2)}


class TestDynUNet(NetworkSuite):
    network = "dynunet"
    small: ClassVar[Mapping[str, object]] = {"filters": (4, 8, 8), "kernel_sizes": (3, 3, 3), "strides": (1, 2, 2)}


class TestAttentionUNet(NetworkSuite):
    network = "monai_attention_unet"
    small: ClassVar[Mapping[str, object]] = {"channels": (4, 8, 16), "strides": (2, 2)}


@pytest.mark.parametrize(
    ("name", "spatial_dims", "count"),
    [("monai_attention_unet", 2, 31_739_250), ("monai_attention_unet", 3, 94_482_930), ("monai_unet", 3, 4_808_917)],
    ids=["monai_attention_unet 2D", "monai_attention_unet 3D", "monai_unet 3D"],
)
def test_number_of_parameters(name: str, spatial_dims: int, count: int) -> None:
    with torch.device("meta"):
        net = network(name).build(spatial_dims=spatial_dims)
    assert sum(p.numel() for p in net.parameters()) == count


def test_supervised_nodes_all_have_the_full_size_the_last_first() -> None:
    net = network("basicunetplusplus").build(features=(4, 4, 4, 4, 4, 4), out_channels=3)
    x = noise(1, 1, (17, 16, 5))
    nodes = net.train()(x).supervised
    assert [tuple(node.shape) for node in nodes] == [(1, 3, 17, 16, 5)] * 4
    assert torch.equal(nodes[0], net.eval()(x)), "instance norm knows no modes"


def test_gates_can_be_looked_at() -> None:
    net = network("monai_attention_unet").build(channels=(4, 8, 16), strides=(2, 2), spatial_dims=2).eval()
    maps = attention_maps(net, noise(1, 1, (16, 24)))
    assert [tuple(gate.shape) for gate in maps.values()] == [(1, 1, 8, 12), (1, 1, 16, 24)]
    assert all(0 <= gate.min() <= gate.max() <= 1 for gate in maps.values())
