from __future__ import annotations

from typing import ClassVar

import torch

from napari_medseg import registry
from napari_medseg.architectures.blocks.attention import GatedSkip
from napari_medseg.architectures.blocks.base import attention_maps
from network_suite import NetworkSuite, noise


class TestAttentionUNet(NetworkSuite):
    network = "attention_unet"
    small: ClassVar = {"channels": (8, 16, 32)}


def test_a_gate_per_level_can_be_read() -> None:
    network = registry.network("attention_unet").build(channels=(4, 4, 8)).eval()
    maps = attention_maps(network, noise(2, 1, (16, 8, 12)))
    assert [tuple(m.shape) for m in maps.values()] == [(2, 1, 8, 4, 6), (2, 1, 16, 8, 12)]
    assert all(0 <= m.min() < m.max() <= 1 for m in maps.values())


def test_the_gate_weighs_the_skip_and_leaves_the_rest() -> None:
    join = GatedSkip(2, "batch", 4).eval()
    skip, up = noise(1, 4, (5, 6)), noise(1, 4, (5, 6), seed=1)
    joined = join(skip, up)
    gate = attention_maps_of(join, skip, up)
    torch.testing.assert_close(joined[:, :4], gate * skip)
    assert torch.equal(joined[:, 4:], up)


def attention_maps_of(join: GatedSkip, skip: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    join.map.register_forward_hook(lambda _, __, output: seen.append(output))
    join(skip, up)
    return seen[0]
