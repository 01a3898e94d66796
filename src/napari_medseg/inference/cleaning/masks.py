"""What can be done to the mask of one label: its parts and its holes. Pure; sizes in ml."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.config import Connectivity

Mask = npt.NDArray[np.bool_]

_STEPS = {6: 1, 18: 2, 26: 3}
"""{neighbours of a voxel: axes along which a neighbour may lie off}."""


def without_islands(mask: Mask, least_ml: float, voxel_ml: float, connectivity: Connectivity) -> Mask:
    """The connected parts of at least `least_ml` millilitres."""
    parts, sizes = _parts(mask, connectivity)
    # A part of exactly the size stays: the small factor is for sums of floats such as 3 x 0.1.
    keeps = sizes * voxel_ml >= least_ml * (1 - 1e-9)
    keeps[0] = False
    kept: Mask = keeps[parts]
    return kept


def largest_part(mask: Mask, connectivity: Connectivity) -> Mask:
    """The largest connected part; of two equal ones the first in reading order."""
    parts, sizes = _parts(mask, connectivity)
    if len(sizes) == 1:
        return mask
    largest: Mask = parts == 1 + int(sizes[1:].argmax())
    return largest


def without_holes(mask: Mask) -> Mask:
    """The mask and what it encloses on all sides; along an axis of one voxel nothing is enclosed, nor open."""
    faces = ndimage.generate_binary_structure(3, 1)
    for axis, size in enumerate(mask.shape):
        if size == 1:
            faces &= np.indices(faces.shape)[axis] == 1
    filled: Mask = ndimage.binary_fill_holes(mask, faces)
    return filled


def _parts(mask: Mask, connectivity: Connectivity) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """The number of each voxel's part, 0 outside of the mask; and the voxels of each number."""
    parts, count = ndimage.label(mask, ndimage.generate_binary_structure(3, _STEPS[connectivity]))
    return parts, np.bincount(parts.ravel(), minlength=count + 1)
