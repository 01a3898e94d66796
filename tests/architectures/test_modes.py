"""2D networks on volumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from napari_medseg import registry
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.modes import AdjacentSlices, SliceWise, TriPlanar, in_mode
from network_suite import noise

VOLUME = noise(2, 2, (5, 8, 6))


class Halves(nn.Module):
    """Two supervised stages: the channels as they are, and every second pixel of them."""

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(x, (x[..., ::2, ::2],), {"sum": x.sum((2, 3))})


class Pick(nn.Module):
    """One of the channels, twice, as two classes."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, x: Tensor) -> Tensor:
        return x[:, [self.channel, self.channel]]


class RowSums(nn.Module):
    """Sums along the last axis: what a slice network sees depends on the plane."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True).expand_as(x)


def test_slices_come_back_in_their_places() -> None:
    assert torch.equal(SliceWise(nn.Identity())(VOLUME), VOLUME)


def test_supervised_stages_keep_their_own_pixels() -> None:
    outputs = SliceWise(Halves())(VOLUME)
    assert torch.equal(outputs.logits, VOLUME)
    (half,) = outputs.auxiliary
    assert torch.equal(half, VOLUME[..., ::2, ::2])
    torch.testing.assert_close(outputs.heads["sum"], VOLUME.sum((3, 4)))


@pytest.mark.parametrize(
    ("channel", "image_channel", "offset"),
    [(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 1, 0), (5, 1, 2)],
    ids=["below", "itself", "above", "second below", "second above"],
)
def test_neighbours_are_channels_of_each_image_channel(channel: int, image_channel: int, offset: int) -> None:
    seen = AdjacentSlices(Pick(channel), 3)(VOLUME)
    assert seen.shape == (2, 2, 3, 8, 6)
    assert torch.equal(seen[:, 0], VOLUME[:, image_channel, offset : offset + 3])


def test_three_planes_are_averaged_as_probabilities() -> None:
    views = [
        VOLUME.sum(4, keepdim=True).expand_as(VOLUME),  # slices (y, x)
        VOLUME.sum(4, keepdim=True).expand_as(VOLUME),  # slices (z, x)
        VOLUME.sum(3, keepdim=True).expand_as(VOLUME),  # slices (z, y)
    ]
    expected = torch.stack([v.softmax(1) for v in views]).mean(0)
    torch.testing.assert_close(TriPlanar(RowSums())(VOLUME).softmax(1), expected)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("2d", SliceWise), ("2.5d", AdjacentSlices), ("triplanar", TriPlanar), ("3d", nn.Identity)],
    ids=["2d", "2.5d", "triplanar", "3d"],
)
def test_a_mode_wraps_its_network(mode: str, kind: type[nn.Module]) -> None:
    assert isinstance(in_mode(nn.Identity(), mode, 3), kind)


@pytest.mark.parametrize("mode", ["2d", "2.5d", "triplanar"])
def test_a_real_network_in_every_mode(mode: str) -> None:
    network = registry.network("unet3d").build(
        spatial_dims=2, in_channels=6 if mode == "2.5d" else 2, out_channels=3, channels=(4, 8), deep_supervision=False
    )
    logits = in_mode(network, mode, 3)(VOLUME)
    assert logits.shape == (2, 3, 3 if mode == "2.5d" else 5, 8, 6)
