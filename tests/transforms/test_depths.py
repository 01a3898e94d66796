"""Depths of objects: by hand, their names, and which voxels are an object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_medseg.transforms.depths import DEPTHS, depth_label, depth_name, depths_in, depths_of, objects_of


def test_objects_that_touch_have_a_border_between_them() -> None:
    ids = np.zeros((1, 9, 20), np.int32)
    ids[0, 1:8, 2:9], ids[0, 1:8, 9:16] = 1, 2
    row = depths_of(ids, (1.0, 1.0, 1.0))[0, 4]
    assert row.tolist() == [0, 0, 1, 2, 3, 3, 3, 2, 1, 1, 2, 3, 3, 3, 2, 1, 0, 0, 0, 0]


def test_the_end_of_the_image_is_no_border() -> None:
    assert depths_of(np.ones((2, 3, 4), np.int32), (1.0, 1.0, 1.0)).tolist() == np.full((2, 3, 4), DEPTHS).tolist()


def test_names_are_known_again() -> None:
    names = {depth_label(label, d): depth_name(of, d) for label, of in ((1, "a, b"), (3, "c")) for d in (1, 2, 3)}
    assert depths_in(names) == {1: ("a, b", 1), 2: ("a, b", 2), 3: ("a, b", 3), 7: ("c", 1), 8: ("c", 2), 9: ("c", 3)}
    assert depths_in({1: "liver"}) == {}
    assert depths_in({1: "liver, depth 1 of 3", 2: "spleen"}) == {}
    assert depths_in({}) == {}


def test_an_object_is_a_part_or_an_id() -> None:
    labels = np.array([[[5, 5, 0, 5, 7, 7]]])
    assert objects_of(labels, connected=True).tolist() == [[[1, 1, 0, 2, 3, 3]]]
    assert objects_of(labels, connected=False).tolist() == [[[1, 1, 0, 1, 2, 2]]]


@pytest.mark.parametrize("ids", [[0], [0, 0, 0, 8], [0, 1, 2, 3], [-4, 0, 5, 70_000, 2**31 - 1], [*range(60)]])
@pytest.mark.parametrize("shape", [(7, 8, 9), (1, 1, 1), (1, 9, 30)])
def test_objects_equal_those_of_a_pass_over_all_for_each_label(ids: list[int], shape: tuple[int, int, int]) -> None:
    labels = np.random.default_rng(0).choice(np.array(ids), shape)
    expected, count = np.zeros(shape, np.int32), 0
    for label in np.unique(labels[labels > 0]):
        parts, more = ndimage.label(labels == label, np.ones((3, 3, 3)))
        expected[parts > 0] = parts[parts > 0] + count
        count += more
    np.testing.assert_array_equal(objects_of(labels, connected=True), expected)


def test_labels_are_looked_for_in_their_boxes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((20, 20, 20), np.int32)
    labels[2:4, 3:5, 4:8], labels[10, 10, 10] = 1, 2
    looked_at, label = list[int](), ndimage.label

    def counting(mask: Any, structure: Any) -> Any:
        looked_at.append(mask.size)
        return label(mask, structure)

    monkeypatch.setattr(ndimage, "label", counting)
    assert objects_of(labels, connected=True).max() == 2
    assert looked_at == [16, 1]
