"""`evaluate`: a row of metrics per label, their means, and the tables and files made of them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg.config import MetricsConfig, Preset
from napari_medseg.errors import InputError
from napari_medseg.geometry import AxisOrder
from napari_medseg.io import files
from napari_medseg.metrics.blocks import Box, Reordered, mask_of
from napari_medseg.metrics.counts import Overlap, tally
from napari_medseg.metrics.presets import RULES, Rules
from napari_medseg.metrics.surface import SurfaceDistances, surface_distances, with_margin
from napari_medseg.volume import LazyArray, Segmentation, require_same_grid

if TYPE_CHECKING:
    import pandas as pd

#: the columns that have a mean
METRICS = ("dice", "iou", "voe", "rvd", "asd_mm", "msd_mm", "hd95_mm", "nsd")

Value = str | int | float


@dataclass(frozen=True, kw_only=True)
class Row:
    """The metrics of one label; the fields are the columns of the table, in its order."""

    case: str = ""
    """Which case of several; empty where there is only one, and then no column."""
    label: int
    name: str
    voxels_reference: int
    voxels_prediction: int
    dice: float
    iou: float
    voe: float
    rvd: float
    asd_mm: float
    msd_mm: float
    hd95_mm: float
    nsd: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How a prediction compares with its reference, or several with theirs (`combine`)."""

    rows: tuple[Row, ...]
    """Ids > 0 present in either, ascending; per case where there are several."""
    voxels: int
    agreeing: int
    """Voxels, background included, that hold the same id in both."""
    config: MetricsConfig
    cases: tuple[str, ...] = ()
    """The names of the cases that were combined; empty for a single comparison."""

    @property
    def pa(self) -> float:
        """Pixel accuracy: the fraction of voxels, background included, with the right id; over all cases together."""
        return self.agreeing / self.voxels

    @property
    def mean(self) -> dict[str, float]:
        """{metric: its mean over the rows where it is finite}; NaN where it is finite in none."""
        return {metric: _finite_mean(getattr(row, metric) for row in self.rows) for metric in METRICS}

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; `case` is the first where there are several cases."""
        names = tuple(f.name for f in fields(Row))
        return names if self.cases else names[1:]

    def of_label(self, label: int) -> Scores:
        """The rows of one label only: its mean over the cases is ``scores.of_label(2).mean``."""
        return replace(self, rows=tuple(row for row in self.rows if row.label == label))

    def table(self) -> list[dict[str, Value]]:
        """The rows as {column: value}."""
        return [{column: getattr(row, column) for column in self.columns} for row in self.rows]

    def to_frame(self) -> pd.DataFrame:
        """The rows as a pandas table; means are in `mean`, never a row."""
        import pandas as pd

        return pd.DataFrame(self.table(), columns=list(self.columns))

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the rows; values that are not finite are "inf" and "nan". Replaces the file atomically.

        Raises FileError where the file cannot be written.
        """
        target = Path(path)
        with (
            files.replacing(target) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.table())

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write definitions, pixel accuracy, means and rows. Replaces the file atomically.

        JSON has no infinity and no NaN: those values are the strings "inf" and "nan", which ``float()`` reads.
        Raises FileError where the file cannot be written.
        """
        content = {
            "preset": self.config.preset,
            "nsd_tolerance_mm": self.config.nsd_tolerance_mm,
            "hd95": "larger of the two directed 95th percentiles",
            "pa": self.pa,
            "mean": _for_json(self.mean),
            "rows": [_for_json(row) for row in self.table()],
        }
        target = Path(path)
        with files.replacing(target) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def evaluate(
    *,
    prediction: Segmentation,
    reference: Segmentation,
    preset: Preset = "survey",
    nsd_tolerance_mm: float = 1.0,
) -> Scores:
    """Compare a segmentation with its reference: a row per label id > 0 that is present in either.

    Both lie on the same grid; grids that are equal up to flips and permutations of the axes are matched without loss.
    Distances are in mm, by the reference's spacing. numpy, dask and zarr data are read block by block; what is in
    memory beside a block are a few masks of one label's bounding box.

    Raises GridMismatchError for unequal grids, InputError for a preset or tolerance that is none.
    """
    config = MetricsConfig(preset=preset, nsd_tolerance_mm=nsd_tolerance_mm)
    chosen = RULES[preset]
    b, a = on_grid_of(reference, prediction), reference.data
    counted = tally(b, a)
    rows = []
    for label, overlap in counted.labels.items():
        distances = _distances(b, a, label, counted.boxes[label], reference, chosen)
        name = _name(label, prediction, reference)
        rows.append(score(overlap, distances, chosen, label=label, name=name, nsd_tolerance_mm=nsd_tolerance_mm))
    return Scores(rows=tuple(rows), voxels=counted.voxels, agreeing=counted.agreeing, config=config)


def score(
    overlap: Overlap, distances: SurfaceDistances, by: Rules, *, label: int, name: str, nsd_tolerance_mm: float
) -> Row:
    """A label's row from what was counted and measured, by the rules `by` of a preset."""
    penalty = by.penalty if overlap.any_empty else None
    dice, iou = (overlap.dice, overlap.iou) if penalty is None else (0.0, 0.0)
    measured = (by.rvd(overlap), distances.asd, distances.msd, distances.hd95)
    rvd, asd, msd, hd95 = measured if penalty is None else (penalty,) * 4
    return Row(
        label=label,
        name=name,
        voxels_reference=overlap.reference,
        voxels_prediction=overlap.prediction,
        dice=dice,
        iou=iou,
        voe=1 - iou,
        rvd=rvd,
        asd_mm=asd,
        msd_mm=msd,
        hd95_mm=hd95,
        nsd=distances.nsd(nsd_tolerance_mm),
    )


