"""The networks of CycleGAN: their published sizes, and what they do with slices of any size."""

from __future__ import annotations

import pytest
import torch

from napari_medseg.architectures.translation import (
    SIZES,
    PatchJudge,
    Sizes,
    Translator,
    slices_of,
    translated_slices,
)

TINY = Sizes(width=2, blocks=1, judge_width=2)


def test_the_paper_has_the_published_counts() -> None:
    with torch.device("meta"):
        parts = [kind(channels=3, spatial_dims=2, sizes=SIZES["paper"]) for kind in (Translator, PatchJudge)]
        judged = parts[1](torch.zeros(1, 3, 70, 70))
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [11_378_179, 2_764_737]
    assert judged.shape == (1, 1, 6, 6)


@pytest.mark.parametrize("size", [(37, 50), (3, 5), (9, 4, 17)])
def test_any_size_is_translated_and_judged(size: tuple[int, ...]) -> None:
    x = torch.zeros(2, 1, *size)
    translator, judge = (kind(channels=1, spatial_dims=len(size), sizes=TINY) for kind in (Translator, PatchJudge))
    assert translator(x).shape == x.shape
    assert judge(x).shape[:2] == (2, 1)


def test_a_judgement_is_of_70_voxels() -> None:
    judge = PatchJudge(channels=1, spatial_dims=2, sizes=TINY)
    for module in list(judge.layers):
        if isinstance(module, torch.nn.InstanceNorm2d):
            judge.layers[int(next(n for n, m in judge.layers.named_children() if m is module))] = torch.nn.Identity()
    x = torch.zeros(1, 1, 200, 200, requires_grad=True)
    judge(x)[0, 0, 11, 11].backward()
    assert x.grad is not None
    seen = [torch.nonzero(x.grad[0, 0].abs().sum(axis)).flatten() for axis in (0, 1)]
    assert [int(side.max() - side.min()) + 1 for side in seen] == [70, 70]


def test_every_slice_keeps_its_place() -> None:
    volumes = torch.arange(2 * 3 * 5 * 2 * 2.0).reshape(2, 3, 5, 2, 2)
    assert slices_of(volumes).shape == (10, 3, 2, 2)
    assert torch.equal(slices_of(volumes)[6], volumes[1, :, 1])
    assert torch.equal(translated_slices(torch.nn.Identity(), volumes, at_once=3), volumes)
