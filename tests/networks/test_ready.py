"""MONAI's networks behind our contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg.errors import InputError
from napari_medseg.registry import network
from network_suite import NetworkSuite


class TestBasicUNet(NetworkSuite):
    network = "basicunet"
    small: ClassVar[Mapping[str, object]] = {"features": (4, 4, 8, 8, 8, 4)}


class TestStridedUNet(NetworkSuite):
    network = "monai_unet"
    small: ClassVar[Mapping[str, object]] = {"channels": (4, 8, 16), "strides": (2, 2)}


class TestDynUNet(NetworkSuite):
    network = "dynunet"
    small: ClassVar[Mapping[str, object]] = {"filters": (4, 8, 8), "kernel_sizes": (3, 3, 3), "strides": (1, 2, 2)}


class TestSegResNet(NetworkSuite):
    network = "segresnet"
    small: ClassVar[Mapping[str, object]] = {"init_filters": 8, "blocks_down": (1, 1, 1), "blocks_up": (1, 1)}


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


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("segresnet", {"blocks_up": (1,)}),
        ("monai_attention_unet", {"strides": (2,)}),
        ("monai_unet", {"strides": (2,)}),
    ],
    ids=["segresnet", "monai_attention_unet", "monai_unet"],
)
def test_arguments_that_do_not_go_together(name: str, change: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises(InputError, match="do not go together"):
        network(name).build(**change)