def combine(cases: Sequence[tuple[str, Scores]]) -> Scores:
    """The scores of several cases as one: every row with its case's name before it, in the order given.

    Raises InputError where there is no case, or cases follow different definitions.
    """
    configs = {scores.config for _, scores in cases}
    if len(configs) != 1:
        raise InputError(f"combined scores need one case or more, of one preset and one NSD tolerance; got {configs}")
    return Scores(
        rows=tuple(replace(row, case=case) for case, scores in cases for row in scores.rows),
        voxels=sum(scores.voxels for _, scores in cases),
        agreeing=sum(scores.agreeing for _, scores in cases),
        config=configs.pop(),
        cases=tuple(case for case, _ in cases),
    )


def on_grid_of(reference: Segmentation, prediction: Segmentation) -> LazyArray:
    """The prediction's data in the reading order of the reference; GridMismatchError where no reordering fits."""
    order = AxisOrder.between(prediction.grid.orientation, reference.grid.orientation)
    if not order.is_identity and prediction.grid.reordered(order).same_as(reference.grid):
        return Reordered(prediction.data, order)
    require_same_grid(prediction, reference, "the prediction", "the reference")
    return prediction.data


def _distances(
    prediction: LazyArray, reference: LazyArray, label: int, box: Box, on: Segmentation, by: Rules
) -> SurfaceDistances:
    grown = with_margin(box, on.grid.shape)
    return surface_distances(
        mask_of(reference, label, grown),
        mask_of(prediction, label, grown),
        on.grid.spacing,
        neighbours=by.neighbours,
        beyond_edge=by.beyond_edge,
    )


def _name(label: int, prediction: Segmentation, reference: Segmentation) -> str:
    """The name that the reference gives a label, else the prediction's, else "label 7"."""
    return reference.labels.get(label) or prediction.label_name(label)


def _finite_mean(values: Iterable[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.mean(finite)) if finite else math.nan


def _for_json(row: dict[str, Value] | dict[str, float]) -> dict[str, Value]:
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
