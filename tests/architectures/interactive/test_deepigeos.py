from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from napari_medseg.architectures.interactive.deepigeos import PNet
from napari_medseg.registry import network
from network_suite import SIZES, NetworkSuite, noise
from tensors_suite import TensorsSuite


class TestPNet(NetworkSuite):
    network = "deepigeos_pnet"
    small: ClassVar[Mapping[str, object]] = {"width": 16, "dropout": 0.1}
    learning_rate = 1e-2


class TestRNet(TensorsSuite):
    network = "deepigeos_rnet"
    small: ClassVar[Mapping[str, object]] = {"width": 8, "dropout": 0.0}

    def inputs(self, in_channels: int, dims: int, seed: int) -> tuple[Tensor, ...]:
        size = SIZES[dims][1]
        image, proposed, distances = (noise(2, c, size, seed) for c in (in_channels, 1, 2))
        return image, proposed.sigmoid(), distances.abs()


@pytest.mark.parametrize(("in_channels", "count"), [(1, 48_262), (4, 49_558)])
def test_number_of_parameters(in_channels: int, count: int) -> None:
    with torch.device("meta"):
        built = network("deepigeos_pnet").build("paper", in_channels=in_channels)
    assert sum(p.numel() for p in built.parameters()) == count


def test_several_classes_have_a_proposal_and_a_distance_each() -> None:
    built = network("deepigeos_rnet").build(in_channels=2, out_channels=4, width=4)
    logits = built(noise(1, 2, (3, 4, 5)), noise(1, 3, (3, 4, 5)), noise(1, 4, (3, 4, 5)))
    assert logits.shape == (1, 4, 3, 4, 5)


def test_no_size_is_ever_reduced() -> None:
    built = network("deepigeos_pnet").build()
    assert isinstance(built, PNet)
    convolutions = [m for m in built.modules() if isinstance(m, nn.Conv3d)]
    assert {c.stride for c in convolutions} == {(1, 1, 1)}
    assert not [m for m in built.modules() if "Pool" in type(m).__name__]


@pytest.mark.parametrize(("axis", "reach"), [(2, 32), (3, 91), (4, 91)], ids="ZYX")
def test_it_sees_as_far_as_its_dilations_and_less_between_slices(axis: int, reach: int) -> None:
    built = network("deepigeos_pnet").build(width=4).double().eval()
    for parameter in built.parameters():
        parameter.data.abs_()  # so that nothing cancels
    size = [1, 1, 1]
    size[axis - 2] = 2 * reach + 3
    x = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
    built(x).narrow(axis, reach + 1, 1).sum().backward()
    assert x.grad is not None
    seen = x.grad.flatten().nonzero()
    assert (int(seen.min()), int(seen.max())) == (1, 2 * reach + 1)
