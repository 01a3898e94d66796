"""The boxes that hold the labels of an array, and work on each label inside its box.

A pass over the whole array for each label would cost labels x voxels; the boxes of most labels are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import BLOCK_VOXELS, Box, block_shape, blocks, chunks_of, placed, shape_of, union, whole
from napari_medseg.errors import InputError
from napari_medseg.events import Progress, Work, run_to_end
from napari_medseg.volume import MAX_LABEL, LazyArray

Labels = npt.NDArray[np.integer[Any]]

_DIRECT = 1 << 12
"""Ids below it index tables directly; larger ones are numbered first, so that tables stay small."""


def label_boxes(labels: LazyArray, who: str = "the labels") -> dict[int, Box]:
    """{id: the smallest box that holds it} of the ids > 0 of an integer array (Z, Y, X): numpy, dask or zarr.

    Each voxel is read once. who: the array, for messages. Raises InputError for an id outside 0 .. 2^31 - 1.
    """
    return run_to_end(finding_boxes(labels, who=who))


def finding_boxes(
    labels: LazyArray, block_voxels: int = BLOCK_VOXELS, step: str = "", *, who: str = "the labels"
) -> Work[dict[int, Box]]:
    """`label_boxes`, in blocks of whole chunks and at most `block_voxels` voxels (but at least one chunk).

    step: it is done for, in the Progress.
    """
    found: dict[int, Box] = {}
    shape = shape_of(labels)
    walk = list(blocks(whole(shape), block_shape(shape, chunks_of(labels), block_voxels)))
    for done, part in enumerate(walk, start=1):
        for label, box in boxes_of(checked(labels[part], who), part).items():
            found[label] = union(found[label], box) if label in found else box
        yield Progress(done, len(walk), f"blocks read{step and f' to {step}'}")
    return found


def boxes_of(values: Labels, part: Box) -> dict[int, Box]:
    """{id: box} of the ids > 0 that occur in the block at `part`, in indices of the whole array; ids ascending.

    values: none negative.
    """
    from scipy.ndimage import find_objects

    ids, index = numbered(values)
    found = zip(ids[1:].tolist(), find_objects(index), strict=True)
    return {label: placed(box, part) for label, box in found if box is not None}


@dataclass(frozen=True, eq=False)
class LabelParts:
    """The connected parts of one label."""

    label: int
    box: Box
    """The smallest box that holds the label."""
    numbers: npt.NDArray[np.int32]
    """From 1 on inside the box, in reading order; 0 elsewhere."""
    count: int


def connected_parts(labels: Labels, structure: npt.ArrayLike) -> Iterator[LabelParts]:
    """The parts of each id > 0 of an array (Z, Y, X), ids ascending. structure: (3, 3, 3), 1 at neighbours."""
    from scipy import ndimage

    for label, box in boxes_of(np.maximum(labels, 0), whole(shape_of(labels))).items():
        yield LabelParts(label, box, *ndimage.label(labels[box] == label, structure))


def checked(block: Any, who: str) -> Labels:
    """The block in the smallest unsigned type that holds its ids; InputError where one lies outside 0 .. 2^31 - 1."""
    values: Labels = np.asarray(block)
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if not 0 <= low <= high <= MAX_LABEL:
        raise InputError(f"{who} needs label ids from 0 to {MAX_LABEL}; got {low} to {high}")
    return values.astype(np.min_scalar_type(high), copy=False)


def numbered(*values: Labels) -> list[npt.NDArray[Any]]:
    """[ids, an index for each array] with ids[index] == values: tables stay small where ids have gaps."""
    top = max(int(v.max(initial=0)) for v in values)
    if top < _DIRECT:
        return [np.arange(top + 1), *values]
    ids = np.unique(np.concatenate([np.zeros(1, np.intp), *(np.unique(v) for v in values)]))
    return [ids, *(np.searchsorted(ids, v) for v in values)]
