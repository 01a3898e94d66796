"""Learning while you click: a classifier of voxels from prompts of several labels, for one volume.

It learns what each label looks like, wherever it lies: for many small or branched structures that look alike. Strokes
of a second say more to it than outlines. `PixelLearner` answers in a region after each prompt, and `iter_classify`
streams the whole volume.

The model is a multinomial logistic regression on the features of `features.py` and on random nonlinear combinations of
them (Rahimi and Recht, NeurIPS 2008). It is convex: the same prompts give the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from napari_medseg.arrays.boxes import Box, blocks, whole, within
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Progress, Started, Work, finishing
from napari_medseg.geometry import Shape3
from napari_medseg.interactive.kernels import Map
from napari_medseg.interactive.learning.features import OF_A_SCALE, features, usual_scales_mm
from napari_medseg.interactive.marks import marks_of
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.prompts import Prompt
from napari_medseg.volume import Segmentation, Volume, label_dtype

BACKGROUND = 0
"""The class of negative prompts: what is no label."""
_COMBINATIONS = 48
"""Random combinations of the features: what a straight border between the classes cannot say."""
_MOST_OF_A_CLASS = 4000
"""Voxels of a class that are learned from, evenly chosen: more cost seconds and change little."""
_RIDGE = 1e-3
"""The weight of the coefficients' squares beside the mean loss."""
_ITERATIONS = 200
"""Of the optimiser, at the most."""
_BLOCK = 128
"""Voxels along each side of what is classified at once."""
_AT_ONCE = 1 << 14
"""Voxels whose combinations are in memory at once."""
_SEED = 0
"""Of the combinations."""

Labels = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PixelClassifier:
    """What was learned of the voxels of a volume."""

    classes: tuple[int, ...]
    """Label ids, ascending; 0 is what is no label."""
    scales_mm: tuple[float, ...]
    middle: Floats
    """(F,) of the features in what was learned from."""
    spread: Floats
    """(F,)"""
    coefficients: Floats
    """(1 + F + combinations, classes), the constant first."""

    def probabilities(self, found: Map) -> Map:
        """(classes, Z, Y, X) of features (F, Z, Y, X)."""
        out = np.empty((len(self.classes), *found.shape[1:]), np.float32)
        columns = out.reshape(len(out), -1)
        for part, scores in self._scores(found):
            columns[:, part] = special.softmax(scores, axis=0)
        return out

    def labels(self, found: Map) -> Labels:
        """(Z, Y, X) the likeliest class of features (F, Z, Y, X)."""
        ids = np.array(self.classes, label_dtype(max(self.classes)))
        labels = np.empty(found.shape[1:], ids.dtype)
        for part, scores in self._scores(found):
            labels.reshape(-1)[part] = ids[scores.argmax(axis=0)]
        return labels

    def _scores(self, found: Map) -> Iterator[tuple[slice, Floats]]:
        """Some voxels after the others, and the scores (classes, n) of each class there."""
        columns = found.reshape(len(found), -1)
        for start in range(0, columns.shape[1], _AT_ONCE):
            part = slice(start, min(start + _AT_ONCE, columns.shape[1]))
            yield part, self.coefficients.T @ _combined(columns[:, part], self.middle, self.spread)


class PixelLearner:
    """Learns from prompts on a region of a volume, and answers there. The features are computed once.

    box: the region, by default the whole volume; its features take (1 + 5 scales) x 4 bytes a voxel and channel.
    scales_mm: the sigmas at which voxels are looked at.
    """

    def __init__(self, volume: Volume, box: Box | None = None, *, scales_mm: Sequence[float] | None = None) -> None:
        self.volume = volume
        self.box = whole(volume.grid.shape) if box is None else box
        self.scales_mm = _checked_scales(volume, scales_mm)
        self._features: Map | None = None

    def update(self, prompts: Sequence[Prompt]) -> tuple[PixelClassifier, Labels]:
        """(what the prompts in the region teach, the labels (Z, Y, X) of the region).

        A positive prompt shows its label, a negative one what is no label; a later prompt wins. Raises InputError
        unless at least two classes are shown in the region.
        """
        shown = shown_by(prompts, self.volume.grid.shape, self.box)
        classes = tuple(np.unique(shown[shown >= 0]).tolist())
        if len(classes) < 2:
            raise InputError(
                f"a classifier needs prompts of two classes at least, such as a label and what is not it "
                f"(positive=False); the region shows {list(classes) or 'none'}"
            )
        if self._features is None:
            self._features = features(self.volume, self.box, self.scales_mm)
        classifier = learned(self._features, shown, classes, self.scales_mm)
        return classifier, classifier.labels(self._features)


def shown_by(prompts: Sequence[Prompt], shape: Shape3, box: Box) -> npt.NDArray[np.int64]:
    """(Z, Y, X) of a box: the label that prompts show at each voxel, 0 for none of them, -1 where they say nothing."""
    shown = np.full([side.stop - side.start for side in box], -1, np.int64)
    for prompt in prompts:
        marks = marks_of(prompt, shape)
        for mask, label in ((marks.no, BACKGROUND), (marks.yes, prompt.label)):
            _show(shown, mask, label, box)
    return shown


