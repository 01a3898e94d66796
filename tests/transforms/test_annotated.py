"""What is annotated: painted slices, and what a user marks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from balls import balls, segmentation, volume
from napari_medseg import Box, Segmentation
from napari_medseg.errors import InputError
from napari_medseg.transforms.annotated import only_annotated, painted_slices, unknown_slices
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
