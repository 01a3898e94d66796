"""Grids to test with: the 48 orientations, axis-aligned and oblique, drawn by hypothesis or listed."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from napari_medseg.geometry import AXIS_LETTERS, FloatArray, Shape3
from napari_medseg.volume import Grid

ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(AXIS_LETTERS) for letters in itertools.product(*axes)
]
_WORLD = {
    letter: (axis, 1 - 2 * negative) for axis, pair in enumerate(AXIS_LETTERS) for negative, letter in enumerate(pair)
}


def rotation(angles_rad: tuple[float, float, float]) -> FloatArray:
    """A (3, 3) rotation about the three world axes in turn."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles_rad):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = turn @ matrix
    return matrix


def grid(
    orientation: str,
    shape: Shape3 = (3, 4, 5),
    spacing: tuple[float, float, float] = (2.5, 0.7, 1.2),
    origin: tuple[float, float, float] = (-103.25, 57.5, 811.125),
    angles_rad: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Grid:
    """A grid whose array axes run to these letters, turned by angles that are small enough to keep them."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for array_axis, letter in enumerate(orientation):
        world_axis, sign = _WORLD[letter]
        affine[world_axis, array_axis] = sign * spacing[array_axis]
    affine[:3, :3] = rotation(angles_rad) @ affine[:3, :3]
    affine[:3, 3] = origin
    return Grid(shape, affine)


def oblique(orientation: str) -> Grid:
    return grid(orientation, angles_rad=(0.2, -0.15, 0.1))


sizes = st.integers(1, 6)
shapes = st.tuples(sizes, sizes, sizes)
_spacing = st.floats(0.05, 12.0)
_angle = st.just(0.0) | st.floats(-0.3, 0.3)
_offset = st.floats(-2000.0, 2000.0)

grids = st.builds(
    grid,
    st.sampled_from(ORIENTATIONS),
    shapes,
    st.tuples(_spacing, _spacing, _spacing),
    st.tuples(_offset, _offset, _offset),
    st.tuples(_angle, _angle, _angle),
)
