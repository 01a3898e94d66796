"""The box that the models of a set look at: around the labels of the model that looked first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from napari_medseg.arrays.boxes import Box, first_of, union, whole, with_margin
from napari_medseg.arrays.label_boxes import label_boxes
from napari_medseg.arrays.views import Inside
from napari_medseg.volume import Grid, Segmentation, Volume


def box_around(found: Segmentation, labels: Sequence[int], margin_mm: float) -> Box | None:
    """The box of these labels with a margin, inside the image; None where there are none. One block is in memory."""
    boxes = [box for label, box in label_boxes(found.data).items() if label in labels]
    more = [int(margin_mm / spacing) for spacing in found.grid.spacing]  # whole voxels, rounded down
    return with_margin(reduce(union, boxes), found.grid.shape, more) if boxes else None


def inside(volume: Volume, box: Box) -> Volume:
    """The part of a volume in a box, on its own grid. Nothing is copied, and nothing outside of the box is read."""
    if box == whole(volume.grid.shape):
        return volume
    wanted = (slice(0, len(volume.channels)), *box)
    data = volume.data[wanted] if isinstance(volume.data, np.ndarray) else Inside(volume.data, wanted)
    shift = np.eye(4)
    shift[:3, 3] = first_of(box)
    shape = tuple(side.stop - side.start for side in box)
    grid = Grid((shape[0], shape[1], shape[2]), volume.grid.affine @ shift, in_pixels=volume.grid.in_pixels)
    return replace(volume, data=data, grid=grid)
