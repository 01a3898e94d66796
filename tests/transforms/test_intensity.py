from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.errors import InputError
from napari_medseg.transforms.intensity import RunningStatistics, Statistics, as_float32, standardise


def statistics(blocks: Iterable[npt.NDArray[Any]], name: str) -> Statistics:
    """Those of one channel."""
    running = RunningStatistics([name])
    for block in blocks:
        running.add([block])
    (found,) = running.result()
    return found


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


def test_channels_are_measured_side_by_side() -> None:
    running = RunningStatistics(["a", "a"])  # two channels may have one name
    running.add(np.array([[[[1, 3]]], [[[10, 10]]]]))
    running.add([np.array([[[5]]]), np.array([[[10]]])])
    first, second = running.result()
    assert first.mean == 3
    assert first.std == pytest.approx((8 / 3) ** 0.5)
    assert second == Statistics(10, 0)


def test_the_channel_without_a_finite_voxel_is_named() -> None:
    running = RunningStatistics(["T1", "T2"])
    running.add([np.ones((1, 2, 2)), np.full((1, 2, 2), np.nan)])
    with pytest.raises(InputError, match="T2 has no finite voxel"):
        running.result()
