"""Cases of which only a part is annotated: slices held out to validate, shapes between painted slices, weak labels.

Shapes: classes (Z, Y, X), IGNORE where nobody annotated; shapes (K, Z, Y, X).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import placed, with_margin
from napari_medseg.arrays.label_boxes import connected_parts
from napari_medseg.cases import Case
from napari_medseg.config import LossConfig, TrainConfig, configured
from napari_medseg.geometry import AxisMap, Shape3, Triple
from napari_medseg.interactive.propagation import propagate
from napari_medseg.transforms.annotated import (
    crossing_slices,
    held_slices,
    only_annotated,
    painted_axis,
    sparse_axis,
    without_slices,
)
from napari_medseg.volume import MAX_LABEL, Grid, Segmentation, Volume

Classes = npt.NDArray[np.int16]

_FEWEST_TO_TRAIN = 7
"""Painted slices that a single case keeps to train on."""
_MOST_SHAPES = 2**28
"""Numbers that the shapes of a case may have: classes x voxels."""
_FAR = 20.0
"""Distance, in voxels, at which all that is farther counts alike."""
_CORE = 0.6
"""Extent of the ellipsoid in a box, over that of the box, that is taken for the object."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutCase(Case):
    """A case with some slices hidden: those that validate, or all others."""

    axis: int
    hidden: tuple[int, ...]
    ignore_label: int

    def segmentation(self, grid: Grid | None = None) -> Segmentation:
        return without_slices(super().segmentation(grid), self.axis, self.hidden, self.ignore_label)


@dataclass(frozen=True, kw_only=True, eq=False)
class WeakCase(Case):
    """A case whose labels are strokes, or mean boxes."""

    loss: LossConfig
    ignore_label: int

    def segmentation(self, grid: Grid | None = None) -> Segmentation:
        labels = super().segmentation(grid)
        ids = np.asarray(labels.data[...]).astype(np.int32)
        made = (
            _strokes(ids, self.loss, self.ignore_label)
            if self.loss.weak == "scribbles"
            else _boxes(ids, self.ignore_label)
        )
        names = {k: name for k, name in labels.labels.items() if k != self.loss.background_label}
        return Segmentation(made, labels.grid, names, name=labels.name)


def in_part(cases: list[Case], config: TrainConfig) -> tuple[list[Case], TrainConfig]:
    """The cases as weak labels have them, and the config with an id for what is unknown.

    As they are where the labels are masks.
    """
    if config.loss.weak == "none":
        return cases, config
    ignore = _unknown_id(config.loss)
    weak = [_as(WeakCase, case, loss=config.loss, ignore_label=ignore) for case in cases]
    return weak, configured(TrainConfig, config, {"ignore_label": ignore})


def held_out(case: Case, config: TrainConfig) -> tuple[list[Case], list[Case], TrainConfig]:
    """(cases to train, cases to validate, config) of a single case: some of its slices validate.

    None does where too few slices would be left to train.
    """
    labels = case.segmentation(case.peek().grid)
    ids, ignore = np.asarray(labels.data[...]), _unknown_id(config.loss)
    drawn = (ids != 0) & (ids != config.loss.ignore_label)
    are_known, more = config.loss.unlabelled_slices == "background", dict[str, Any](ignore_label=ignore)
    crossing = None if are_known else crossing_slices(np.where(drawn, ids, 0))
    if crossing is not None:
        axis = max(crossing, key=lambda along: len(crossing[along]))
        held = np.array(crossing[axis])
    else:
        # Slices that are hidden along another axis than the unknown ones would make these known.
        axis = sparse_axis(drawn) or 0 if are_known else painted_axis(drawn)
        held = held_slices(drawn, axis)
    count = min(round(len(held) * config.validation.val), len(held) - _FEWEST_TO_TRAIN)
    if count < 1:
        return [case], [], config
    if crossing is not None:  # what is unknown is marked before slices of one of the axes are hidden
        case = replace(case, labels=only_annotated(labels, ignore_label=ignore, slices=crossing))
        more["unlabelled_slices"] = "background"
    places = np.rint(np.linspace(0, len(held) - 1, count + 2)[1:-1]).astype(int)
    chosen = tuple(held[places].tolist())
    others = tuple(sorted(set(range(ids.shape[axis])) - set(chosen)))
    hiding = {"axis": axis, "ignore_label": ignore}
    name = f"slices {', '.join(map(str, chosen))} of {case.name}"
    return (
        [_as(HeldOutCase, case, hidden=chosen, **hiding)],
        [replace(_as(HeldOutCase, case, hidden=others, **hiding), name=name)],
        configured(TrainConfig, config, more),
    )


def shapes_between(volume: Volume, classes: Classes, count: int) -> npt.NDArray[np.float32] | None:
    """Probabilities (count, Z, Y, X) of the classes in slices that nobody painted, from the painted ones and the image.

    `propagate` finds the classes there, and the distance from where they change, in voxels, is how sure they are. Zeros
    in painted slices. None where it is not whole slices that are unknown, where nothing is painted, or where the
    classes are too many.
    """
    axis = _axis_of_unknown(classes)
    if axis is None or count * classes.size > _MOST_SHAPES or not (classes > 0).any():
        return None
    known = np.flatnonzero((np.moveaxis(classes, axis, 0) >= 0).all(axis=(1, 2)))
    painted = Segmentation(classes.clip(min=0), volume.grid)
    found = np.asarray(propagate(volume, painted, slices={axis: known.tolist()}).data)
    spacing = volume.grid.spacing
    far = _FAR * float(np.mean(spacing))
    shapes = np.zeros((count, *classes.shape), np.float32)
    shapes[0] = 1
    (place,) = ndimage.find_objects((found > 0).astype(np.int8))
    near = (slice(None), *with_margin(place, found.shape, [math.ceil(far / step) for step in spacing]))
    distances = np.stack([_signed_distance(found[near[1:]] == k, spacing).clip(-far, far) for k in range(count)])
    odds = np.exp(-distances * (_FAR / far))
    shapes[near] = odds / odds.sum(axis=0)
    np.moveaxis(shapes, axis + 1, 0)[known] = 0
    return shapes


