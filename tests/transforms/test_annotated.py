"""What is annotated: painted slices, and what a user marks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from balls import balls, segmentation, volume
from napari_medseg import Box, Segmentation
from napari_medseg.errors import InputError
from napari_medseg.transforms.annotated import crossing_slices, only_annotated, painted_slices, unknown_slices
from napari_medseg.volume import MAX_LABEL


def painted(axis: int, indices: list[int]) -> Segmentation:
    labels = np.zeros_like(balls())
    np.moveaxis(labels, axis, 0)[indices] = np.moveaxis(balls(), axis, 0)[indices]
    return Segmentation(labels, volume().grid)


@pytest.mark.parametrize(("axis", "indices"), [(0, [5, 7]), (1, [4, 13, 15]), (2, [6, 8, 10])])
def test_painted_slices_are_found_along_their_axis(axis: int, indices: list[int]) -> None:
    labels = painted(axis, indices)
    found = painted_slices(labels)
    assert found is not None
    assert (found.axis, list(found.indices)) == (axis, indices)
    assert str(found) == f"{len(indices)} of {labels.data.shape[axis]} slices painted"
    unknown = np.moveaxis(unknown_slices(np.asarray(labels.data)), axis, 0)
    assert np.flatnonzero(~unknown.any(axis=(1, 2))).tolist() == indices
    assert unknown.all(axis=(1, 2)).sum() == len(unknown) - len(indices)


def test_whole_labels_are_not_painted_in_slices() -> None:
    assert painted_slices(segmentation()) is None
    empty = unknown_slices(balls())
    assert empty[:, 0, 0].tolist() == [z not in (5, 6, 7) for z in range(12)]


def test_only_what_is_marked_is_annotated() -> None:
    marked = only_annotated(
        segmentation(), ignore_label=300, slices={0: [6]}, boxes=[Box((5, 0, 0), (8, 8, 16), label=1)]
    )
    labels, expected = np.asarray(marked.data), np.full(balls().shape, 300)
    expected[6], expected[5:8, :8] = balls()[6], balls()[5:8, :8]
    assert (labels == expected).all()
    assert marked.labels == segmentation().labels


def test_wrong_marks_are_refused() -> None:
    with pytest.raises(InputError, match="nothing is marked"):
        only_annotated(segmentation(), ignore_label=3)
    with pytest.raises(InputError, match="label 2 is in use"):
        only_annotated(segmentation(), ignore_label=2, slices={0: [6]})


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2])
def test_a_slice_or_two_alone_are_found_along_their_axis(axis: int, count: int) -> None:
    """One coronal slice says nothing of the axial ones that it crosses."""
    middle = (6, 5, 8)[axis]
    indices = list(range(middle, middle + count))
    unknown = np.moveaxis(unknown_slices(np.asarray(painted(axis, indices).data)), axis, 0)
    assert np.flatnonzero(~unknown.any(axis=(1, 2))).tolist() == indices
    assert unknown.all(axis=(1, 2)).sum() == len(unknown) - count


def test_ids_of_64_bits_stay_whole_numbers() -> None:
    wide = replace(segmentation(), data=balls().astype(np.uint64))
    marked = np.asarray(only_annotated(wide, ignore_label=MAX_LABEL, slices={0: [6]}).data)
    assert marked.dtype == np.int64
    assert set(np.unique(marked)) == {0, 1, 2, MAX_LABEL}


def crossed(*slices: tuple[int, list[int]], label: int = 1) -> NDArray[np.uint8]:
    """A block of 13 x 11 x 12 voxels, painted in some slices along some axes."""
    block = np.zeros((20, 20, 20), np.uint8)
    block[3:16, 4:15, 5:17] = label
    painted = np.zeros_like(block)
    for axis, indices in slices:
        np.moveaxis(painted, axis, 0)[indices] = np.moveaxis(block, axis, 0)[indices]
    return painted


@pytest.mark.parametrize(
    "slices",
    [
        ((0, [9]), (1, [8])),
        ((0, [4, 9, 14]), (2, [7, 14])),
        ((0, [4, 5, 9]), (1, [8, 12, 13])),
        ((0, [4, 9]), (1, [6, 10]), (2, [8])),
    ],
    ids=["one each", "axial and sagittal", "two beside each other", "three axes"],
)
def test_slices_along_several_axes_are_found(slices: tuple[tuple[int, list[int]], ...]) -> None:
    labels = crossed(*slices)
    assert crossing_slices(labels) == dict(slices)
    unknown = unknown_slices(labels)
    known = np.zeros_like(unknown)
    for axis, indices in slices:
        np.moveaxis(known, axis, 0)[indices] = True
    np.testing.assert_array_equal(unknown, ~known)


def test_what_is_no_crossing() -> None:
    assert crossing_slices(crossed((0, [4, 9, 14]))) is None
    assert crossing_slices(crossed((0, list(range(20))))) is None
    assert crossing_slices(crossed((0, [8, 9]))) is None
    assert crossing_slices(np.zeros((4, 5, 6), np.uint8)) is None
    assert crossing_slices(balls()) is None
    dots = np.zeros((24, 24, 24), np.uint8)
    for z, y, x in ((6, 7, 8), (15, 16, 14)):  # as a brush of three voxels paints in 3D
        away = ((np.indices(dots.shape).T - (z, y, x)) ** 2).sum(axis=-1).T
        dots[away <= 2] = 1
    assert crossing_slices(dots) is None
    stray = crossed((0, [9]), (1, [8]))
    stray[1, 1, 1] = 1
    assert crossing_slices(stray) is None, "in no slice that was painted"


def test_a_label_that_crosses_a_slice_of_others_is_refused() -> None:
    labels = crossed((0, [9]), (1, [8]))
    labels[9, 4:15, 17:] = 2  # axial only; it crosses the coronal slice
    with pytest.raises(InputError, match="label 2 crosses slice 8 along axis 1, which was painted for other labels"):
        crossing_slices(labels)
    labels[5:12, 8, 17:] = 2
    assert crossing_slices(labels) == {0: [9], 1: [8]}
    labels[labels == 2] = 0
    labels[9, 4:8, 17:] = 2  # ends before the coronal slice
    assert crossing_slices(labels) == {0: [9], 1: [8]}
