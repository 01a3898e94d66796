"""MONAI's transformers behind our contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from monai.networks import nets

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL_UNETR: dict[str, Any] = {
    "positions": 2,
    "feature_size": 4,
    "hidden_size": 24,
    "mlp_dim": 24,
    "num_heads": 2,
}


class TestUNETR(NetworkSuite):
    network = "unetr"
    small: ClassVar[Mapping[str, object]] = SMALL_UNETR


class TestSwinUNETR(NetworkSuite):
    network = "swinunetr"
    overfit_size = (32, 32)
    small: ClassVar[Mapping[str, object]] = {
        "feature_size": 12,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 1, 1),
        "window_size": 2,
    }


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_unetr_equals_monai_at_the_size_of_its_positions(spatial_dims: int) -> None:
    net = network("unetr").build(**SMALL_UNETR, spatial_dims=spatial_dims).eval()
    small = {name: n for name, n in SMALL_UNETR.items() if name != "positions"}
    peer = nets.UNETR(1, 2, 32, **small, spatial_dims=spatial_dims).eval()
    tensors = {f"net.{name}": value for name, value in peer.state_dict().items() if "cross_attn" not in name}
    net.load_state_dict(tensors)
    x = noise(1, 1, (32,) * spatial_dims)
    with torch.inference_mode():
        torch.testing.assert_close(net(x), peer(x))


def test_tokens_attend_to_all_tokens() -> None:
    maps = attention_maps(network("unetr").build(**SMALL_UNETR).eval(), noise(1, 1, (16, 32, 48)))
    assert [tuple(weights.shape) for weights in maps.values()] == [(1, 2, 6, 6)] * 12
    for weights in maps.values():
        assert weights.min() >= 0
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 6))


def test_tokens_attend_to_those_of_their_window() -> None:
    net = network("swinunetr").build(feature_size=12, window_size=4, spatial_dims=2).eval()
    maps = list(attention_maps(net, noise(1, 1, (64, 64))).values())
    assert maps[0].shape == (64, 3, 16, 16), "windows, heads, queries, keys"
    assert len(maps) == 8
    assert all(weights.min() >= 0 and weights.max() <= 1 + 1e-6 for weights in maps)


def test_number_of_parameters_of_swinunetr_for_one_channel_and_14_classes() -> None:
    with torch.device("meta"):
        net = network("swinunetr").build("paper", in_channels=1, out_channels=14)
    assert sum(p.numel() for p in net.parameters()) == 62_187_296
