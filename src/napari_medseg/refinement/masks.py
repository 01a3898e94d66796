"""Shapes in the slices between painted ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import Triple
from napari_medseg.interactive.propagation import interpolated
from napari_medseg.transforms.annotated import held_slices

Mask = npt.NDArray[np.bool_]


def between_slices(mask: Mask, axis: int, spacing_zyx_mm: Triple) -> Mask:
    """The mask, with shapes in the slices along `axis` that lie between slices of the mask and hold nothing."""
    held = held_slices(mask, axis)
    if not len(held) or len(held) == held[-1] - held[0] + 1:
        return mask
    # A shape that fills its slice would have no outside to measure from. Along an axis of one voxel there is none.
    sides = [0 if a == axis or n == 1 else 1 for a, n in enumerate(mask.shape)]
    inner = tuple(slice(side, side + n) for side, n in zip(sides, mask.shape, strict=True))
    padded = np.pad(mask, [(side, side) for side in sides])
    found: Mask = interpolated(padded, {axis: held.tolist()}, spacing_zyx_mm)[inner]
    return found
