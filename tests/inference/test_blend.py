"""The accumulator and the writer of labels, on arrays small enough to work out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from napari_medseg.geometry import AxisOrder, Shape3
from napari_medseg.inference.blend import LabelWriter, RollingLogits, classes_of
from napari_medseg.inference.plan import axis_maps
from napari_medseg.inference.windows import WindowGrid

CPU = torch.device("cpu")
AS_STORED = AxisOrder((0, 1, 2), (False, False, False))


def column(*values: float) -> torch.Tensor:
    """Logits (1, z, 1, 1) of one class along z."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def accumulator(
    depth: int, window: int, out: int | None = None, *, classes: int = 1, averaged: bool = False
) -> RollingLogits:
    """An accumulator over a column of voxels (depth, 1, 1), whose output has `out` planes."""
    shape: Shape3 = (depth, 1, 1)
    maps = axis_maps(shape, (out or depth, 1, 1))
    return RollingLogits(classes, WindowGrid(shape, (window, 1, 1), 0.5), maps, CPU, averaged=averaged)


def finished(blend: RollingLogits, following: int) -> list[tuple[int, float]]:
    """(index, logit) of the planes that are final, of one class."""
    return [(index, float(logits[0, 0, 0])) for index, logits in blend.finish(following)]


def test_overlapping_windows_are_weighed_and_summed() -> None:
    blend = accumulator(4, window=2)
    weight = torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
    blend.add((0, 0, 0), column(10, 20), weight)
    assert finished(blend, 1) == [(0, 10)]
    blend.add((1, 0, 0), column(5, 7), weight)
    assert finished(blend, 2) == [(1, 3 * 20 + 1 * 5)]
    blend.add((2, 0, 0), column(1, 2), weight)
    assert finished(blend, 4) == [(2, 3 * 7 + 1 * 1), (3, 3 * 2)]


def test_means_where_they_are_asked_for() -> None:
    blend = accumulator(3, window=2, averaged=True)
    weight = torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
    blend.add((0, 0, 0), column(10, 20), weight)
    assert finished(blend, 1) == [(0, 10)]
    blend.add((1, 0, 0), column(4, 8), weight)
    assert finished(blend, 3) == [(1, (3 * 20 + 1 * 4) / 4), (2, 8)]


def test_planes_between_the_models_are_interpolated_once_both_are_final() -> None:
    # Two planes on four: the samples lie at -0.25, 0.25, 0.75 and 1.25 of the model's planes 0 and 1.
    blend = accumulator(2, window=1, out=4)
    one = torch.ones(1, 1, 1)
    blend.add((0, 0, 0), column(0), one)
    first = finished(blend, 1)
    blend.add((1, 0, 0), column(8), one)
    assert [*first, *finished(blend, 2)] == [(0, 0), (1, 2), (2, 6), (3, 8)]
    assert len(first) < 2, "the second plane needs both"


def test_the_ring_forgets_what_was_handed_out() -> None:
    blend = accumulator(6, window=2)
    one = torch.ones(2, 1, 1)
    for z in (0, 2, 4):  # each pair of planes takes the place of the pair before
        blend.add((z, 0, 0), column(z + 1, z + 2), one)
        assert finished(blend, z + 2) == [(z, z + 1), (z + 1, z + 2)]


def test_a_window_may_wrap_round_the_ring() -> None:
    blend = accumulator(5, window=3)
    one = torch.ones(3, 1, 1)
    blend.add((0, 0, 0), column(1, 2, 3), one)
    assert finished(blend, 2) == [(0, 1), (1, 2)]
    blend.add((2, 0, 0), column(10, 20, 30), one)  # its planes lie at 2, 0 and 1 of the ring
    assert finished(blend, 5) == [(2, 13), (3, 20), (4, 30)]


