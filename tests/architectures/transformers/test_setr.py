from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.architectures.transformers.setr import DECODERS, SETR
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL: Mapping[str, Any] = {"hidden": 16, "layers": 4, "heads": 2, "mlp": 32, "grid": (3,), "features": 8}
BASE: Mapping[str, Any] = {"hidden": 768, "layers": 12, "heads": 12, "mlp": 3072}
PUBLISHED = {("naive", 12): 87.69, ("pup", 12): 97.64, ("mla", 12): 92.59} | {
    ("naive", 24): 305.67, ("pup", 24): 318.31, ("mla", 24): 310.57
}  # fmt: skip
"""Zheng et al., table 2, in millions: (decoder, layers) -> parameters."""


class TestSETR(NetworkSuite):
    network = "setr"
    small: ClassVar[Mapping[str, object]] = {**SMALL, "norm": "group", "dropout": 0.0, "deep_supervision": True}
    learning_rate = 1e-2
    overfit_size = (64, 64)


@pytest.mark.parametrize(("decoder", "layers"), PUBLISHED)
def test_published_counts(decoder: str, layers: int) -> None:
    with torch.device("meta"):
        built = network("setr").build("paper", decoder=decoder, **(BASE if layers == 12 else {}))
    found = sum(p.numel() for p in built.parameters()) / 1e6
    published = PUBLISHED[decoder, layers]
    if decoder == "pup":  # published with four branches for auxiliary losses: norm, convolution, norm, classifier
        hidden = 768 if layers == 12 else 1024
        branch = 2 * hidden + 9 * hidden * 256 + 256 + 2 * 256 + 257 * 19
        assert found + 4 * branch / 1e6 == pytest.approx(published, rel=0.005)
        assert 6 < published - found < 9
    else:
        assert found == pytest.approx(published, rel=0.003)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [(20, 33), (17, 1, 30)])
def test_every_decoder_gives_logits_of_any_size_and_all_its_weights_learn(decoder: str, size: tuple[int, ...]) -> None:
    built = network("setr").build(**SMALL, decoder=decoder, spatial_dims=len(size), deep_supervision=False)
    logits = built(noise(2, 1, size))
    assert logits.shape == (2, 2, *size)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())


def test_taps_end_the_quarters_of_the_layers() -> None:
    with torch.device("meta"):
        built = network("setr").build("paper")
    assert isinstance(built, SETR)
    assert built.taps == [5, 11, 17, 23]


def test_positions_are_interpolated_to_the_image() -> None:
    built = network("setr").build(**SMALL, spatial_dims=2).eval()
    maps = attention_maps(built, noise(1, 1, (80, 32)))
    assert [weights.shape for weights in maps.values()] == [(1, 2, 10, 10)] * 4
