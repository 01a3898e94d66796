"""Scores: a row of metrics per label, their means, and the tables and files made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg.arrays.views import Reordered
from napari_medseg.config import MetricsConfig
from napari_medseg.errors import InputError
from napari_medseg.io.disk import files
from napari_medseg.metrics.csv_file import write_csv
from napari_medseg.metrics.inputs import require_segmentation
from napari_medseg.metrics.pairwise.columns import COLUMNS, RULE_TEXTS, Column, columns_of
from napari_medseg.metrics.pairwise.overlap import Overlap
from napari_medseg.metrics.pairwise.presets import RULES, Rules
from napari_medseg.metrics.pairwise.surface import ONE_MISSING, SurfaceDistances
from napari_medseg.volume import LazyArray, Segmentation, is_named, require_order_onto, same_name

if TYPE_CHECKING:
    import pandas as pd

METRICS = tuple(name for name, column in COLUMNS.items() if column.unit not in ("", "voxels"))
"""The columns that have a mean."""

Value = str | int | float
_MOST_NAMED = 5
"""Label ids that a message names."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The metrics of one label. The fields are the columns of the table, in its order; `COLUMNS` explains them."""

    case: str = ""
    """Name of the case; empty, and no column, where there is only one."""
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
    sensitivity: float
    specificity: float
    precision: float
    masd_mm: float
    hd95_pooled_mm: float
    centroid_distance_mm: float
    volume_reference_ml: float
    volume_prediction_ml: float
    voxels_both: int


@dataclass(frozen=True)
class ImageSize:
    """The size of the image and of its voxels."""

    voxels: int
    voxel_ml: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How a prediction compares with its reference, or several with theirs (`combine`)."""

    rows: tuple[Row, ...]
    """Ids > 0 present in either, ascending; per case where there are several."""
    voxels: int
    agreeing: int
    """Voxels, background included, that hold the same id in both."""
    background: Overlap
    """The voxels of id 0, of all cases together."""
    config: MetricsConfig
    cases: tuple[str, ...] = ()
    """The names of the cases that were combined; empty for a single comparison."""

    @property
    def pa(self) -> float:
        """Pixel accuracy: the fraction of voxels, background included, with the right id, over all cases together."""
        return self.agreeing / self.voxels

    @property
    def miou(self) -> float:
        """Mean of the IoU over all classes that occur, background included, over all cases together.

        As in the FCN paper (Long et al., CVPR 2015). ``mean["iou"]`` is the mean over the labels alone, case by case.
        """
        classes = {0: self.background}
        for row in self.rows:
            one = Overlap(row.voxels_reference, row.voxels_prediction, row.voxels_both)
            classes[row.label] = classes.get(row.label, Overlap(0, 0, 0)) + one
        return _finite_mean(c.iou for c in classes.values() if c.union)

    @property
    def mean(self) -> dict[str, float]:
        """{metric: its mean over the rows where it is finite}; NaN where no row is finite."""
        return {metric: _finite_mean(getattr(row, metric) for row in self.rows) for metric in METRICS}

    @property
    def counted(self) -> dict[str, int]:
        """{metric: the rows that its mean is over}: fewer than all where a label was missed."""
        return {metric: sum(math.isfinite(getattr(row, metric)) for row in self.rows) for metric in METRICS}

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; `case` is the first where there are several cases."""
        names = tuple(f.name for f in fields(Row))
        return names if self.cases else names[1:]

    @property
    def definitions(self) -> dict[str, Column]:
        """{column: what it means}, as the preset defines it."""
        meanings = columns_of(self.config.preset)
        return {name: meanings[name] for name in self.columns}

    def of_label(self, label: int) -> Scores:
        """The rows of one label. The mean of label 2 over the cases is ``scores.of_label(2).mean``."""
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
        write_csv(Path(path), self.columns, self.table())

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write definitions, pixel accuracy, means and rows. Replaces the file atomically.

        JSON has no infinity and no NaN: those values are the strings "inf" and "nan", which ``float()`` reads.
        Raises FileError where the file cannot be written.
        """
        files.replace_bytes(Path(path), (json.dumps(self.document(), indent=2, allow_nan=False) + "\n").encode())

    def document(self) -> dict[str, object]:
        """What `to_json` writes."""
        return {
            "preset": self.config.preset,
            "nsd_tolerance_mm": self.config.nsd_tolerance_mm,
            "surfaces": RULE_TEXTS[self.config.preset],
            "definitions": {name: column.formula for name, column in self.definitions.items()},
            "pa": self.pa,
            "miou": self.miou,
            "mean": for_json(self.mean),
            "rows": [for_json(row) for row in self.table()],
        }


def score(
    overlap: Overlap,
    distances: SurfaceDistances,
    centroid_distance_mm: float,
    image: ImageSize,
    by: Rules,
    *,
    label: int,
    name: str,
    nsd_tolerance_mm: float,
) -> Row:
    """A label's row, from its counts and distances. by: the rules of a preset."""
    if overlap.union and overlap.any_empty:
        distances = ONE_MISSING  # whatever was measured: a mask that fills the image may have no surface
    penalty = by.penalty if overlap.any_empty else None
    dice, iou = (overlap.dice, overlap.iou) if penalty is None else (0.0, 0.0)

    def measured(value: float) -> float:
        return value if penalty is None else penalty

    return Row(
        label=label,
        name=name,
        voxels_reference=overlap.reference,
        voxels_prediction=overlap.prediction,
        dice=dice,
        iou=iou,
        voe=1 - iou,
        rvd=measured(by.rvd(overlap)),
        asd_mm=measured(distances.asd),
        msd_mm=measured(distances.msd),
        hd95_mm=measured(distances.hd95),
        nsd=distances.nsd(nsd_tolerance_mm),
        sensitivity=overlap.sensitivity,
        specificity=overlap.outside(image.voxels).sensitivity,
        precision=overlap.precision,
        masd_mm=measured(distances.masd),
        hd95_pooled_mm=measured(distances.hd95_pooled),
        centroid_distance_mm=measured(centroid_distance_mm),
        volume_reference_ml=overlap.reference * image.voxel_ml,
        volume_prediction_ml=overlap.prediction * image.voxel_ml,
        voxels_both=overlap.both,
    )


