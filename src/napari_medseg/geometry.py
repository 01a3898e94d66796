"""Pure affine maths on (4, 4) matrices: index (z, y, x) -> world millimetres (S, P, L).

The world is the patient system LPS of ITK and DICOM, written in array order: an affine of ITK needs a permutation, an
affine of NIfTI (RAS, xyz) a permutation and two signs. This module knows no volumes, files or tensors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
T = TypeVar("T")
Triple = tuple[float, float, float]
Shape3 = tuple[int, int, int]

AXIS_LETTERS = (("S", "I"), ("P", "A"), ("L", "R"))
"""The letters that an axis can run to, for each world axis (S, P, L): positive, negative."""
_STRAIGHT = 1e-4
"""The sine of the angle by which an array axis may leave a world axis and still count as along it."""
_REVERSE = np.eye(4)[[2, 1, 0, 3]]
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def triple_of(values: Iterable[T]) -> tuple[T, T, T]:
    """Three values (z, y, x) as a tuple of that length; ValueError where they are not three."""
    z, y, x = values
    return z, y, x


def from_itk(affine_lps_xyz: npt.ArrayLike) -> FloatArray:
    """An (i, j, k) -> (L, P, S) affine of ITK or DICOM as ours: (k, j, i) -> (S, P, L)."""
    return np.asarray(_REVERSE @ np.asarray(affine_lps_xyz, dtype=float) @ _REVERSE)


def to_itk(affine: npt.ArrayLike) -> FloatArray:
    """The inverse of `from_itk`; the reversal is its own inverse."""
    return from_itk(affine)


def from_nifti(affine_ras_xyz: npt.ArrayLike) -> FloatArray:
    """An (i, j, k) -> (R, A, S) affine of NIfTI as ours: (k, j, i) -> (S, P, L)."""
    return from_itk(_RAS_FROM_LPS @ np.asarray(affine_ras_xyz, dtype=float))


def to_nifti(affine: npt.ArrayLike) -> FloatArray:
    """The inverse of `from_nifti`."""
    return np.asarray(_RAS_FROM_LPS @ to_itk(affine))


def spacing_of(affine: FloatArray) -> Triple:
    """The distance in mm between neighbouring voxel centres along each array axis."""
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def nearest_axes(affine: FloatArray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """For each array axis: the world axis that it runs along most nearly, and the sign of its direction.

    The assignment maximises the product of the absolute direction cosines, so that it is a permutation for any oblique
    affine. Ties go to the first permutation in lexical order.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(
        itertools.permutations(range(3)),
        # Rounded, so that an exact tie (45 degrees) does not fall to floating-point noise.
        key=lambda p: round(float(np.prod([abs(cosines[p[a], a]) for a in range(3)])), 9),
    )
    signs = tuple(1 if cosines[best[a], a] >= 0 else -1 for a in range(3))
    return (best[0], best[1], best[2]), (signs[0], signs[1], signs[2])


def orientation_of(affine: FloatArray) -> str:
    """Three letters, one per array axis: the direction it runs to; "SPL" is the identity."""
    axes, signs = nearest_axes(affine)
    return "".join(AXIS_LETTERS[w][0 if s > 0 else 1] for w, s in zip(axes, signs, strict=True))


def is_oblique(affine: FloatArray) -> bool:
    """Whether any array axis leaves its nearest world axis by more than 1e-4 (sine of the angle)."""
    axes, signs = nearest_axes(affine)
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    expected = np.zeros((3, 3))
    for a in range(3):
        expected[axes[a], a] = signs[a]
    return bool(np.abs(cosines - expected).max() > _STRAIGHT)


