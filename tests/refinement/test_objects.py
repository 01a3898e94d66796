"""Objects of a label map that are deleted, merged and split by hand."""

from __future__ import annotations

import numpy as np
import pytest

import napari_medseg as ms
from napari_medseg.errors import InputError
from objects_phantoms import balls


def test_deleted_and_merged() -> None:
    labels = balls()
    gone = np.asarray(ms.delete_objects(labels, [4]).data)
    assert set(np.unique(gone)) == {0, 1}
    one = ms.merge_objects(labels, [4, 1])
    assert np.array_equal(np.asarray(one.data), (np.asarray(labels.data) > 0).astype(np.uint8))
    assert np.asarray(labels.data).max() == 4, "the given labels stay"


def test_split_between_parts_at_a_neck_and_at_voxels() -> None:
    labels = balls()
    data = np.asarray(labels.data)
    parts = ms.split_object(labels, 1)
    assert np.asarray(parts.data)[0, 0, 0] == 5, "the smaller part gets the next id"
    assert (np.asarray(parts.data)[data == 4] == 4).all()
    two = np.asarray(ms.split_object(parts, 1).data)
    assert {two[6, 6, 4], two[6, 6, 16]} == {1, 6}
    clicked = np.asarray(ms.split_object(parts, 1, [(6, 6, 4), (6, 6, 16)]).data)
    assert {clicked[6, 6, 4], clicked[6, 6, 16]} == {1, 6}
    assert np.array_equal(clicked > 0, data > 0)
    beside = np.asarray(ms.split_object(parts, 1, [(6, 6, 2), (6, 6, 5)]).data)
    assert beside[6, 6, 2] != beside[6, 6, 5], "two clicks split where there is no neck too"


def test_a_flat_object_is_cut_at_its_bridge() -> None:
    """Wherever the clicks lie: a slice has no border above and below, and one of a volume has."""
    y, x = np.ogrid[:21, :50]
    data = (
        ((y - 10) ** 2 + (x - 10) ** 2 <= 81)
        | ((y - 10) ** 2 + (x - 38) ** 2 <= 81)
        | ((abs(y - 10) < 2) & (x > 9) & (x < 39))
    )
    flat = ms.Segmentation(data[None].astype(np.uint8), ms.Grid.from_spacing((1, 21, 50), (1.0, 1.0, 1.0)))
    for seeds in ([(0, 10, 10), (0, 10, 38)], [(0, 10, 17), (0, 10, 44)], [(0, 3, 10), (0, 10, 30)]):
        found = np.asarray(ms.split_object(flat, 1, seeds).data)
        left, right = (set(np.unique(side[side > 0])) for side in (found[0][:, :19], found[0][:, 30:]))
        assert left == {found[seeds[0]]}, seeds
        assert right == {found[seeds[1]]}, seeds


def test_a_flat_object_is_split() -> None:
    labels = balls()
    flat = ms.Segmentation(np.asarray(labels.data)[6:7], ms.Grid.from_spacing((1, *labels.grid.shape[1:]), (1, 1, 1)))
    found = np.asarray(ms.split_object(flat, 1).data)
    assert found[0, 6, 4] != found[0, 6, 16]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda labels: ms.delete_objects(labels, [9]), "found has no object 9"),
        (lambda labels: ms.merge_objects(labels, [1, 1]), "two ids or more; got 1"),
        (lambda labels: ms.split_object(labels, 4), "object 4 has no narrow place"),
        (lambda labels: ms.split_object(labels, 1, [(6, 6, 4), (0, 0, 9)]), r"voxel \(0, 0, 9\) is not in object 1"),
        (lambda labels: ms.split_object(labels, 1, [(6, 6, 4), (6, 6, 4)]), "two different voxels"),
    ],
)
def test_refusals(change: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        change(balls())  # type: ignore[operator]


def test_a_full_type_holds_no_new_id() -> None:
    data = np.asarray(balls().data).copy()
    data[data == 4] = 255
    with pytest.raises(InputError, match="ids of uint8 labels go to 255"):
        ms.split_object(ms.Segmentation(data, balls().grid), 1)