def places_on(shape: Shape3, classes: npt.NDArray[Any]) -> tuple[npt.NDArray[np.intp], ...]:
    """The voxels of `classes` that the voxels of another grid over the same box show, as indices of an array.

    shape: of that grid. They are the nearest ones; on a coarser grid, where nobody annotated that one, the nearest
    annotated one inside the coarser voxel: single painted slices and strokes are not lost between its centres.
    """
    known = classes >= 0
    if known.all() or not any(new < old for new, old in zip(shape, classes.shape, strict=True)):
        return np.ix_(*(_nearest(old, new) for old, new in zip(classes.shape, shape, strict=True)))
    index = np.arange(classes.size, dtype=np.min_scalar_type(classes.size)).reshape(classes.shape)
    for axis, count in enumerate(shape):
        known, index = _annotated_first(np.moveaxis(known, axis, 0), np.moveaxis(index, axis, 0), count)
        known, index = np.moveaxis(known, 0, axis), np.moveaxis(index, 0, axis)
    return np.unravel_index(index, classes.shape)


def _annotated_first(
    known: npt.NDArray[np.bool_], index: npt.NDArray[Any], count: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
    """Both at `count` places along the first axis: from the nearest place, or where nobody annotated that from others.

    These are nearer to the new place than to any other new one, and the nearest are taken first.
    """
    old, new = len(known), np.arange(count)
    nearest, owner = _nearest(old, count), _nearest(count, old)
    found_known, found = known[nearest], index[nearest]
    for step in (sign * apart for apart in range(1, old // count + 2) for sign in (-1, 1)):
        place = (nearest + step).clip(0, old - 1)
        inside = np.flatnonzero(owner[place] == new)
        better = known[place[inside]] & ~found_known[inside]
        found[inside] = np.where(better, index[place[inside]], found[inside])
        found_known[inside] |= better
    return found_known, found


def _nearest(old: int, new: int) -> npt.NDArray[np.int64]:
    """Of each of `new` places along an axis the nearest of `old` ones over the same extent."""
    return AxisMap.between(old, new, mode="nearest").first


def _axis_of_unknown(classes: Classes) -> int | None:
    """The axis along which each slice is known as a whole, or not at all, and both kinds are there."""
    for axis in range(3):
        over = tuple(a for a in range(3) if a != axis)
        whole, some = (classes >= 0).all(axis=over), (classes >= 0).any(axis=over)
        if np.array_equal(whole, some) and 0 < np.count_nonzero(whole) < classes.shape[axis]:
            return axis
    return None


def _signed_distance(mask: npt.NDArray[np.bool_], spacing: Triple) -> npt.NDArray[np.float32]:
    """In mm, negative inside; without end where the mask is all or nothing."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, -np.inf if mask.all() else np.inf, np.float32)
    outside = ndimage.distance_transform_edt(~mask, spacing).astype(np.float32)
    inside = ndimage.distance_transform_edt(mask, spacing).astype(np.float32)
    distance: npt.NDArray[np.float32] = outside - inside
    return distance


def _strokes(ids: npt.NDArray[np.int32], loss: LossConfig, ignore_label: int) -> npt.NDArray[np.int32]:
    """Strokes: what has no label is unknown; those of the background's label are background."""
    return np.where(ids == 0, ignore_label, np.where(ids == (loss.background_label or 0), 0, ids))


def _boxes(ids: npt.NDArray[np.int32], ignore_label: int) -> npt.NDArray[np.int32]:
    """Boxes: background outside of them, their label in an ellipsoid in their middle, unknown between."""
    made = np.zeros_like(ids)
    cores = np.zeros_like(ids)
    for parts in connected_parts(np.where(ids == ignore_label, 0, ids), np.ones((3, 3, 3))):
        for inner in ndimage.find_objects(parts.numbers):
            place = placed(inner, parts.box)
            made[place] = ignore_label
            sizes = [side.stop - side.start for side in place]
            offsets = np.meshgrid(*(np.linspace(-1, 1, n + 2)[1:-1] for n in sizes), indexing="ij")
            cores[place][sum(o**2 for o in offsets) <= _CORE**2] = parts.label
    made = np.where(cores > 0, cores, made)
    return np.where(ids == ignore_label, ignore_label, made)


def _unknown_id(loss: LossConfig) -> int:
    """The id of what is unknown: the one that the user gave, or one that is never given."""
    return MAX_LABEL if loss.ignore_label is None else loss.ignore_label


def _as(kind: Any, case: Case, **own: Any) -> Any:
    """The case as one of another class. A case that already rewrites its labels is read through."""
    plain = {f.name: getattr(case, f.name) for f in fields(Case)}
    if type(case) is not Case:
        plain["labels"] = case.segmentation(case.peek().grid)
    return kind(**plain, **own)
