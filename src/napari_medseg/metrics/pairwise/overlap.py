"""Counts of voxels per label, and the overlap metrics that follow from them.

A is the reference and B the prediction, as in the definitions of the metrics. Voxels are not counted one by one: a row
along x is a few runs of equal ids, and all counts and centres are sums over runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import (
    BLOCK_VOXELS,
    Box,
    block_shape,
    blocks,
    common_chunks,
    shape_of,
    union,
    whole,
)
from napari_medseg.arrays.label_boxes import Labels, boxes_of, checked, numbered
from napari_medseg.events import Progress, Work, run_to_end
from napari_medseg.geometry import FloatArray, Shape3
from napari_medseg.volume import LazyArray


@dataclass(frozen=True)
class Overlap:
    """The voxels of one label: in the reference (A), in the prediction (B), in both. Empty with empty agrees."""

    reference: int
    prediction: int
    both: int

    def __add__(self, other: Overlap) -> Overlap:
        """The overlap of two cases together."""
        return Overlap(self.reference + other.reference, self.prediction + other.prediction, self.both + other.both)

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

    @property
    def sensitivity(self) -> float:
        """|A n B| / |A|; 1 where both are empty, NaN where only the reference is."""
        if self.reference:
            return self.both / self.reference
        return float("nan") if self.prediction else 1.0

    @property
    def precision(self) -> float:
        """|A n B| / |B|; 1 where both are empty, NaN where only the prediction is."""
        return self.swapped.sensitivity

    @property
    def swapped(self) -> Overlap:
        """The roles of reference and prediction exchanged."""
        return Overlap(self.prediction, self.reference, self.both)

    def outside(self, voxels: int) -> Overlap:
        """The overlap of all outside the label in an image of this many voxels. Its sensitivity is the specificity."""
        return Overlap(voxels - self.reference, voxels - self.prediction, voxels - self.union)


@dataclass(frozen=True)
class Counts:
    """Voxels and centres of every id > 0 in a region, prediction beside reference."""

    labels: Mapping[int, npt.NDArray[np.int64]]
    """{id: |A|, |B|, |A n B|, sums of the indices (z, y, x) over A, the same over B}, (9,)."""
    foreground: int
    """Voxels that hold an id > 0 in either."""

    def overlap(self, label: int) -> Overlap:
        """The overlap of a label that the region holds."""
        reference, prediction, both = self.labels[label][:3].tolist()
        return Overlap(reference, prediction, both)

    def shift(self, label: int) -> FloatArray:
        """From the centre of the label's voxels in A to that in B, in voxels (z, y, x); NaN where one has none."""
        row = self.labels[label]
        if not row[:2].all():
            return np.full(3, np.nan)
        return np.asarray(row[6:] / row[1] - row[3:6] / row[0])

    def background(self, voxels: int) -> Overlap:
        """The overlap of id 0 in an image of this many voxels."""
        in_reference, in_prediction = (sum(int(row[i]) for row in self.labels.values()) for i in (0, 1))
        return Overlap(voxels - in_reference, voxels - in_prediction, voxels - self.foreground)


@dataclass(frozen=True)
class Tally:
    """What one pass over prediction and reference finds: the ids > 0 in either, ascending."""

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
    return run_to_end(tally_in_steps(prediction, reference, block_voxels=block_voxels))


def tally_in_steps(prediction: LazyArray, reference: LazyArray, *, block_voxels: int = BLOCK_VOXELS) -> Work[Tally]:
    """`tally`, block by block."""
    parts: list[Counts] = []
    boxes: dict[int, Box] = {}
    shape = shape_of(reference)
    walk = list(blocks(whole(shape), block_shape(shape, common_chunks(prediction, reference), block_voxels)))
    for done, part in enumerate(walk, start=1):
        a, b = checked(reference[part], "the reference"), checked(prediction[part], "the prediction")
        parts.append(count(b, a))
        for values in (a, b):
            for label, box in boxes_of(values, part).items():
                boxes[label] = union(boxes[label], box) if label in boxes else box
        yield Progress(done, len(walk), "blocks read")
    counts, voxels = merged(parts), math.prod(shape)
    overlaps = {label: counts.overlap(label) for label in counts.labels}
    agreeing = counts.background(voxels).both + sum(o.both for o in overlaps.values())
    return Tally(overlaps, boxes, voxels, agreeing)


def count(prediction: Labels, reference: Labels, first_zyx: Shape3 = (0, 0, 0)) -> Counts:
    """Count every id > 0 of two arrays (Z, Y, X) of the same shape, whose first voxel has the index `first_zyx`."""
    a, b = reference.ravel(), prediction.ravel()
    starts, lengths = _runs(a, b, reference.shape[-1])
    in_a, in_b = a[starts], b[starts]
    ids, in_a, in_b = numbered(in_a, in_b)
    first = np.unravel_index(starts, reference.shape)
    z, y, x = (f + o for f, o in zip(first, first_zyx, strict=True))
    sums = (lengths, lengths * z, lengths * y, lengths * x + lengths * (lengths - 1) // 2)
    of_a, of_b = ([_summed(index, s, len(ids)) for s in sums] for index in (in_a, in_b))
    agree = in_a == in_b
    both = _summed(in_a[agree], lengths[agree], len(ids))
    table = np.stack([of_a[0], of_b[0], both, *of_a[1:], *of_b[1:]], axis=1)
    present = np.flatnonzero(table[:, :2].any(axis=1))
    present = present[ids[present] > 0]
    return Counts(dict(zip(ids[present].tolist(), table[present], strict=True)), int(lengths.sum()))


def merged(parts: Iterable[Counts]) -> Counts:
    """The counts of regions that do not overlap, as of one; ids ascending."""
    total: dict[int, npt.NDArray[np.int64]] = {}
    foreground = 0
    for part in parts:
        foreground += part.foreground
        for label, row in part.labels.items():
            total[label] = total[label] + row if label in total else row
    return Counts(dict(sorted(total.items())), foreground)


def dice_per_label(
    prediction: Labels, reference: Labels, labels: Iterable[int], *, ignore: npt.NDArray[np.bool_] | None = None
) -> dict[int, float]:
    """Dice of each label of two integer arrays of the same shape, with any number of axes; 1 where both are empty.

    ignore: of the same shape, True where a voxel does not count because it is not annotated.
    """
    a, b = checked(reference, "the reference"), checked(prediction, "the prediction")
    if ignore is not None:
        a, b = a[~ignore], b[~ignore]
    found = count(b.reshape(1, 1, -1), a.reshape(1, 1, -1))
    return {k: found.overlap(k).dice if k in found.labels else 1.0 for k in labels}


def _runs(a: Labels, b: Labels, row: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(first voxels, lengths) of the runs of equal pairs of ids in two flat arrays; none crosses a row's end.

    Runs of background in both are left out.
    """
    changes = np.ones(a.size, bool)
    np.not_equal(a[1:], a[:-1], out=changes[1:])
    changes[1:] |= b[1:] != b[:-1]
    changes[:: max(1, row)] = True
    starts = np.flatnonzero(changes)
    lengths = np.diff(starts, append=a.size)
    kept = (a[starts] > 0) | (b[starts] > 0)
    return starts[kept], lengths[kept]


def _summed(index: npt.NDArray[Any], values: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.int64]:
    # bincount sums in float64, which is exact below 2^53; sums over a block stay far below.
    return np.asarray(np.bincount(index, values, minlength=size).astype(np.int64))
