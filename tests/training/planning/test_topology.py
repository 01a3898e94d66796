"""Kernels and strides per axis, as nnU-Net plans them."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.geometry import Shape3, Triple
from napari_medseg.training.planning.topology import patch_on, topology_of

AXES = st.tuples(*[st.integers(1, 300)] * 3)
SPACING = st.tuples(*[st.floats(0.3, 8)] * 3)


def test_a_cube_is_halved_alike_until_four_voxels_are_left() -> None:
    found = topology_of((128, 128, 128), (1.0, 1.0, 1.0))
    assert found.strides == ((1, 1, 1), *[(2, 2, 2)] * 5)
    assert found.kernels == ((3, 3, 3),) * 6


def test_thick_slices_are_halved_and_convolved_later() -> None:
    """nnU-Net's plan for prostate-like MR: 20 x 320 x 256 at 3.6 x 0.6 x 0.6 mm, worked out by hand.

    Spacings (3.6, 0.6) become (3.6, 1.2), (3.6, 2.4): there the slices are less than twice as thick.
    """
    found = topology_of((20, 320, 256), (3.6, 0.6, 0.6))
    assert found.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    assert found.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert found.multiple == (4, 32, 32)


def test_a_slice_has_kernels_in_its_plane() -> None:
    found = topology_of((1, 64, 64), (1.0, 1.0, 1.0))
    assert found.strides[1:] == ((1, 2, 2),) * 4
    assert found.flat(2) == ((3, 3) * 5, (1, 1, *(2, 2) * 4))


@given(shape=AXES, spacing=SPACING, voxels=st.sampled_from([2000, 110_000]))
def test_a_patch_is_halved_without_rest_and_fits(shape: Shape3, spacing: Triple, voxels: int) -> None:
    patch, topology = patch_on(shape, spacing, voxels)
    assert all(n % m == 0 for n, m in zip(patch, topology.multiple, strict=True))
    assert len(topology.strides) == len(topology.kernels) >= 3
    smallest = all(n <= m for n, m in zip(patch, topology.multiple, strict=True))
    assert prod(patch) <= voxels or smallest
    if max(shape) > 1:
        assert all(n >= 1 for n in np.array(patch) // topology.multiple)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5)], ids=str)
def test_tiny_volumes_have_three_levels(shape: Shape3) -> None:
    assert len(topology_of(shape, (1.0, 1.0, 1.0)).strides) == 3
