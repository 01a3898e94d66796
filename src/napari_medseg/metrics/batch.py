"""Folders of predictions against folders of references, case by case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_medseg import io
from napari_medseg.config import MetricsConfig
from napari_medseg.events import Event, Finished, Progress
from napari_medseg.io.folders import pairs
from napari_medseg.metrics.comparison import evaluate
from napari_medseg.metrics.report import combine


def iter_evaluate_folders(*, prediction: Path, reference: Path, config: MetricsConfig | None = None) -> Iterator[Event]:
    """Compare the images of two folders that have the same name; the last event holds the combined Scores.

    What is in one folder only is left out, with one warning that names it. Raises InputError where no name is in both,
    FileError for what cannot be read, GridMismatchError for a pair on unequal grids.
    """
    by = config or MetricsConfig()
    matched = pairs(prediction, reference)
    cases = []
    for done, (name, of_prediction, of_reference) in enumerate(matched):
        yield Progress(done, len(matched), f"cases, now {name}")
        scores = evaluate(
            prediction=io.read_segmentation(of_prediction),
            reference=io.read_segmentation(of_reference),
            preset=by.preset,
            nsd_tolerance_mm=by.nsd_tolerance_mm,
        )
        cases.append((name, scores))
    yield Finished(combine(cases))
