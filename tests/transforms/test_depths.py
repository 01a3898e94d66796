"""Depths of objects: by hand, their names, and which voxels are an object."""

from __future__ import annotations

import numpy as np

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
