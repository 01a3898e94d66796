"""Light networks for slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.architectures.blocks.light import Halving, PooledPyramid, Style
from napari_medseg.architectures.light.factorised import interleave
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL_NORM: Mapping[str, object] = {"norm": "group", "dropout": 0.0}


class TestENet(NetworkSuite):
    network = "enet"
    small: ClassVar[Mapping[str, object]] = SMALL_NORM


class TestERFNet(NetworkSuite):
    network = "erfnet"
    small: ClassVar[Mapping[str, object]] = SMALL_NORM


class TestESNet(NetworkSuite):
    network = "esnet"
    small: ClassVar[Mapping[str, object]] = SMALL_NORM


class TestLEDNet(NetworkSuite):
    network = "lednet"
    small: ClassVar[Mapping[str, object]] = SMALL_NORM
    overfit_size = (64, 64)


class TestEDANet(NetworkSuite):
    network = "edanet"
    small: ClassVar[Mapping[str, object]] = {**SMALL_NORM, "growth": 8}


class TestDABNet(NetworkSuite):
    network = "dabnet"
    small: ClassVar[Mapping[str, object]] = {"norm": "group", "blocks": (1, 2)}


class TestFSSNet(NetworkSuite):
    network = "fssnet"
    small: ClassVar[Mapping[str, object]] = SMALL_NORM


class TestESPNet(NetworkSuite):
    network = "espnet"
    small: ClassVar[Mapping[str, object]] = {"norm": "group", "blocks": (1, 1)}


class TestESPNetv2(NetworkSuite):
    network = "espnetv2"
    small: ClassVar[Mapping[str, object]] = {**SMALL_NORM, "width": 16, "blocks": (1, 1)}


class TestCGNet(NetworkSuite):
    network = "cgnet"
    small: ClassVar[Mapping[str, object]] = {"norm": "group", "blocks": (2, 2)}


class TestFPENet(NetworkSuite):
    network = "fpenet"
    small: ClassVar[Mapping[str, object]] = {"blocks": (1, 2, 2)}


class TestContextNet(NetworkSuite):
    network = "contextnet"
    small: ClassVar[Mapping[str, object]] = SMALL_NORM


class TestFastSCNN(NetworkSuite):
    network = "fastscnn"


class TestMiniSeg(NetworkSuite):
    network = "miniseg"
    small: ClassVar[Mapping[str, object]] = {"blocks": (1, 1, 2, 1)}


@pytest.mark.parametrize(
    ("name", "millions", "within"),
    # of the papers' tables, to the digits that they give.
    [
        ("enet", 0.37, 0.01),
        ("erfnet", 2.06, 0.01),
        ("esnet", 1.66, 0.005),
        ("lednet", 0.94, 0.02),
        ("edanet", 0.68, 0.01),
        ("dabnet", 0.76, 0.005),
        ("espnet", 0.364, 0.002),
        ("cgnet", 0.5, 0.005),
        ("contextnet", 0.85, 0.03),
        ("fastscnn", 1.11, 0.03),
    ],
)
def test_published_sizes(name: str, millions: float, within: float) -> None:
    with torch.device("meta"):
        net = network(name).build("paper")
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=within)


@pytest.mark.parametrize(
    ("name", "places"),
    [("cgnet", {(64, 1, 1), (128, 1, 1)}), ("fpenet", {(1, 8, 8), (1, 16, 16), (64, 1, 1), (32, 1, 1)})],
    ids=["cgnet", "fpenet"],
)
def test_attention_can_be_looked_at(name: str, places: set[tuple[int, ...]]) -> None:
    maps = attention_maps(network(name).build().eval(), noise(1, 1, (32, 32)))
    assert {tuple(weights.shape[1:]) for weights in maps.values()} == places
    assert all(0 <= weights.min() <= weights.max() <= 1 for weights in maps.values())


def test_miniseg_weighs_four_dilations_by_place() -> None:
    maps = attention_maps(network("miniseg").build().eval(), noise(1, 1, (32, 48)))
    assert {tuple(weights.shape) for weights in maps.values()} == {(1, 4, 8, 12), (1, 4, 4, 6), (1, 4, 2, 3)}
    assert len(maps) == 3 + 3 + 8 + 6, "the first level has none; each other one more for its step down"


def test_shuffle_takes_channels_of_both_halves_in_turn() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert interleave(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(("before", "after"), [(3, 16), (16, 3), (4, 4)])
def test_halving_has_as_many_channels_as_asked_for(before: int, after: int) -> None:
    assert Halving(Style(2, "group"), before, after)(noise(1, before, (6, 8))).shape == (1, after, 3, 4)


def test_pooled_pyramid_keeps_the_input_and_adds_constant_averages() -> None:
    layer = PooledPyramid(Style(2, "none"), 4, 2, parts=(1,))
    x = noise(1, 4, (6, 5))
    y = layer(x)
    assert torch.equal(y[:, :4], x)
    torch.testing.assert_close(y[:, 4:], y[:, 4:, :1, :1].expand(1, 2, 6, 5))


def test_factorised_convolutions_see_a_cross_of_their_dilation() -> None:
    layer = Style(2, "none", bias=False).along_axes(1, 3, 2, active=False, between=False)
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1
    for weight in layer.parameters():
        torch.nn.init.ones_(weight)
    assert layer(x)[0, 0].nonzero().tolist() == [[y, z] for y in (2, 4, 6) for z in (2, 4, 6)]
