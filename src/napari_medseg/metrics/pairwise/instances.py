"""Instances, such as lesions: pairs of an instance of the prediction and one of the reference, and their scores.

A is the reference and B the prediction. A pair counts where its IoU is above a threshold. Above 0.5 no instance can
have two partners (Kirillov et al., CVPR 2019, doi:10.1109/CVPR.2019.00963). Below it, the pairs are one-to-one: as many
pairs as possible, with the largest sum of IoU among such choices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from napari_medseg.arrays.boxes import Box, mask_of, union
from napari_medseg.config import Connectivity, InstancesConfig, configured
from napari_medseg.events import Progress, Work, run_to_end
from napari_medseg.geometry import FloatArray, Triple
from napari_medseg.metrics.pairwise.overlap import tally_in_steps
from napari_medseg.metrics.pairwise.scores import on_grid_of
from napari_medseg.metrics.pairwise.surface import Mask
from napari_medseg.volume import Grid, LazyArray, Segmentation

Index = npt.NDArray[np.integer]

ALL_IDS = (0, "all ids")
"""(label, name) of a row where every id is an object."""


@dataclass(frozen=True, kw_only=True)
class InstanceRow:
    """How well the instances of one label are found, at one threshold."""

    case: str = ""
    """Which case of several."""
    label: int
    """Id of the label; 0 where every id is an object."""
    name: str
    """Name of the label."""
    iou_above: float
    """Threshold: a pair of instances counts where its IoU is above it."""
    instances_reference: int
    """Instances in the reference."""
    instances_prediction: int
    """Instances in the prediction."""
    found: int
    """TP: instances of the reference that have a partner in the prediction."""
    missed: int
    """FN: instances of the reference without a partner."""
    extra: int
    """FP: instances of the prediction without a partner."""
    recall: float
    """TP / (TP + FN): the fraction of the reference's instances that are found."""
    precision: float
    """TP / (TP + FP): the fraction of the prediction's instances that are right."""
    f1: float
    """2 TP / (2 TP + FP + FN), the recognition quality RQ of panoptic quality."""
    sq: float
    """Segmentation quality: mean IoU of the pairs (Kirillov et al. 2019)."""
    pq: float
    """Panoptic quality, SQ x RQ: the sum of the pairs' IoU over TP + FP/2 + FN/2 (Kirillov et al. 2019)."""
    lesion_dice: float
    """Sum of the pairs' Dice over TP + FP + FN: missed and extra instances count 0 (as BraTS 2023, undilated)."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An instance of the reference and its partner in the prediction; a missed or an extra one stands alone."""

    case: str = ""
    """Which case of several."""
    label: int
    """Id of the label; 0 where every id is an object."""
    name: str
    """Name of the label."""
    state: str
    """found (both), missed (reference only) or extra (prediction only)."""
    reference_id: int
    """Number of the component, or id of the object, in the reference; 0 for none."""
    prediction_id: int
    """Number of the component, or id of the object, in the prediction; 0 for none."""
    s_mm: float
    """Centroid in the patient, towards S: of the reference's instance, of an extra one the prediction's."""
    p_mm: float
    """The same, towards P."""
    l_mm: float
    """The same, towards L."""
    reference_mm3: float
    """Volume in the reference."""
    prediction_mm3: float
    """Volume in the prediction."""
    iou: float
    """|A n B| / |A u B| of the pair; 0 where one stands alone."""
    dice: float
    """2 |A n B| / (|A| + |B|) of the pair; 0 where one stands alone."""


@dataclass(frozen=True, kw_only=True)
class Instances:
    """What `match_instances` finds: a row per label and threshold, and the pairs at the first threshold."""

    rows: tuple[InstanceRow, ...]
    pairs: tuple[Pair, ...]
    config: InstancesConfig


@dataclass(frozen=True)
class Instance:
    """One instance of a mask."""

    id: int
    mm3: float
    centroid_spl_mm: Triple


