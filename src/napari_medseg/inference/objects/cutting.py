"""One connected part cut into objects where it is narrow: a watershed on the distance to its border, or on depths."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.config import Connectivity
from napari_medseg.geometry import Triple

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]
Heights = npt.NDArray[np.float64]

_STEPS = {6: 1, 18: 2, 26: 3}


def cut(
    mask: Mask,
    spacing_zyx_mm: Triple,
    *,
    neck: float,
    depths: npt.NDArray[np.integer[Any]] | None = None,
    connectivity: Connectivity = 26,
) -> tuple[Numbers, int]:
    """The objects (Z, Y, X) of a connected part, numbered from 1, and their count.

    Two middles are those of two objects where the way from one to the other leads through a place less than `neck` as
    far from the border as the lesser middle is. depths: of every voxel in its object, where a network has found them;
    they then say what is far from a border, and a part that is border only is no object. The end of the array is no
    border.
    """
    inside = distances(mask, spacing_zyx_mm)
    structure = ndimage.generate_binary_structure(mask.ndim, _STEPS[connectivity])
    levels = inside if depths is None else np.where(mask, depths, 0).astype(float)
    tops = _tops(levels, mask, neck, structure)
    seeds, count = ndimage.label(tops if depths is None else tops & (depths > 1), structure)
    if depths is None:  # a part without an outside is level, and has no middle
        count = max(count, 1)
    if count < 2:
        return (mask * np.int32(count)).astype(np.int32), count
    # Where depths are level, the distance to the border decides.
    heights = inside / inside.max() + (0 if depths is None else 2 * depths)
    return grown(heights, seeds, mask, connectivity), count


def cut_at(mask: Mask, spacing_zyx_mm: Triple, seeds: npt.NDArray[np.intp]) -> tuple[Numbers, int]:
    """A part cut between some of its voxels (n, 3), each of which becomes an object."""
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    # A seed beside a middle would be flooded from there: the way to a seed counts, and the border on it.
    heights = -ndimage.distance_transform_edt(markers == 0, spacing_zyx_mm) + 2 * distances(mask, spacing_zyx_mm)
    return grown(heights, markers, mask, 26), len(seeds)


def distances(mask: Mask, spacing_zyx_mm: Triple) -> Heights:
    """The distance (mm) of each voxel of a mask to the nearest one outside; of a mask without outside, 1."""
    if mask.all():
        return np.ones(mask.shape)
    found: Heights = ndimage.distance_transform_edt(mask, spacing_zyx_mm)
    return found


def grown(heights: Heights, seeds: npt.NDArray[Any], mask: Mask, connectivity: Connectivity) -> Numbers:
    """Seeds that grow downhill until they meet."""
    from skimage.segmentation import watershed

    found: Numbers = watershed(-heights, seeds, mask=mask, connectivity=_STEPS[connectivity]).astype(np.int32)
    return found


def _tops(heights: Heights, mask: Mask, neck: float, structure: npt.NDArray[np.bool_]) -> Mask:
    """The middles: maxima that stay when every height is lowered to `neck` of it and raised again along the ground.

    On logarithms, because a neck is a ratio (Vincent, IEEE TIP 1993: reconstruction and dynamics of maxima).
    """
    from skimage.morphology import local_maxima, reconstruction

    lowest = heights[mask].min()
    ground = np.log(lowest) - 1
    logs = np.where(mask, np.log(np.where(mask, heights, 1.0)), ground)
    low = np.maximum(logs + np.log(neck), ground)
    raised = reconstruction(low, logs, footprint=structure)
    found: Mask = local_maxima(raised, footprint=structure).astype(bool) & mask
    return found
