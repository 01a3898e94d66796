from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from grids import grid
from napari_medseg.errors import FileError, InputError, MedsegWarning
from napari_medseg.io.stored import (
    Stored,
    grid_of,
    in_memory,
    looks_like_an_image,
    looks_like_labels,
    to_segmentation,
    to_volume,
)
from napari_medseg.volume import MAX_LABEL, LazyArray

GRID = grid("SPL")


def stored(data: LazyArray, *, is_labels: bool = False) -> Stored:
    return Stored(data, GRID, is_labels=is_labels)


def filled(value: float, dtype: Any = np.float32) -> Any:
    data = np.zeros((3, 4, 5), dtype)
    data[1, 2, 3] = value
    return data


@pytest.mark.parametrize("wrap", [np.asarray, da.asarray, lambda a: zarr.array(a)], ids=["numpy", "dask", "zarr"])
def test_an_image_gets_its_channel_axis_without_being_read(wrap: Any) -> None:
    data = wrap(filled(7, np.int16))
    volume = to_volume(stored(data), "a")
    assert volume.data.shape == (1, 3, 4, 5)
    assert isinstance(volume.data, np.ndarray) == isinstance(data, np.ndarray)
    assert np.asarray(volume.data)[0, 1, 2, 3] == 7


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_voxel_that_is_not_finite_is_told_and_read_as_0(value: float) -> None:
    data = filled(value) + np.float32(1)
    with pytest.warns(MedsegWarning, match="a: 1 voxels are NaN or Inf; they are read as 0"):
        volume = to_volume(stored(data), "a")
    assert np.asarray(volume.data).sum() == 59


def test_a_sum_that_overflows_is_no_fault() -> None:
    with pytest.warns(MedsegWarning, match=r"a: extreme intensities, 1e\+308 to 1e\+308"):
        volume = to_volume(stored(np.full((3, 4, 5), 1e308)), "a")
    assert np.asarray(volume.data).min() == 1e308


def test_integers_beyond_double_precision_are_told() -> None:
    with pytest.warns(MedsegWarning, match=r"a: values of type uint64 beyond 2\^53 lose digits"):
        to_volume(stored(np.full((3, 4, 5), 2**60, np.uint64)), "a")


def test_a_single_voxel_is_told() -> None:
    with pytest.warns(MedsegWarning, match="a: a single voxel, too small"):
        to_volume(Stored(np.ones((1, 1, 1), np.int16), grid("SPL", (1, 1, 1))), "a")


def test_an_image_of_nan_is_refused() -> None:
    with pytest.raises(FileError, match="a: no voxel is finite"):
        to_volume(stored(np.full((3, 4, 5), np.nan)), "a")


@pytest.mark.parametrize("value", [2.0, 70_000.0, 16_777_216.0], ids=str)
def test_whole_floats_are_labels(value: float) -> None:
    labels = to_segmentation(stored(filled(value)), "a")
    assert np.dtype(labels.data.dtype).kind in "iu"
    assert labels.data[1, 2, 3] == value


def test_nearly_whole_floats_are_rounded_and_told() -> None:
    with pytest.warns(MedsegWarning, match="not exactly whole numbers"):
        labels = to_segmentation(stored(filled(1.9995)), "a")
    assert labels.data[1, 2, 3] == 2


