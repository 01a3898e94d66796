from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from napari_medseg import registry
from napari_medseg.architectures.blocks.context import DenseAtrousConvolution, ResidualMultiKernelPooling
from network_suite import NetworkSuite, noise


class TestCENet(NetworkSuite):
    network = "cenet"
    small: ClassVar = {"width": 8, "blocks": (1, 1, 1, 1)}
    learning_rate: ClassVar[float] = 1e-2
    overfit_size: ClassVar = (32, 16, 16)


def test_parameters_of_the_context() -> None:
    with torch.device("meta"):
        context = DenseAtrousConvolution(2, 512)
    assert sum(p.numel() for p in context.parameters()) == 7_342_080


def test_supervised_levels_have_their_own_sizes() -> None:
    network = registry.network("cenet").build(width=4, blocks=(1, 1, 1, 1), spatial_dims=2, out_channels=3).train()
    shapes = [tuple(o.shape) for o in network(noise(1, 1, (33, 70))).supervised]
    assert shapes == [(1, 3, *size) for size in [(33, 70), (17, 35), (9, 18), (5, 9), (3, 5)]]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_context_sees_19_voxels(spatial_dims: int) -> None:
    block = DenseAtrousConvolution(spatial_dims, 1)
    for parameter in block.parameters():
        nn.init.constant_(parameter, 0.1 if parameter.ndim > 1 else 0.0)
    x = torch.zeros(1, 1, 25, *[5] * (spatial_dims - 1))
    x[:, :, 12, 2] = 1
    seen = block(x)[0, 0].flatten(1).amax(1)
    assert seen.nonzero().flatten().tolist() == list(range(12 - 9, 12 + 10))


def test_pooled_maxima_by_hand() -> None:
    block = ResidualMultiKernelPooling(2, 1)
    nn.init.constant_(block.project.weight, 2.0)
    nn.init.constant_(block.project.bias, 1.0)
    x = torch.arange(12.0).reshape(1, 1, 1, 12)
    pooled = block(x)[0, :, 0]
    assert torch.equal(pooled[4], x.flatten())
    # Over six voxels the maxima are 5 and 11; projected 11 and 23, interpolated between the middles of the windows.
    torch.testing.assert_close(pooled[3, [0, 2, 9, 11]], torch.tensor([11.0, 11, 23, 23]))
    torch.testing.assert_close(pooled[3, 3:9], torch.tensor([12.0, 14, 16, 18, 20, 22]))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (1, 3, 7)])
def test_pools_are_no_larger_than_the_image(size: tuple[int, ...]) -> None:
    block = ResidualMultiKernelPooling(len(size), 3)
    assert block(noise(2, 3, size)).shape == (2, 3 + 4, *size)
