"""The consensus of several raters by STAPLE, as ITK computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_medseg.errors import NotSupportedError
from napari_medseg.geometry import FloatArray
from napari_medseg.metrics.agreement.raters import on_one_grid
from napari_medseg.metrics.inputs import require_named
from napari_medseg.metrics.pairwise.surface import Mask
from napari_medseg.volume import Segmentation


@dataclass(frozen=True, kw_only=True)
class RaterRow:
    """STAPLE's estimate of one rater on one label."""

    case: str = ""
    """Which case of several."""
    reader: str
    """The reader."""
    label: int
    """Id of the label."""
    name: str
    """Name of the label."""
    sensitivity: float
    """Estimated probability that the reader marks a voxel of the label (Warfield et al. 2004)."""
    specificity: float
    """Estimated probability that the reader leaves out a voxel that is not of the label; NaN where every voxel is."""


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """The labels on which the raters agree, weighted by the estimated quality of each."""

    segmentation: Segmentation
    """Each voxel has its most probable label, or background if no label is more probable than 1/2."""
    raters: tuple[RaterRow, ...]


def staple(raters: Mapping[str, Segmentation]) -> Consensus:
    """The consensus of several raters, label by label, on the grid of the first.

    raters: {name: labels}, two or more, of one image; memory holds them all. Warfield, Zou and Wells, IEEE Transactions
    on Medical Imaging 2004, doi:10.1109/TMI.2004.828354, by ITK's filter (SimpleITK). Raises NotSupportedError where
    SimpleITK is not installed, and as `agreement_of`.
    """
    require_named(raters, "reader")
    itk = _itk()
    stack = [np.asarray(array[:, :, :]) for array in on_one_grid(list(raters.values()))]
    first = next(iter(raters.values()))
    names = {k: name for rater in reversed(list(raters.values())) for k, name in rater.labels.items()}
    labels = np.zeros(first.grid.shape, np.int32)
    best = np.full(first.grid.shape, 0.5)
    rows: list[RaterRow] = []
    for label in sorted({int(k) for array in stack for k in np.unique(array)} - {0}):
        found = _estimate(itk, [array == label for array in stack])
        labels[found.probable > best] = label
        np.maximum(best, found.probable, out=best)
        rows += [
            RaterRow(reader=rater, label=label, name=names.get(label, f"label {label}"), sensitivity=p, specificity=q)
            for rater, p, q in zip(raters, found.sensitivity, found.specificity, strict=True)
        ]
    return Consensus(segmentation=Segmentation(labels, first.grid, names, name="STAPLE"), raters=tuple(rows))


@dataclass(frozen=True, eq=False)
class _Estimate:
    """STAPLE's estimate of one label."""

    probable: FloatArray
    """(Z, Y, X): the probability of the label."""
    sensitivity: Sequence[float]
    """For each rater, as in `RaterRow`; so is `specificity`."""
    specificity: Sequence[float]


def _estimate(itk: Any, masks: Sequence[Mask]) -> _Estimate:
    """The estimate of one label. masks: one of each rater; at least one is not empty."""
    if all(mask.all() for mask in masks):  # ITK divides by the voxels outside, and there are none
        return _Estimate(np.ones(masks[0].shape), [1.0] * len(masks), [math.nan] * len(masks))
    images = [itk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    estimator = itk.STAPLEImageFilter()
    estimator.SetForegroundValue(1)
    probable = itk.GetArrayFromImage(estimator.Execute(images))
    return _Estimate(probable, estimator.GetSensitivity(), estimator.GetSpecificity())


def _itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise NotSupportedError(
            "STAPLE needs SimpleITK, which is not installed: pip install 'napari-medseg[readers]', or take the "
            "majority vote"
        ) from error
    return SimpleITK
