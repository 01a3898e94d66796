"""Stored values and what they mean, on pixels that can be counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from napari_medseg.io.dicom.header import DicomHeader
from napari_medseg.io.dicom.pixels import decode, scaled


def planes(*values: float, dtype: npt.DTypeLike = np.int16) -> npt.NDArray[Any]:
    """A plane of 1 x 2 pixels for each value: the value, and 1 more."""
    return np.array([[[value, value + 1]] for value in values], dtype)


def test_values_without_a_scale_are_kept() -> None:
    values = planes(5, 6)
    assert scaled(values, [1, 1], [0, 0]) is values


@pytest.mark.parametrize(
    ("values", "slopes", "intercepts", "expected", "dtype"),
    [
        pytest.param(planes(5, 6), [1, 1], [-1000, -2000], [-995, -994, -1994, -1993], "int16", id="each its own"),
        pytest.param(planes(30_000), [2], [0], [60_000, 60_002], "int32", id="beyond 16 bits"),
        pytest.param(planes(60_000, dtype=np.uint16), [1], [-40_000], [20_000, 20_001], "int16", id="back into 16"),
        pytest.param(planes(2**31 - 9, dtype=np.int32), [4], [0], [2**33 - 36, 2**33 - 32], "float64", id="beyond 32"),
        pytest.param(planes(3), [0.5], [0.25], [1.75, 2.25], "float32", id="fractions"),
        pytest.param(planes(2**24 + 1, dtype=np.int32), [0.5], [0], [8388608.5, 8388609], "float64", id="all digits"),
    ],
)
def test_values_take_the_smallest_type_that_holds_them(
    values: npt.NDArray[Any], slopes: list[float], intercepts: list[float], expected: list[float], dtype: str
) -> None:
    found = scaled(values, slopes, intercepts)
    assert found.dtype == dtype
    assert found.ravel().tolist() == expected


def test_single_bits_do_not_begin_at_a_byte(tmp_path: Path) -> None:
    # Two frames of 2 x 3 bits, the lowest bit first: 1 0 1 / 1 0 0 and 0 1 1 / 0 0 1, behind four other bytes.
    bits = [1, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 1]
    packed = bytes(sum(bit << i for i, bit in enumerate(bits[start : start + 8])) for start in (0, 8))
    path = tmp_path / "a.dcm"
    path.write_bytes(b"head" + packed)
    dataset = Dataset()
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.NumberOfFrames = 2, 3, 1, 2
    header = DicomHeader(path, dataset, ExplicitVRLittleEndian, pixels_at=4, pixels_length=2)
    assert decode(header, [0, 1]).tolist() == [[[1, 0, 1], [1, 0, 0]], [[0, 1, 1], [0, 0, 1]]]
    assert decode(header, [1]).tolist() == [[[0, 1, 1], [0, 0, 1]]]
