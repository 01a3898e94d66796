"""How the volumes of labels change from one time point to the next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from napari_medseg.arrays.boxes import block_shape, blocks, chunks_of, whole
from napari_medseg.metrics.inputs import require_named
from napari_medseg.volume import Segmentation


@dataclass(frozen=True, kw_only=True)
class SeriesRow:
    """The volume of one label at one time point."""

    label: int
    """Id of the label."""
    name: str
    """Name of the label."""
    step: int
    """Number of the time point, from 0."""
    point: str
    """Name of the time point."""
    volume_ml: float
    """Voxels x the volume of a voxel; 0 where the label does not occur."""
    change_ml: float
    """Difference from the time point before; NaN at the first."""
    change_percent: float
    """The same in percent of the volume before; NaN at the first, and where that is 0."""
    since_first_percent: float
    """Difference from the first time point in percent of it; NaN where that is 0."""


def volume_series(points: Mapping[str, Segmentation]) -> tuple[SeriesRow, ...]:
    """A row for each label id > 0 that occurs at any time, and each time point, in the order of `points`.

    points: {name of the time point: labels}; each may have a grid of its own. Data are read block by block. Raises
    InputError unless each is a Segmentation.
    """
    require_named(points, "time point")
    volumes = {point: _volumes_ml(segmentation) for point, segmentation in points.items()}
    names = {k: points[point].label_name(k) for point in reversed(list(points)) for k in volumes[point]}
    return series_rows(volumes, names)


def series_rows(volumes_ml: Mapping[str, Mapping[int, float]], names: Mapping[int, str]) -> tuple[SeriesRow, ...]:
    """The same from known volumes, {time point: {label: ml}}, for the labels in `names`."""
    return tuple(
        _row(label, names[label], step, point, [float(of.get(label, 0)) for of in volumes_ml.values()])
        for label in sorted(names)
        for step, point in enumerate(volumes_ml)
    )


def _row(label: int, name: str, step: int, point: str, volumes: list[float]) -> SeriesRow:
    now, before = volumes[step], volumes[step - 1] if step else math.nan
    return SeriesRow(
        label=label,
        name=name,
        step=step,
        point=point,
        volume_ml=now,
        change_ml=now - before,
        change_percent=_percent(now, before),
        since_first_percent=_percent(now, volumes[0]),
    )


def _percent(now: float, before: float) -> float:
    return 100 * (now - before) / before if before else math.nan


def _volumes_ml(segmentation: Segmentation) -> dict[int, float]:
    """{id > 0: ml} of the labels that occur."""
    voxels: Counter[int] = Counter()
    shape = segmentation.grid.shape
    for box in blocks(whole(shape), block_shape(shape, chunks_of(segmentation.data))):
        block = np.asarray(segmentation.data[box])
        ids, counts = np.unique(block[block > 0], return_counts=True)
        voxels.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
    return {label: count * segmentation.grid.voxel_volume_mm3 / 1000 for label, count in voxels.items()}
