"""Objects of a label map by hand: leave some out, make one of several, split one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import Box
from napari_medseg.errors import InputError
from napari_medseg.geometry import Shape3
from napari_medseg.inference.objects.cutting import cut, cut_at
from napari_medseg.metrics.inputs import require_segmentation
from napari_medseg.volume import MAX_LABEL, Segmentation

Labels = npt.NDArray[np.integer[Any]]

_NECKS = (0.8, 0.9, 0.97)
"""Where nobody says where to split: the necks that are tried, the clearest first."""


def delete_objects(segmentation: Segmentation, ids: Sequence[int]) -> Segmentation:
    """The labels without some ids. Raises InputError for an id that is not there."""
    data = _copied(segmentation, ids)
    data[np.isin(data, ids)] = 0
    return replace(segmentation, data=data)


def merge_objects(segmentation: Segmentation, ids: Sequence[int]) -> Segmentation:
    """The labels with the smallest of some ids in place of all of them.

    Raises InputError for fewer than two ids, and for one that is not there.
    """
    if len(set(ids)) < 2:
        raise InputError(f"merging takes two ids or more; got {len(set(ids))}")
    data = _copied(segmentation, ids)
    data[np.isin(data, ids)] = min(ids)
    return replace(segmentation, data=data)


def split_object(segmentation: Segmentation, id: int, seeds: Sequence[Shape3] = ()) -> Segmentation:
    """The labels with one id split: the largest piece keeps it, the others get new ids.

    seeds: voxels (z, y, x) of the object, two or more, each of which becomes a piece. Without them the object is cut
    where it is narrow; one of several connected parts is cut between these. Raises InputError for an id that is not
    there, seeds outside of the object, an object without a narrow place, and labels whose type holds no more ids.
    """
    data = _copied(segmentation, [id])
    found = ndimage.find_objects((data == id).astype(np.uint8))[0]
    box: Box = (found[0], found[1], found[2])
    mask = data[box] == id
    pieces = _at_seeds(mask, box, segmentation, id, seeds) if len(seeds) else _at_necks(mask, segmentation, id)
    sizes = np.bincount(pieces.ravel())[1:]
    largest = 1 + int(sizes.argmax())
    last = int(data.max())
    top = min(MAX_LABEL, int(np.iinfo(data.dtype).max))
    if last + len(sizes) - 1 > top:
        raise InputError(f"ids of {data.dtype} labels go to {top}: convert the labels to more bits first")
    for number in range(1, len(sizes) + 1):
        if number != largest:
            last += 1
            data[box][pieces == number] = last
    return replace(segmentation, data=data)


def _at_seeds(
    mask: npt.NDArray[np.bool_], box: Box, segmentation: Segmentation, label: int, seeds: Sequence[Shape3]
) -> npt.NDArray[np.int32]:
    inside = [tuple(int(v) - side.start for v, side in zip(seed, box, strict=True)) for seed in seeds]
    for seed, place in zip(seeds, inside, strict=True):
        if not all(0 <= p < n for p, n in zip(place, mask.shape, strict=True)) or not mask[place]:
            raise InputError(f"voxel {tuple(seed)} is not in object {label}: give voxels of the object to split")
    if len(set(inside)) < 2:
        raise InputError(f"splitting object {label} takes two different voxels of it or more")
    sides = _sides(segmentation)
    shift = [before for before, _ in sides]
    pieces, _ = cut_at(np.pad(mask, sides), segmentation.grid.spacing, np.array(inside) + np.array(shift))
    cropped = _without(pieces, sides, mask.shape)
    # A part of the object that no seed lies in stays with the first piece.
    return np.where(mask & (cropped == 0), 1, cropped).astype(np.int32)


def _at_necks(mask: npt.NDArray[np.bool_], segmentation: Segmentation, label: int) -> npt.NDArray[np.int32]:
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count > 1:
        return np.asarray(parts, np.int32)
    sides = _sides(segmentation)
    for neck in _NECKS:
        pieces, count = cut(np.pad(mask, sides), segmentation.grid.spacing, neck=neck)
        if count > 1:
            return _without(pieces, sides, mask.shape)
    raise InputError(f"object {label} has no narrow place: say where to split it by a voxel on each side")


def _sides(segmentation: Segmentation) -> list[tuple[int, int]]:
    """Voxels that are put around an object, so that its box has an outside; none along an axis of one voxel.

    There, every voxel would be as far from a border as from the next slice.
    """
    return [(0, 0) if n == 1 else (1, 1) for n in segmentation.grid.shape]


def _without(
    pieces: npt.NDArray[np.int32], sides: Sequence[tuple[int, int]], shape: Sequence[int]
) -> npt.NDArray[np.int32]:
    """What lies inside of the voxels that were put around."""
    z, y, x = (slice(before, before + n) for (before, _), n in zip(sides, shape, strict=True))
    return pieces[z, y, x]


def _copied(segmentation: Segmentation, ids: Sequence[int]) -> Labels:
    """The labels, loaded; InputError for an id that is not among them."""
    require_segmentation(segmentation, "the segmentation")
    data = np.array(segmentation.data[:, :, :])
    there = set(np.unique(data).tolist()) - {0}
    missing = [label for label in ids if label not in there]
    if missing:
        raise InputError(f"{segmentation.name or 'the segmentation'} has no object {missing[0]}")
    return data
