from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.errors import InputError
from napari_medseg.transforms.intensity import as_float32, standardise, statistics


@given(seed=st.integers(0, 2**32), cuts=st.sets(st.integers(1, 11)))
def test_statistics_do_not_depend_on_the_blocks(seed: int, cuts: set[int]) -> None:
    data = np.random.default_rng(seed).integers(-1000, 3000, (12, 7, 5)).astype(np.int16)
    found = statistics(np.split(data, sorted(cuts)), "image")
    whole = statistics([data], "image")
    assert found == whole
    assert whole.mean == pytest.approx(data.mean())
    assert whole.std == pytest.approx(data.std())


def test_a_large_offset_does_not_drown_the_deviation() -> None:
    data = 1e6 + np.random.default_rng(0).normal(0, 1, (4, 50, 50))
    assert statistics([data], "image").std == pytest.approx(data.std(), rel=1e-3)


def test_voxels_that_are_not_finite_do_not_count() -> None:
    data = np.array([[[1.0, np.nan, 3.0, np.inf]]])
    assert statistics([data], "image").mean == 2
    np.testing.assert_array_equal(as_float32(data), [[[1, 0, 3, 0]]])
    with pytest.raises(InputError, match="image has no finite voxel"):
        statistics([np.full((1, 2, 2), np.nan)], "image")


def test_a_constant_image_becomes_zero() -> None:
    assert not standardise(np.full(5, 7, np.float32), 7.0, 0.0).any()
