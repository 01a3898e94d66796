"""Some validation cases, segmented by the finished model: their scores, and slices of their worst places."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_medseg.cases import Case
from napari_medseg.config import SegmentConfig, TrainConfig
from napari_medseg.events import Progress, Started, Work
from napari_medseg.inference.engine import segmenting
from napari_medseg.metrics.pairwise.comparison import Comparison
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
    """Segment and measure validation cases until `seconds` are over; None where they are too few for one case.

    The cases lie evenly. What is begun when the time is over is given up, after the window or label that it is at.
    """
    count = min(len(cases), _MOST)
    chosen = [cases[int(k)] for k in np.linspace(0, len(cases) - 1, count).round()] if count else []
    until, found = now() + seconds, list[_Found]()
    for done, case in enumerate(chosen, start=1):
        one = yield from _until(lambda: now() > until, _measured(case, model, config))
        if one is None:
            break
        found.append(one)
        yield Progress(done, count, "writing the report")
    if not found:
        return None
    together = combine([(one.name, one.scores) for one in found])
    worst = labels_by_worst_case(together)
    pictures = [
        replace(picture, case=one.name)
        for one in found
        if one.name in worst
        for picture in worst_slices(
            prediction=one.prediction, reference=one.reference, image=_grey(one.volume), labels=worst[one.name]
        )
    ]
    return Samples(together, tuple(pictures), len(cases))


@dataclass(frozen=True)
class _Found:
    """A case, and what the model makes of it."""

    name: str
    volume: Volume
    reference: Segmentation
    prediction: Segmentation
    scores: Scores


def _measured(case: Case, model: Model, config: TrainConfig) -> Work[_Found]:
    volume, reference = case.load()
    segmented = yield from segmenting(volume, model, SegmentConfig(device=config.device, instances="none"))
    ignored = class_indices(reference, model.spec, config.loss) == IGNORE
    named = replace(_known(reference, ignored), labels={**model.spec.labels, **reference.labels})
    prediction = _known(segmented, ignored)
    compared = yield from Comparison.in_steps(prediction=prediction, reference=named)
    return _Found(case.name, volume, named, prediction, compared.scores)


def _known(labels: Segmentation, ignored: npt.NDArray[np.bool_]) -> Segmentation:
    """The labels where a person annotated the case."""
    return replace(labels, data=np.where(ignored, 0, np.asarray(labels.data[...])).astype(labels.data.dtype))


def _grey(volume: Volume) -> Volume:
    """The first channel: pictures are grey."""
    return Volume(volume.data[:1], volume.grid, volume.channels[:1], name=volume.name)


def _until(is_over: Callable[[], bool], work: Work[_Found]) -> Work[_Found | None]:
    """The work without its plan, which is not that of the training; None where its time is over before its end."""
    with contextlib.closing(work):
        while True:
            try:
                event = next(work)
            except StopIteration as end:
                result: _Found = end.value
                return result
            if is_over():
                return None
            if not isinstance(event, Started):
                yield event
