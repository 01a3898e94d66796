"""Validation on whole volumes, on their own grids, with the engine that users run."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Mapping, Sequence

import numpy as np

from napari_medseg.cases import Case
from napari_medseg.config import InferencePreset, LossConfig, SegmentConfig
from napari_medseg.doubt.trusting import MOST_VALUES, observing, trust_of
from napari_medseg.events import Event, Progress, run_to_end
from napari_medseg.inference.device import Machine
from napari_medseg.inference.engine import segment_windows
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import Predictor
from napari_medseg.metrics.pairwise.overlap import dice_per_label
from napari_medseg.models.spec import PRESETS, ModelSpec
from napari_medseg.models.trust import Trust
from napari_medseg.training.cases import IGNORE, class_indices
from napari_medseg.volume import Segmentation, Volume, label_dtype

_MOST_BELIEVING = 40
"""Cases by which the temperature is fitted, at most."""
Predict = Callable[[Volume], Segmentation]
"""Segments a volume on its own grid."""


def validate(
    cases: Sequence[Case],
    spec: ModelSpec,
    predict: Predict,
    loss: LossConfig,
    labels: Collection[int] | None = None,
    *,
    what: str = "validation",
) -> Generator[Event, None, dict[int, float]]:
    """Yield a Progress per case; return the mean Dice per label id over the cases.

    Voxels that nobody annotated count neither way. A label absent from case and prediction scores 1 there. labels:
    those that have a Dice, by default all of the spec. A training leaves out those that none of its cases holds, which
    a first model has brought: nothing can tell how good they are, and each would raise the mean by its 1. what: is
    done, for the Progress.
    """
    scores: dict[int, list[float]] = {label: [] for label in spec.labels if labels is None or label in labels}
    for done, case in enumerate(cases, start=1):
        volume, reference = case.load()
        prediction = predict(volume)
        ignored = class_indices(reference, spec, loss) == IGNORE
        found = dice_per_label(
            np.asarray(prediction.data[...]), np.asarray(reference.data[...]), tuple(scores), ignore=ignored
        )
        for label, dice in found.items():
            scores[label].append(dice)
        yield Progress(done, len(cases), what)
    return {label: float(np.mean(values)) for label, values in scores.items()}


def validate_presets(
    cases: Sequence[Case],
    spec: ModelSpec,
    predictor: Predictor,
    loss: LossConfig,
    exact: float,
    labels: Collection[int] | None = None,
) -> Generator[Event, None, dict[str, float]]:
    """The mean Dice with each preset of the inference; yields a Progress per case and preset.

    exact: what is known of the first one, with which a training validates. labels: see `validate`.
    """
    found: dict[str, float] = {"exact": exact}
    for preset in PRESETS[1:]:
        predict = predict_with(predictor, spec, preset)
        found[preset] = mean_of((yield from validate(cases, spec, predict, loss, labels, what=f"preset {preset}")))
    return found


def believing(
    cases: Sequence[Case], spec: ModelSpec, predictor: Predictor, loss: LossConfig
) -> Generator[Event, None, Trust]:
    """How far the network can be believed, by up to 40 of the cases, which lie evenly; yields a Progress per case."""
    count = min(len(cases), _MOST_BELIEVING)
    chosen = [cases[int(k)] for k in np.linspace(0, len(cases) - 1, count).round()] if count else []
    keep = MOST_VALUES // (len(spec.label_ids) * max(1, count))
    was_training = predictor.network.training
    predictor.network.eval()
    observed = []
    for done, case in enumerate(chosen, start=1):
        volume, reference = case.load()
        classes = class_indices(reference, spec, loss)
        observed.append(run_to_end(observing(volume, classes, spec, predictor, keep)))
        yield Progress(done, count, "calibration")
    predictor.network.train(was_training)
    return trust_of(observed)


def predict_with(predictor: Predictor, spec: ModelSpec, preset: InferencePreset = "exact") -> Predict:
    """What users get of this network: it is put in eval mode for each volume, and back afterwards."""

    def predict(volume: Volume) -> Segmentation:
        was_training = predictor.network.training
        predictor.network.eval()
        result = Segmentation(np.zeros(volume.grid.shape, label_dtype(max(spec.label_ids))), volume.grid, spec.labels)
        wishes = SegmentConfig(precision=predictor.precision, preset=preset)
        plan = resolve(ImageFacts.of(volume), spec, wishes, Machine(str(predictor.device)))
        for _ in segment_windows(volume, plan, predictor, result):
            pass
        predictor.network.train(was_training)
        return result

    return predict


def mean_of(dice: Mapping[int, float]) -> float:
    """The mean over the labels; NaN where nothing was validated."""
    return float(np.mean(list(dice.values()))) if dice else math.nan
