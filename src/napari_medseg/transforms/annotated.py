"""Which part of some labels is annotated: painted slices, and slices or boxes that the user marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import BoxND
from napari_medseg.errors import InputError
from napari_medseg.prompts import Box
from napari_medseg.volume import Segmentation, label_dtype

Mask = npt.NDArray[np.bool_]
Slices = Mapping[int, Sequence[int]]
"""{axis: the indices of the slices along it}."""

_AT_ONCE = 2
"""Slices beside each other that somebody paints at once, at the most."""
_SQUARE = 5
"""The side, in voxels, of what a slice is known by: the middle of a dot that was painted in 3D is smaller."""


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


def with_ignore_label(segmentation: Segmentation, ignored: int | None, ignore_label: int | None) -> Segmentation:
    """The labels with `ignore_label` where they have the id `ignored`; as they are where either is None."""
    if ignored is None or ignore_label is None or ignored == ignore_label:
        return segmentation
    return with_ignored(segmentation, np.asarray(segmentation.data[...]) == ignored, ignore_label)


def unknown_slices(labels: npt.NDArray[Any], ignore_label: int | None = None) -> Mask:
    """Where slices without any label lie (True), along `painted_axis`.

    Raises InputError as `crossing_slices`, whose slices are known where there are any. ignore_label: its voxels are
    painted along no axis.
    """
    drawn = labels if ignore_label is None else np.where(labels == ignore_label, 0, labels)
    if (crossing := crossing_slices(drawn)) is not None:
        unknown = np.ones(labels.shape, np.bool_)
        for along, indices in crossing.items():
            np.moveaxis(unknown, along, 0)[list(indices)] = False
        return unknown
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
        if np.median(_runs(held)) > _AT_ONCE:
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


def crossing_slices(labels: npt.NDArray[Any]) -> Slices | None:
    """The slices of labels (Z, Y, X) that look painted along several axes at once; None where they do not.

    A slice is painted where it holds a square of 5 x 5 voxels of a label, and no cube of 3 is anywhere: slices across
    it are painted two at once at the most, and a dot is none. Another label is painted in it from a square of 3 x 3 on.
    Together the slices hold every voxel. Raises InputError where a label crosses a slice that was painted for other
    labels alone: what else that slice holds of it cannot be known.
    """
    mask = labels != 0
    axis = sparse_axis(mask)
    in_single_slices = axis is not None and _runs(held_slices(mask, axis)).max() <= _AT_ONCE
    if in_single_slices or not mask.any() or _squares(mask, (0, 1, 2), _AT_ONCE + 1).any():
        return None
    own = [(label, box, _planes_of(labels[box] == label, box, _AT_ONCE + 1)) for label, box in _boxes(labels, mask)]
    large = [_planes_of(labels[box] == label, box, _SQUARE) for label, box, _ in own]
    found = {a: sorted(set().union(*(planes[a] for planes in large))) for a in range(3)}
    slices = {a: indices for a, indices in found.items() if indices}
    if len(slices) < 2 or any(np.median(_runs(np.array(indices))) > _AT_ONCE for indices in slices.values()):
        return None
    if _outside(mask, slices).any():
        return None
    for label, box, planes in own:
        _require_painted(labels[box] == label, label, box, planes, slices)
    return slices


def _boxes(labels: npt.NDArray[Any], mask: Mask) -> list[tuple[int, BoxND]]:
    """(label, the box around it) of each label."""
    ids, numbers = np.unique(labels[mask], return_inverse=True)
    numbered = np.zeros(labels.shape, np.int32)
    numbered[mask] = numbers + 1
    return list(zip(ids.tolist(), ndimage.find_objects(numbered), strict=True))


def _planes_of(mask: Mask, box: BoxND, side: int) -> dict[int, set[int]]:
    """{axis: the slices along it that hold a square} of a mask in a box. side: of the square, in voxels."""
    across = {axis: [a for a in range(3) if a != axis] for axis in range(3)}
    held = {axis: held_slices(_squares(mask, others, side), axis) for axis, others in across.items()}
    return {axis: {int(k) + box[axis].start for k in indices} for axis, indices in held.items()}


def _squares(mask: Mask, axes: Sequence[int], side: int) -> Mask:
    """Where squares, or cubes, of some voxels a side along some axes begin in a mask."""
    for axis in axes:
        moved = np.moveaxis(mask, axis, 0)
        count = max(0, len(moved) - side + 1)
        moved = np.logical_and.reduce([moved[k : k + count] for k in range(side)])
        mask = np.moveaxis(moved, 0, axis)
    return mask


def _require_painted(mask: Mask, label: int, box: BoxND, planes: Mapping[int, set[int]], slices: Slices) -> None:
    """Raise InputError where a slice holds a label only where the label's own slices cross it.

    mask: the label in the box around it. planes: its own slices.
    """
    for axis, indices in slices.items():
        others = {a: [k - box[a].start for k in planes[a]] for a in planes if a != axis}
        seen, rest = held_slices(mask, axis), held_slices(_outside(mask, others), axis)
        for k in sorted(set(indices) - planes[axis]):
            if k - box[axis].start in seen and k - box[axis].start not in rest:
                raise InputError(
                    f"label {label} crosses slice {k} along axis {axis}, which was painted for other labels alone: "
                    f"paint label {label} there as well, or give its slices in a file of their own"
                )


def _outside(mask: Mask, slices: Slices) -> Mask:
    """The voxels of a mask that lie in none of some slices."""
    left = mask.copy()
    for axis, indices in slices.items():
        np.moveaxis(left, axis, 0)[list(indices)] = False
    return left


def _runs(held: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.intp]:
    """The lengths of the runs of consecutive slices, of which there is one."""
    return np.diff(np.flatnonzero(np.concatenate([[True], np.diff(held) > 1, [True]])))
