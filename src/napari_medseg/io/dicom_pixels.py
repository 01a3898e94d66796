"""Voxels of DICOM planes: decoded, and scaled to what they mean (Hounsfield units, activity, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels import iter_pixels

from napari_medseg.errors import FileError
from napari_medseg.io.dicom_files import PARSE_ERRORS, quiet
from napari_medseg.io.dicom_planes import Plane

Array = npt.NDArray[Any]


def decode(path: Path, frames: Sequence[int]) -> Array:
    """Stored values (frame, row, column) of some frames of a checked file.

    The only function that hands compressed pixels to the decoders' C code: it takes a path and returns an array, so
    that it can run in a process of its own. Raises FileError where they are damaged.
    """
    try:
        with quiet():
            return np.stack(list(iter_pixels(path, indices=frames, raw=True)))
    except PARSE_ERRORS as error:
        raise FileError(f"{path}: damaged: its pixel data cannot be decoded ({type(error).__name__})") from error


def stored_values(planes: Sequence[Plane]) -> Array:
    """(plane, row, column) as stored, in the order of the planes."""
    parts = []
    for path, group in groupby(planes, key=lambda plane: plane.path):
        parts.append(decode(path, [plane.frame for plane in group]))
    kinds = {part.dtype for part in parts}
    if len({part.shape[1:] for part in parts}) > 1:
        raise FileError(f"{planes[0].path}: damaged: decoded planes are not of the stated size")
    return np.concatenate(parts, dtype=np.result_type(*kinds), casting="safe")


def scaled(values: Array, slopes: Sequence[float], intercepts: Sequence[float]) -> Array:
    """Each plane's slope and intercept applied; whole numbers stay such, in int16 or int32.

    Fractions give float32, or float64 where float32 would not hold the stored values.
    """
    slope, intercept = np.array(slopes)[:, None, None], np.array(intercepts)[:, None, None]
    if (slope == 1).all() and (intercept == 0).all():
        return values
    if values.dtype.kind in "iu" and (slope == np.rint(slope)).all() and (intercept == np.rint(intercept)).all():
        low, high = _range(values, slope, intercept)
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return _whole(values, slope, intercept, kind)
    is_short = values.dtype.itemsize <= 2 or values.dtype == np.float32
    result: Array = np.empty(values.shape, np.float32 if is_short else np.float64)
    np.multiply(values, slope, out=result, casting="same_kind")
    np.add(result, intercept, out=result, casting="same_kind")
    return result


def _range(values: Array, slope: Array, intercept: Array) -> tuple[float, float]:
    ends = np.stack([values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)]).astype(float)
    ends = ends * slope + intercept
    return float(ends.min()), float(ends.max())


def _whole(values: Array, slope: Array, intercept: Array, kind: npt.DTypeLike) -> Array:
    """Plane by plane in 64 bits, so that nothing overflows on the way to a type that holds the result."""
    result = np.empty(values.shape, kind)
    for plane, target, a, b in zip(values, result, slope.ravel(), intercept.ravel(), strict=True):
        target[...] = plane.astype(np.int64) * int(a) + int(b)
    return result
