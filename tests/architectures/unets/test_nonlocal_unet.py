from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from napari_medseg import registry
from napari_medseg.architectures.blocks.attention import DotProductAttention, GlobalAggregation, at_most
from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.errors import InputError
from network_suite import NetworkSuite, noise


class TestNonLocalUNet(NetworkSuite):
    network = "nonlocal_unet"
    small: ClassVar = {"channels": (8, 16, 16)}


def build(**overrides: object) -> nn.Module:
    spec = registry.network("nonlocal_unet")
    return spec.build_from(spec.arguments("default", **{"channels": (4, 8, 8), **overrides}))


def test_attention_is_a_distribution_over_the_keys() -> None:
    maps = attention_maps(build().eval(), noise(2, 1, (8, 16, 16)))
    assert [(name, tuple(m.shape)) for name, m in maps.items()] == [
        ("encoder.2.1.body.attention.map", (2, 2, 32, 32)),
        ("up.0.body.attention.map", (2, 1, 256, 32)),
    ]
    for weights in maps.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert weights.min() >= 0


def test_every_voxel_sees_the_whole_image() -> None:
    network = build(norm="batch").eval()
    x = noise(1, 1, (64, 8, 8))
    far = x.clone()
    far[:, :, -1] += 3
    with torch.inference_mode():
        assert (network(far) - network(x))[:, :, 0].abs().max() > 1e-6


def test_keys_are_bounded_whatever_the_size() -> None:
    maps = attention_maps(build(keys_per_axis=3).eval(), noise(1, 1, (16, 32, 4)))
    assert {m.shape[-1] for m in maps.values()} == {3 * 3 * 1}


def test_attention_with_and_without_weights_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = DotProductAttention()
    q, k, v = (noise(2, 3, size) for size in ((7, 4), (5, 4), (5, 6)))
    held = attention(q, k, v)
    monkeypatch.setattr("napari_medseg.architectures.blocks.attention.WEIGHTS_AT_MOST", 0)
    torch.testing.assert_close(attention(q, k, v), held)


def test_aggregation_by_hand() -> None:
    # One head, one channel, all weights 1, no bias: y_i = sum_j softmax_j(x_i x_j) x_j.
    block = GlobalAggregation(2, 1, 1, heads=1, dropout=0.0, keys_per_axis=9)
    for name, parameter in block.named_parameters():
        nn.init.constant_(parameter, float(name.endswith("weight")))
    x = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    rows = torch.outer(x.flatten(), x.flatten()).softmax(1)
    torch.testing.assert_close(block(x).flatten(), rows @ x.flatten())


@pytest.mark.parametrize(("size", "expected"), [((4, 9), (4, 5)), ((2, 3, 12), (2, 3, 5))], ids=["2D", "3D"])
def test_averaging_to_at_most(size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert at_most(noise(1, 1, size), 5).shape[2:] == expected


def test_heads_that_do_not_divide_the_channels() -> None:
    with pytest.raises(InputError, match="the deepest level has 2 heads, which must divide its 7 channels"):
        build(channels=(4, 7))
