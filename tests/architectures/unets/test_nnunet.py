from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg.errors import InputError
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL: Mapping[str, Any] = {
    "features": (4, 8, 8),
    "kernel_sizes": (3, 3, 3),
    "strides": (1, 2, 2),
    "blocks": (2, 2, 2),
    "decoder_blocks": (2, 2),
}


class TestNnUNet(NetworkSuite):
    network = "nnunet"
    small: ClassVar[Mapping[str, object]] = SMALL


class TestResidualNnUNet(TestNnUNet):
    small: ClassVar[Mapping[str, object]] = {**SMALL, "residual": True, "blocks": (1, 2, 2)}


def test_supervised_scales_follow_the_strides() -> None:
    steps = (1, 1, 1, 1, 2, 2, 2, 2, 2)
    kernels = (1, 3, 3, 3, 3, 3, 3, 3, 3)
    net = network("nnunet").build(**{**SMALL, "strides": steps, "kernel_sizes": kernels}).train()
    outputs = net(noise(1, 1, (5, 13, 16)))
    assert [tuple(o.shape[2:]) for o in outputs.supervised] == [(5, 13, 16), (5, 7, 8)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"strides": (1, 2)}, "strides needs 9"),
        ({"blocks": (2, 2)}, "blocks needs 3"),
        ({"kernel_sizes": (2, 2, 2)}, "do not go together"),
    ],
    ids=["strides", "blocks", "even kernel"],
)
def test_arguments_that_do_not_go_together(change: dict[str, Any], told: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=told):
        network("nnunet").build(**{**SMALL, **change})
