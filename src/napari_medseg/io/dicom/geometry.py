"""Where the planes of a DICOM series lie, and the regular grid they make: pure maths on positions in mm, (L, P, S).

Most series are regular: their planes are the slices of the grid. Planes of a tilted gantry, or with uneven gaps, are
resampled. Planes that make no volume are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError
from napari_medseg.geometry import FloatArray, Shape3

Array = npt.NDArray[Any]

_REGULAR = 0.01
"""The greatest distance of a plane from its place in a regular grid, as a fraction of the smallest spacing."""
_TILT = 1e-3
"""The sideways shift per gap from which on a stack is tilted."""
_SAME_MM = 0.01
"""Planes nearer to each other lie at the same position."""
_COSINE = 1e-3
"""The greatest error of direction cosines: against the other planes, unit length and a right angle."""
_MULTIPLE = 0.05
"""A gap this near to a whole multiple of the smallest gap comes from missing slices."""
_WIDEST = 4
"""Usual gaps: a wider gap is not interpolated over."""
_MAX_SLICES = 10_000
"""The most slices from the first to the last of frames with gaps between them."""
_SPREAD = 3
"""Sizes of a plane: planes that spread sideways further are no stack."""


@dataclass(frozen=True)
class Resampling:
    """The way from planes, in the order of their stack, to the slices of a regular grid."""

    offsets_px: FloatArray
    """(n, 2): the row and column of the grid where each plane's first pixel lies."""
    heights: FloatArray
    """(n,): the slice of the grid, a fraction, where each plane lies; increasing."""


@dataclass(frozen=True)
class PlaneStack:
    """A regular grid, and the planes that fill it."""

    order: tuple[int, ...]
    """Indices of the planes along their normal."""
    shape: Shape3
    affine_lps_xyz: FloatArray
    """Index (i, j, k) -> world (L, P, S) in mm of the grid."""
    slots: tuple[int, ...]
    """The slice of each plane, in the stack's order; without meaning where planes are resampled."""
    resampling: Resampling | None = None
    oddities: tuple[str, ...] = ()
    """What the user should know, in words with numbers."""


@dataclass(frozen=True)
class SeriesGeometry:
    """The properties that all planes of a series share, and the place of each."""

    names: Sequence[str]
    positions_mm: FloatArray
    """(n, 3): the first pixel's centre, (L, P, S)."""
    row_cosine: FloatArray
    """The direction in which the column index grows."""
    column_cosine: FloatArray
    spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    size: tuple[int, int]
    """Rows, columns."""
    gap_mm: float | None
    """The distance between planes as the file states it; needed where positions do not tell."""

    @property
    def normal(self) -> FloatArray:
        return np.cross(self.row_cosine, self.column_cosine)

    @property
    def along(self) -> FloatArray:
        """(n,): mm along the normal."""
        return np.asarray(self.positions_mm @ self.normal)


