from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg.architectures.costs import costs_of
from napari_medseg.architectures.transformers.unext import shifted
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise


class TestUNeXt(NetworkSuite):
    network = "unext"
    small: ClassVar[Mapping[str, object]] = {"channels": (4, 4, 8, 8, 8), "norm": "group"}
    learning_rate = 2e-2
    overfit_dims = 2


@pytest.mark.parametrize(
    ("change", "count"),
    [
        pytest.param({"channels": (8, 16, 32, 64, 128)}, 253_561, id="small"),
        pytest.param({"deep_supervision": True}, 1_471_921 + 17 + 33 + 129 + 161, id="supervised"),
    ],
)
def test_parameters_of_variants(change: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        built = network("unext").build("paper", **change)
    assert sum(p.numel() for p in built.parameters()) == count


def test_multiply_adds_of_the_paper() -> None:
    assert round(costs_of(network("unext"), (256, 256), "paper").macs / 1e9, 3) == 0.562


def test_fifths_of_the_channels_are_shifted() -> None:
    ramp = torch.arange(1.0, 5)
    x = ramp.expand(1, 5, 3, 4)
    assert shifted(x, 3)[0, :, 0].tolist() == [
        [3, 4, 0, 0],
        [2, 3, 4, 0],
        [1, 2, 3, 4],
        [0, 1, 2, 3],
        [0, 0, 1, 2],
    ]
    assert torch.equal(shifted(x.transpose(2, 3), 2), shifted(x, 3).transpose(2, 3))


@pytest.mark.parametrize("channels", [1, 3, 7, 256])
def test_any_number_of_channels_keeps_its_shape(channels: int) -> None:
    x = noise(1, channels, (3, 2, 5))
    assert all(shifted(x, axis).shape == x.shape for axis in (2, 3, 4))


@pytest.mark.parametrize("axis", [2, 3, 4], ids="ZYX")
def test_tokens_see_sideways_in_every_axis(axis: int) -> None:
    built = network("unext").build(channels=(4, 4, 8, 8, 8), deep_supervision=False).eval()
    x = torch.zeros(1, 1, 1, 1, 1).repeat_interleave(96, axis)
    changed = x.clone()
    changed.narrow(axis, 0, 1).fill_(1)
    with torch.inference_mode():
        difference = (built(changed) - built(x)).abs()
    assert difference.narrow(axis, 48, 48).max() > 0, "beyond half of the image"
