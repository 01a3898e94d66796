from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices

from napari_medseg.inference.windows import WindowGrid, gaussian, starts

sizes = st.tuples(*[st.integers(1, 40)] * 3)


def test_starts_by_hand() -> None:
    assert starts(10, 4, 0.5) == [0, 2, 4, 6]
    assert starts(11, 4, 0.5) == [0, 2, 4, 6, 7]
    assert starts(4, 4, 0.5) == [0]
    assert starts(6, 4, 0.0) == [0, 2]
    assert starts(6, 1, 0.9) == [0, 1, 2, 3, 4, 5]


@given(shape=sizes, window=sizes, overlap=st.sampled_from([0.0, 0.25, 0.5, 0.8]))
def test_windows_are_those_of_monai(shape: tuple[int, int, int], window: tuple[int, int, int], overlap: float) -> None:
    grid = WindowGrid(shape, window, overlap)
    interval = [w if w == p else max(1, int(w * (1 - overlap))) for w, p in zip(window, grid.padded, strict=True)]
    theirs = [tuple(s.start for s in w) for w in dense_patch_slices(grid.padded, window, interval)]
    ours = [(z, y, x) for z, _, corners in grid.rows() for y, x in corners]
    assert ours == theirs
    assert len(grid) == len(ours)


@given(shape=sizes, window=sizes)
def test_rows_end_where_the_next_begins_and_cover_every_plane(
    shape: tuple[int, int, int], window: tuple[int, int, int]
) -> None:
    grid = WindowGrid(shape, window, 0.5)
    rows = list(grid.rows())
    assert [following for _, following, _ in rows] == [*(z for z, _, _ in rows[1:]), grid.padded[0]]
    assert rows[0][0] == 0
    assert rows[-1][0] + window[0] == grid.padded[0]


@pytest.mark.parametrize("window", [(8, 8, 8), (5, 16, 3), (1, 32, 32)], ids=str)
def test_weights_are_those_of_monai(window: tuple[int, int, int]) -> None:
    theirs = compute_importance_map(window, mode="gaussian", sigma_scale=0.125, dtype=torch.float32).numpy()
    np.testing.assert_allclose(gaussian(window), theirs, rtol=1e-6)