@dataclass(frozen=True)
class AxisOrder:
    """A lossless reordering of an array: `axes` as for numpy.transpose, then `flips` of the new axes."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def between(cls, source: str, target: str) -> AxisOrder:
        """The reordering that turns an array of orientation `source` ("SAR") into `target`.

        target: an orientation ("SPL"), or an order of the axes as they are stored ("xyz").
        """
        if target.islower():
            z, y, x = ("zyx".index(axis) for axis in target)
            return cls((z, y, x), (False, False, False))
        world = {letter: w for w, pair in enumerate(AXIS_LETTERS) for letter in pair}
        of_source = [world[c] for c in source]
        axes = [of_source.index(world[c]) for c in target]
        flips = [source[a] != c for a, c in zip(axes, target, strict=True)]
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    @property
    def is_identity(self) -> bool:
        return self.axes == (0, 1, 2) and not any(self.flips)

    @property
    def inverse(self) -> AxisOrder:
        axes = [self.axes.index(a) for a in range(3)]
        flips = [self.flips[a] for a in axes]
        return AxisOrder((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    def apply(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The reordered view of the last three axes of a numpy array; leading axes stay."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + a for a in self.axes))
        return moved[(..., *(slice(None, None, -1) if f else slice(None) for f in self.flips))]

    def shape(self, shape: Shape3) -> Shape3:
        """The shape after the reordering."""
        return shape[self.axes[0]], shape[self.axes[1]], shape[self.axes[2]]

    def affine(self, affine: FloatArray, shape: Shape3) -> FloatArray:
        """The affine of the reordered array; `shape` is that of the array before."""
        moved = np.zeros((4, 4))
        moved[3, 3] = 1
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            moved[old, new] = -1 if flip else 1
            moved[old, 3] = shape[old] - 1 if flip else 0
        return np.asarray(affine @ moved)

    def source_slices(self, window: tuple[slice, slice, slice], shape: Shape3) -> tuple[slice, slice, slice]:
        """The slices to read from the array before, whose reordering is `window` of the array after.

        `shape` is that of the array before; `window` has explicit starts and stops.
        """
        source = [slice(0, 0)] * 3
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            w, n = window[new], shape[old]
            source[old] = slice(n - w.stop, n - w.start) if flip else slice(w.start, w.stop)
        return source[0], source[1], source[2]


AS_IT_IS = AxisOrder((0, 1, 2), (False, False, False))
"""The order that changes nothing."""


def parallel_axes(affine: FloatArray, target: FloatArray) -> AxisOrder | None:
    """The reordering after which each axis of `affine` runs most nearly along the same axis of `target`.

    None where two axes of `target` are nearest to the same axis of `affine`.
    """
    # The axes are compared with each other. Letters such as "SPL" would not do: an axis half way between two axes of
    # the patient (45 degrees) gets one letter or the other by rounding.
    # cosines[new, old]: between an axis of the target and an axis of the array.
    cosines = (target[:3, :3] / spacing_of(target)).T @ (affine[:3, :3] / spacing_of(affine))
    z, y, x = (int(old) for old in np.abs(cosines).argmax(axis=1))
    if len({z, y, x}) < 3:
        return None
    return AxisOrder((z, y, x), (bool(cosines[0, z] < 0), bool(cosines[1, y] < 0), bool(cosines[2, x] < 0)))


def spacing_changed(shape: Shape3, affine: FloatArray, spacing_zyx_mm: Triple) -> tuple[Shape3, FloatArray]:
    """Shape and affine of the grid with another spacing that covers the same box, up to the outer voxels' edges."""
    old = np.array(spacing_of(affine))
    n = np.array(shape)
    new_n = np.maximum(1, np.round(n * old / np.array(spacing_zyx_mm))).astype(int)
    step = n / new_n  # in old voxels; exact, so that the box is kept although the spacing is rounded with the shape
    to_old = np.eye(4)
    to_old[:3, :3] = np.diag(step)
    to_old[:3, 3] = (step - 1) / 2
    return (int(new_n[0]), int(new_n[1]), int(new_n[2])), np.asarray(affine @ to_old)


@dataclass(frozen=True)
class AxisMap:
    """How each sample of a resampled axis is made from the old samples: a band of weights.

    Output sample i is ``sum_k weights[i, k] * old[first[i] + k]``. Denser samples are interpolated linearly. Sparser
    samples are weighted by a triangle as wide as the new spacing, against aliasing. Edge samples repeat.
    """

    first: npt.NDArray[np.int64]
    """Index of the first old sample that each new sample needs; it never decreases."""
    weights: npt.NDArray[np.float32]
    """(n_new, taps); each row sums to one."""
    n_old: int

    @classmethod
    def between(cls, n_old: int, n_new: int, *, mode: Literal["linear", "nearest"] = "linear") -> AxisMap:
        """The map for an axis of `n_old` samples resampled to `n_new` samples over the same extent."""
        step = n_old / n_new
        centre = (np.arange(n_new) + 0.5) * step - 0.5
        if n_old == n_new or mode == "nearest":
            nearest = np.clip(np.floor(centre + 0.5), 0, n_old - 1).astype(np.int64)
            return cls(nearest, np.ones((n_new, 1), dtype=np.float32), n_old)
        width = max(1.0, step)
        # The most integers that the open interval (centre - width, centre + width) holds.
        reach = int(np.ceil(2 * width))
        taps = min(n_old, reach)
        low = np.floor(centre - width).astype(np.int64) + 1
        first = np.clip(low, 0, n_old - taps)
        weights = np.zeros((n_new, taps))
        rows = np.arange(n_new)
        for k in range(reach):
            value = np.maximum(0.0, 1 - np.abs(low + k - centre) / width)
            weights[rows, np.clip(low + k, 0, n_old - 1) - first] += value
        weights /= weights.sum(axis=1, keepdims=True)
        return cls(first, weights.astype(np.float32), n_old)

    @property
    def taps(self) -> int:
        return int(self.weights.shape[1])

    @property
    def is_identity(self) -> bool:
        return self.taps == 1 and self.n_old == len(self.first)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The range of old samples behind the new samples [start, stop)."""
        return int(self.first[start]), int(self.first[stop - 1]) + self.taps

    def ready(self, n_old_available: int) -> int:
        """How many new samples, from the first on, can be made of the first `n_old_available` old samples."""
        return int(np.searchsorted(self.first + self.taps, n_old_available, side="right"))