@pytest.mark.parametrize(
    ("data", "match"),
    [
        pytest.param(filled(0.37), "whole numbers; 1 voxels have fractions", id="fraction"),
        pytest.param(filled(1.998), "whole numbers; 1 voxels have fractions", id="too far to round"),
        pytest.param(filled(np.nan), "whole numbers; 1 voxels are NaN or Inf", id="NaN"),
        pytest.param(filled(-1, np.int16), "ids must lie in 0 to 2147483647; got -1 to 0", id="negative"),
        pytest.param(filled(-1.0), "ids must lie in 0 to 2147483647", id="negative float"),
        pytest.param(filled(MAX_LABEL + 1, np.int64), "got 0 to 2147483648", id="too large"),
        pytest.param(zarr.array(filled(0.37)), "1 voxels have fractions", id="on the disk"),
        pytest.param(np.zeros((2, 3, 4, 5), int), "one channel; got 2", id="channels"),
    ],
)
def test_what_cannot_be_labels_is_refused(data: LazyArray, match: str) -> None:
    with pytest.raises(InputError, match=f"a: .*{match}"):
        to_segmentation(stored(data), "a")


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        pytest.param(filled(1, bool), np.uint8, id="bool"),
        pytest.param(filled(255, np.int64), np.uint8, id="fits 8 bits"),
        pytest.param(filled(256, np.int64), np.uint16, id="fits 16 bits"),
        pytest.param(filled(MAX_LABEL, np.uint64), np.int32, id="fits 31 bits"),
        pytest.param(filled(1, np.int16), np.int16, id="kept"),
        pytest.param(filled(1, ">u2"), np.uint16, id="byte order"),
    ],
)
def test_labels_take_the_smallest_type_where_64_bits_are_too_many(data: LazyArray, dtype: Any) -> None:
    written = in_memory(stored(data, is_labels=True), Path("a.nii"))
    assert written.dtype == np.dtype(dtype)
    assert written.dtype.isnative
    assert np.array_equal(written, np.asarray(data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.array([[[0, 1, 117]]], np.uint16), True),
        (np.array([[[0.0, 3.0]]]), True),
        (np.zeros((1, 1, 1), bool), True),
        (da.zeros((2, 3, 4), dtype=np.uint8), True),
        (np.array([[[-1, 1]]]), False),
        (np.array([[[0.0, 0.5]]]), False),
        (np.array([[[0.0, np.nan]]]), False),
        (np.arange(300).reshape(1, 1, 300), False),
    ],
    ids=["ids", "floats", "mask", "lazy", "negative", "fraction", "nan", "many"],
)
def test_what_could_be_labels(data: LazyArray, expected: bool) -> None:
    assert looks_like_labels(data) is expected


def test_an_odd_spacing_is_told() -> None:
    with pytest.warns(MedsegWarning, match=r"a\.nii: a spacing of .* is hardly true"):
        grid_of("a.nii", (3, 4, 5), np.diag([1e-6, 1e-6, 1e-6, 1]))


def noisy(seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(120, 25, (20, 64, 64)).clip(0, 255).astype(np.uint8)


def superpixels(width: int) -> Any:
    ids = np.random.default_rng(0).permutation(16**3).reshape(16, 16, 16) + 1
    return ids.repeat(width, 0).repeat(width, 1).repeat(width, 2)


def scattered() -> Any:
    data = np.zeros((20, 64, 64), np.int32)
    data[::2, ::2, ::2] = np.arange(1, 10 * 32 * 32 + 1).reshape(10, 32, 32)
    return data


def seeds() -> Any:
    data = np.zeros((1, 256, 256), np.int32)
    data.ravel()[np.random.default_rng(0).choice(data.size, 2000, replace=False)] = np.arange(1, 2001)
    return data


@pytest.mark.parametrize(
    ("data", "is_image"),
    [
        pytest.param(noisy(), True, id="noise"),
        pytest.param(np.where(noisy() > 120, noisy(1), 0), True, id="half of it background"),
        pytest.param(zarr.array(noisy()), True, id="on the disk"),
        pytest.param(noisy()[10:11], True, id="one slice"),
        pytest.param(superpixels(2), False, id="dense superpixels"),
        pytest.param(scattered(), False, id="objects of a voxel"),
        pytest.param(seeds(), False, id="objects of a voxel, some of which touch"),
        pytest.param(noisy() // 8, False, id="few classes"),
        pytest.param(np.zeros((1, 1, 1), np.uint8), False, id="a voxel"),
        pytest.param(np.zeros((0, 4, 4), np.uint8), False, id="nothing"),
    ],
)
def test_labels_of_any_number_are_told_from_an_image(data: LazyArray, is_image: bool) -> None:
    assert looks_like_an_image(data) is is_image