def learned(
    found: Map, shown: npt.NDArray[np.int64], classes: tuple[int, ...], scales_mm: tuple[float, ...]
) -> PixelClassifier:
    """The classifier of features (F, Z, Y, X) and what is shown at their voxels; every class counts the same."""
    chosen = [_evenly(np.flatnonzero(shown == k)) for k in classes]
    columns = found.reshape(len(found), -1)[:, np.concatenate(chosen)].astype(np.float64)
    middle, spread = columns.mean(axis=1), columns.std(axis=1) + 1e-6
    inputs = _combined(columns, middle, spread).T
    target = np.repeat(np.arange(len(classes)), [len(c) for c in chosen])
    weights = np.repeat([1 / (len(classes) * len(c)) for c in chosen], [len(c) for c in chosen])
    answered = np.eye(len(classes))[target]

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        coefficients = flat.reshape(inputs.shape[1], -1)
        logs = special.log_softmax(inputs @ coefficients, axis=1)
        gradient = inputs.T @ ((np.exp(logs) - answered) * weights[:, None]) + 2 * _RIDGE * coefficients
        total = -float((logs * answered).sum(axis=1) @ weights) + _RIDGE * float((coefficients**2).sum())
        return total, gradient.ravel()

    start = np.zeros(inputs.shape[1] * len(classes))
    best = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    coefficients = best.x.reshape(inputs.shape[1], -1).astype(np.float32)
    return PixelClassifier(classes, scales_mm, middle.astype(np.float32), spread.astype(np.float32), coefficients)


def iter_classify(volume: Volume, classifier: PixelClassifier, *, out: str | Path | None = None) -> Iterator[Event]:
    """Classify every voxel of a volume, block by block, each read with the surroundings that its features look at.

    out: a ".zarr" path for the labels; without it they are an array in memory. Yields `Started` with the Segmentation
    being filled, a `Progress` per block, and `Finished` with it. `close()` cancels before the next block; what is done
    stays in the store, which remains marked as incomplete. Raises InputError for a volume with other channels.
    """
    yield from finishing(_classifying(volume, classifier, out))


def _classifying(volume: Volume, classifier: PixelClassifier, out: str | Path | None) -> Work[Segmentation]:
    expected = len(volume.channels) * (1 + OF_A_SCALE * len(classifier.scales_mm))
    if expected != len(classifier.middle):
        learned_from = len(classifier.middle) // (1 + OF_A_SCALE * len(classifier.scales_mm))
        raise InputError(
            f"{volume.name or 'the volume'} has {len(volume.channels)} channels where the classifier learned from "
            f"{learned_from}: give a volume with the same channels"
        )
    with _new_labels(volume, classifier, out) as result:
        parts = list(blocks(whole(volume.grid.shape), (_BLOCK, _BLOCK, _BLOCK)))
        yield Started(f"{len(parts)} blocks of {_BLOCK} voxels a side", result)
        for done, box in enumerate(parts, start=1):
            result.data[box] = classifier.labels(features(volume, box, classifier.scales_mm))  # type: ignore[index]
            yield Progress(done, len(parts), "blocks")
    return result


@contextmanager
def _new_labels(volume: Volume, classifier: PixelClassifier, out: str | Path | None) -> Iterator[Segmentation]:
    """The labels to be filled inside, in memory or in the store `out`."""
    dtype = label_dtype(max(classifier.classes))
    names = {k: f"label {k}" for k in classifier.classes if k != BACKGROUND}
    name = f"{volume.name} labels" if volume.name else "labels"
    if out is None:
        yield Segmentation(np.zeros(volume.grid.shape, dtype), volume.grid, names, name=name)
        return
    if Path(out).suffix.lower() != ".zarr":
        raise InputError(f"{out}: labels are streamed into a .zarr folder; for other formats write the result")
    from napari_medseg.io.zarr.format import filling_labels

    with filling_labels(out, volume.grid, names, dtype=dtype) as labels:
        yield Segmentation(labels, volume.grid, names, name=name)


def _combined(columns: npt.NDArray[Any], middle: npt.NDArray[Any], spread: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(1 + F + combinations, n) of features (F, n): one, the standardised features, and what they combine to."""
    count, dtype = len(columns), columns.dtype
    random = np.random.default_rng(_SEED)
    mixing = (random.normal(0, 1, (count, _COMBINATIONS)) / np.sqrt(count)).astype(dtype)
    offset = random.uniform(-1, 1, _COMBINATIONS).astype(dtype)
    out = np.empty((1 + count + _COMBINATIONS, columns.shape[1]), dtype)
    out[0] = 1
    kept, combined = out[1 : 1 + count], out[1 + count :]
    np.subtract(columns, middle[:, None], out=kept)
    np.divide(kept, spread[:, None], out=kept)
    np.clip(kept, -10, 10, out=kept)  # what lies far off is no more certain
    np.matmul(mixing.T, kept, out=combined)
    np.maximum(combined + offset[:, None], 0, out=combined)
    return out


def _show(shown: npt.NDArray[np.int64], mask: SparseMask, label: int, box: Box) -> None:
    """Write a label where a mask lies in the box."""
    z, y, x = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(mask.box, box, strict=True))
    if all(side.stop > side.start for side in (z, y, x)):
        shown[within((z, y, x), box)][mask.within((z, y, x))] = label


def _evenly(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    chosen: npt.NDArray[np.int64] = places[
        np.linspace(0, len(places) - 1, min(_MOST_OF_A_CLASS, len(places))).astype(np.int64)
    ]
    return chosen


def _checked_scales(volume: Volume, scales_mm: Sequence[float] | None) -> tuple[float, ...]:
    if scales_mm is None:
        return usual_scales_mm(volume.grid)
    if not scales_mm or not all(np.isfinite(scale) and scale > 0 for scale in scales_mm):
        raise InputError(f"scales_mm are sigmas in mm, one or more and above 0; got {list(scales_mm)}")
    return tuple(float(scale) for scale in scales_mm)
