"""Where a segmentation is wrong, as labels."""

from __future__ import annotations

import numpy as np

from napari_medseg.arrays.boxes import block_shape, blocks, chunks_of, whole
from napari_medseg.events import Progress, Work, run_to_end
from napari_medseg.metrics.pairwise.scores import on_grid_of
from napari_medseg.volume import Segmentation

ERRORS = {1: "false positive", 2: "false negative", 3: "wrong label"}
"""{id in an error map: the kind of error}."""


def error_map(*, prediction: Segmentation, reference: Segmentation) -> Segmentation:
    """A uint8 Segmentation on the reference's grid: 0 where the two agree, else an id of `ERRORS`.

    1: a label where the reference has background. 2: background where the reference has a label. 3: the wrong label.
    Raises GridMismatchError for unequal grids (flips and permutations are matched).
    """
    return run_to_end(error_map_in_steps(prediction=prediction, reference=reference))


def error_map_in_steps(*, prediction: Segmentation, reference: Segmentation) -> Work[Segmentation]:
    """`error_map`, block by block."""
    b, a = on_grid_of(reference, prediction), reference.data
    errors = np.zeros(reference.grid.shape, np.uint8)
    walk = list(blocks(whole(reference.grid.shape), block_shape(reference.grid.shape, chunks_of(a))))
    for done, box in enumerate(walk, start=1):
        predicted, true = np.asarray(b[box]), np.asarray(a[box])
        errors[box] = (predicted != true) * np.where(true == 0, 1, np.where(predicted == 0, 2, 3))
        yield Progress(done, len(walk), "blocks compared")
    return Segmentation(errors, reference.grid, ERRORS, name="errors")