def unit_cosines(orientation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Row and column cosines of length one. Raises ValueError if the six numbers are no two directions."""
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(orientation.reshape(2, 3), axis=1)
    if max(np.abs(lengths - 1).max(), abs(row @ column)) > _COSINE:
        raise ValueError("not two directions at a right angle")
    return row / lengths[0], column / lengths[1]


def odd_ones(values: FloatArray) -> list[int]:
    """Rows of (n, m) values that differ from those of most others."""
    usual = np.median(values, axis=0)
    return np.flatnonzero(np.abs(values - usual).max(axis=1) > _COSINE).tolist()


def stack(planes: SeriesGeometry) -> PlaneStack:
    """The grid of an image series. Raises FileError for planes at the same position and for missing ones."""
    order = np.argsort(planes.along, kind="stable")
    if len(order) == 1:
        return _single(planes)
    _check_apart(planes, order)
    positions = planes.positions_mm[order]
    step = (positions[-1] - positions[0]) / (len(order) - 1)
    if _is_regular(planes, positions, step):
        count = len(order)
        return PlaneStack(tuple(order), (count, *planes.size), _affine(planes, positions[0], step), tuple(range(count)))
    _check_none_missing(planes, order)
    return _resampled(planes, order)


def sparse_stack(planes: SeriesGeometry) -> PlaneStack:
    """The grid of frames that may share a position and may leave slices out, as those of a segmentation.

    Raises FileError if the positions fit no regular grid.
    """
    order = np.argsort(planes.along, kind="stable")
    gaps = np.diff(planes.along[order])
    apart = gaps[gaps > _SAME_MM]
    stated = planes.gap_mm if planes.gap_mm and not _off_multiple(apart, planes.gap_mm) else None
    gap = stated or (float(apart.min()) if len(apart) else planes.gap_mm or 1.0)
    steps = np.concatenate([[0], np.cumsum(np.rint(gaps / gap))])
    if steps[-1] >= _MAX_SLICES:
        raise FileError(f"its frames lie up to {steps[-1]:.0f} slices apart: their positions are damaged")
    slots = steps.astype(int)
    first, last = planes.positions_mm[order[0]], planes.positions_mm[order[-1]]
    step = (last - first) / slots[-1] if slots[-1] else planes.normal * gap
    off = np.linalg.norm(planes.positions_mm[order] - first - slots[:, None] * step, axis=1).max()
    if off > _REGULAR * min(*planes.spacing_mm, gap):
        raise FileError("the planes of its frames fit no regular grid")
    return PlaneStack(
        tuple(order), (int(slots[-1]) + 1, *planes.size), _affine(planes, first, step), tuple(slots.tolist())
    )


def resample(plan: Resampling, shape: Shape3, planes: Array) -> Array:
    """Planes (n, rows, columns), in the stack's order, resampled linearly on the regular grid (z, y, x) in their type.

    Voxels beyond all planes get the smallest value of all (air in CT).
    """
    from scipy import ndimage

    fill = planes.min()
    shifted = np.stack(
        [
            ndimage.affine_transform(
                plane.astype(np.float32), np.eye(2), -offset, output_shape=shape[1:], order=1, cval=float(fill)
            )
            for plane, offset in zip(planes, plan.offsets_px, strict=True)
        ]
    )
    slices = np.clip(np.arange(shape[0]), plan.heights[0], plan.heights[-1])
    below = np.clip(np.searchsorted(plan.heights, slices, side="right") - 1, 0, len(planes) - 2)
    weight = (slices - plan.heights[below]) / (plan.heights[below + 1] - plan.heights[below])
    result = np.empty(shape, planes.dtype)
    for z, (k, w) in enumerate(zip(below, weight.astype(np.float32), strict=True)):
        mixed = shifted[k] * (1 - w) + shifted[k + 1] * w
        result[z] = mixed if planes.dtype.kind == "f" else np.rint(mixed)
    return result


def _single(planes: SeriesGeometry) -> PlaneStack:
    gap = planes.gap_mm
    oddity = () if gap else ("one slice that states no thickness: 1 mm is taken",)
    affine = _affine(planes, planes.positions_mm[0], planes.normal * (gap or 1.0))
    return PlaneStack((0,), (1, *planes.size), affine, (0,), oddities=oddity)


def _affine(planes: SeriesGeometry, origin: FloatArray, step: FloatArray) -> FloatArray:
    affine = np.eye(4)
    affine[:3, 0] = planes.row_cosine * planes.spacing_mm[1]
    affine[:3, 1] = planes.column_cosine * planes.spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return affine


def _check_apart(planes: SeriesGeometry, order: npt.NDArray[np.intp]) -> None:
    gaps = np.diff(planes.along[order])
    if gaps.min() < _SAME_MM:
        k = int(gaps.argmin())
        raise FileError(
            f"{planes.names[order[k]]} and {planes.names[order[k + 1]]} lie at the same position ({_count(gaps)} such "
            f"pairs): a duplicate slice, or a time series, echoes or several stacks: keep the files of one volume"
        )


def _count(gaps: FloatArray) -> int:
    return int((gaps < _SAME_MM).sum())


def _is_regular(planes: SeriesGeometry, positions: FloatArray, step: FloatArray) -> bool:
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    off = np.linalg.norm(positions - expected, axis=1).max()
    gap = float(step @ planes.normal)
    sideways = np.linalg.norm(step - gap * planes.normal)
    return bool(off <= _REGULAR * min(*planes.spacing_mm, gap) and sideways <= _TILT * gap)


def _off_multiple(lengths: FloatArray, unit: float) -> bool:
    """Whether a length is not a whole multiple of the unit."""
    ratios = lengths / unit
    return bool(np.abs(ratios - np.rint(ratios)).max(initial=0) > _MULTIPLE)


def _check_none_missing(planes: SeriesGeometry, order: npt.NDArray[np.intp]) -> None:
    gaps = np.diff(planes.along[order])
    largest, smallest = gaps.max(), gaps.min()
    is_multiple = round(largest / smallest) >= 2 and not _off_multiple(gaps, smallest)
    if not is_multiple and largest <= _WIDEST * np.median(gaps):
        return
    k = int(gaps.argmax())
    raise FileError(
        f"slices are missing, or the gap between slices changes: {largest:.4g} mm between {planes.names[order[k]]} and "
        f"{planes.names[order[k + 1]]} where others are {smallest:.4g} mm apart: add the missing files"
    )


def _resampled(planes: SeriesGeometry, order: npt.NDArray[np.intp]) -> PlaneStack:
    """The upright grid that holds all planes, as dense as the densest of them (half the usual gap at the least)."""
    along = planes.along[order]
    gaps = np.diff(along)
    in_plane, spacing = np.stack([planes.column_cosine, planes.row_cosine]), np.array(planes.spacing_mm)
    # Rounded, so that a whole shift stays whole: the noise of a subtraction must not put an edge outside.
    offsets = np.round((planes.positions_mm[order] - planes.positions_mm[order[0]]) @ in_plane.T / spacing, 6)
    low, extent = offsets.min(axis=0), np.ptp(offsets, axis=0)
    if (extent > _SPREAD * np.array(planes.size)).any():
        raise FileError("its slices do not lie above one another: they are no volume")
    even = np.ptp(gaps) <= _REGULAR * gaps.mean()
    wanted = gaps.mean() if even else max(gaps.min(), np.median(gaps) / 2)
    count = round((along[-1] - along[0]) / wanted) + 1
    gap = (along[-1] - along[0]) / (count - 1)
    rows, columns = np.array(planes.size) + np.ceil(extent).astype(int)
    corner = planes.positions_mm[order[0]] + (low * spacing) @ in_plane
    return PlaneStack(
        tuple(order),
        (count, int(rows), int(columns)),
        _affine(planes, corner, planes.normal * gap),
        (),
        Resampling(offsets - low, (along - along[0]) / gap),
        _oddities(planes, order, gap, even=bool(even)),
    )


def _oddities(planes: SeriesGeometry, order: npt.NDArray[np.intp], gap: float, *, even: bool) -> tuple[str, ...]:
    gaps = np.diff(planes.along[order])
    shifts = np.diff(planes.positions_mm[order], axis=0)
    sideways = np.linalg.norm(shifts - (shifts @ planes.normal)[:, None] * planes.normal, axis=1)
    found = []
    if sideways.max() > _TILT * gaps.mean():
        angle = np.degrees(np.arctan2(sideways.mean(), gaps.mean()))
        found.append(
            f"tilted slices (gantry tilt of {angle:.1f} degrees: each position is {sideways.mean():.3g} mm aside of "
            f"the one before); resampled onto an upright grid"
        )
    if not even:
        found.append(
            f"unevenly spaced slices ({gaps.min():.4g} to {gaps.max():.4g} mm apart); resampled to {gap:.4g} mm"
        )
    return tuple(found)