@dataclass(frozen=True, eq=False)
class Parts:
    """The instances of one mask (Z, Y, X). `index` is 0 outside, else 1 + the instance's place in the lists."""

    index: Index
    ids: npt.NDArray[np.int64]
    voxels: npt.NDArray[np.int64]
    centroids_spl_mm: FloatArray
    voxel_mm3: float

    def __len__(self) -> int:
        return len(self.ids)

    def instance(self, place: int) -> Instance:
        s, p, l = self.centroids_spl_mm[place].tolist()  # noqa: E741
        return Instance(int(self.ids[place]), float(self.voxels[place]) * self.voxel_mm3, (s, p, l))


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Every pair of instances that share a voxel: their places `a` and `b` in their Parts, and their metrics."""

    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    iou: FloatArray
    dice: FloatArray

    def chosen(self, at: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Overlaps:
        return Overlaps(self.a[at], self.b[at], self.iou[at], self.dice[at])


def match_instances(
    *, prediction: Segmentation, reference: Segmentation, config: InstancesConfig | None = None, **knobs: Any
) -> Instances:
    """Pair the instances of a prediction with those of its reference, for each label id > 0 present in either.

    Memory holds a few arrays of one label's bounding box; with ids as instances, of the box of all ids. Raises
    GridMismatchError unless both lie on the same grid, up to flips and permutations of the axes.
    """
    return run_to_end(match_instances_in_steps(prediction=prediction, reference=reference, config=config, **knobs))


def match_instances_in_steps(
    *, prediction: Segmentation, reference: Segmentation, config: InstancesConfig | None = None, **knobs: Any
) -> Work[Instances]:
    """`match_instances`, label by label."""
    chosen = configured(InstancesConfig, config, knobs)
    rows: list[InstanceRow] = []
    pairs: list[Pair] = []
    boxes = (yield from tally_in_steps(on_grid_of(reference, prediction), reference.data)).boxes
    for done, (label, name, a, b) in enumerate(_instances(prediction, reference, boxes, chosen), start=1):
        overlaps = overlaps_of(a, b)
        matches = [matched(overlaps, threshold) for threshold in chosen.iou]
        rows += [
            _row(
                label,
                name,
                threshold,
                (len(a), len(b), len(found.a)),
                (float(found.iou.sum()), float(found.dice.sum())),
            )
            for threshold, found in zip(chosen.iou, matches, strict=True)
        ]
        pairs += _pairs(label, name, a, b, matches[0])
        yield Progress(done, 1 if chosen.instances == "ids" else len(boxes), "labels matched")
    return Instances(rows=tuple(rows), pairs=tuple(pairs), config=chosen)


def pooled(rows: Sequence[InstanceRow]) -> tuple[InstanceRow, ...]:
    """The rows of several cases taken as one, per label and threshold. Panoptic quality of a set of images is this."""
    groups: dict[tuple[int, float], list[InstanceRow]] = {}
    for row in rows:
        groups.setdefault((row.label, row.iou_above), []).append(row)
    return tuple(_pooled(of) for _, of in sorted(groups.items(), key=itemgetter(0)))


def components(mask: Mask, connectivity: Connectivity = 26) -> tuple[npt.NDArray[np.int32], int]:
    """(numbers, count): the connected components of a mask (Z, Y, X), numbered from 1 in reading order; 0 outside."""
    order = {6: 1, 18: 2, 26: 3}[connectivity]
    numbers, count = scipy.ndimage.label(mask, scipy.ndimage.generate_binary_structure(3, order), output=np.int32)
    return numbers, int(count)


def parts_of(index: Index, ids: npt.NDArray[np.int64], box: Box, grid: Grid) -> Parts:
    """The instances numbered 1, 2, ... in `index`, the content of `box` of an array on `grid`."""
    places = np.nonzero(index)
    numbers = index[places] - 1
    voxels = np.bincount(numbers, minlength=len(ids))
    sums = [np.bincount(numbers, weights=p, minlength=len(ids)) for p in places]
    centroids = np.stack(sums, axis=-1) / voxels[:, None] + [b.start for b in box]
    return Parts(index, ids, voxels, grid.index_to_world(centroids), grid.voxel_volume_mm3)


def overlaps_of(a: Parts, b: Parts) -> Overlaps:
    """The pairs of instances of two masks of the same box that share a voxel."""
    both = (a.index > 0) & (b.index > 0)
    codes, shared = np.unique(
        (a.index[both].astype(np.int64) - 1) * max(1, len(b)) + b.index[both] - 1, return_counts=True
    )
    i, j = np.divmod(codes, max(1, len(b)))
    total = a.voxels[i] + b.voxels[j]
    return Overlaps(i, j, shared / (total - shared), 2 * shared / total)


def matched(overlaps: Overlaps, iou_above: float) -> Overlaps:
    """The pairs that count at a threshold. Each instance is in one pair at most."""
    found = overlaps.chosen(overlaps.iou > iou_above)
    if _unique(found.a) and _unique(found.b):
        return found
    best = np.zeros(len(found.a), dtype=bool)
    for group in _groups(found):
        best[group] = _best(found.chosen(group))
    return found.chosen(best)


def _groups(overlaps: Overlaps) -> list[npt.NDArray[np.int64]]:
    """The places of the pairs that compete with each other, directly or through others; each group is solved alone."""
    first = int(overlaps.a.max()) + 1
    instances = first + int(overlaps.b.max()) + 1
    edges = (np.ones(len(overlaps.a)), (overlaps.a, first + overlaps.b))
    graph = scipy.sparse.coo_array(edges, shape=(instances, instances))
    group = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][overlaps.a]
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _best(overlaps: Overlaps) -> npt.NDArray[np.bool_]:
    """Which pairs to keep: as many as can be one-to-one, with the largest sum of IoU among such choices."""
    rows, i = np.unique(overlaps.a, return_inverse=True)
    columns, j = np.unique(overlaps.b, return_inverse=True)
    weight = np.zeros((len(rows), len(columns)))
    weight[i, j] = 1 + overlaps.iou / len(overlaps.a)  # one more pair outweighs any gain in IoU
    best = np.zeros(weight.shape, dtype=bool)
    best[scipy.optimize.linear_sum_assignment(weight, maximize=True)] = True
    return best[i, j]


def _unique(values: npt.NDArray[np.int64]) -> bool:
    return len(np.unique(values)) == len(values)


def _instances(
    prediction: Segmentation, reference: Segmentation, boxes: Mapping[int, Box], config: InstancesConfig
) -> Iterator[tuple[int, str, Parts, Parts]]:
    """Yield (label, name, instances of the reference, of the prediction), label by label or all ids at once."""
    b, a = on_grid_of(reference, prediction), reference.data
    if config.instances == "ids":
        if boxes:
            box = functools.reduce(union, boxes.values())
            yield *ALL_IDS, _objects(a, box, reference.grid), _objects(b, box, reference.grid)
        return
    for label, box in sorted(boxes.items(), key=itemgetter(0)):
        name = reference.labels.get(label) or prediction.label_name(label)
        of_a, of_b = (_components_of(array, label, box, reference.grid, config.connectivity) for array in (a, b))
        yield label, name, of_a, of_b


def _components_of(array: LazyArray, label: int, box: Box, grid: Grid, connectivity: Connectivity) -> Parts:
    numbers, count = components(mask_of(array, label, box), connectivity)
    return parts_of(numbers, np.arange(1, count + 1), box, grid)


def _objects(array: LazyArray, box: Box, grid: Grid) -> Parts:
    """Every id > 0 as an instance."""
    ids, index = np.unique(np.asarray(array[box]), return_inverse=True)
    index = index.reshape([b.stop - b.start for b in box])
    if ids[0] != 0:  # no background in the box
        return parts_of(index + 1, ids.astype(np.int64), box, grid)
    return parts_of(index, ids[1:].astype(np.int64), box, grid)


def _row(
    label: int, name: str, iou_above: float, counts: tuple[int, int, int], sums: tuple[float, float]
) -> InstanceRow:
    """counts: instances in the reference, in the prediction, pairs. sums: of the pairs' IoU and Dice."""
    in_reference, in_prediction, found = counts
    missed, extra = in_reference - found, in_prediction - found
    iou, dice = sums
    return InstanceRow(
        label=label,
        name=name,
        iou_above=iou_above,
        instances_reference=in_reference,
        instances_prediction=in_prediction,
        found=found,
        missed=missed,
        extra=extra,
        recall=_ratio(found, in_reference),
        precision=_ratio(found, in_prediction),
        f1=_ratio(found, found + (missed + extra) / 2),
        sq=_ratio(iou, found),
        pq=_ratio(iou, found + (missed + extra) / 2),
        lesion_dice=_ratio(dice, found + missed + extra),
    )


