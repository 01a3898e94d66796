"""Boxes along boundaries: where they are, and how many stay."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from napari_medseg.inference.refining.boxes import boundary, box_around, thinned, too_near


def test_the_boundary_is_what_touches_anything_else_by_a_face() -> None:
    labels = np.zeros((1, 5, 6), np.uint8)
    labels[0, 1:4, 0:4] = 1
    labels[0, 2, 4] = 2
    assert boundary(labels, [1])[0].astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0, 0],  # the voxels at the image's border have no face there
        [1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert np.argwhere(boundary(labels, [2])).tolist() == [[0, 2, 4]]


def test_boxes_are_too_near_where_they_share_more_than_the_bound() -> None:
    # 4 x 4 squares: shifted by (0, 1) they share 12 of 20, by (1, 1) 9 of 23, by (0, 2) 8 of 24.
    near = too_near((1, 4, 4), 0.38)[0]
    assert near.shape == (7, 7)
    assert near[3, 4]
    assert near[4, 4]
    assert not near[3, 5]
    assert near.sum() == 9


@pytest.mark.parametrize("overlap", [0.25, 0.35, 0.55])
def test_no_two_boxes_share_more_and_every_voxel_lies_near_one(overlap: float) -> None:
    edge = np.random.default_rng(0).random((6, 12, 11)) < 0.2
    box = (4, 6, 4)
    kept = [(z, y, x) for z, found in enumerate(thinned(iter(edge), box, overlap)) for y, x in found]

    def shared(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        both = np.prod([max(0, n - abs(p - q)) for p, q, n in zip(a, b, box, strict=True)])
        return float(both / (2 * np.prod(box) - both))

    assert all(shared(a, b) <= overlap for a, b in combinations(kept, 2))
    assert all(edge[centre] for centre in kept)
    covered = np.zeros_like(edge)
    for centre in kept:
        covered[box_around(centre, box, edge.shape)] = True
    for voxel in map(tuple, np.argwhere(edge).tolist()):
        assert voxel in kept or any(shared(voxel, centre) > overlap for centre in kept)
        assert covered[voxel] or overlap < 1 / 3


def test_boxes_stay_inside_the_image_and_begin_with_one_that_is_smaller() -> None:
    assert box_around((0, 9, 5), (1, 4, 4), (3, 10, 10)) == (slice(0, 1), slice(6, 10), slice(3, 7))
    assert box_around((2, 1, 1), (1, 4, 4), (3, 10, 3)) == (slice(2, 3), slice(0, 4), slice(0, 4))
