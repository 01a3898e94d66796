"""Area and volume of a mask's surface, from counts of its marching cubes. No triangle of the mesh is stored.

Marching cubes (Lorensen and Cline, SIGGRAPH 1987, doi:10.1145/37401.37422): the centres of 2 x 2 x 2 voxels are the
corners of a cube. Each corner lies in the mask or outside, so that there are 256 kinds of cubes. The surface crosses an
edge in its middle, and all cubes of a kind hold the same piece of it. Where a face could be cut in two ways, the
corners inside are kept apart, so that the surface is closed. A polygon that is not flat is cut into triangles of least
area.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import FloatArray
from napari_medseg.metrics.pairwise.surface import Mask

Edge = frozenset[int]
"""The two corners of a cube that an edge joins; corner 4z + 2y + x lies at (z, y, x)."""

_CORNERS = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
_ROUNDING = 1e-9
"""Areas that differ by no more than this fraction are equal: they were summed in another order."""


@dataclass(frozen=True)
class Patch:
    """The piece of surface in a cube: its area, its vector area, and the volume between it and the cube's corner 0."""

    area: float
    vector: FloatArray
    volume: float


def area_and_volume(mask: Mask, step_mm: FloatArray) -> tuple[float, float]:
    """(mm2, mm3) of the closed surface around a mask (Z, Y, X); all beyond the array counts as outside.

    step_mm: (3, 3), its columns the steps in mm from voxel to voxel along z, y and x (the linear part of an affine).
    """
    kinds = cube_kinds(mask)
    cut = (kinds > 0) & (kinds < 255)
    places = np.nonzero(cut)
    counts = np.bincount(kinds[cut], minlength=256)
    sums = np.stack([np.bincount(kinds[cut], weights=p, minlength=256) for p in places], axis=-1) @ step_mm.T
    area = volume = 0.0
    for kind in np.flatnonzero(counts).tolist():
        for polygon in polygons(kind):
            patch = least_patch(polygon @ step_mm.T)
            area += int(counts[kind]) * patch.area
            # The divergence theorem: the cones from the origin to all patches add up to the volume inside.
            volume += int(counts[kind]) * patch.volume + float(patch.vector @ sums[kind]) / 3
    return area, abs(volume)


def cube_kinds(mask: Mask) -> npt.NDArray[np.uint8]:
    """(Z+1, Y+1, X+1): the kind of every cube in or around the mask; bit 4z + 2y + x is the corner at (z, y, x)."""
    kinds: npt.NDArray[np.uint8] = np.pad(mask, 1).astype(np.uint8)
    for axis, bits in ((2, 1), (1, 2), (0, 4)):
        n = kinds.shape[axis]
        first, second = np.split(kinds, [n - 1], axis)[0], np.split(kinds, [1], axis)[1]
        kinds = np.bitwise_or(first, second << bits, dtype=np.uint8)
    return kinds


@functools.cache
def polygons(kind: int) -> tuple[FloatArray, ...]:
    """The closed polygons in a kind of cube: (n, 3) corners in the unit cube, all in the same sense of rotation."""
    following = dict(_segments(kind))
    found = []
    while following:
        start, edge = following.popitem()
        loop = [start]
        while edge != start:
            loop.append(edge)
            edge = following.pop(edge)
        found.append(np.array([_CORNERS[list(edge)].mean(axis=0) for edge in loop]))
    return tuple(found)


def least_patch(polygon: FloatArray) -> Patch:
    """The triangles of least area that fill a polygon (n, 3) in mm; the mean volume of ways with equal area."""
    a, b, c = np.moveaxis(polygon[triangulations(len(polygon))], 2, 0)
    normals = np.cross(b - a, c - a)
    areas = np.linalg.norm(normals, axis=-1).sum(axis=-1) / 2
    least = areas <= areas.min() * (1 + _ROUNDING)
    volumes = (a * np.cross(b, c)).sum(axis=(1, 2)) / 6
    return Patch(float(areas.min()), normals[0].sum(axis=0) / 2, float(volumes[least].mean()))


@functools.cache
def triangulations(corners: int) -> npt.NDArray[np.int64]:
    """(ways, corners - 2, 3): every way to cut a polygon into triangles, as numbers of its corners."""
    return np.array(list(_cuts(0, corners - 1)))


def _cuts(first: int, last: int) -> Iterator[list[tuple[int, int, int]]]:
    """The ways to cut the polygon of the corners first .. last."""
    if last - first < 2:
        yield []
        return
    for tip in range(first + 1, last):
        for before, after in itertools.product(_cuts(first, tip), list(_cuts(tip, last))):
            yield [*before, (first, tip, last), *after]


def _segments(kind: int) -> Iterator[tuple[Edge, Edge]]:
    """The lines, from edge to edge, where the surface meets the cube's faces: one for every run of corners inside."""
    for axis, side in itertools.product(range(3), (0, 1)):
        face = _face(axis, side)
        inside = [bool(kind >> corner & 1) for corner in face]
        for k in range(4):
            if inside[k] and not inside[(k + 1) % 4]:
                before = next(k - n for n in range(1, 4) if not inside[k - n])
                yield frozenset((face[k], face[(k + 1) % 4])), frozenset((face[before], face[before + 1]))


def _face(axis: int, side: int) -> list[int]:
    """The corners of a face, counterclockwise as seen from outside the cube."""
    u, v = 4 >> (axis + 1) % 3, 4 >> (axis + 2) % 3
    around = [0, u, u + v, v]
    return [(4 >> axis) * side + corner for corner in (around if side else around[::-1])]