def _pooled(rows: Sequence[InstanceRow]) -> InstanceRow:
    counts = [
        sum(c) for c in zip(*((r.instances_reference, r.instances_prediction, r.found) for r in rows), strict=True)
    ]
    iou = sum(row.sq * row.found for row in rows if row.found)
    dice = sum(row.lesion_dice * (row.found + row.missed + row.extra) for row in rows if row.found)
    first = rows[0]
    return _row(first.label, first.name, first.iou_above, (counts[0], counts[1], counts[2]), (iou, dice))


def _ratio(part: float, whole: float) -> float:
    """part / whole; NaN where there is nothing to divide by."""
    return part / whole if whole else math.nan


def _pairs(label: int, name: str, a: Parts, b: Parts, pairs: Overlaps) -> Iterator[Pair]:
    """Yield every instance once: those of the reference with their partners, then the extra ones."""
    columns = (pairs.a, pairs.b, pairs.iou, pairs.dice)
    partners = {i: (j, iou, dice) for i, j, iou, dice in zip(*(c.tolist() for c in columns), strict=True)}
    for i in range(len(a)):
        j, iou, dice = partners.get(i, (None, 0.0, 0.0))
        yield _pair(label, name, a.instance(i), None if j is None else b.instance(j), iou=iou, dice=dice)
    for j in sorted(set(range(len(b))) - set(pairs.b.tolist())):
        yield _pair(label, name, None, b.instance(j), iou=0.0, dice=0.0)


def _pair(label: int, name: str, a: Instance | None, b: Instance | None, *, iou: float, dice: float) -> Pair:
    centre = a or b
    assert centre is not None, "one of the two is there"
    s, p, l = centre.centroid_spl_mm  # noqa: E741
    return Pair(
        label=label,
        name=name,
        state="found" if a and b else "missed" if a else "extra",
        reference_id=a.id if a else 0,
        prediction_id=b.id if b else 0,
        s_mm=s,
        p_mm=p,
        l_mm=l,
        reference_mm3=a.mm3 if a else 0.0,
        prediction_mm3=b.mm3 if b else 0.0,
        iou=iou,
        dice=dice,
    )
