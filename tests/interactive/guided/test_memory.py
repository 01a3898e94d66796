"""A memory network as a method of `propagate`: trained for a few steps, on phantoms of 16^3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import napari_medseg as ms
from click_phantoms import balls, dice
from napari_medseg.architectures import attention_maps
from napari_medseg.errors import InputError
from napari_medseg.interactive.guided.clips import LENGTH, Example, clip_of, lovasz, phantoms, shapes
from napari_medseg.interactive.guided.memory import MemoryView, memory_network
from napari_medseg.models.file import Channel, Normalisation, write_model
from napari_medseg.registry import network

TINY: dict[str, object] = {"width": 4, "blocks": (1, 1, 1), "key": 8, "value": 8, "decoder": 8, "aspp": False}
Phantom = tuple[ms.Volume, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    volume, (a, b) = balls((16, 16, 24), (8, 8, 6), (8, 8, 17), radius=4)
    return volume, (a * 1 + b * 6).astype(np.uint8)


@pytest.fixture(scope="module")
def model(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> ms.Model:
    path = tmp_path_factory.mktemp("memory") / "memory.safetensors"
    labels = ms.Segmentation(phantom[1], phantom[0].grid)
    options: dict[str, Any] = {"epochs": 2, "val": 0, "device": "cpu", "report": False, "arguments": TINY}
    return ms.train([(phantom[0], labels)], scheme="memory", out=path, patch_zyx=(16, 16, 32), **options)


def some(labels: npt.NDArray[Any], indices: list[int], volume: ms.Volume) -> ms.Segmentation:
    chosen = np.zeros_like(labels)
    chosen[indices] = labels[indices]
    return ms.Segmentation(chosen, volume.grid, {1: "left", 6: "right"})


def test_slices_become_a_volume_and_come_back(model: ms.Model, phantom: Phantom) -> None:
    volume, labels = phantom
    found = ms.propagate(volume, some(labels, [6, 10], volume), model=model)
    data = np.asarray(found.data[...])
    np.testing.assert_array_equal(data[[6, 10]], labels[[6, 10]])
    assert found.grid == volume.grid
    assert set(np.unique(data)) <= {0, 1, 6}
    by_name = ms.propagate(volume, some(labels, [6, 10], volume), model=model.path, method="memory")
    np.testing.assert_array_equal(by_name.data[...], data)


def test_rounds_on_a_volume_propose_slices_and_show_where_they_read(model: ms.Model, phantom: Phantom) -> None:
    volume, labels = phantom
    net, size = memory_network(model)
    masks = {8: labels[8] == 1}
    view = MemoryView.of(net, size, volume, 0, masks)
    found = view.propagate(masks)
    images, truth = view.image[[8, 9]].movedim(0, 1)[None], torch.zeros(1, 1, 2, size, size)
    (read,) = attention_maps(net, view.image[[7]], images, truth).values()
    assert read.shape == (1, 1, 4 * 4, 2 * 4 * 4)  # places of a slice of 32 x 32, places of two slices in memory
    assert found.weakest is not None
    later = view.propagate({**masks, found.weakest: labels[found.weakest] == 1}, found)
    box, probability = view.probability(later)
    assert probability.shape == labels[box].shape
    # The square is coarser than the slice here: a voxel at the border may come back on its other side.
    assert dice(probability[8] > 0.5, labels[box][8] == 1) > 0.9


@pytest.mark.parametrize("method", ["geodesic", "interpolation"])
def test_a_method_without_a_network_refuses_one(method: Any, model: ms.Model, phantom: Phantom) -> None:
    volume, labels = phantom
    with pytest.raises(InputError, match="method='memory' and a model go together"):
        ms.propagate(volume, some(labels, [6], volume), method=method, model=model)


def test_memory_needs_its_model_and_one_axis(phantom: Phantom, model: ms.Model, tmp_path: Path) -> None:
    volume, labels = phantom
    given = some(labels, [6], volume)
    with pytest.raises(InputError, match="go together; got method='memory' and model=None"):
        ms.propagate(volume, given, method="memory")
    with pytest.raises(InputError, match="a memory network takes slices along one axis; got 2"):
        ms.propagate(volume, given, model=model, slices={0: [6], 1: [8]})
    other = network("deepigeos_pnet").arguments(width=4)
    path = tmp_path / "other.safetensors"
    spec = ms.ModelSpec(
        network="deepigeos_pnet", arguments=other, channels=(Channel(name="image", modality="other"),), labels={1: "a"},
        patch_zyx=(16, 16, 16), normalisation=(Normalisation(kind="none"),), deep_supervision=False,
    )  # fmt: skip
    write_model(path, spec, network("deepigeos_pnet").build_from(other).state_dict())
    with pytest.raises(InputError, match="slices are filled by a model of mem3d"):
        ms.propagate(volume, given, model=path)


def test_lovasz_of_hard_masks_is_one_minus_the_intersection_over_union() -> None:
    truth = torch.tensor([[[1.0, 1, 0, 0]], [[1, 1, 1, 0]]])
    found = torch.tensor([[[1.0, 0, 1, 0]], [[1, 1, 1, 0]]])
    assert float(lovasz(found, truth)) == pytest.approx((1 - 1 / 3) / 2)


def test_phantoms_follow_their_seed() -> None:
    (volume, labels), (again, _), (other, _) = (shapes(seed, size=16) for seed in (3, 3, 4))
    np.testing.assert_array_equal(volume.data, again.data)
    assert not np.array_equal(volume.data[...], other.data[...])
    assert labels.data[...].max() > 0
    assert len(list(phantoms(1, 0))) == 1


def test_a_clip_shows_one_object_in_its_first_slice() -> None:
    labels = np.zeros((12, 40, 40), np.int64)
    labels[2:8, 8:30, 8:30] = 1
    image = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    for seed in range(4):
        clip = clip_of(Example(image, labels, (1.0, 1.0, 1.0)), np.random.default_rng(seed), 32)
        assert clip is not None
        images, masks = clip
        assert images.shape == (LENGTH + 1, 1, 32, 32)
        assert masks.shape == (LENGTH + 1, 32, 32)
        assert masks[0].any()
        assert set(masks.unique().tolist()) <= {0.0, 1.0}  # type: ignore[no-untyped-call]  # torch
    assert clip_of(Example(image, labels * 0, (1.0, 1.0, 1.0)), np.random.default_rng(0), 32) is None
    one_slice = Example(image[3:4, 3:4], labels[3:4, 3:4], (1.0, 1.0, 1.0))
    assert clip_of(one_slice, np.random.default_rng(0), 32) is None, "too few slices in a row"


def test_filling_needs_a_mask(model: ms.Model, phantom: Phantom) -> None:
    net, size = memory_network(model)
    with pytest.raises(InputError, match="all masks are empty"):
        MemoryView.of(net, size, phantom[0], 0, {3: np.zeros((16, 24), dtype=bool)})
