"""Labels that a network gives images without labels: the sure ones, in parts that are no specks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_medseg.training.cases import IGNORE

_LEAST_PART = 0.1
"""Of the largest connected part of a label: smaller ones are doubtful."""


def pseudo_labels(logits: torch.Tensor, confidence: float) -> torch.Tensor:
    """(B, K, z, y, x) -> class indices (B, z, y, x).

    IGNORE where a probability is below `confidence`, and in parts of a label that are small beside its largest one.
    """
    probability, classes = logits.softmax(1).max(1)
    classes = torch.where(probability >= confidence, classes, IGNORE)
    kept = np.stack([without_specks(patch) for patch in classes.cpu().numpy()])
    return torch.from_numpy(kept).to(classes)


def without_specks(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Class indices (z, y, x), with IGNORE in the small parts of each label."""
    found = classes.copy()
    for label in np.unique(classes[classes > 0]):
        parts, count = ndimage.label(classes == label, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        small = sizes < _LEAST_PART * sizes[1:].max()
        small[0] = False
        found[small[parts]] = IGNORE
    return found
