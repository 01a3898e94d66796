from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from napari_medseg.architectures.residual.resunet3d import ResUNet3D
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise


class TestResUNet3D(NetworkSuite):
    network = "resunet3d"
    small: ClassVar[Mapping[str, object]] = {"width": 4, "levels": 3}


def test_logits_are_the_sum_of_three_scales() -> None:
    net = network("resunet3d").build(width=4, spatial_dims=2).eval()
    assert isinstance(net, ResUNet3D)
    x = noise(1, 1, (32, 32))
    with torch.inference_mode():
        whole = net(x)
        for weight in net.heads.parameters():
            torch.nn.init.zeros_(weight)
        nothing = net(x)
        torch.nn.init.ones_(next(net.heads[0].parameters()))
        coarse = net(x)
    assert whole.abs().min() > 0
    assert not nothing.any()
    blocks = coarse.unfold(2, 4, 4).unfold(3, 4, 4)
    assert (blocks == blocks[..., :1, :1]).all(), "the coarsest scores are those of blocks of 4 x 4"
    assert coarse.unique().numel() > 1
