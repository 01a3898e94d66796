from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg import registry
from napari_medseg.architectures.residual.hrnet import _Exchange
from network_suite import NetworkSuite, noise


class TestHRNet(NetworkSuite):
    network = "hrnet"
    small: ClassVar[Mapping[str, object]] = {"width": 8, "stem": 8, "blocks": 1, "modules": (1, 1, 1)}
    learning_rate = 1e-2
    overfit_dims = 2


@pytest.mark.parametrize(
    ("change", "count"),
    [
        pytest.param({"width": 18}, 9_641_119, id="W18"),
        pytest.param({"width": 18, "blocks": 2, "modules": (1, 3, 2)}, 3_939_579, id="W18-small-v2"),
        pytest.param(
            {"width": 18, "blocks": 2, "modules": (1, 3, 2), "in_channels": 4, "out_channels": 2},
            3_935_548,
            id="W18-small-v2 with a mask beside the image",
        ),
    ],
)
def test_parameters_of_variants(change: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        network = registry.network("hrnet").build("paper", **change)
    assert sum(p.numel() for p in network.parameters()) == count


def test_every_branch_hears_every_other() -> None:
    exchange = _Exchange(2, "group", [2, 4, 8, 16], 1).eval()
    branches = [noise(1, 2 * 2**k, (16 // 2**k,) * 2) for k in range(4)]
    with torch.inference_mode():
        before = exchange(branches)
        assert [b.shape for b in before] == [b.shape for b in branches]
        for source in range(4):
            changed = [b.flip(1) if k == source else b for k, b in enumerate(branches)]
            assert all(not torch.equal(a, b) for a, b in zip(before, exchange(changed), strict=True)), source
