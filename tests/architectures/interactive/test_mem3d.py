from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from napari_medseg.architectures.blocks.base import AttentionMap
from napari_medseg.architectures.interactive.mem3d import Mem3D
from napari_medseg.errors import InputError
from napari_medseg.registry import network
from network_suite import noise
from tensors_suite import TensorsSuite

SMALL: Mapping[str, Any] = {"width": 4, "blocks": (1, 1, 1), "key": 8, "value": 8, "decoder": 8}
FOR_VOLUMES: Mapping[str, Any] = {**SMALL, "aspp": False, "dense": True, "carry": True, "fine": True}


class TestMem3D(TensorsSuite):
    network = "mem3d"
    small: ClassVar[Mapping[str, object]] = SMALL

    def inputs(self, in_channels: int, dims: int, seed: int) -> tuple[Tensor, ...]:
        images, masks = noise(2, in_channels, (3, 40, 24), seed), noise(2, 1, (3, 40, 24), seed).sigmoid()
        return noise(2, in_channels, (40, 24), seed + 1), images, masks


class TestForVolumes(TestMem3D):
    small: ClassVar[Mapping[str, object]] = FOR_VOLUMES


def built_of(arguments: Mapping[str, Any]) -> Mem3D:
    torch.manual_seed(0)
    built = network("mem3d").build(**arguments).eval()
    assert isinstance(built, Mem3D)
    return built


@pytest.fixture
def small() -> Mem3D:
    return built_of(SMALL)


def test_the_last_slice_in_memory_is_carried_on() -> None:
    images, masks = noise(1, 1, (2, 32, 48)), (noise(1, 1, (2, 32, 48), 1) > 0).float()
    asked, turned = noise(1, 1, (32, 48), 2), [1, 0]
    for arguments, matters in ((SMALL, False), (FOR_VOLUMES, True)):
        built = built_of(arguments)
        with torch.inference_mode():
            one = built(asked, images, masks).logits
            other = built(asked, images[:, :, turned], masks[:, :, turned]).logits
        assert torch.allclose(one, other, atol=1e-4) is not matters, "the order counts only where the last is carried"


def test_a_dense_memory_has_a_place_for_each_eight_samples() -> None:
    built = built_of(FOR_VOLUMES)
    assert built.memorise(noise(1, 1, (1, 32, 48)), torch.zeros(1, 1, 1, 32, 48)).keys.shape == (1, 8, 1, 4, 6)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        pytest.param({"aspp": False, "quality": False}, 38_925_570, id="memory"),
        pytest.param({"quality": False}, 47_121_410, id="and ASPP"),
    ],
)
def test_parameters_of_variants(change: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        built = network("mem3d").build("paper", **change)
    assert sum(p.numel() for p in built.parameters()) == count


@pytest.mark.parametrize("size", [(33, 7), (1, 1), (64, 32)])
@pytest.mark.parametrize("slices", [1, 4])
def test_any_size_and_any_number_of_slices(small: Mem3D, size: tuple[int, ...], slices: int) -> None:
    with torch.inference_mode():
        outputs = small(noise(2, 1, size), noise(2, 1, (slices, *size)), torch.ones(2, 1, slices, *size))
    quality = outputs.heads["quality"]
    assert outputs.logits.shape == (2, 2, *size)
    assert quality.shape == (2,)
    assert 0 < quality.min() <= quality.max() < 1


def test_a_memory_grows_slice_by_slice(small: Mem3D) -> None:
    images, masks = noise(1, 1, (3, 32, 32)), noise(1, 1, (3, 32, 32)).sigmoid()
    with torch.inference_mode():
        at_once = small.memorise(images, masks)
        first, *others = (small.memorise(images[:, :, k : k + 1], masks[:, :, k : k + 1]) for k in range(3))
        for other in others:
            first = first.with_later(other)
    assert at_once.keys.shape == (1, 8, 3, 2, 2)
    torch.testing.assert_close(first.keys, at_once.keys)
    torch.testing.assert_close(first.values, at_once.values)


def test_reading_is_a_softmax_over_all_places_in_memory(small: Mem3D) -> None:
    seen: list[Tensor] = []
    assert isinstance(small.attention.map, AttentionMap)
    small.attention.map.register_forward_hook(lambda _, __, weights: seen.append(weights))
    with torch.inference_mode():
        small(noise(1, 1, (32, 48)), noise(1, 1, (5, 32, 48)), torch.zeros(1, 1, 5, 32, 48))
    (weights,) = seen
    assert weights.shape == (1, 1, 2 * 3, 5 * 2 * 3)
    torch.testing.assert_close(weights.sum(3), torch.ones(1, 1, 6))


def test_rating_does_not_change_the_mask(small: Mem3D) -> None:
    outputs = small.train()(noise(2, 1, (32, 32)), noise(2, 1, (1, 32, 32)), torch.ones(2, 1, 1, 32, 32))
    outputs.heads["quality"].sum().backward()
    assert small.head.weight.grad is None
    assert small.quality is not None
    assert all(p.grad is not None for p in small.quality.parameters())


def test_without_a_quality_head_there_is_no_rating() -> None:
    built = network("mem3d").build(**SMALL, quality=False)
    outputs = built(noise(1, 1, (16, 16)), noise(1, 1, (1, 16, 16)), torch.ones(1, 1, 1, 16, 16))
    assert outputs.logits.shape == (1, 2, 16, 16)
    assert not outputs.heads


def test_one_object_at_a_time() -> None:
    with pytest.raises(InputError, match="one object and its background; got out_channels=3"):
        network("mem3d").build(**SMALL, out_channels=3)
