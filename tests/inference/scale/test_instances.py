"""Instances across blocks against the same on the whole array."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_medseg.inference.scale.instances import UnionFind, number_instances


@given(seed=st.integers(0, 2**31), filled=st.sampled_from([0.1, 0.35, 0.6]), voxels=st.sampled_from([8, 60, 10_000]))
@settings(max_examples=30)
def test_parts_are_those_of_the_whole(seed: int, filled: float, voxels: int) -> None:
    labels = np.where(np.random.default_rng(seed).random((7, 9, 8)) < filled, 3, 1)
    target = np.zeros(labels.shape, np.int32)
    count = number_instances(labels, 3, target, voxels=voxels)
    expected, n = ndimage.label(labels == 3)
    assert count == n == target.max(initial=0)
    pairs = np.unique(np.stack([expected.ravel(), target.ravel()]), axis=1)
    assert pairs.shape[1] == n + (labels != 3).any(), "one id here is one id there"


def test_the_smallest_stands_for_all() -> None:
    joined = UnionFind()
    joined.join([(7, 9), (3, 4), (9, 4)])
    assert [joined.find(one) for one in (3, 4, 7, 9, 5)] == [3, 3, 3, 3, 5]
