"""Some validation cases, segmented by the finished model: their scores, and slices of their worst places."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_medseg.cases import Case
from napari_medseg.config import SegmentConfig, TrainConfig
from napari_medseg.events import Progress, Started, Work
from napari_medseg.inference.engine import segmenting
from napari_medseg.metrics.pairwise.comparison import evaluate
from napari_medseg.metrics.pairwise.scores import Scores, combine
from napari_medseg.metrics.reports.slices import Picture, labels_by_worst_case, worst_slices
from napari_medseg.models.file import Model
from napari_medseg.training.cases import IGNORE, class_indices
from napari_medseg.volume import Segmentation, Volume

_MOST = 20
"""Cases that are segmented at most."""


@dataclass(frozen=True)
class Samples:
    """What the model does on validation cases."""

    scores: Scores
    pictures: tuple[Picture, ...]
    of: int
    """Validation cases in all."""


def sampling(
    cases: Sequence[Case], model: Model, config: TrainConfig, seconds: float, now: Callable[[], float] = time.monotonic
) -> Work[Samples | None]:
    """Segment validation cases for about so many seconds, at least one; None without any. The cases lie evenly.

    None for a refiner too, which does not segment.
    """
    if model.spec.refines is not None:
        return None
    count = min(len(cases), _MOST)
    chosen = [cases[int(k)] for k in np.linspace(0, len(cases) - 1, count).round()] if count else []
    began, found = now(), []
    for done, case in enumerate(chosen, start=1):
        volume, reference = case.load()
        segmented = yield from _quiet(segmenting(volume, model, SegmentConfig(device=config.device, instances="none")))
        ignored = class_indices(reference, model.spec, config.loss) == IGNORE
        named = replace(_known(reference, ignored), labels={**model.spec.labels, **reference.labels})
        prediction = _known(segmented, ignored)
        scores = evaluate(prediction=prediction, reference=named)
        found.append((case.name, volume, named, prediction, scores))
        yield Progress(done, count, "writing the report")
        if now() - began > seconds:
            break
    if not found:
        return None
    together = combine([(name, scores) for name, _, _, _, scores in found])
    worst = labels_by_worst_case(together)
    pictures = [
        replace(picture, case=name)
        for name, volume, reference, prediction, _ in found
        if name in worst
        for picture in worst_slices(prediction=prediction, reference=reference, image=_grey(volume), labels=worst[name])
    ]
    return Samples(together, tuple(pictures), len(cases))


def _known(labels: Segmentation, ignored: npt.NDArray[np.bool_]) -> Segmentation:
    """The labels where a person annotated the case."""
    return replace(labels, data=np.where(ignored, 0, np.asarray(labels.data[...])).astype(labels.data.dtype))


def _grey(volume: Volume) -> Volume:
    """The first channel: pictures are grey."""
    return Volume(volume.data[:1], volume.grid, volume.channels[:1], name=volume.name)


def _quiet(work: Work[Segmentation]) -> Work[Segmentation]:
    """The work without its plan, which is not that of the training."""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            result: Segmentation = end.value
            return result
        if not isinstance(event, Started):
            yield event
