"""Validation on whole volumes, on their own grids, with the engine that users run."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np

from napari_medseg.config import SegmentConfig, TrainConfig
from napari_medseg.events import Event, Progress
from napari_medseg.inference.device import Machine
from napari_medseg.inference.engine import label_dtype, segment_windows
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import Predictor
from napari_medseg.metrics.pairwise.counts import dice_per_label
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.cases import IGNORE, Case, class_indices
from napari_medseg.volume import Segmentation


def validate(
    cases: Sequence[Case], spec: ModelSpec, predictor: Predictor, config: TrainConfig
) -> Generator[Event, None, dict[int, float]]:
    """Yield a Progress per case; return the mean Dice per label id over the cases.

    Voxels that nobody annotated count neither way. A label absent from case and prediction scores 1 there.
    """
    scores: dict[int, list[float]] = {label: [] for label in spec.labels}
    was_training = predictor.network.training
    predictor.network.eval()
    for done, case in enumerate(cases, start=1):
        for label, dice in _dice_of(case, spec, predictor, config).items():
            scores[label].append(dice)
        yield Progress(done, len(cases), "validation")
    predictor.network.train(was_training)
    return {label: float(np.mean(values)) for label, values in scores.items()}


def _dice_of(case: Case, spec: ModelSpec, predictor: Predictor, config: TrainConfig) -> dict[int, float]:
    volume, reference = case.load()
    prediction = Segmentation(np.zeros(volume.grid.shape, label_dtype(spec.label_ids)), volume.grid, spec.labels)
    wishes = SegmentConfig(precision=predictor.precision)
    plan = resolve(ImageFacts.of(volume), spec, wishes, Machine(str(predictor.device)))
    for _ in segment_windows(volume, plan, predictor, prediction):
        pass
    ignored = class_indices(reference, spec, config) == IGNORE
    return dice_per_label(
        np.asarray(prediction.data[...]), np.asarray(reference.data[...]), tuple(spec.labels), ignore=ignored
    )


def mean_of(dice: dict[int, float]) -> float:
    """The mean over the labels; NaN where nothing was validated."""
    return float(np.mean(list(dice.values()))) if dice else math.nan
