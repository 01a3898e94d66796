"""Resampling as nnU-Net does it, as bands of weights along each axis.

Source: nnU-Net v2 (Isensee et al., Nature Methods 2021), `default_resampling`: images by cubic splines and logits
linearly, neither with a filter against aliasing. Where the spacing is more than 3 times coarser along one axis, the
nearest slice is taken along it.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import AxisMap, Shape3, Triple

_COARSE = 3.0
"""How many times the coarsest spacing is the finest, where slices are resampled apart."""
_SMALL = 1e-7
"""A weight that counts for nothing: a spline's weights fall to a quarter with each sample."""


def nnunet_maps(
    old: Shape3, new: Shape3, spacings: tuple[Triple, Triple], what: Literal["image", "logits"]
) -> tuple[AxisMap, AxisMap, AxisMap]:
    """The map along each axis. spacings: those of the grids of shape `old` and `new`, in mm."""
    apart = coarse_axis(*spacings)
    order: Literal[1, 3] = 3 if what == "image" else 1
    z, y, x = (
        AxisMap.between(a, b, mode="nearest") if axis == apart else spline_map(a, b, order)
        for axis, (a, b) in enumerate(zip(old, new, strict=True))
    )
    return z, y, x


def coarse_axis(old: Triple, new: Triple) -> int | None:
    """The one axis along which the old spacing, or else the new, is much coarser than along another; None without."""
    for spacing in (old, new):
        if max(spacing) / min(spacing) > _COARSE:
            coarsest = [axis for axis, value in enumerate(spacing) if value == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


@functools.lru_cache(maxsize=32)
def spline_map(n_old: int, n_new: int, order: Literal[1, 3]) -> AxisMap:
    """The map of an axis by interpolation with splines of this order; end samples are repeated."""
    if n_old == n_new:
        return AxisMap.between(n_old, n_new)
    if n_old == 1:
        return AxisMap(np.zeros(n_new, np.int64), np.ones((n_new, 1), np.float32), 1)
    return _banded(_matrix(n_old, n_new, order))


def _matrix(n_old: int, n_new: int, order: int) -> npt.NDArray[np.float64]:
    """(n_new, n_old): what scipy makes of every old sample alone."""
    from scipy import ndimage

    centre = (np.arange(n_new) + 0.5) * (n_old / n_new) - 0.5
    found = np.empty((n_new, n_old))
    for k in range(n_old):
        sample = np.zeros(n_old)
        sample[k] = 1
        found[:, k] = ndimage.map_coordinates(sample, centre[None], order=order, mode="nearest")
    return found


def _banded(matrix: npt.NDArray[np.float64]) -> AxisMap:
    n_old = matrix.shape[1]
    counts = np.abs(matrix) > _SMALL
    low, high = counts.argmax(axis=1), n_old - counts[:, ::-1].argmax(axis=1)
    low, high = np.minimum.accumulate(low[::-1])[::-1], np.maximum.accumulate(high)
    taps = int((high - low).max())
    first = np.clip(np.minimum(low, n_old - taps), 0, None)
    weights = np.take_along_axis(matrix, first[:, None] + np.arange(taps), axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    return AxisMap(first.astype(np.int64), weights.astype(np.float32), n_old)
