"""Labels that a network gives images without labels: the sure ones, in parts that are no specks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_medseg.arrays.boxes import Box
from napari_medseg.events import Progress, Work
from napari_medseg.inference.blend import Piece, RollingLogits
from napari_medseg.inference.plan import axis_maps, window_of
from napari_medseg.inference.predictor import Predictor
from napari_medseg.inference.stream import WindowsDone, blended
from napari_medseg.inference.windows import WindowGrid
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.cases import IGNORE, PreparedCase

_OVERLAP = 0.25
"""Of neighbouring windows."""
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


class _Whole:
    """A prepared image as the engine reads it."""

    def __init__(self, image: PreparedCase) -> None:
        self._image, self.guides = image.image, image.guides

    def read(self, box: Box) -> torch.Tensor:
        return torch.from_numpy(self._image[(slice(None), *box)])

    def expect(self, box: Box) -> None:
        """It is there already."""


def labels_of_image(
    image: PreparedCase, predictor: Predictor, spec: ModelSpec, confidence: float, told: Progress
) -> Work[npt.NDArray[np.int64]]:
    """Class indices (Z, Y, X) of a whole image, from overlapping windows; IGNORE as in `pseudo_labels`.

    Yields `told` after each window.
    """
    shape = image.classes.shape
    windows = WindowGrid(shape, window_of(spec), _OVERLAP, "even")
    blend = RollingLogits(spec.outputs, windows, axis_maps(shape, shape), predictor.device, averaged=True)
    halo = spec.patch_zyx[0] // 2 if spec.mode == "2.5d" else 0
    found = np.full(shape, IGNORE, np.int64)
    for event in blended(_Whole(image), windows, predictor, blend, batch_size=1, halo=halo):
        if isinstance(event, Piece):
            probability, classes = event.logits.softmax(0).max(0)
            found[event.box] = torch.where(probability >= confidence, classes, IGNORE).cpu().numpy()
        elif isinstance(event, WindowsDone):
            yield told
    return without_specks(found)


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
