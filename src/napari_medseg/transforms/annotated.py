"""Which part of some labels is annotated: painted slices, and slices or boxes that the user marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import InputError
from napari_medseg.prompts import Box
from napari_medseg.volume import Segmentation, label_dtype

Mask = npt.NDArray[np.bool_]
Slices = Mapping[int, Sequence[int]]
"""{axis: the indices of the slices along it}."""

_AT_ONCE = 2
"""Slices beside each other that somebody paints at once, at the most."""


@dataclass(frozen=True)
class Painted:
    """The slices of a volume that somebody painted, where empty ones lie between them."""

    axis: int
    indices: tuple[int, ...]
    count: int
    """Of all slices along the axis."""

    def __str__(self) -> str:
        return f"{len(self.indices)} of {self.count} slices painted"


def painted_slices(segmentation: Segmentation) -> Painted | None:
    """The painted slices; None where the labels do not look painted in single slices."""
    mask = np.asarray(segmentation.data[...]) != 0
    axis = sparse_axis(mask)
    if axis is None:
        return None
    return Painted(axis, tuple(held_slices(mask, axis).tolist()), mask.shape[axis])


def only_annotated(
    segmentation: Segmentation, *, ignore_label: int, slices: Slices | None = None, boxes: Sequence[Box] = ()
) -> Segmentation:
    """The labels with `ignore_label` wherever neither a slice nor a box was marked as annotated.

    slices: {axis: indices} of the stored array. boxes: in voxels of the stored array; their labels do not matter. An
    empty voxel inside is background. Raises InputError where nothing is marked, or the id is in use.
    """
    labels = np.asarray(segmentation.data[...])
    marked = np.zeros(labels.shape, np.bool_)
    for axis, indices in (slices or {}).items():
        np.moveaxis(marked, axis, 0)[list(indices)] = True
    for box in boxes:
        marked[tuple(slice(max(0, a), b) for a, b in zip(box.low, box.high, strict=True))] = True
    if not marked.any():
        raise InputError("nothing is marked as annotated: mark slices or boxes inside the volume")
    if ignore_label in segmentation.labels and (labels == ignore_label).any():
        raise InputError(f"label {ignore_label} is in use: choose another id for what is not annotated")
    return with_ignored(segmentation, ~marked, ignore_label)


def without_slices(segmentation: Segmentation, axis: int, indices: Sequence[int], ignore_label: int) -> Segmentation:
    """The labels with `ignore_label` in some slices."""
    hidden = np.zeros(segmentation.data.shape, np.bool_)
    np.moveaxis(hidden, axis, 0)[list(indices)] = True
    return with_ignored(segmentation, hidden, ignore_label)


def with_ignored(segmentation: Segmentation, ignored: Mask, ignore_label: int) -> Segmentation:
    """The labels with `ignore_label` in some voxels."""
    labels = np.asarray(segmentation.data[...])
    wide = np.promote_types(labels.dtype, label_dtype(ignore_label))
    wide = wide if wide.kind in "iu" else np.dtype(np.int64)  # numpy promotes uint64 and int32 to float64
    return replace(
        segmentation, data=np.where(ignored, np.asarray(ignore_label, wide), labels.astype(wide, copy=False))
    )


def unknown_slices(labels: npt.NDArray[Any]) -> Mask:
    """Where slices without any label lie (True), along `painted_axis`."""
    mask = labels != 0
    axis = painted_axis(mask)
    empty = np.ones(labels.shape, np.bool_)
    np.moveaxis(empty, axis, 0)[held_slices(mask, axis)] = False
    return empty


def painted_axis(mask: Mask) -> int:
    """The axis along which the mask looks painted in single slices.

    Where it does so on none: the axis on which it is a slice or two thick, else the first one.
    """
    axis = sparse_axis(mask)
    if axis is not None:
        return axis
    held = [len(held_slices(mask, a)) for a in range(3)]
    return held.index(min(held)) if min(held) <= _AT_ONCE else 0


def sparse_axis(mask: Mask) -> int | None:
    """The axis along which the mask looks painted in single slices: most gaps; of equal ones, where they are widest.

    None where it does so along no axis: two organs with a gap between them are no painted slices.
    """

    def gaps(axis: int) -> tuple[int, float]:
        held = held_slices(mask, axis)
        apart = np.diff(held)
        runs = np.diff(np.flatnonzero(np.concatenate([[True], apart > 1, [True]])))
        if np.median(runs) > _AT_ONCE:
            return 0, 0.0
        missing = int(apart.sum()) - len(apart)
        return int((apart > 1).sum()), missing / (len(apart) + missing or 1)

    if not mask.any():
        return None
    axis = max(range(3), key=gaps)
    return axis if gaps(axis)[0] else None


def held_slices(mask: Mask, axis: int) -> npt.NDArray[np.intp]:
    """The slices along an axis that hold a voxel of the mask."""
    return np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
