from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from napari_medseg.architectures.blocks.base import attention_maps
from napari_medseg.architectures.residual.attended import ChannelAttention, CrissCrossAttention, PositionAttention
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise

SMALL: Mapping[str, Any] = {"width": 4, "blocks": (1, 1, 1, 1), "norm": "group", "dropout": 0.0}


class TestCCNet(NetworkSuite):
    network = "ccnet"
    small: ClassVar[Mapping[str, object]] = SMALL
    overfit_size = (32, 32)


class TestDANet(NetworkSuite):
    network = "danet"
    small: ClassVar[Mapping[str, object]] = {**SMALL, "keys_per_axis": 16, "deep_supervision": True}
    overfit_size = (32, 32)


@pytest.mark.parametrize("size", [(3, 4), (2, 3, 4), (1, 3, 1)])
def test_criss_cross_attention_is_that_on_the_lines_through_each_voxel(size: tuple[int, ...]) -> None:
    attend = CrissCrossAttention(len(size), 8)
    x = noise(1, 8, size)
    with torch.no_grad():
        found = attend(x)
        query, key, value = (conv(x)[0] for conv in (attend.query, attend.key, attend.value))
        for place in torch.cartesian_prod(*map(torch.arange, size)):
            steps = [place.clone() for a, n in enumerate(size) for _ in range(n - 1)]
            moves = [(a, k) for a, n in enumerate(size) for k in range(n) if k != place[a]]
            for step, (axis, k) in zip(steps, moves, strict=True):
                step[axis] = k
            line = [tuple(step.tolist()) for step in (*steps, place)]
            here = tuple(place.tolist())
            scores = torch.stack([query[(slice(None), *here)] @ key[(slice(None), *there)] for there in line])
            gathered = torch.stack([value[(slice(None), *there)] for there in line], 1) @ scores.softmax(0)
            expected = attend.share * gathered + x[(0, slice(None), *here)]
            torch.testing.assert_close(found[(0, slice(None), *here)], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dims", "recurrence", "reaches"), [(2, 1, False), (2, 2, True), (3, 2, False), (3, 3, True)])
def test_a_corner_sees_the_opposite_one_after_as_many_times_as_there_are_axes(
    dims: int, recurrence: int, reaches: bool
) -> None:
    attend = CrissCrossAttention(dims, 8)
    x = noise(1, 8, (3,) * dims).requires_grad_()
    y = x
    for _ in range(recurrence):
        y = attend(y)
    near: Any = (..., *(0,) * dims)
    far: Any = (..., *(-1,) * dims)
    y[near].sum().backward()  # type: ignore[no-untyped-call]  # torch
    assert x.grad is not None
    assert bool(x.grad[far].any()) == reaches


def test_keys_of_a_volume_are_bounded() -> None:
    attend = PositionAttention(3, 16, keys_per_axis=2).eval()
    (weights,) = attention_maps(attend, noise(1, 16, (4, 6, 5))).values()
    assert weights.shape == (1, 1, 120, 8)
    torch.testing.assert_close(weights.sum(3), torch.ones(1, 1, 120))


def test_position_attention_does_not_scale_its_scores() -> None:
    attend = PositionAttention(2, 16, keys_per_axis=8)
    x = noise(1, 16, (2, 3))
    with torch.no_grad():
        query, key, value = (conv(x).flatten(2)[0] for conv in (attend.query, attend.key, attend.value))
        expected = value @ (query.T @ key).softmax(1).T
        torch.testing.assert_close((attend(x) - x).flatten(2)[0], attend.share * expected, rtol=1e-4, atol=1e-5)


def test_channels_gather_from_those_unlike_them() -> None:
    x = torch.tensor([[[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]])[..., None]  # the first two are alike
    (weights,) = attention_maps(ChannelAttention(), x).values()
    expected = torch.tensor([[0.0, 0.0, 4.0], [0.0, 0.0, 4.0], [4.0, 4.0, 0.0]]).softmax(1)
    torch.testing.assert_close(weights[0, 0], expected)


@pytest.mark.parametrize("name", ["ccnet", "danet"])
def test_the_context_is_at_an_eighth_of_the_size(name: str) -> None:
    built = network(name).build(**SMALL, spatial_dims=2).eval()
    weights = next(iter(attention_maps(built, noise(1, 1, (64, 40))).values()))
    assert weights.shape[2] == 8 * 5
