"""Masks that hold the box around them only, against masks of the whole volume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_medseg.arrays.boxes import whole
from napari_medseg.interactive.masks import LabelView, SparseMask

SHAPE = (3, 4, 5)
WHOLE = whole(SHAPE)
Mask = npt.NDArray[np.bool_]
masks = hnp.arrays(np.bool_, SHAPE, elements=st.sampled_from([False, False, True]))


def sparse(mask: Mask) -> SparseMask:
    return SparseMask.of(WHOLE, mask)


@given(masks)
def test_a_mask_comes_back_from_the_tightest_box(mask: Mask) -> None:
    held = sparse(mask)
    np.testing.assert_array_equal(held.within(WHOLE), mask)
    assert bool(held) == mask.any()
    assert held.voxels == mask.sum()
    if mask.any():
        for axes in ((1, 2), (0, 2), (0, 1)):
            along = np.asarray(held.inside.any(axis=axes))
            assert along[0]
            assert along[-1]


@given(masks, masks)
def test_sets_of_voxels(a: Mask, b: Mask) -> None:
    np.testing.assert_array_equal(sparse(a).joined(sparse(b)).within(WHOLE), a | b)
    np.testing.assert_array_equal(sparse(a).without(sparse(b)).within(WHOLE), a & ~b)
    assert sparse(a).same_as(sparse(b)) == bool((a == b).all())


@given(masks, st.lists(st.integers(-3, 8), min_size=1, max_size=6))
def test_samples_outside_are_false(mask: Mask, along: list[int]) -> None:
    index = np.array(along)
    sampled = sparse(mask).at([index, index, index])
    for i, z in enumerate(along):
        for j, y in enumerate(along):
            for k, x in enumerate(along):
                inside = 0 <= z < 3 and 0 <= y < 4 and 0 <= x < 5
                assert sampled[i, j, k] == (inside and mask[z, y, x])


def test_a_label_image_is_made_where_it_is_read() -> None:
    one, large = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    one[0, 1:3], large[2, :, 4] = True, True
    view = LabelView(SHAPE, {1: sparse(one), 70_000: sparse(large)})
    assert view.dtype == np.int32
    np.testing.assert_array_equal(view[...], one + 70_000 * large)
    np.testing.assert_array_equal(view[2, 1:, ::-2], (one + 70_000 * large)[2, 1:, ::-2])
    assert LabelView(SHAPE, {1: sparse(one)}).dtype == np.uint8


def test_a_box_without_voxels_is_an_empty_mask() -> None:
    nowhere = (slice(0, 0), slice(0, 0), slice(0, 0))
    assert not SparseMask.of(nowhere, np.zeros((0, 0, 0), dtype=bool))
