"""PointRend: parameters as published, places by hand, and a head that decides points only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.architectures.points import (
    PointHead,
    PointRend,
    last_convolution,
    least_certain,
    places_of,
    sampled,
    training_places,
    with_background,
)
from napari_medseg.registry import network


@pytest.mark.parametrize(("classes", "parameters"), [(2, 199_430), (80, 285_776)])
def test_the_point_head_has_the_published_parameters(classes: int, parameters: int) -> None:
    assert sum(p.numel() for p in PointHead(256, classes).parameters()) == parameters


@pytest.mark.parametrize("classes", [2, 5])
def test_an_untrained_head_repeats_the_coarse_labels(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, classes, 50), generator=generator).softmax(1)
    fine = torch.randn((2, 16, 50), generator=generator)
    found = PointHead(16, classes)(fine, coarse)
    sure = coarse.topk(2, dim=1).values.diff(dim=1).abs()[:, 0] > 0.05
    assert sure.any()
    assert (found.argmax(1) == coarse.argmax(1))[sure].all()


def test_places_are_the_centres_of_voxels() -> None:
    # 2 x 4 pixels: x runs over -0.75, -0.25, 0.25, 0.75 and comes first.
    assert places_of(torch.tensor([[0, 5]]), (2, 4)).tolist() == [[[-0.75, -0.5], [-0.25, 0.5]]]
    values = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
    everywhere = places_of(torch.arange(24)[None], (2, 3, 4))
    torch.testing.assert_close(sampled(values, everywhere)[0, 0], torch.arange(24.0))


def test_the_least_certain_voxels_are_chosen() -> None:
    shares = torch.tensor([[[1.0, 0.6, 0.5, 0.0]], [[0.0, 0.4, 0.5, 1.0]]])[None]
    assert sorted(least_certain(shares, 0.5)[0].tolist()) == [1, 2]


def test_training_looks_where_the_labels_are_coarse() -> None:
    """An edge in the middle of 4 columns: three quarters of the points lie between the two columns beside it."""
    coarse = with_background(torch.zeros(1, 1, 4, 4).index_fill_(3, torch.arange(2), 1.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        places = training_places(coarse, 400)
    assert places.shape == (1, 400, 2)
    near = (places[0, :, 0].abs() < 0.25).float().mean()
    assert 0.7 < float(near) < 0.9


class Says(nn.Module):
    """A head that always says the same class."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        return self.scores[None, :, None].expand(len(fine), -1, fine.shape[2])


class Given(nn.Module):
    """A head that says what the labels around say."""

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        return 20 * coarse


def rendering(dims: int, **changed: float) -> PointRend:
    net = network("unet3d").build(in_channels=1, out_channels=2, spatial_dims=dims, channels=(4, 8))
    layer, features = last_convolution(net, torch.zeros(1, 1, *[8] * dims), 2)
    assert features == 4
    made = PointRend(
        net,
        layer=layer,
        features=features,
        classes=2,
        spatial_dims=dims,
        halvings=2,
        share=float(changed.get("share", 0.25)),
    )
    return made.eval()


@pytest.mark.parametrize("size", [(8, 12, 16), (5, 7, 9)])
def test_a_rendering_ends_with_the_size_and_decides_a_share_of_the_voxels(size: tuple[int, ...]) -> None:
    made = rendering(3)
    made.head = Says([0.0, 9.0])  # type: ignore[assignment]
    assert made.sizes(size)[-1] == size
    assert [len(s) for s in made.sizes(size)] == [3, 3, 3]
    labels = torch.zeros(1, 1, *size)
    with torch.no_grad():
        shares = made(torch.zeros(1, 1, *size), labels)
    assert shares.shape == (1, 2, *size)
    voxels = labels.numel()
    assert int((shares[:, 1] > 0.5).sum()) == round(voxels * 0.25)  # all others keep their label


def test_head_and_network_decide_half_and_half() -> None:
    made, x = rendering(3, share=1.0), torch.randn(1, 1, 8, 8, 8)
    made.head = Says([0.0, 0.0])  # type: ignore[assignment]
    with torch.no_grad():
        shares, own = made(x, torch.zeros(1, 1, 8, 8, 8)), logits_of(made.network(x)).softmax(1)
    torch.testing.assert_close(shares, (0.5 + own) / 2)


def test_slices_of_a_volume_are_rendered_one_by_one() -> None:
    made = rendering(2)
    x, labels = torch.randn(1, 1, 3, 8, 8), (torch.rand(1, 1, 3, 8, 8) > 0.5).float()
    with torch.no_grad():
        whole = made(x, labels)
        torch.testing.assert_close(whole[:, :, 1], made(x[:, :, 1], labels[:, :, 1]))


def test_a_head_that_follows_coarse_labels_keeps_a_body_of_whole_coarse_voxels() -> None:
    made = rendering(3)
    made.head = Given()  # type: ignore[assignment]
    labels = torch.zeros(1, 1, 8, 8, 8)
    labels[..., 4:] = 1
    with torch.no_grad():
        shares = made(torch.zeros(1, 1, 8, 8, 8), labels)
    assert torch.equal(shares.argmax(1), labels[:, 0].long())


@pytest.mark.parametrize("name", ["unet3d", "unetpp", "vnet", "segresnet", "hrnet", "attention_unet"])
def test_features_are_found_in_networks_of_several_families(name: str) -> None:
    sizes: dict[str, dict[str, Any]] = {
        "unetpp": {"channels": (4, 8, 8, 8, 8)},
        "hrnet": {"width": 4, "stem": 8, "blocks": 1},
    }
    small = sizes.get(name, {})
    net = network(name).build(in_channels=1, out_channels=3, spatial_dims=2, **small)
    layer, features = last_convolution(net, torch.zeros(1, 1, 32, 32), 3)
    assert layer
    assert net.state_dict()[f"{layer}.weight"].shape[:2] == (3, features)


def test_w18_small_v2_with_a_mask_has_the_published_parameters() -> None:
    net = network("hrnet").build(
        in_channels=4, out_channels=2, spatial_dims=2, width=18, blocks=2, modules=(1, 3, 2), norm="batch"
    )
    assert sum(p.numel() for p in net.parameters()) == 3_935_548
