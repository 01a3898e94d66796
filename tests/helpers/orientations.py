"""The 48 orientations that an array can have, and grids in them, for round trips."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from grids import rotation
from napari_medseg.geometry import AxisOrder
from napari_medseg.volume import Grid, Segmentation

ORIENTATIONS = [
    (axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
SHAPE = (5, 6, 7)


def grid_of(
    axes: tuple[int, ...],
    signs: tuple[int, ...],
    angles: tuple[float, float, float] = (0, 0, 0),
    shape: tuple[int, int, int] = SHAPE,
) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles) @ (np.eye(3)[:, list(axes)] * (np.array(signs) * (3.0, 0.7, 1.3)))
    affine[:3, 3] = (-40.5, 13.25, 71.0)
    return Grid(shape, affine)


def stored_otherwise(segmentation: Segmentation) -> Segmentation:
    """The same labels in the same place, stored with other axes and flips."""
    order = AxisOrder((2, 0, 1), (True, False, True))
    data = order.apply(np.asarray(segmentation.data[...]))
    return replace(segmentation, data=data, grid=segmentation.grid.reordered(order))
