"""Surfaces of masks (Z, Y, X), and the distances between two of them in mm.

A surface voxel belongs to the mask and has a neighbour outside it. In a volume of one slice, the neighbours above and
below lie beyond the edge of the image: with background outside (survey, lits), every voxel of a mask is then surface;
without (chaos), the surface is the outline in the slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from napari_medseg.geometry import FloatArray, Shape3, Triple
from napari_medseg.metrics.blocks import Box

Mask = npt.NDArray[np.bool_]
Neighbours = Literal[6, 18, 26]

#: the lines along these axes, one after the other, span the neighbourhood; several spans: their union
_SPANS: dict[Neighbours, tuple[tuple[int, ...], ...]] = {
    6: ((0,), (1,), (2,)),
    18: ((0, 1), (0, 2), (1, 2)),
    26: ((0, 1, 2),),
}
#: so that a distance that is the tolerance counts as within it, although spacings are rounded in files
_ROUNDING = 1e-6


@dataclass(frozen=True)
class SurfaceDistances:
    """For every surface voxel of the reference and of the prediction the distance in mm to the other surface.

    An empty surface is infinitely far from another one; two empty ones agree.
    """

    from_reference: FloatArray
    from_prediction: FloatArray

    @property
    def _voxels(self) -> int:
        return self.from_reference.size + self.from_prediction.size

    @property
    def asd(self) -> float:
        """Average symmetric surface distance, pooled over the voxels of both surfaces."""
        if not self._voxels:
            return 0.0
        return float(self.from_reference.sum() + self.from_prediction.sum()) / self._voxels

    @property
    def msd(self) -> float:
        """Maximum symmetric surface distance: the Hausdorff distance."""
        return float(max(self.from_reference.max(initial=0), self.from_prediction.max(initial=0)))

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles, as MONAI has it; others pool the directions first."""
        return max(_percentile95(self.from_reference), _percentile95(self.from_prediction))

    def nsd(self, tolerance_mm: float) -> float:
        """Normalised surface Dice: the fraction of both surfaces' voxels within the tolerance of the other surface.

        Nikolov et al., J Med Internet Res 2021, doi:10.2196/26151, counted in voxels instead of areas.
        """
        if not self._voxels:
            return 1.0
        limit = tolerance_mm * (1 + _ROUNDING)
        within = np.count_nonzero(self.from_reference <= limit) + np.count_nonzero(self.from_prediction <= limit)
        return int(within) / self._voxels


def surface_distances(
    reference: Mask,
    prediction: Mask,
    spacing_zyx_mm: Triple,
    *,
    neighbours: Neighbours = 6,
    beyond_edge: bool = False,
) -> SurfaceDistances:
    """The distances between the surfaces of two masks (Z, Y, X) of the same shape.

    beyond_edge: whether voxels beyond the edge of the array count as inside the masks.
    """
    a, b = (surface_of(m, neighbours=neighbours, beyond_edge=beyond_edge) for m in (reference, prediction))
    return SurfaceDistances(_directed(a, b, spacing_zyx_mm), _directed(b, a, spacing_zyx_mm))


def surface_of(mask: Mask, *, neighbours: Neighbours = 6, beyond_edge: bool = False) -> Mask:
    """The voxels of the mask that are lost when it is eroded by its 6, 18 or 26 neighbours."""
    eroded = [reduce(lambda m, axis: _eroded_along(m, axis, beyond_edge), axes, mask) for axes in _SPANS[neighbours]]
    surface: Mask = mask & ~reduce(np.logical_and, eroded)
    return surface


def with_margin(box: Box, shape: Shape3) -> Box:
    """The box grown by one voxel, where the image reaches that far: what the surface of its content depends on."""
    z, y, x = (slice(max(0, b.start - 1), min(n, b.stop + 1)) for b, n in zip(box, shape, strict=True))
    return z, y, x


def _eroded_along(mask: Mask, axis: int, beyond_edge: bool) -> Mask:
    """The voxels whose two neighbours along the axis are in the mask too."""
    eroded = mask.copy()
    before, after = np.moveaxis(eroded, axis, 0), np.moveaxis(mask, axis, 0)
    before[1:] &= after[:-1]
    before[:-1] &= after[1:]
    before[0] &= beyond_edge
    before[-1] &= beyond_edge
    return eroded


def _directed(source: Mask, target: Mask, spacing_zyx_mm: Triple) -> FloatArray:
    """From each voxel of the source surface to the nearest one of the target surface, in mm."""
    points = np.argwhere(source)
    distances = np.zeros(len(points))
    apart = ~target[source]  # a shared voxel is at distance 0: the fewer to look up, the better the prediction
    if not apart.any():
        return distances
    spacing = np.array(spacing_zyx_mm)
    # A tree of the surface beats a distance transform of the box at every size tried, in time and in memory. On the
    # regular positions of voxels, the cheap way of building it also answers faster.
    tree = cKDTree(np.argwhere(target) * spacing, leafsize=32, balanced_tree=False, compact_nodes=False)
    distances[apart] = tree.query(points[apart] * spacing)[0]  # infinite where the target is empty
    return distances


def _percentile95(distances: FloatArray) -> float:
    if not distances.size:
        return 0.0
    # Interpolation between infinities is not a number.
    return float(np.percentile(distances, 95)) if np.isfinite(distances).all() else float("inf")
