from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.architectures.blocks.transformer import MapTransformer
from napari_medseg.architectures.costs import costs_of
from napari_medseg.architectures.transformers.transunet import _Standardised
from napari_medseg.errors import InputError
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL: Mapping[str, Any] = {
    "width": 4,
    "blocks": (1, 1, 1),
    "hidden": 16,
    "layers": 1,
    "heads": 2,
    "mlp": 32,
    "decoder": (16, 16, 8, 8),
    "grid": (3,),
}


class TestTransUNet(NetworkSuite):
    network = "transunet"
    small: ClassVar[Mapping[str, object]] = {**SMALL, "norm": "group", "dropout": 0.0, "deep_supervision": True}
    learning_rate = 1e-2


def test_cost_of_the_paper() -> None:
    found = costs_of(network("transunet"), (224, 224), "paper")
    assert found.parameters == 105_277_081
    assert found.macs / 1e9 == pytest.approx(29.2, abs=0.06), "the authors' pooling makes 55 of 112, ours 56"


@pytest.mark.parametrize(("size", "tokens"), [((32, 32, 32), 8), ((64, 32, 16), 8), ((16, 40, 100), 21)])
def test_attention_maps_are_distributions_over_any_number_of_tokens(size: tuple[int, ...], tokens: int) -> None:
    built = network("transunet").build(**SMALL).eval()
    (weights,) = attention_maps(built, noise(1, 1, size)).values()
    assert weights.shape == (1, 2, tokens, tokens)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(3), torch.ones(1, 2, tokens))


def test_standardised_weights() -> None:
    weight = _Standardised()(3 + 5 * noise(4, 6, (3, 3)))
    torch.testing.assert_close(weight.mean((1, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(weight.std((1, 2, 3), correction=0), torch.ones(4))


def test_tokens_know_their_place() -> None:
    transformer = MapTransformer(2, 1, 8, layers=1, heads=2, mlp=8, grid=(4, 3)).eval()
    with torch.inference_mode():
        y = transformer(torch.zeros(1, 1, 4, 3))
        assert len(y.flatten(2).unique(dim=2)[0, 0]) == 12, "no two alike"
        transformer.positions.zero_()
        torch.testing.assert_close(transformer(torch.zeros(1, 1, 4, 3)).std((2, 3)), torch.zeros(1, 8))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"grid": (3, 3)}, r"one per axis \(3\); got 2", id="grid"),
        pytest.param({"heads": 5}, r"a multiple of heads \(5\); got 16", id="heads"),
    ],
)
def test_arguments_that_do_not_go_together(change: dict[str, Any], reason: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=reason):
        network("transunet").build(**{**SMALL, **change})
