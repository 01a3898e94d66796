"""UNesT: the size of the published network, and positions that reach any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.errors import InputError
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL: Mapping[str, object] = {"feature_size": 1, "depths": (1, 1, 1), "num_heads": (2, 2, 2), "positions": 8}


class TestUNesT(NetworkSuite):
    network = "unest"
    overfit_size = (16, 16, 16)
    small: ClassVar[Mapping[str, object]] = SMALL

    @pytest.mark.slow
    def test_overfits_one_small_image(self) -> None:
        super().test_overfits_one_small_image()


def test_blocks_see_themselves_only() -> None:
    net = network("unest").build(**SMALL).eval()  # type: ignore[arg-type]  # no preset among them
    # One voxel at the bottom has no variance: the network sees twice the length.
    maps = attention_maps(net, noise(1, 1, (32, 32, 32)))
    assert [tuple(weights.shape) for weights in maps.values()] == [(1, 2, 128, 8, 8), (1, 2, 16, 8, 8), (1, 2, 2, 8, 8)]
    for weights in maps.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_the_published_size() -> None:
    with torch.device("meta"):
        net = network("unest").build(preset="paper")
    assert sum(p.numel() for p in net.parameters()) == 87_205_158
    assert net.get_submodule("nestViT").get_submodule("levels")[0].pos_embed.shape == (1, 64, 216, 128)  # type: ignore[index]


def test_arguments_that_do_not_go_together() -> None:
    with pytest.raises(InputError, match="positions must be a multiple of 4"):
        network("unest").build(positions=6)
    with pytest.raises(InputError, match="num_heads must divide"):
        network("unest").build(num_heads=(3, 8, 16))
