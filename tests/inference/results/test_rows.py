"""Boxes into stores by whole rows of chunks, on arrays small enough to work out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_medseg.arrays.boxes import Box, whole
from napari_medseg.geometry import AS_IT_IS, AxisOrder, Shape3
from napari_medseg.inference.results.rows import RowWriter


class Recorded:
    """A label array with chunks of two planes along its first axis that notes what is written."""

    def __init__(self, shape: Shape3) -> None:
        self.data = np.zeros(shape, np.uint8)
        self.shape, self.dtype, self.chunks = shape, self.data.dtype, (2, *shape[1:])
        self.written: list[tuple[int, int]] = []

    def __setitem__(self, key: tuple[slice, slice, slice], block: Any) -> None:
        self.written.append((key[0].start, key[0].stop))
        self.data[key] = block


def put(writer: RowWriter, *values: int) -> list[Box | None]:
    """Put one plane of a column after the other; what was written after each."""
    written = []
    for k, value in enumerate(values):
        writer.put((slice(k, k + 1), slice(0, 1), slice(0, 1)), np.full((1, 1, 1), value, np.uint8))
        written.append(writer.advance(k + 1))
    return written


def box(*sides: tuple[int, int]) -> Box:
    z, y, x = (slice(*side) for side in sides)
    return z, y, x


def test_labels_are_written_by_whole_rows_of_chunks() -> None:
    labels = Recorded((5, 1, 1))
    found = put(RowWriter(labels, AS_IT_IS, whole((5, 1, 1))), 0, 4, 9, 4, 0)
    one = (0, 1)
    assert found == [None, box((0, 2), one, one), None, box((2, 4), one, one), box((4, 5), one, one)]
    assert labels.written == [(0, 2), (2, 4), (4, 5)]
    assert labels.data.ravel().tolist() == [0, 4, 9, 4, 0]


def test_flipped_labels_fill_the_last_row_of_chunks_first() -> None:
    labels = Recorded((5, 1, 1))
    writer = RowWriter(labels, AxisOrder((0, 1, 2), (True, False, False)), whole((5, 1, 1)))
    assert put(writer, 9, 4, 4, 0, 0)[0] == box((4, 5), (0, 1), (0, 1))
    assert labels.written == [(4, 5), (2, 4), (0, 2)]
    assert labels.data.ravel().tolist() == [0, 0, 4, 4, 9]


def test_labels_of_a_partial_row_wait() -> None:
    labels = Recorded((4, 1, 1))
    put(RowWriter(labels, AS_IT_IS, whole((4, 1, 1))), 1, 1, 1)
    assert labels.written == [(0, 2)]


@pytest.mark.parametrize("stored_in", ["array", "zarr"])
def test_planes_across_the_stored_axes(stored_in: str, tmp_path: Path) -> None:
    """Planes along the last stored axis: plane k of the model is stored at [:, :, 2 - k], transposed."""
    order = AxisOrder((2, 1, 0), (True, False, False))
    shape = (2, 4, 3)
    labels: Any = np.zeros(shape, np.uint8)
    if stored_in == "zarr":
        labels = zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="uint8", chunks=(2, 2, 2))
    writer = RowWriter(labels, order, whole((3, 4, 2)))
    planes = np.arange(24, dtype=np.uint8).reshape(3, 4, 2)
    writer.put(whole((3, 4, 2)), planes)
    assert writer.advance(3) == whole(shape)
    expected = [[[int(planes[2 - z, y, x]) for z in range(3)] for y in range(4)] for x in range(2)]
    assert np.asarray(labels[...]).tolist() == expected


def test_boxes_across_rows_and_columns() -> None:
    """Two windows that overlap two rows of chunks, in the right half of an array of two channels."""
    array = zarr.create_array({}, shape=(2, 4, 2, 4), dtype="uint8", chunks=(1, 2, 2, 2))
    writer = RowWriter(array, AS_IT_IS, box((0, 4), (0, 2), (2, 4)))
    values = np.arange(1, 33, dtype=np.uint8).reshape(2, 4, 2, 2)
    writer.put(box((0, 3), (0, 2), (2, 4)), values[:, :3])
    assert writer.advance(3) == box((0, 2), (0, 2), (2, 4))
    writer.put(box((3, 4), (0, 2), (2, 4)), values[:, 3:])
    assert writer.advance(4) == box((2, 4), (0, 2), (2, 4))
    stored = np.asarray(array[...])
    np.testing.assert_array_equal(stored[..., 2:], values)
    assert not stored[..., :2].any()
