"""The 48 orientations that an array can have, and grids in them, for round trips."""

from __future__ import annotations

import itertools

import numpy as np

from grids import rotation
from napari_medseg.volume import Grid

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
