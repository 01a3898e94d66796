"""Refining labels: what stays, what changes, and that storage and blocks do not matter."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import zarr

import napari_medseg as ms
from known_refiners import AsGiven, Brighter, patches, segmenter, spec_of, write_brighter
from napari_medseg.config import RefineConfig
from napari_medseg.errors import GridMismatchError, InputError
from napari_medseg.events import Event, Filled, Notice, Progress
from napari_medseg.geometry import AxisOrder
from napari_medseg.inference.refining.engine import box_of, refining
from napari_medseg.inference.refining.network import PatchNetwork
from napari_medseg.inference.refining.planes import RollingMeans
from napari_medseg.io.zarr.format import is_unfinished
from napari_medseg.models.file import write_model
from napari_medseg.models.refining import GIVEN, REFINED, Refining, network_of
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, TrainingRecord

SHAPE = (7, 14, 13)
Labels = npt.NDArray[np.uint8]


def image_of(data: Any, **others: Any) -> ms.Volume:
    return ms.Volume(data[None], ms.Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)), ("image",), **others)


def labels_of(data: Any, grid: ms.Grid, **others: Any) -> ms.Segmentation:
    return ms.Segmentation(data, grid, **others)


def refined(
    volume: ms.Volume, segmentation: ms.Segmentation, network: PatchNetwork, **knobs: Any
) -> npt.NDArray[np.integer[Any]]:
    result = ms.Segmentation(np.zeros(volume.grid.shape, np.uint8), volume.grid)
    for _ in refining(volume, segmentation, network, RefineConfig(**knobs), result):
        pass
    return np.asarray(result.data)


@pytest.fixture
def case() -> tuple[ms.Volume, ms.Segmentation]:
    """A bright cuboid, and labels that lie a voxel off; label 3 is no label of the refiners."""
    truth = np.zeros(SHAPE, np.float32)
    truth[2:6, 3:10, 3:10] = 1
    given = np.zeros(SHAPE, np.uint8)
    given[2:6, 4:11, 3:10] = 1
    given[0, 0:2, 0:2] = 3
    volume = image_of(truth)
    return volume, labels_of(given, volume.grid)


@pytest.mark.parametrize(
    ("mode", "patch", "labels"), [("3d", (4, 6, 6), 1), ("3d", (32, 32, 32), 2), ("2d", (1, 8, 6), 2)]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_refiner_that_says_what_it_is_given_changes_nothing(mode: Any, patch: Any, labels: int, seed: int) -> None:
    given = np.random.default_rng(seed).integers(0, 5, SHAPE).astype(np.uint8)
    volume = image_of(np.zeros(SHAPE, np.float32))
    spec = spec_of(labels=labels, patch=patch, mode=mode)
    found = refined(volume, labels_of(given, volume.grid), patches(AsGiven(), spec))
    np.testing.assert_array_equal(found, given)


def test_labels_move_to_where_the_image_says_and_unknown_labels_stay(case: Any) -> None:
    volume, given = case
    found = refined(volume, given, patches(Brighter(), spec_of()))
    wanted = np.where(np.asarray(volume.data[0]) > 0, 1, np.where(given.data == 3, 3, 0))
    np.testing.assert_array_equal(found, wanted)


def test_only_the_chosen_labels_change(case: Any) -> None:
    volume, given = case
    swapped = np.where(given.data == 1, 2, given.data).astype(np.uint8)
    both = spec_of(labels=2)
    network = patches(Brighter(), both)
    assert (refined(volume, labels_of(swapped, volume.grid), network) == 1).any()
    kept = refined(volume, labels_of(swapped, volume.grid), network, labels=(1,))
    np.testing.assert_array_equal(kept, swapped)


@pytest.mark.parametrize("chunks", [(2, 5, 13), (7, 14, 4)])
def test_the_labels_do_not_depend_on_storage_or_blocks(case: Any, chunks: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    volume, given = image_of(rng.random(SHAPE).astype(np.float32)), case[1]
    network = patches(network_of(spec_of()).eval(), spec_of())
    wanted = refined(volume, given, network)
    stored = zarr.create_array(tmp_path / "image.zarr", shape=(1, *SHAPE), chunks=(1, *chunks), dtype="f4")
    stored[:] = np.asarray(volume.data)
    of_labels = zarr.create_array(tmp_path / "labels.zarr", shape=SHAPE, chunks=chunks, dtype="u1")
    of_labels[:] = given.data
    target = zarr.create_array(tmp_path / "out.zarr", shape=SHAPE, chunks=chunks, dtype="u1")
    result = ms.Segmentation(target, volume.grid)
    events = list(
        refining(
            ms.Volume(stored, volume.grid, ("image",)),
            labels_of(of_labels, volume.grid),
            network,
            RefineConfig(),
            result,
        )
    )
    np.testing.assert_array_equal(target[:], wanted)
    filled = np.zeros(SHAPE, int)
    for event in events:
        if isinstance(event, Filled):
            filled[event.box] += 1
    assert (filled == 1).all()
    done = [event.done for event in events if isinstance(event, Progress)]
    assert done == sorted(done)
    assert done[-1] == SHAPE[0]


def test_labels_on_a_flipped_grid_are_matched(case: Any) -> None:
    volume, given = case
    turned = given.grid.reordered(AxisOrder((0, 1, 2), (False, True, False)))
    found = refined(volume, labels_of(given.data[:, ::-1], turned), patches(Brighter(), spec_of()))
    np.testing.assert_array_equal(found, refined(volume, given, patches(Brighter(), spec_of())))


def test_a_box_sees_nothing_behind_the_end_of_the_image() -> None:
    """As in training: the mean of the image, and no label."""
    seen: list[torch.Tensor] = []

    class Looks(AsGiven):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return super().forward(x)

    image, labels = np.full((4, 5, 6), 3.0, np.float32), np.ones((4, 5, 6), np.uint8)
    labels[:, 0] = 0
    volume = image_of(image)
    refined(volume, labels_of(labels, volume.grid), patches(Looks(), spec_of(patch=(8, 8, 8))))
    for x in seen:
        assert (x[0, 0, :4, :5, :6] == 3).all()
        assert (x[0, 1, :4, 1:5, :6] == 1).all()
        assert float(x.sum()) == 3 * image.size + labels.sum()


def test_a_box_covers_as_many_mm_as_the_patch_of_the_network() -> None:
    spec = spec_of(patch=(8, 16, 16), spacing_zyx_mm=(2.0, 1.0, 1.0))
    assert box_of(spec, (4.0, 0.5, 1.0)) == (4, 32, 16)
    halved = refined(
        image_of(np.zeros(SHAPE, np.float32)),
        labels_of(np.ones(SHAPE, np.uint8), ms.Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0))),
        patches(AsGiven(), spec),
    )
    assert halved.all()


def test_means_decide_and_planes_are_forgotten() -> None:
    means = RollingMeans(2, (3, 1, 3))
    ids, given = np.array([0, 7]), np.array([[0, 7, 7]], np.uint8)
    for share in (0.9, 0.2):  # 0.55 on average
        box = (slice(0, 2), slice(0, 1), slice(0, 1))
        means.add(box, np.array([1 - share, share], np.float32).reshape(2, 1, 1, 1).repeat(2, axis=1))
    assert means.take(0, given, ids).tolist() == [[7, 7, 7]]
    assert list(means._planes) == [1]
    assert means.take(2, given, ids) is given
    assert means.take(1, given, np.array([0, 300])).tolist() == [[300, 7, 7]], (
        "the type of the given labels is too small"
    )


def test_the_planes_in_memory_do_not_grow_with_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    taking = RollingMeans.take

    def take(means: RollingMeans, z: int, given: Any, ids: Any) -> Any:
        held.append(len(means._planes))
        return taking(means, z, given, ids)

    monkeypatch.setattr(RollingMeans, "take", take)
    most = []
    for depth in (12, 24):
        given = np.zeros((depth, 8, 8), np.uint8)
        given[1:-1, 2:6, 2:6] = 1
        volume = image_of(np.zeros(given.shape, np.float32))
        refined(volume, labels_of(given, volume.grid), patches(AsGiven(), spec_of(patch=(4, 4, 4))))
        most.append(max(held))
        held.clear()
    assert most[0] == most[1] <= 2 * 4


def test_a_refiner_does_not_segment_and_a_segmenter_does_not_refine(case: Any, tmp_path: Path) -> None:
    volume, given = case
    spec = spec_of()
    refiner = write_model(tmp_path / "refiner.safetensors", spec, network_of(spec).state_dict())
    assert ms.load_model(refiner.path).spec == spec
    with pytest.raises(InputError, match="cannot segment: it is a refiner"):
        ms.segment(volume, refiner)
    plain = segmenter(spec)
    model = write_model(tmp_path / "segmenter.safetensors", plain, network_of(plain).state_dict())
    with pytest.raises(InputError, match=r"segmenter.safetensors is no refiner: it segments"):
        ms.refine(volume, given, model)
    with pytest.raises(InputError, match="starts from"):
        ms.train([(volume, given)], out=tmp_path / "x.safetensors", init=refiner)
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        ms.refine(volume, labels_of(given.data, ms.Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0))), refiner)
    with pytest.raises(InputError, match=r"the refiner .* knows 1"):
        ms.refine(volume, replace(given, labels={5: "five"}), refiner)
    with pytest.raises(InputError, match=r"refiner.safetensors has no label 9: it changes 1"):
        ms.refine(volume, given, refiner, labels=(1, 9))
    two = ms.Volume(np.zeros((2, *SHAPE), np.float32), volume.grid)
    with pytest.raises(InputError, match="has 2 channels"):
        ms.refine(two, given, refiner)
    with pytest.raises(InputError, match="are all of point-rend"):
        Refining(method="boundary-patch", layer="head")


def test_segmenting_with_a_refiner_is_segmenting_then_refining(case: Any, tmp_path: Path) -> None:
    volume, _ = case
    spec = spec_of()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        refiner = write_model(tmp_path / "refiner.safetensors", spec, network_of(spec).state_dict())
        plain = segmenter(spec)
        model = write_model(tmp_path / "segmenter.safetensors", plain, network_of(plain).state_dict())
    wanted = ms.refine(volume, ms.segment(volume, model), refiner)
    in_memory = ms.segment(volume, model, refine=refiner)
    out = tmp_path / "out.zarr"
    for event in ms.iter_segment(volume, model, refine=refiner.path, out=out):
        assert not (isinstance(event, Filled) and not out.exists())
    for found in (in_memory, ms.read_segmentation(out)):
        np.testing.assert_array_equal(np.asarray(found.data[...]), np.asarray(wanted.data[...]))
        assert found.provenance["refined"] == wanted.provenance["refined"]
        assert found.provenance["model_sha256"] == model.sha256
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".medseg")) == []


def told(events: Iterable[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Notice)]


def test_what_speaks_against_a_refinement_is_said_once(case: Any, tmp_path: Path) -> None:
    volume, given = case
    record = TrainingRecord(validation={GIVEN: 0.8, REFINED: 0.8})
    learned = Refining(method="boundary-patch", model="a" * 64)
    poor = write_brighter(tmp_path / "poor.safetensors", spec_of(refines=learned, training=record))
    assert ms.load_model(poor.path).spec == poor.spec
    document = json.loads(spec_of().to_json())
    del document["refines"]["model"]
    assert ModelSpec.from_json(json.dumps(document)) == spec_of(), "files older than the key"
    others = replace(given, provenance={"model_sha256": "b" * 64})
    data = np.array(volume.data)
    data[0, 3, 3:9, 3:9] = np.nan
    lines = told(ms.iter_refine(replace(volume, data=data), others, poor))
    assert [line[:30] for line in lines] == [
        "the validation found the refin",
        "the refiner was trained from t",
        "the image has voxels beside th",
    ]
    good = replace(record, validation={GIVEN: 0.8, REFINED: 0.81})
    fit = write_brighter(tmp_path / "fit.safetensors", spec_of(refines=learned, training=good))
    own = replace(given, provenance={"model_sha256": "a" * 64})
    assert told(ms.iter_refine(volume, own, fit)) == []
    assert told(ms.iter_refine(volume, others, write_brighter(tmp_path / "old.safetensors", spec_of()))) == []


def test_a_refiner_needs_the_channels_that_it_was_trained_on(tmp_path: Path) -> None:
    channels = tuple(Channel(name=name, modality="other") for name in ("t1", "t2"))
    two: dict[str, Any] = {"channels": channels, "normalisation": (Normalisation(kind="zscore"),) * 2}
    refiner = spec_of(**two, arguments={**spec_of().arguments, "in_channels": 3})
    plain = replace(refiner, refines=None, arguments={**refiner.arguments, "in_channels": 2})
    model = write_model(tmp_path / "model.safetensors", plain, network_of(plain).state_dict())
    better = write_model(tmp_path / "refiner.safetensors", refiner, network_of(refiner).state_dict())
    one = replace(image_of(np.zeros(SHAPE, np.float32)), channels=("t1",))
    with pytest.raises(InputError, match=r"the refiner .* needs the channel t2, which is missing: leave refine out"):
        ms.segment(one, model, refine=better, missing=("t2",))


def test_objects_are_numbered_in_refined_labels(case: Any, tmp_path: Path) -> None:
    volume, _ = case
    data = np.array(volume.data[0])
    data[1:3, 11:13, 11:13] = 1
    volume = image_of(data)
    refiner = write_brighter(tmp_path / "refiner.safetensors", spec_of())
    model = write_brighter(tmp_path / "segmenter.safetensors", segmenter(spec_of()))
    wanted = ms.instances(ms.segment(volume, model, refine=refiner), method="components")
    out = tmp_path / "out.zarr"
    found = ms.segment(volume, model, refine=refiner, instances="components")
    for _ in ms.iter_segment(volume, model, refine=refiner, instances="components", out=out):
        pass
    for one in (found, ms.read_segmentation(out)):
        np.testing.assert_array_equal(np.asarray(one.data[...]), np.asarray(wanted.data[...]))
        assert dict(one.labels) == {}, "a number of an object is no label of the refiner"
        assert one.provenance["refined"] == wanted.provenance["refined"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".medseg")) == []


def test_cancelling_leaves_a_store_marked_as_unfinished(case: Any, tmp_path: Path) -> None:
    volume, given = case
    spec = spec_of()
    refiner = write_model(tmp_path / "refiner.safetensors", spec, network_of(spec).state_dict())
    events = ms.iter_refine(volume, given, refiner, out=tmp_path / "out.zarr")
    for event in events:
        if isinstance(event, Progress):
            break
    events.close()  # type: ignore[attr-defined]  # a generator
    assert is_unfinished(tmp_path / "out.zarr")
