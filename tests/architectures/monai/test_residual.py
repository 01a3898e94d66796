"""MONAI's residual networks behind our contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from torch import nn

from napari_medseg.architectures.monai.residual import AHNet
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise


class TestSegResNet(NetworkSuite):
    network = "segresnet"
    small: ClassVar[Mapping[str, object]] = {"init_filters": 8, "blocks_down": (1, 1, 1), "blocks_up": (1, 1)}


class TestSegResNetDS(NetworkSuite):
    network = "segresnetds"
    small: ClassVar[Mapping[str, object]] = {"init_filters": 4, "blocks_down": (1, 1, 1)}


class TestHighResNet(NetworkSuite):
    network = "highresnet"
    small: ClassVar[Mapping[str, object]] = {"features": (4, 4, 8, 8), "norm": "instance"}


class TestMedNeXt(NetworkSuite):
    network = "mednext"
    small: ClassVar[Mapping[str, object]] = {
        "init_filters": 4,
        "expansion": (2, 2, 2),
        "blocks": (1, 1, 1),
        "kernel_size": 3,
    }


class TestAHNet(NetworkSuite):
    network = "ahnet"
    overfit_size = (32, 32)
    small: ClassVar[Mapping[str, object]] = {
        "layers": (1, 1, 1, 1),
        "psp_blocks": 1,
        "upsample": "nearest",
        "norm": "group",
    }


class TestFlexibleUNet(NetworkSuite):
    network = "flexibleunet"
    overfit_size = (32, 32)
    small: ClassVar[Mapping[str, object]] = {
        "backbone": "resnet10",
        "decoder_channels": (32, 16, 8, 8, 8),
    }


@pytest.mark.parametrize(
    ("blocks", "expansion", "kernel_size", "published"),
    # Roy et al. 2023, table 1: millions of parameters of the sizes S, B, M and L
    [
        ((2, 2, 2, 2, 2), (2, 2, 2, 2, 2), 3, 5.6),
        ((2, 2, 2, 2, 2), (2, 3, 4, 4, 4), 3, 10.5),
        ((3, 4, 4, 4, 4), (2, 3, 4, 4, 4), 3, 17.6),
        ((3, 4, 8, 8, 8), (3, 4, 8, 8, 8), 3, 61.8),
        ((2, 2, 2, 2, 2), (2, 2, 2, 2, 2), 5, 6.0),
        ((3, 4, 8, 8, 8), (3, 4, 8, 8, 8), 5, 63.0),
    ],
    ids=["S3", "B3", "M3", "L3", "S5", "L5"],
)
def test_sizes_of_mednext(
    blocks: tuple[int, ...], expansion: tuple[int, ...], kernel_size: int, published: float
) -> None:
    with torch.device("meta"):
        net = network("mednext").build(out_channels=14, blocks=blocks, expansion=expansion, kernel_size=kernel_size)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(published, abs=0.06)


def test_ahnet_is_anisotropic_along_the_first_axis() -> None:
    net = network("ahnet").build(layers=(1, 1, 1, 1), psp_blocks=1).eval()
    assert isinstance(net, AHNet)
    x = noise(1, 1, (32, 64, 32))
    assert isinstance(net.net.conv1, nn.Conv3d)
    assert net.net.conv1.kernel_size == (7, 7, 3)
    with torch.inference_mode():
        assert torch.equal(net(x), net.net(x.movedim(2, 4)).movedim(4, 2))


def test_highresnet_does_not_cut_its_logits_at_zero() -> None:
    net = network("highresnet").build(features=(4, 4, 4, 4)).eval()
    with torch.inference_mode():
        assert net(noise(1, 1, (8, 8, 8))).min() < 0


@pytest.mark.parametrize("backbone", ["efficientnet-b0", "resnet18"])
def test_backbones_come_without_a_download_and_with_the_norm_asked_for(backbone: str) -> None:
    with torch.device("meta"):
        net = network("flexibleunet").build(backbone=backbone, norm="instance")
    kinds = {type(m) for m in net.modules()}
    assert nn.InstanceNorm3d in kinds
    assert nn.BatchNorm3d not in kinds
