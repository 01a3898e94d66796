"""How large each label of a segmentation is, how bright the image is inside it, and where its middle lies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import block_shape, blocks, chunks_of, mask_of, shape_of, whole
from napari_medseg.arrays.label_boxes import checked, label_boxes
from napari_medseg.errors import InputError
from napari_medseg.events import Progress, Work, run_to_end
from napari_medseg.geometry import Shape3
from napari_medseg.metrics.descriptive.intensity import channel_in
from napari_medseg.metrics.inputs import require_segmentation, require_volume
from napari_medseg.volume import Segmentation, Volume

_DIRECT = 1 << 16
"""Ids below it index the tables of a block directly; larger ones are numbered first."""


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """One label of a segmentation: its size, and the mean of one channel inside it."""

    label: int
    """Id of the label."""
    name: str
    """Name of the label."""
    voxels: int
    """Voxels of the label."""
    volume_ml: float
    """Voxels x the volume of a voxel, which is the determinant of the affine."""
    mean: float
    """Mean of the finite intensities inside the label, in the image's own unit; NaN without an image."""


def size_table(segmentation: Segmentation, image: Volume | None = None, *, channel: int = 0) -> tuple[SizeRow, ...]:
    """A row for each label id > 0 that occurs or has a name, ascending.

    numpy, dask and zarr data are read once, block by block. Raises GridMismatchError unless image and labels lie on
    the same grid, up to flips and permutations of the axes, InputError for bare arrays.
    """
    return run_to_end(size_table_in_steps(segmentation, image, channel=channel))


def size_table_in_steps(
    segmentation: Segmentation, image: Volume | None = None, *, channel: int = 0
) -> Work[tuple[SizeRow, ...]]:
    """`size_table`, block by block."""
    require_segmentation(segmentation, "the segmentation")
    if image is not None:
        require_volume(image, "the image")
    labels = segmentation.data
    shape = shape_of(labels)
    voxels: Counter[int] = Counter()
    sums: dict[int, float] = {}
    finite: Counter[int] = Counter()
    walk = list(blocks(whole(shape), block_shape(shape, chunks_of(labels))))
    for done, box in enumerate(walk, start=1):
        ids = checked(labels[box], "the segmentation").ravel()
        values = None if image is None else channel_in(image, channel, segmentation, box).ravel()
        for label, count, known, total in _counted(ids, values):
            voxels[label] += count
            finite[label] += known
            sums[label] = sums.get(label, 0.0) + total
        yield Progress(done, len(walk), "blocks read")
    voxel_ml = segmentation.grid.voxel_volume_mm3 / 1000
    return tuple(
        SizeRow(
            label=label,
            name=segmentation.label_name(label),
            voxels=voxels[label],
            volume_ml=voxels[label] * voxel_ml,
            mean=sums[label] / finite[label] if finite[label] else math.nan,
        )
        for label in sorted({*voxels, *segmentation.labels} - {0})
    )


def middle_voxel(segmentation: Segmentation, label: int) -> Shape3:
    """The voxel (z, y, x) of a label that is nearest to its centroid, in mm.

    Raises InputError where the segmentation does not hold the label.
    """
    boxes = label_boxes(segmentation.data, "the segmentation")
    if label not in boxes:
        raise InputError(f"{segmentation.name or 'the segmentation'} has no voxel of {segmentation.label_name(label)}")
    box = boxes[label]
    points = np.argwhere(mask_of(segmentation.data, label, box))
    off = (points - points.mean(axis=0)) @ segmentation.grid.affine[:3, :3].T
    z, y, x = points[np.einsum("ij,ij->i", off, off).argmin()] + [side.start for side in box]
    return int(z), int(y), int(x)


def _counted(ids: npt.NDArray[Any], values: npt.NDArray[Any] | None) -> Iterator[tuple[int, int, int, float]]:
    """(label, voxels, voxels with a finite value, sum of these values) of each id > 0."""
    held = np.flatnonzero(ids)
    if not len(held):
        return
    ids = ids[held]
    top = int(ids.max()) + 1
    names, numbers = np.unique(ids, return_inverse=True) if top > _DIRECT else (np.arange(top), ids)
    voxels = np.bincount(numbers, minlength=len(names))
    known: npt.NDArray[Any] = np.zeros_like(voxels)
    totals: npt.NDArray[Any] = np.zeros(len(names))
    if values is not None:
        here = values[held].astype(np.float64)
        good = np.isfinite(here)
        known = np.bincount(numbers[good], minlength=len(names))
        totals = np.bincount(numbers[good], weights=here[good], minlength=len(names))
    for i in np.flatnonzero(voxels):
        yield int(names[i]), int(voxels[i]), int(known[i]), float(totals[i])
