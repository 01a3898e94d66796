from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.geometry import AxisMap
from napari_medseg.transforms.spatial import resample, resample_axis


@given(old=st.integers(1, 30), new=st.integers(1, 60), dim=st.integers(0, 3))
def test_resampling_is_the_matrix_of_the_map(old: int, new: int, dim: int) -> None:
    axis_map = AxisMap.between(old, new)
    matrix = np.zeros((new, old))
    for i in range(new):
        matrix[i, axis_map.first[i] : axis_map.first[i] + axis_map.taps] = axis_map.weights[i]
    shape = [2, 3, 2, 3]
    shape[dim] = old
    values = np.random.default_rng(0).normal(size=shape)
    expected = np.moveaxis(np.tensordot(matrix, np.moveaxis(values, dim, 0), 1), 0, dim)
    found = resample_axis(torch.from_numpy(values.astype(np.float32)), axis_map, dim)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@given(old=st.integers(2, 40), new=st.integers(2, 40), data=st.data())
def test_a_part_needs_only_what_the_map_says(old: int, new: int, data: st.DataObject) -> None:
    axis_map = AxisMap.between(old, new)
    start = data.draw(st.integers(0, new - 1))
    stop = data.draw(st.integers(start + 1, new))
    values = torch.randn(old, generator=torch.Generator().manual_seed(0))
    first, last = axis_map.needs(start, stop)
    part = resample_axis(values[first:last], axis_map, 0, slice(start, stop), offset=first)
    torch.testing.assert_close(part, resample_axis(values, axis_map, 0)[start:stop])


@pytest.mark.parametrize("size", [(8, 9, 10), (20, 30, 5)], ids=str)
def test_a_linear_ramp_stays_a_linear_ramp(size: tuple[int, int, int]) -> None:
    old = (16, 18, 20)
    maps = tuple(AxisMap.between(a, b) for a, b in zip(old, size, strict=True))
    ramp = torch.arange(20, dtype=torch.float32).expand(1, *old).contiguous()
    found = resample(ramp, maps)[0, 3, 4]  # type: ignore[arg-type]
    centres = (np.arange(size[2]) + 0.5) * 20 / size[2] - 0.5
    inner = (centres > 4) & (centres < 15)  # edges repeat, which bends the ends
    np.testing.assert_allclose(found.numpy()[inner], centres[inner], atol=1e-4)
