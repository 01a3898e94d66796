from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.architectures.residual.sassnet import SASSNet
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL: Mapping[str, Any] = {"width": 4, "dropout": 0.0, "sdf": False, "norm": "group", "deep_supervision": True}
TRANSFORMER: Mapping[str, Any] = {"hidden": 8, "layers": 1, "heads": 2, "mlp": 8, "grid": (2,)}


class TestSASSNet(NetworkSuite):
    network = "sassnet"
    small: ClassVar[Mapping[str, object]] = SMALL
    learning_rate = 1e-2


class TestCANet(NetworkSuite):
    network = "canet"
    small: ClassVar[Mapping[str, object]] = {**SMALL, **TRANSFORMER}
    learning_rate = 1e-2


@pytest.mark.parametrize("change", [{}, {"out_channels": 2, "sdf": False}], ids=["published", "two classes"])
@pytest.mark.parametrize(("name", "count"), [("sassnet", 9_448_866), ("canet", 24_491_330)])
def test_number_of_parameters(name: str, count: int, change: dict[str, Any]) -> None:
    with torch.device("meta"):
        built = network(name).build("paper", **change)
    assert sum(p.numel() for p in built.parameters()) == count


@pytest.fixture(params=["sassnet", "canet"])
def with_distances(request: pytest.FixtureRequest) -> SASSNet:
    torch.manual_seed(0)
    own = TRANSFORMER if request.param == "canet" else {}
    built = network(request.param).build(**{**SMALL, **own, "sdf": True, "deep_supervision": False, "out_channels": 3})
    assert isinstance(built, SASSNet)
    return built


@pytest.mark.parametrize("size", [(16, 16, 16), (5, 18, 11), (1, 1, 1)])
def test_both_heads_have_the_size_of_the_image(with_distances: SASSNet, size: tuple[int, ...]) -> None:
    x = noise(2, 1, size)
    with_distances.train()
    with torch.inference_mode():
        outputs = with_distances(x)
        assert torch.equal(outputs.logits, with_distances.eval()(x))
    sdf = outputs.heads["sdf"]
    assert sdf.shape == (2, 2, *size), "the background has no distance"
    assert -1 < sdf.min() < sdf.max() < 1 or sdf.numel() < 10


def test_both_heads_train_every_parameter(with_distances: SASSNet) -> None:
    outputs = with_distances.train()(noise(2, 1, (32, 32, 32)))
    (outputs.logits.square().mean() + (outputs.heads["sdf"] - 0.5).square().mean()).backward()
    for name, parameter in with_distances.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.ndim <= 1 or parameter.grad.abs().max() > 0, name


def test_without_the_head_there_are_no_distances() -> None:
    outputs = network("sassnet").build(**SMALL).train()(noise(2, 1, (16, 16, 16)))
    assert len(outputs.supervised) == 4
    assert not outputs.heads


@pytest.mark.parametrize(("size", "tokens"), [((80, 112, 112), 245), ((48, 16, 32), 6), ((17, 33, 5), 6)])
def test_the_transformer_takes_any_number_of_tokens(size: tuple[int, ...], tokens: int) -> None:
    built = network("canet").build(**{**SMALL, **TRANSFORMER, "width": 1, "grid": (5, 7, 7)}).eval()
    (weights,) = attention_maps(built, torch.zeros(1, 1, *size)).values()
    assert weights.shape == (1, 2, tokens, tokens)
