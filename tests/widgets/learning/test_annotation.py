"""What the Train panel says of painted slices."""

from __future__ import annotations

import numpy as np

from napari_medseg.volume import Grid, Segmentation
from napari_medseg.widgets.learning.annotation import annotation_of


def test_slices_along_two_axes_are_painted_ones() -> None:
    """They counted as whole labels, so that a training took what lies between them for background."""
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[9, 4:15, 4:15] = labels[4:15, 8, 4:15] = 1
    grid = Grid.from_spacing(labels.shape, (1.0, 1.0, 1.0))
    found = annotation_of([Segmentation(labels, grid, {1: "block"})])
    assert found.texts == ["2 slices painted, along 2 axes: the others count as not annotated"]
    assert found.is_sparse
    labels[9, 4:15, 15:19] = 2
    assert annotation_of([Segmentation(labels, grid)]).texts == [""], "what cannot be known presets nothing"