def absent(label: int, config: MetricsConfig) -> Row:
    """The row of two empty masks, by the preset's rules; tables leave out such labels."""
    nowhere = SurfaceDistances(np.zeros(0), np.zeros(0))
    return score(
        Overlap(0, 0, 0),
        nowhere,
        0.0,
        ImageSize(voxels=1, voxel_ml=0.0),
        RULES[config.preset],
        label=label,
        name=f"label {label}",
        nsd_tolerance_mm=config.nsd_tolerance_mm,
    )


def combine(cases: Sequence[tuple[str, Scores]]) -> Scores:
    """The scores of several cases as one: every row with its case's name before it, in the order given.

    Raises InputError where there is no case, a case has no name, or cases follow different definitions.
    """
    for case in cases:
        if not (isinstance(case, tuple) and len(case) == 2):
            raise InputError(
                f"combined scores need a name for each case: give (name, Scores); got {type(case).__name__}"
            )
    configs = {scores.config for _, scores in cases}
    if len(configs) != 1:
        raise InputError(f"combined scores need one case or more, of one preset and one NSD tolerance; got {configs}")
    return Scores(
        rows=tuple(replace(row, case=case) for case, scores in cases for row in scores.rows),
        voxels=sum(scores.voxels for _, scores in cases),
        background=sum((scores.background for _, scores in cases), Overlap(0, 0, 0)),
        agreeing=sum(scores.agreeing for _, scores in cases),
        config=configs.pop(),
        cases=tuple(case for case, _ in cases),
    )


def on_grid_of(reference: Segmentation, prediction: Segmentation) -> LazyArray:
    """The prediction's data in the reading order of the reference.

    Raises InputError unless both are Segmentations, GridMismatchError where no reordering fits.
    """
    require_segmentation(prediction, "the prediction")
    require_segmentation(reference, "the reference")
    order = require_order_onto(prediction, reference, "the prediction", "the reference")
    return prediction.data if order.is_identity else Reordered(prediction.data, order)


def disjoint_ids(scores: Scores) -> str:
    """One line where prediction and reference hold labels and have no id in common, as 1 and 255 of two programs; else
    empty."""
    in_reference = sorted({row.label for row in scores.rows if row.voxels_reference})
    in_prediction = sorted({row.label for row in scores.rows if row.voxels_prediction})
    if not in_reference or not in_prediction or set(in_reference) & set(in_prediction):
        return ""
    return (
        f"the prediction holds the label ids {_some(in_prediction)} and the reference {_some(in_reference)}, none in "
        f"common: to compare all that is labelled, whatever its id, give --foreground (foreground=True)"
    )


def contradicting_names(prediction: Segmentation, reference: Segmentation, scores: Scores) -> dict[int, str]:
    """{label id: a line} of the labels that were compared, by their ids, although the two call them differently."""
    found = {}
    for label in sorted({row.label for row in scores.rows}):
        a, b = prediction.label_name(label), reference.label_name(label)
        if is_named(label, a) and is_named(label, b) and not same_name(a, b):
            found[label] = f"label {label} is {a!r} in the prediction and {b!r} in the reference"
    return found


def _some(ids: list[int]) -> str:
    return "{" + ", ".join(map(str, ids[:_MOST_NAMED])) + (", ..." if len(ids) > _MOST_NAMED else "") + "}"


def _finite_mean(values: Iterable[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.mean(finite)) if finite else math.nan


def for_json(row: Mapping[str, Value] | Mapping[str, float]) -> dict[str, Value]:
    """A row for JSON, which has no infinity and no NaN: they become the texts "inf" and "nan"."""
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
