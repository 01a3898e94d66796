"""The networks of CycleGAN: their published sizes, and what they do with slices of any size."""

from __future__ import annotations

import pytest
import torch

from napari_medseg.architectures.translation import (
    SIZES,
    PatchCritic,
    Sizes,
    Translator,
    judge,
    slices_of,
    translated_slices,
)

TINY = Sizes(width=2, blocks=1, judge_width=2)


def test_the_paper_has_the_published_counts() -> None:
    with torch.device("meta"):
        parts = [Translator(channels=3, spatial_dims=2, sizes=SIZES["paper"]), judge(3, 2, SIZES["paper"])]
        judged = parts[1](torch.zeros(1, 3, 70, 70))
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [11_378_179, 2_764_737]
    assert judged.shape == (1, 1, 6, 6)


@pytest.mark.parametrize("size", [(37, 50), (3, 5), (9, 4, 17)])
def test_any_size_is_translated_and_judged(size: tuple[int, ...]) -> None:
    x = torch.zeros(2, 1, *size)
    assert Translator(channels=1, spatial_dims=len(size), sizes=TINY)(x).shape == x.shape
    assert judge(1, len(size), TINY)(x).shape[:2] == (2, 1)


@pytest.mark.parametrize(
    ("size", "found"),
    [((40, 56, 40), (3, 5, 3)), ((12, 20, 16), (1, 3, 2)), ((3, 64, 64), (3, 6, 6)), ((8, 8, 8), (2, 2, 2))],
    ids=str,
)
def test_a_critic_of_small_and_flat_patches_halves_less(size: tuple[int, ...], found: tuple[int, ...]) -> None:
    critic = PatchCritic(in_channels=1, size=size, width=2)
    assert critic(torch.zeros(1, 1, *size)).shape == (1, 1, *found)


def test_a_judgement_is_of_70_voxels() -> None:
    critic = judge(1, 2, TINY)
    for k, layer in enumerate(critic.layers):
        if isinstance(layer, torch.nn.InstanceNorm2d):  # it lets every pixel see all others
            critic.layers[k] = torch.nn.Identity()
    x = torch.zeros(1, 1, 200, 200, requires_grad=True)
    critic(x)[0, 0, 11, 11].backward()
    assert x.grad is not None
    seen = x.grad[0, 0].abs() > 0
    assert [int(seen.any(axis).sum()) for axis in (0, 1)] == [70, 70]


def test_every_slice_keeps_its_place() -> None:
    volumes = torch.arange(2 * 3 * 5 * 2 * 2.0).reshape(2, 3, 5, 2, 2)
    assert slices_of(volumes).shape == (10, 3, 2, 2)
    assert torch.equal(slices_of(volumes)[6], volumes[1, :, 1])
    assert torch.equal(translated_slices(torch.nn.Identity(), volumes, at_once=3), volumes)
