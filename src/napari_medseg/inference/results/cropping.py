"""The box that the models of a set look at: around the labels of the model that looked first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, block_shape, blocks, chunks_of, first_of, shape_of, union, whole
from napari_medseg.arrays.views import Inside
from napari_medseg.geometry import Shape3
from napari_medseg.volume import Grid, Segmentation, Volume


def box_around(found: Segmentation, labels: Sequence[int], margin_mm: float) -> Box | None:
    """The box of these labels with a margin, inside the image; None where there are none. One block is in memory."""
    data = found.data
    box: Box | None = None
    for part in blocks(whole(shape_of(data)), block_shape(shape_of(data), chunks_of(data))):
        here = _box_of(np.isin(np.asarray(data[part]), labels), first_of(part))
        if here is not None:
            box = here if box is None else union(box, here)
    return None if box is None else _widened(box, found.grid, margin_mm)


def _box_of(mask: npt.NDArray[np.bool_], first: Shape3) -> Box | None:
    """The box of what is true, for an array whose first voxel is `first` of the image."""
    if not mask.any():
        return None
    found = []
    for axis in range(3):
        at = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        found.append(slice(first[axis] + int(at[0]), first[axis] + int(at[-1]) + 1))
    return found[0], found[1], found[2]


def _widened(box: Box, grid: Grid, margin_mm: float) -> Box:
    """The box with a margin in whole voxels, rounded down, inside the grid."""
    more = [int(margin_mm / spacing) for spacing in grid.spacing]
    z, y, x = (slice(max(0, b.start - m), min(n, b.stop + m)) for b, m, n in zip(box, more, grid.shape, strict=True))
    return z, y, x


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
