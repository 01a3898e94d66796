"""Lazy arrays are indexed as numpy indexes: arrays of chunks, and views of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_medseg.arrays.boxes import blocks, whole
from napari_medseg.arrays.views import AxisView, Reordered, lazy_view
from napari_medseg.geometry import AxisOrder
from napari_medseg.io.zarr.array import StoredArray, open_array

SHAPE = (5, 4, 3)
VALUES = np.arange(60, dtype=np.int16).reshape(SHAPE)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredArray:
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    zarr.create_array(path, data=VALUES, chunks=(2, 3, 2))
    return open_array(path)


VIEWS: dict[str, tuple[Callable[[StoredArray], StoredArray | AxisView], npt.NDArray[np.int16]]] = {
    "itself": (lambda array: array, VALUES),
    "transposed": (lambda array: AxisView(array, (2, 0, 1)), VALUES.transpose(2, 0, 1)),
    "new axis": (lambda array: AxisView(array, (None, 0, 1, 2)), VALUES[None]),
    "fixed axis": (lambda array: AxisView(array, (2, None, 0), {1: 3}), VALUES[:, 3].T[:, None]),
}


@pytest.mark.parametrize(("view", "expected"), VIEWS.values(), ids=VIEWS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_index_means_what_it_means_to_numpy(
    stored: StoredArray,
    view: Callable[[StoredArray], StoredArray | AxisView],
    expected: npt.NDArray[np.int16],
    data: st.DataObject,
) -> None:
    key = data.draw(hnp.basic_indices(expected.shape, allow_newaxis=False))
    found: Any = view(stored)[key]
    assert np.shape(found) == expected[key].shape
    assert np.array_equal(found, expected[key])


@pytest.mark.parametrize(("view", "expected"), VIEWS.values(), ids=VIEWS)
def test_the_rest_of_an_array_is_there(
    stored: StoredArray,
    view: Callable[[StoredArray], StoredArray | AxisView],
    expected: npt.NDArray[np.int16],
) -> None:
    viewed = view(stored)
    for attribute in ("shape", "dtype", "ndim", "size", "nbytes"):
        assert getattr(viewed, attribute) == getattr(expected, attribute)
    assert len(viewed) == len(expected)
    assert len(viewed.chunks) == expected.ndim
    assert np.array_equal(np.asarray(viewed), expected)
    assert np.array_equal(viewed[..., [1, 0, 1]], expected[..., [1, 0, 1]])
    assert np.array_equal(viewed[expected > 30], expected[expected > 30])
    with pytest.raises(IndexError, match="out of bounds for an axis of"):
        viewed[..., 9]
    with pytest.raises(IndexError, match="too many indices"):
        viewed[0, 0, 0, 0, 0]


ORDERS = [
    AxisOrder((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
    for axes in itertools.permutations(range(3))
    for flips in itertools.product([False, True], repeat=3)
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_reordered_equals_the_reordered_array(order: AxisOrder) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    view, expected = Reordered(zarr.array(array, chunks=(1, 2, 3)), order), order.apply(array)
    assert view.shape == expected.shape
    assert view.chunks == order.shape((1, 2, 3))
    for part in blocks(whole(view.shape), (2, 1, 2)):
        np.testing.assert_array_equal(view[part], expected[part])


def test_a_lazy_view_keeps_the_chunks(stored: StoredArray) -> None:
    view = lazy_view(stored)
    assert view.chunks == ((2, 2, 1), (3, 1), (2, 1))
    assert np.array_equal(view.transpose(2, 0, 1)[1].compute(), VALUES[:, :, 1])
    array = da.zeros((2, 3))
    assert lazy_view(array) is array
