"""Boxes along the boundaries of labels, thinned out until no two share too much. Pure index code.

Boundary patches are those of BPR (Tang et al., CVPR 2021): around voxels of a label that touch anything else. Where two
boxes share more than a bound (intersection over union) the later one in reading order is left out. So whether a box
stays depends on those before it only, and planes can come one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box
from napari_medseg.geometry import Shape3, triple_of

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer[Any]]


def boundary(labels_zyx: Labels, ids: Iterable[int]) -> Mask:
    """The voxels of the labels `ids` that share a face with a voxel of anything else; the image's border is no face."""
    edge = np.zeros(labels_zyx.shape, dtype=bool)
    for axis in range(3):
        ahead, behind = (np.moveaxis(labels_zyx, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        differs = ahead != behind
        marked = np.moveaxis(edge, axis, 0)
        marked[1:] |= differs
        marked[:-1] |= differs
    return edge & np.isin(labels_zyx, list(ids))


def too_near(box: Shape3, overlap: float) -> Mask:
    """The shifts between two boxes of a size at which they share more than `overlap`: (2 z - 1, 2 y - 1, 2 x - 1).

    The middle is no shift. What is shared is the intersection over the union.
    """
    shared = np.ones((1, 1, 1))
    for axis, n in enumerate(box):
        along = n - np.abs(np.arange(-n + 1, n))
        shared = shared * along.reshape([-1 if a == axis else 1 for a in range(3)])
    near: Mask = shared / (2 * np.prod(box) - shared) > overlap
    return near


def thinned(planes: Iterable[Mask], box: Shape3, overlap: float) -> Iterator[list[tuple[int, int]]]:
    """For each plane of a boundary, in order, the voxels (y, x) around which a box stays."""
    near = too_near(box, overlap)[box[0] - 1 :]  # a box shades the voxels of its plane and of later ones
    reach = int(near.any(axis=(1, 2)).sum())
    shades: list[Mask] = []
    for plane in planes:
        while len(shades) < reach:
            shades.append(np.zeros(plane.shape, dtype=bool))
        yield _kept(plane, shades, near)
        shades.pop(0)


def _kept(plane: Mask, shades: list[Mask], near: Mask) -> list[tuple[int, int]]:
    """The voxels of a plane that no box shades, each of which shades others from then on."""
    kept = []
    for y, x in np.argwhere(plane & ~shades[0]).tolist():
        if not shades[0][y, x]:
            kept.append((y, x))
            for shade, part in zip(shades, near, strict=False):
                _shade(shade, part, y, x)
    return kept


def _shade(shade: Mask, part: Mask, y: int, x: int) -> None:
    """Mark a part, whose middle lies at (y, x), in a plane."""
    sides = []
    for at, n, size in zip((y, x), part.shape, shade.shape, strict=True):
        start = at - n // 2
        low, high = max(0, start), min(size, start + n)
        sides.append((slice(low, high), slice(low - start, high - start)))
    (to_y, of_y), (to_x, of_x) = sides
    shade[to_y, to_x] |= part[of_y, of_x]


def box_around(centre: Shape3, box: Shape3, shape: Shape3) -> Box:
    """The box of that size around a voxel, moved into the image; where the image is smaller, it begins with it."""
    starts = [min(max(0, c - n // 2), max(0, size - n)) for c, n, size in zip(centre, box, shape, strict=True)]
    return triple_of(slice(start, start + n) for start, n in zip(starts, box, strict=True))
