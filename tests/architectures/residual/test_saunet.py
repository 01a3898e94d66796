from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.architectures.blocks.edge import DERIVATIVE, SMOOTHING, filtered, relative_gradient
from napari_medseg.architectures.residual.saunet import SAUNet
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL: Mapping[str, Any] = {
    "features": 8,
    "growth": 4,
    "blocks": (1, 1, 1, 1),
    "shape": (4, 4, 4, 4),
    "filters": 4,
    "norm": "group",
    "deep_supervision": True,
}


class TestSAUNet(NetworkSuite):
    network = "saunet"
    small: ClassVar[Mapping[str, object]] = SMALL
    learning_rate = 1e-2
    overfit_size = (32, 32)
    seed = 4


def test_number_of_parameters() -> None:
    with torch.device("meta"):
        built = network("saunet").build("paper")
    classifier = 1024 * 1000 + 1000
    assert sum(p.numel() for p in built.parameters()) == 32_896_505 - classifier


def test_edges_are_trained_by_a_loss_of_their_own() -> None:
    built = network("saunet").build(**SMALL)
    assert isinstance(built, SAUNet)
    outputs = built.train()(noise(2, 1, (16, 20, 16)))
    edges = outputs.heads["edges"]
    assert [logits.shape[2:] for logits in outputs.supervised] == [
        (16, 20, 16),
        (8, 10, 8),
        (4, 5, 4),
        (2, 3, 2),
        (1, 2, 1),
    ]
    assert edges.shape == (2, 1, 16, 20, 16)
    edges.square().mean().backward()
    assert all(p.grad is not None for p in built.shape.parameters())
    assert all(p.grad is None for p in built.decoder.parameters())


def test_attention_maps_are_weights_of_every_place_and_channel() -> None:
    built = network("saunet").build(**{**SMALL, "spatial_dims": 2}).eval()
    maps = attention_maps(built, noise(1, 1, (64, 32)))
    shapes = {name: tuple(weights.shape[1:]) for name, weights in maps.items()}
    assert [shape for name, shape in shapes.items() if name.startswith("shape.gates")] == [(1, 64, 32)] * 3
    assert [shape for name, shape in shapes.items() if "places" in name] == [
        (1, 64 // k, 32 // k) for k in (16, 8, 4, 2)
    ]
    assert [shape for name, shape in shapes.items() if "channels" in name] == [(c, 1, 1) for c in (64, 32, 16, 8)]
    assert all(0 <= weights.min() <= weights.max() <= 1 for weights in maps.values())


def test_neighbours_are_weighted_along_one_axis() -> None:
    x = torch.tensor([[1.0, 3, 9, 11]])
    assert filtered(x, 1, DERIVATIVE).tolist() == [[4, 4]]
    assert filtered(x, 1, SMOOTHING).tolist() == [[4, 8]]


@pytest.mark.parametrize("size", [(5, 6), (4, 5, 6)], ids=["2D", "3D"])
def test_edges_of_an_image(size: tuple[int, ...]) -> None:
    step = torch.zeros(1, 2, *size)
    step[..., 3:] = 7
    edges = relative_gradient(step)
    assert edges.shape == (1, 1, *size)
    assert edges[..., [0, 1, 4, 5]].count_nonzero() == 0
    torch.testing.assert_close(edges[..., 2:4], torch.full_like(edges[..., 2:4], 3.5 / (3.5 + 3.5 / 3)))
    torch.testing.assert_close(relative_gradient(100 * step + 5), edges)
    assert relative_gradient(torch.ones(1, 1, *size)).count_nonzero() == 0
