"""What a person says about an image, in voxels: points, boxes, scribbles, lassos, masks of a slice. Frozen nouns.

Indices are those of the stored array, (z, y, x), and count from 0; an upper bound is exclusive. `positive` is False
where a prompt says "not here". Whether a prompt lies inside an image is checked where it meets one.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import InputError
from napari_medseg.geometry import triple_of
from napari_medseg.volume import MAX_LABEL

Index = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Point:
    """A voxel that belongs to the label, or does not.

    Raises InputError unless at is three whole numbers from 0 on.
    """

    at: Index
    label: int
    positive: bool = True

    def __post_init__(self) -> None:
        _check_sign(self)
        object.__setattr__(self, "at", _index(self, "at", self.at))


@dataclass(frozen=True, eq=False)
class Box:
    """The box of voxels from `low` up to `high`, which is exclusive: it holds the label, or none of it.

    Raises InputError unless both are three whole numbers from 0 on, and high lies above low along each axis.
    """

    low: Index
    high: Index
    label: int
    positive: bool = True

    def __post_init__(self) -> None:
        _check_sign(self)
        low, high = _index(self, "low", self.low), _index(self, "high", self.high)
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise InputError(
                f"a Box needs high above low along each axis, for high is exclusive; got low {low}, high {high}"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)


@dataclass(frozen=True, eq=False)
class Scribble:
    """Voxels that were drawn over, (n, 3).

    Raises InputError unless they are one or more rows of three whole numbers from 0 on.
    """

    voxels: npt.NDArray[np.int64]
    label: int
    positive: bool = True

    def __post_init__(self) -> None:
        _check_sign(self)
        given = _array(self, "voxels", self.voxels)
        if given.ndim != 2 or given.shape[1] != 3 or not len(given) or given.dtype.kind not in "iu" or given.min() < 0:
            raise InputError(
                f"a Scribble needs voxels of shape (n, 3), whole numbers (z, y, x) from 0 on; got {_seen(given)}"
            )
        object.__setattr__(self, "voxels", _frozen(given, np.int64))


@dataclass(frozen=True, eq=False)
class Lasso:
    """A closed polygon in one slice: the slice `index` along `axis`; its voxels are those inside.

    polygon: (n, 2) points, in voxels along the two other axes in their order; a voxel's centre is a whole number.
    Raises InputError for fewer than three points, points that are not finite, and a slice that cannot be.
    """

    polygon: npt.NDArray[np.float64]
    axis: int
    index: int
    label: int
    positive: bool = True

    def __post_init__(self) -> None:
        _check_sign(self)
        _check_slice(self)
        given = _array(self, "polygon", self.polygon)
        is_numbers = given.dtype.kind in "iuf" and bool(np.isfinite(given).all())
        if given.ndim != 2 or given.shape[1] != 2 or len(given) < 3 or not is_numbers:
            raise InputError(
                f"a Lasso needs a polygon of shape (n, 2), three or more finite points; got {_seen(given)}"
            )
        object.__setattr__(self, "polygon", _frozen(given, np.float64))


@dataclass(frozen=True, eq=False)
class SliceMask:
    """A drawn or accepted mask of one slice: the slice `index` along `axis`.

    mask: (rows, columns) along the two other axes in their order, True where the label is. Raises InputError for a mask
    that is not 2D, holds anything but 0 and 1, and for a slice that cannot be.
    """

    mask: npt.NDArray[np.bool_]
    axis: int
    index: int
    label: int
    positive: bool = True

    def __post_init__(self) -> None:
        _check_sign(self)
        _check_slice(self)
        given = _array(self, "mask", self.mask)
        is_mask = given.dtype.kind in "biu" and bool(((given == 0) | (given == 1)).all())
        if given.ndim != 2 or not given.size or not is_mask:
            raise InputError(f"a SliceMask needs a mask of shape (rows, columns) of 0 and 1; got {_seen(given)}")
        object.__setattr__(self, "mask", _frozen(given, np.bool_))


Prompt: TypeAlias = Point | Box | Scribble | Lasso | SliceMask
"""Anything that a session takes."""


def _check_sign(prompt: Prompt) -> None:
    """InputError unless the label is one that a voxel can have, and `positive` is a bool."""
    what, label = _name(prompt), prompt.label
    if not _is_whole(label) or not 1 <= label <= MAX_LABEL:
        raise InputError(
            f"{what} needs a label id from 1 to {MAX_LABEL}; got {label!r}: to say where a label is not, add "
            f"positive=False"
        )
    if not isinstance(prompt.positive, bool):
        raise InputError(f"{what} needs positive=True or positive=False; got {prompt.positive!r}")


def _check_slice(prompt: Lasso | SliceMask) -> None:
    if not _is_whole(prompt.axis) or prompt.axis not in (0, 1, 2):
        raise InputError(f"{_name(prompt)} needs an axis: 0 (z), 1 (y) or 2 (x); got {prompt.axis!r}")
    if not _is_whole(prompt.index) or prompt.index < 0:
        raise InputError(f"{_name(prompt)} needs the index of a slice, a whole number from 0 on; got {prompt.index!r}")


def _index(prompt: Prompt, field: str, value: Any) -> Index:
    given = list(value) if isinstance(value, (tuple, list, np.ndarray)) else []
    if len(given) != 3 or not all(_is_whole(n) and n >= 0 for n in given):
        raise InputError(
            f"{_name(prompt)} needs {field} as voxel indices (z, y, x), whole numbers from 0 on; got {value!r}"
        )
    return triple_of(int(n) for n in given)


def _array(prompt: Prompt, field: str, value: object) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError:  # rows of several lengths
        raise InputError(f"{_name(prompt)} needs {field} as an array; got {value!r:.100}") from None


def _frozen(values: npt.NDArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """A copy that nobody changes."""
    copy = np.array(values, dtype)
    copy.setflags(write=False)
    return copy


def _seen(values: npt.NDArray[Any]) -> str:
    """An array as a message shows it."""
    return f"shape {values.shape}, type {values.dtype}, values {' '.join(str(values.tolist()).split())[:100]}"


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _name(prompt: Prompt) -> str:
    return f"a {type(prompt).__name__}"
