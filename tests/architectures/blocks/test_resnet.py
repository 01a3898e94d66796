from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_medseg.architectures.blocks.base import normalisation
from napari_medseg.architectures.blocks.resnet import DEPTHS, ResNetEncoder
from network_suite import noise


@pytest.mark.parametrize(
    ("layers", "count"),
    # torchvision's networks less their classifier (512 or 2048 -> 1000)
    [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160), (152, 58_143_808)],
)
def test_number_of_parameters(layers: int, count: int) -> None:
    blocks, bottleneck = DEPTHS[layers]
    with torch.device("meta"):
        encoder = ResNetEncoder(2, 3, blocks, bottleneck=bottleneck)
    assert sum(p.numel() for p in encoder.parameters()) == count


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("bottleneck", [False, True], ids=["basic", "bottleneck"])
def test_scales_halve_unless_dilated(spatial_dims: int, bottleneck: bool) -> None:
    encoder = ResNetEncoder(
        spatial_dims, 2, (1, 1, 2, 1), bottleneck=bottleneck, width=4, dilations=(1, 1, 2, 4), norm="group"
    )
    scales = encoder(noise(1, 2, (33,) * spatial_dims))
    assert [s.shape[1:] for s in scales] == [
        (c, *(n,) * spatial_dims) for c, n in zip(encoder.channels, (17, 9, 5, 5, 5), strict=True)
    ]


@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (24, 4), (8, 4), (2, 1), (13, 1), (1, 1)])
def test_groups_divide_the_channels_and_hold_two(channels: int, groups: int) -> None:
    assert normalisation("group", channels) == ("group", {"num_groups": groups})
    nn.GroupNorm(groups, channels)


@pytest.mark.parametrize(("channels", "groups"), [(1024, 32), (64, 32), (32, 16), (8, 4), (1, 1)])
def test_up_to_32_groups(channels: int, groups: int) -> None:
    assert normalisation("group32", channels) == ("group", {"num_groups": groups})
