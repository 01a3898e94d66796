"""Networks for slices on the encoders of image classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from napari_medseg.architectures.light.decoders import SegNet
from napari_medseg.architectures.residual.fcn import FCN
from napari_medseg.registry import PresetName, network
from network_suite import NetworkSuite, noise


class TestLinkNet(NetworkSuite):
    network = "linknet"
    small: ClassVar[Mapping[str, object]] = {"width": 8}
    overfit_size = (32, 32)


class TestSegNet(NetworkSuite):
    network = "segnet"
    small: ClassVar[Mapping[str, object]] = {"features": (8, 8, 16, 16, 16)}

    def test_bf16_is_finite_and_near(self, preset: PresetName) -> None:
        """Rounding moves maxima, and with them the places of values: alike only on the whole."""
        net = self.build(preset).eval()
        x = noise(1, 1, self.size)
        with torch.inference_mode():
            exact = net(x)
            with torch.autocast("cpu", torch.bfloat16):
                rough = net(x).float()
        assert torch.corrcoef(torch.stack((exact.flatten(), rough.flatten())))[0, 1] > 0.9


class TestSQNet(NetworkSuite):
    network = "sqnet"
    small: ClassVar[Mapping[str, object]] = {"width": 8}


class TestPSPNet(NetworkSuite):
    network = "pspnet"
    small: ClassVar[Mapping[str, object]] = {"width": 4, "blocks": (1, 1, 1, 1), "norm": "group", "dropout": 0.0}
    overfit_size = (32, 32)


class TestDeepLabV3(NetworkSuite):
    network = "deeplabv3"
    small: ClassVar[Mapping[str, object]] = {"width": 8, "blocks": (1, 1, 1, 1), "norm": "group"}
    overfit_size = (64, 64)


class TestFCN(NetworkSuite):
    network = "fcn"
    small: ClassVar[Mapping[str, object]] = {"features": (8, 8, 16, 16, 16), "hidden": 16, "norm": "group"}


class TestFCN3D(NetworkSuite):
    network = "fcn3d"
    small: ClassVar[Mapping[str, object]] = {"features": (4, 4, 8, 8, 8), "hidden": 8, "norm": "group"}


def test_unpooling_puts_values_where_the_maxima_were() -> None:
    net = network("segnet").build(features=(4, 4, 4, 4, 4)).eval()
    assert isinstance(net, SegNet)
    seen: list[Tensor] = []
    net.decode[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        net(noise(1, 1, (32, 64)))
    filled = seen[0].unfold(2, 2, 2).unfold(3, 2, 2).ne(0).sum((4, 5))
    assert filled.max() == 1, "one of the four pixels that a pooling had joined"


def test_scores_are_enlarged_by_linear_interpolation_at_first() -> None:
    net = network("fcn").build(features=(4, 4, 4, 4, 4), hidden=4)
    assert isinstance(net, FCN)
    ramp = torch.arange(6.0).repeat(6, 1)[None, None].repeat(1, 2, 1, 1)
    doubled = net.up[0](ramp)[0, 1, 6, 2:-2]
    torch.testing.assert_close(doubled, torch.arange(8) / 2 + 0.75)
