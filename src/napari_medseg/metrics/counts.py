"""Counts of voxels per label, and the overlap metrics that follow from them.

A is the reference and B the prediction, as in the definitions of the metrics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.errors import InputError
from napari_medseg.metrics.blocks import BLOCK_VOXELS, Box, block_shape, blocks, common_chunks, shape_of, union, whole
from napari_medseg.volume import MAX_LABEL, LazyArray

Labels = npt.NDArray[np.integer[Any]]

#: ids below it are tables' indices as they are; larger ones are first numbered through
_DIRECT = 1 << 12


@dataclass(frozen=True)
class Overlap:
    """The voxels of one label: in the reference (A), in the prediction (B), in both. Empty with empty agrees."""

    reference: int
    prediction: int
    both: int

    @property
    def any_empty(self) -> bool:
        return self.reference == 0 or self.prediction == 0

    @property
    def union(self) -> int:
        return self.reference + self.prediction - self.both

    @property
    def dice(self) -> float:
        """2 |A n B| / (|A| + |B|); 1 where both are empty (Dice, Ecology 1945)."""
        size = self.reference + self.prediction
        return 2 * self.both / size if size else 1.0

    @property
    def iou(self) -> float:
        """|A n B| / |A u B|, Jaccard's index; 1 where both are empty."""
        return self.both / self.union if self.union else 1.0

    @property
    def relative_volume_difference(self) -> float:
        """(|B| - |A|) / |A|: above 0 is over-segmentation; 0 where both are empty, NaN where only the reference is."""
        if self.reference:
            return (self.prediction - self.reference) / self.reference
        return float("nan") if self.prediction else 0.0


@dataclass(frozen=True)
class Tally:
    """What one pass over prediction and reference finds; ids > 0 present in either, ascending."""

    labels: Mapping[int, Overlap]
    boxes: Mapping[int, Box]
    """Per label the smallest box that holds it in both arrays."""
    voxels: int
    agreeing: int
    """Voxels, background included, that hold the same id in both."""


def tally(prediction: LazyArray, reference: LazyArray, *, block_voxels: int = BLOCK_VOXELS) -> Tally:
    """Count every label of two integer arrays (Z, Y, X) of the same shape: numpy, dask or zarr.

    Both are read in blocks of whole chunks and at most `block_voxels` voxels (but at least one chunk), so that memory
    stays bounded. Ids may have gaps, up to 2^31 - 1. Raises InputError for an id outside that range.
    """
    sizes: tuple[Counter[int], Counter[int], Counter[int]] = (Counter(), Counter(), Counter())
    boxes: dict[int, Box] = {}
    shape = shape_of(reference)
    for part in blocks(whole(shape), block_shape(shape, common_chunks(prediction, reference), block_voxels)):
        a, b = _labels(reference[part], "the reference"), _labels(prediction[part], "the prediction")
        for counter, values in zip(sizes, (a, b, a[a == b]), strict=True):
            counter.update(_histogram(values))
        for values in (a, b):
            for label, box in _boxes(values, part).items():
                boxes[label] = union(boxes[label], box) if label in boxes else box
    in_reference, in_prediction, in_both = sizes
    found = sorted((in_reference.keys() | in_prediction.keys()) - {0})
    overlaps = {k: Overlap(in_reference[k], in_prediction[k], in_both[k]) for k in found}
    return Tally(overlaps, boxes, voxels=math.prod(shape), agreeing=in_both.total())


def dice_per_label(
    prediction: Labels, reference: Labels, labels: Iterable[int], *, ignore: npt.NDArray[np.bool_] | None = None
) -> dict[int, float]:
    """Dice of each label of two integer arrays of the same shape, whatever that is; both empty is 1.

    ignore: True where a voxel counts neither way (not annotated), of the same shape.
    """
    a, b = _labels(reference, "the reference"), _labels(prediction, "the prediction")
    if ignore is not None:
        a, b = a[~ignore], b[~ignore]
    in_reference, in_prediction, in_both = (Counter(_histogram(v)) for v in (a, b, a[a == b]))
    return {k: Overlap(in_reference[k], in_prediction[k], in_both[k]).dice for k in labels}


def _labels(block: Any, who: str) -> Labels:
    """The block as an array that numpy's counting takes; InputError where an id is none."""
    values: Labels = np.asarray(block)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= MAX_LABEL:
        raise InputError(f"{who} needs label ids from 0 to {MAX_LABEL}; got {values.min()} to {values.max()}")
    # bincount and find_objects take no bool and no unsigned 64-bit.
    return values.astype(np.int32) if values.dtype.kind == "b" or values.dtype.itemsize == 8 else values


def _numbered(values: Labels) -> tuple[Labels, Labels]:
    """(ids, index) with ids[index] == values and ids[0] == 0: what lets tables stay small although ids have gaps."""
    top = int(values.max(initial=0))
    if top < _DIRECT:
        return np.arange(top + 1), values
    ids = np.union1d([0], np.unique(values))
    return ids, np.searchsorted(ids, values)


def _histogram(values: Labels) -> dict[int, int]:
    """{id: voxels} of the ids that occur."""
    ids, index = _numbered(values)
    counts = np.bincount(index.ravel())
    present = np.flatnonzero(counts)
    return dict(zip(ids[present].tolist(), counts[present].tolist(), strict=True))


def _boxes(values: Labels, part: Box) -> dict[int, Box]:
    """{id: box} of the ids > 0 that occur in the block at `part`, in indices of the whole array."""
    ids, index = _numbered(values)
    found = zip(ids[1:].tolist(), ndimage.find_objects(index), strict=True)
    return {label: _shifted(box, part) for label, box in found if box is not None}


def _shifted(box: Box, part: Box) -> Box:
    z, y, x = (slice(b.start + p.start, b.stop + p.start) for b, p in zip(box, part, strict=True))
    return z, y, x
