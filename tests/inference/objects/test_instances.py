"""Objects in labels: the same in any blocks, cut where they are narrow, in reading order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_medseg as ms
from napari_medseg.config import ObjectsConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Finished, Notice, Progress, run_to_end
from napari_medseg.inference.objects.instances import instances_in_steps, numbering
from napari_medseg.transforms.depths import depth_label, depth_name, depths_of
from objects_phantoms import BLOCKS, balls, of_blobs
from recorder import Recorder


@given(
    seed=st.integers(0, 2**31),
    voxels=st.sampled_from(BLOCKS[:-1]),
    method=st.sampled_from(["distance", "components"]),
    connectivity=st.sampled_from([6, 18, 26]),
)
@settings(max_examples=12, deadline=None)
def test_ids_do_not_depend_on_the_blocks(seed: int, voxels: int, method: str, connectivity: int) -> None:
    labels = ms.Segmentation(of_blobs(seed), ms.Grid.from_spacing((9, 12, 13), (2.0, 1.0, 1.0)))
    config = ObjectsConfig(method=method, connectivity=connectivity)  # type: ignore[arg-type]
    one = np.asarray(run_to_end(instances_in_steps(labels, config, voxels=10_000)).data)
    several = np.asarray(run_to_end(instances_in_steps(labels, config, voxels=voxels)).data)
    assert np.array_equal(one, several)
    assert np.array_equal(one > 0, np.asarray(labels.data) > 0)
    known, first = np.unique(one, return_index=True)
    assert known.tolist() == list(range(len(known)))
    assert (np.diff(first[known > 0]) > 0).all(), "in reading order"
    for number in known[known > 0]:
        assert len(np.unique(np.asarray(labels.data)[one == number])) == 1, "an object is of one label"


def test_balls_that_touch_are_two() -> None:
    labels = balls()
    found = ms.instances(labels)
    ids = np.asarray(found.data)
    assert ids.max() == 4
    assert found.labels == {1: "lesion", 2: "lesion", 3: "lesion", 4: "cyst"} or sorted(found.labels.values()) == [
        "cyst",
        "lesion",
        "lesion",
        "lesion",
    ]
    left, right = ids[6, 6, 4], ids[6, 6, 16]
    assert left != right
    assert abs(int((ids == left).sum()) - int((ids == right).sum())) < 0.1 * (ids == left).sum()
    parts = ms.instances(labels, method="components")
    assert np.asarray(parts.data).max() == 3
    without = ms.instances(labels, least_ml=0.01)
    assert np.asarray(without.data).max() == 3, "the speck is left out"
    assert found.provenance["instances"] == {"method": "distance", "neck": 0.8}


def test_depths_tell_objects_apart_that_have_no_neck() -> None:
    ids = np.zeros((1, 12, 24), np.int32)
    ids[0, 1:11, 1:11], ids[0, 1:11, 11:23] = 1, 2
    grid = ms.Grid.from_spacing(ids.shape, (1.0, 1.0, 1.0))
    plain = ms.Segmentation((ids > 0).astype(np.uint8), grid)
    assert np.asarray(ms.instances(plain).data).max() == 1, "a rectangle has no neck"
    depths = ms.Segmentation(
        depths_of(ids, grid.spacing), grid, {depth_label(1, d): depth_name("cell", d) for d in (1, 2, 3)}
    )
    found = np.asarray(ms.instances(depths).data)
    assert np.array_equal(found, ids)
    data = np.asarray(depths.data).copy()
    data[data > 0] = depth_label(1, 1)
    left = ms.instances(
        ms.Segmentation(data[..., :11].copy(), ms.Grid.from_spacing((1, 12, 11), (1, 1, 1)), depths.labels)
    )
    assert not np.asarray(left.data).any(), "what is border only is no object"


def test_a_store_is_read_and_filled_block_by_block(tmp_path: Path) -> None:
    labels = balls()
    stored = zarr.create_array(tmp_path / "in.zarr", data=np.asarray(labels.data), chunks=(4, 8, 8))
    lazy = ms.Segmentation(stored, labels.grid, labels.labels)
    *events, last = ms.iter_instances(lazy, out=tmp_path / "out.ZARR")
    assert isinstance(last, Finished)
    assert {event.message for event in events if isinstance(event, Progress)} >= {"blocks looked at", "blocks numbered"}
    again = ms.read_segmentation(tmp_path / "out.ZARR")
    assert np.array_equal(np.asarray(again.data), np.asarray(ms.instances(labels).data))


@pytest.mark.parametrize("method", ["components", "distance"])
def test_no_more_is_read_where_there_are_more_planes(method: Literal["components", "distance"]) -> None:
    """A part through all planes too, for the method that cuts nothing."""
    largest = []
    for times in (6, 18):
        labels = np.tile(np.asarray(balls().data), (times, 1, 1))
        if method == "components":
            labels[:, 1, 1] = 1
        grid = ms.Grid.from_spacing(labels.shape, (1.0, 1.0, 1.0))
        source, target = Recorder(labels), Recorder(np.zeros(labels.shape, np.int32))
        found = run_to_end(numbering(ms.Segmentation(source, grid), target, ObjectsConfig(method=method), 4096))
        assert found.count == (2 * times + 1 if method == "components" else 4 * times)
        largest.append((source.largest, target.largest))
    assert largest[0] == largest[1]


@pytest.mark.parametrize(
    ("data", "least_ml", "told"),
    [
        (np.zeros((2, 3, 4), np.uint8), 0.0, "there is no object in the labels"),
        (np.ones((2, 3, 4), np.uint8), 5.0, "there is no object of at least 5 ml: the largest has 0.024 ml"),
    ],
)
def test_nothing_gives_nothing_and_says_so(data: Any, least_ml: float, told: str) -> None:
    given = ms.Segmentation(data, ms.Grid.from_spacing(data.shape, (1, 1, 1)))
    *events, last = ms.iter_instances(given, least_ml=least_ml)
    assert isinstance(last, Finished)
    assert not np.asarray(last.result.data).any()
    assert [event.message for event in events if isinstance(event, Notice)] == [told]


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(InputError, match="neck must"):
        ms.instances(balls(), neck=0)
    with pytest.raises(InputError, match=r"end it in \.zarr"):
        ms.instances(balls(), out="objects.nii.gz")
