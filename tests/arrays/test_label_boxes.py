"""The boxes of labels are those of a plain search, and every voxel is read once."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from napari_medseg.arrays.boxes import whole
from napari_medseg.arrays.label_boxes import boxes_of, connected_parts, finding_boxes, label_boxes
from napari_medseg.errors import InputError
from napari_medseg.events import Progress
from napari_medseg.metrics import middle_voxel
from napari_medseg.metrics.descriptive.intensity import intensity_statistics
from napari_medseg.metrics.descriptive.shape import shape_statistics
from napari_medseg.volume import Grid, Segmentation, Volume

FAR_APART = [0, 0, 1, 4095, 4096, 2**31 - 1]
volumes = arrays(np.int64, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.sampled_from(FAR_APART))


class Recorded:
    """An array that counts how often each voxel is read."""

    def __init__(self, values: np.ndarray[Any, Any], chunks: tuple[int, int, int]) -> None:
        self.shape, self.dtype, self.chunks, self._values = values.shape, values.dtype, chunks, values
        self.reads = np.zeros(values.shape, int)

    def __getitem__(self, key: Any) -> Any:
        self.reads[key] += 1
        return self._values[key]


def plainly(values: np.ndarray[Any, Any]) -> dict[int, tuple[slice, ...]]:
    found = {int(k): np.nonzero(values == k) for k in np.unique(values) if k}
    return {k: tuple(slice(int(i.min()), int(i.max()) + 1) for i in where) for k, where in found.items()}


@given(values=volumes)
def test_boxes_equal_a_plain_search(values: np.ndarray[Any, Any]) -> None:
    expected = plainly(values)
    assert list(boxes_of(values, whole(values.shape)).items()) == list(expected.items())
    assert label_boxes(values) == expected
    assert label_boxes(zarr.array(values, chunks=(2, 3, 2))) == expected
    assert label_boxes(da.from_array(values, chunks=(2, 3, 2))) == expected


@given(values=volumes)
def test_parts_equal_those_found_in_the_whole_array(values: np.ndarray[Any, Any]) -> None:
    found = list(connected_parts(values, np.ones((3, 3, 3))))
    assert {parts.label: parts.box for parts in found} == plainly(values)
    for parts in found:
        numbers, count = ndimage.label(values == parts.label, np.ones((3, 3, 3)))
        np.testing.assert_array_equal(parts.numbers, numbers[parts.box])
        assert parts.count == count


def test_every_block_is_read_once_and_told() -> None:
    values = np.random.default_rng(0).integers(0, 4, (5, 6, 7))
    seen = Recorded(values, (2, 3, 7))
    steps = list(finding_boxes(seen, block_voxels=1))
    assert (seen.reads == 1).all()
    assert steps == [Progress(done, 6, "blocks read") for done in range(1, 7)]


@pytest.mark.parametrize("bad", [-1, 2**31])
def test_ids_out_of_range_are_refused(bad: int) -> None:
    with pytest.raises(InputError, match=f"the reader needs label ids from 0 to .*; got .*{bad}"):
        label_boxes(np.array([[[0, bad]]]), "the reader")


@pytest.mark.parametrize("table", ["shape", "intensity", "middle"])
def test_tables_read_labels_once_for_the_boxes_and_once_for_each_mask(table: str) -> None:
    values = np.zeros((4, 4, 8), np.uint8)
    values[1:3, 1:3, 1:3] = 1
    seen = Recorded(values, (4, 4, 4))
    grid = Grid.from_spacing(values.shape, (1.0, 1.0, 1.0))
    labels = Segmentation(seen, grid)
    if table == "shape":
        shape_statistics(labels)
    elif table == "intensity":
        intensity_statistics(labels, Volume(values[None], grid))
    else:
        middle_voxel(labels, 1)
    assert seen.reads[1, 1, 1] == 2
    assert (seen.reads[:, :, 4:] == 1).all()
