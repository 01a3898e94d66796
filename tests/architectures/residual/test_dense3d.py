"""Densely connected networks for volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from napari_medseg.registry import network
from network_suite import NetworkSuite, noise


class TestDenseVoxelNet(NetworkSuite):
    network = "densevoxelnet"
    small: ClassVar[Mapping[str, object]] = {"growth": 4, "layers": 2, "norm": "group", "dropout": 0.0}
    learning_rate = 1e-2


class TestSkipDenseNet3D(NetworkSuite):
    network = "skipdensenet3d"
    small: ClassVar[Mapping[str, object]] = {
        "width": 8,
        "growth": 4,
        "layers": (1, 1, 1),
        "norm": "group",
        "dropout": 0.0,
    }


def test_the_main_output_comes_first_and_is_that_of_eval() -> None:
    net = network("densevoxelnet").build(growth=4, layers=2)
    x = noise(1, 1, (8, 9, 12))
    main, auxiliary = net.train()(x).supervised
    assert main.shape == auxiliary.shape == (1, 2, 8, 9, 12)
    assert torch.equal(main, net.eval()(x)), "group norm knows no modes"
    assert not torch.equal(main, auxiliary)


def test_classes_have_channels_of_their_own_where_they_divide_them() -> None:
    with torch.device("meta"):
        four = network("skipdensenet3d").build(out_channels=4)
        seven = network("skipdensenet3d").build(out_channels=7)
    assert [up.groups for up in four.modules() if isinstance(up, nn.ConvTranspose3d)] == [4, 4, 4, 4]
    assert [up.groups for up in seven.modules() if isinstance(up, nn.ConvTranspose3d)] == [1, 7, 1, 1]
