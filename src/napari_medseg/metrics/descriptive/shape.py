"""Size, place and shape of each label of a segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from napari_medseg.arrays.boxes import Box, mask_of
from napari_medseg.arrays.label_boxes import label_boxes
from napari_medseg.geometry import FloatArray
from napari_medseg.metrics.inputs import label_ids, require_segmentation
from napari_medseg.metrics.pairwise.marching_cubes import area_and_volume
from napari_medseg.metrics.pairwise.surface import Mask
from napari_medseg.volume import Grid, Segmentation


@dataclass(frozen=True, kw_only=True)
class ShapeRow:
    """Size, place and shape of one label, as IBSI has them (Zwanenburg et al. 2020, doi:10.1148/radiol.2020191145)."""

    case: str = ""
    """Which case of several."""
    label: int
    """Id of the label."""
    name: str
    """Name of the label."""
    voxels: int
    """Voxels of the label."""
    volume_ml: float
    """Voxels x the volume of a voxel, which is the determinant of the affine."""
    surface_mm2: float
    """Area of the surface by marching cubes: closed, through the middle between voxels, polygons cut for least area."""
    mesh_volume_ml: float
    """Volume inside that surface."""
    sphericity: float
    """(36 pi V^2)^(1/3) / A of that surface: 1 for a ball, less for all else."""
    s_mm: float
    """Centroid in the patient, towards S."""
    p_mm: float
    """The same, towards P."""
    l_mm: float
    """The same, towards L."""
    box_z_mm: float
    """Bounding box along the first axis of the array, whole voxels."""
    box_y_mm: float
    """The same, along the second axis."""
    box_x_mm: float
    """The same, along the third axis."""
    major_mm: float
    """4 sqrt(l1), the longest axis of the ellipsoid with the voxel centres' covariance (eigenvalues l1 > l2 > l3)."""
    minor_mm: float
    """4 sqrt(l2), its second axis."""
    least_mm: float
    """4 sqrt(l3), its shortest axis."""
    elongation: float
    """sqrt(l2 / l1): 1 where the two longest axes are equal, less for what is long."""
    flatness: float
    """sqrt(l3 / l1): 1 for a ball, 0 for what is flat."""
    diameter_mm: float
    """Largest distance between two points of the surface (maximum 3D diameter)."""


def shape_statistics(segmentation: Segmentation, *, labels: Sequence[int] | None = None) -> tuple[ShapeRow, ...]:
    """A row for each label id > 0 that occurs, ascending; with `labels`, only for those.

    numpy, dask and zarr data are read block by block. Memory holds a block and one label's bounding box. Raises
    InputError unless `segmentation` is a Segmentation and `labels` holds label ids.
    """
    require_segmentation(segmentation, "the segmentation")
    chosen = None if labels is None else label_ids(labels)
    boxes = label_boxes(segmentation.data, "the segmentation")
    wanted = sorted(boxes if chosen is None else boxes.keys() & set(chosen))
    return tuple(_row(segmentation, label, boxes[label]) for label in wanted)


def _row(segmentation: Segmentation, label: int, box: Box) -> ShapeRow:
    mask, grid = mask_of(segmentation.data, label, box), segmentation.grid
    voxels = int(np.count_nonzero(mask))
    area, volume = area_and_volume(mask, grid.affine[:3, :3])
    centre, covariance = moments(mask)
    s, p, l = grid.index_to_world(centre + [b.start for b in box]).tolist()  # noqa: E741
    longest, middle, shortest = _axis_lengths(covariance, grid)
    box_mm = [(b.stop - b.start) * step for b, step in zip(box, grid.spacing, strict=True)]
    return ShapeRow(
        label=label,
        name=segmentation.label_name(label),
        voxels=voxels,
        volume_ml=voxels * grid.voxel_volume_mm3 / 1000,
        surface_mm2=area,
        mesh_volume_ml=volume / 1000,
        sphericity=(36 * math.pi * volume**2) ** (1 / 3) / area,
        s_mm=s,
        p_mm=p,
        l_mm=l,
        box_z_mm=box_mm[0],
        box_y_mm=box_mm[1],
        box_x_mm=box_mm[2],
        major_mm=longest,
        minor_mm=middle,
        least_mm=shortest,
        elongation=middle / longest if longest else math.nan,
        flatness=shortest / longest if longest else math.nan,
        diameter_mm=diameter(mask, grid.affine[:3, :3]),
    )


def moments(mask: Mask) -> tuple[FloatArray, FloatArray]:
    """((3,) mean, (3, 3) covariance) of the indices (z, y, x) of a mask's voxels, from its three projections."""
    count = np.count_nonzero(mask)
    along = [np.arange(n, dtype=float) for n in mask.shape]
    onto = {(i, j): np.count_nonzero(mask, axis=3 - i - j) for i, j in ((0, 1), (0, 2), (1, 2))}
    lines = [onto[0, 1].sum(axis=1), onto[0, 1].sum(axis=0), onto[0, 2].sum(axis=0)]
    mean = np.array([line @ x for line, x in zip(lines, along, strict=True)]) / count
    centred = [x - m for x, m in zip(along, mean, strict=True)]
    covariance = np.diag([line @ x**2 for line, x in zip(lines, centred, strict=True)]) / count
    for (i, j), projection in onto.items():
        covariance[i, j] = covariance[j, i] = centred[i] @ projection @ centred[j] / count
    return mean, covariance


def diameter(mask: Mask, step_mm: FloatArray) -> float:
    """Largest distance in mm between two corners of the marching cubes' surface of a mask (Z, Y, X) that is not empty.

    step_mm: (3, 3), its columns the steps in mm from voxel to voxel along z, y and x.
    """
    points = np.concatenate([_ends(mask, axis) for axis in range(3)]) @ step_mm.T
    outermost = points[scipy.spatial.ConvexHull(points).vertices]
    return float(scipy.spatial.distance.pdist(outermost).max())


def _ends(mask: Mask, axis: int) -> FloatArray:
    """(n, 3): where each line along an axis first enters and last leaves the mask, half a voxel beyond a centre."""
    lines = np.moveaxis(mask, axis, -1)
    rest = np.argwhere(lines.any(axis=-1))
    hit = lines[tuple(rest.T)]
    first, last = hit.argmax(axis=-1) - 0.5, hit.shape[-1] - 0.5 - hit[:, ::-1].argmax(axis=-1)
    return np.concatenate([np.insert(rest.astype(float), axis, end, axis=1) for end in (first, last)])


def _axis_lengths(covariance: FloatArray, grid: Grid) -> tuple[float, float, float]:
    step = grid.affine[:3, :3]
    least, middle, most = np.sqrt(np.linalg.eigvalsh(step @ covariance @ step.T).clip(0)).tolist()
    return 4 * most, 4 * middle, 4 * least