def test_without_a_window_logits_are_zero() -> None:
    blend = accumulator(4, window=2, averaged=True)
    assert finished(blend, 2) == [(0, 0), (1, 0)]
    blend.add((2, 0, 0), column(5, 6), torch.full((2, 1, 1), 0.5))
    assert finished(blend, 4) == [(2, 5), (3, 6)]


def test_padding_is_cut_off() -> None:
    # One window of 4 over 2 voxels an axis: a voxel of padding on every side.
    windows = WindowGrid((2, 2, 2), (4, 4, 4), 0.5)
    blend = RollingLogits(1, windows, axis_maps((2, 2, 2), (2, 2, 2)), CPU)
    values = torch.arange(64.0).reshape(1, 4, 4, 4)
    blend.add((0, 0, 0), values.clone(), torch.ones(4, 4, 4))
    for index, logits in blend.finish(4):
        assert torch.equal(logits[0], values[0, 1 + index, 1:3, 1:3])
    assert index == 1


def test_the_first_of_equal_logits_wins() -> None:
    logits = torch.tensor([[[1.0, 0.0, 5.0]], [[1.0, 2.0, 5.0]], [[0.0, 2.0, 6.0]]])
    assert classes_of(logits).tolist() == [[0, 1, 2]]


class Recorded:
    """A label array with chunks of two planes along its first axis that notes what is written."""

    def __init__(self, shape: Shape3) -> None:
        self.data = np.zeros(shape, np.uint8)
        self.shape, self.dtype, self.chunks = shape, self.data.dtype, (2, *shape[1:])
        self.written: list[tuple[int, int]] = []

    def __setitem__(self, key: tuple[slice, slice, slice], block: Any) -> None:
        self.written.append((key[0].start, key[0].stop))
        self.data[key] = block


def plane(value: int, shape: tuple[int, int] = (1, 1)) -> torch.Tensor:
    return torch.full(shape, value, dtype=torch.int16)


def test_labels_are_written_by_whole_rows_of_chunks() -> None:
    labels = Recorded((5, 1, 1))
    writer = LabelWriter(labels, AS_STORED, (0, 4, 9))
    for value in (0, 1, 2, 1, 0):
        writer.put(plane(value))
    assert labels.written == [(0, 2), (2, 4), (4, 5)]
    assert labels.data.ravel().tolist() == [0, 4, 9, 4, 0]


def test_flipped_labels_fill_the_last_row_of_chunks_first() -> None:
    labels = Recorded((5, 1, 1))
    writer = LabelWriter(labels, AxisOrder((0, 1, 2), (True, False, False)), (0, 4, 9))
    for value in (2, 1, 1, 0, 0):
        writer.put(plane(value))
    assert labels.written == [(4, 5), (2, 4), (0, 2)]
    assert labels.data.ravel().tolist() == [0, 0, 4, 4, 9]


def test_labels_of_a_partial_row_wait() -> None:
    labels = Recorded((4, 1, 1))
    writer = LabelWriter(labels, AS_STORED, (0, 1))
    for _ in range(3):
        writer.put(plane(1))
    assert labels.written == [(0, 2)]


@pytest.mark.parametrize("stored_in", ["array", "zarr"])
def test_planes_across_the_stored_axes(stored_in: str, tmp_path: Path) -> None:
    """Planes along the last stored axis: plane k of the model is stored at [:, :, 2 - k], transposed."""
    order = AxisOrder((2, 1, 0), (True, False, False))
    shape = (2, 4, 3)
    labels: Any = np.zeros(shape, np.uint8)
    if stored_in == "zarr":
        labels = zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="uint8", chunks=(2, 2, 2))
    writer = LabelWriter(labels, order, tuple(range(30)))
    planes = torch.arange(24).reshape(3, 4, 2)
    for classes in planes:
        writer.put(classes)
    expected = [[[int(planes[2 - z, y, x]) for z in range(3)] for y in range(4)] for x in range(2)]
    assert np.asarray(labels[...]).tolist() == expected
