"""The prediction's surface as a mesh, with the distance to the reference's surface at every vertex."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from napari_medseg.errors import InputError
from napari_medseg.events import Progress, Work, run_to_end
from napari_medseg.geometry import FloatArray
from napari_medseg.metrics.pairwise.places import LabelSurfaces, chosen_boxes_in_steps, surfaces_of
from napari_medseg.metrics.pairwise.surface import Mask
from napari_medseg.volume import Grid, Segmentation

_COARSER = 1.1
"""Factor on the side of a cell, until few enough triangles are left."""


@dataclass(frozen=True, eq=False)
class SurfaceMesh:
    """Triangles on the boundary between voxels, with a signed distance at each corner."""

    vertices_zyx: FloatArray
    """(V, 3) fractional voxel indices (z, y, x) on `grid`."""
    faces: npt.NDArray[np.int64]
    """(F, 3) indices of the vertices of each triangle."""
    distance_mm: FloatArray
    """(V,) distance to the reference's surface: > 0 where the prediction reaches too far, < 0 where it falls short."""
    grid: Grid

    @property
    def vertices_world(self) -> FloatArray:
        """(V, 3) world positions (S, P, L) in mm."""
        return self.grid.index_to_world(self.vertices_zyx)

    def thinned(self, most_faces: int) -> SurfaceMesh:
        """A coarser mesh for drawing, of at most `most_faces` triangles (one or more); itself where it has no more.

        All vertices in a cell of a regular lattice become one vertex, with the distance of the farthest (Rossignac and
        Borrel 1993). A cell may lose all its triangles, as around a small island. Then the triangle of its farthest
        vertex stays as it was. So the largest error of every cell is drawn, and the largest of all.
        """
        a, b, c = (self.vertices_world[self.faces[:, corner]] for corner in range(3))
        area_mm2 = float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2
        thin, side_mm = self, math.sqrt(2 * area_mm2 / most_faces)
        while len(thin.faces) > most_faces:
            thin = self._clustered(side_mm)
            side_mm *= _COARSER
        return thin

    def _clustered(self, side_mm: float) -> SurfaceMesh:
        first_zyx = self.vertices_zyx.min(axis=0)  # origin of the lattice, so that one large cell can hold all vertices
        cell = ((self.vertices_zyx - first_zyx) * self.grid.spacing / side_mm).astype(np.int64)
        codes = np.ravel_multi_index(tuple(cell.T), tuple(cell.max(axis=0) + 1))
        _, number, count = np.unique(codes, return_inverse=True, return_counts=True)
        middles = [np.bincount(number, weights=along) / count for along in self.vertices_zyx.T]
        farthest = np.empty(len(count), np.int64)
        last = np.argsort(np.abs(self.distance_mm))  # of several assignments to one cell, the last one stays
        farthest[number[last]] = last
        corners = number[self.faces]
        left = corners[(corners != np.roll(corners, 1, axis=1)).all(axis=1)]
        lost = np.setdiff1d(np.arange(len(count)), left)
        kept = self._triangles_at(farthest[lost]) + len(count)
        drawn, faces = np.unique(np.concatenate([left, kept]), return_inverse=True)
        vertices = np.concatenate([np.stack(middles, axis=1), self.vertices_zyx])
        values = np.concatenate([self.distance_mm[farthest], self.distance_mm])
        return SurfaceMesh(vertices[drawn], faces.reshape(-1, 3), values[drawn], self.grid)

    def _triangles_at(self, vertices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(n, 3) a triangle of each of n vertices."""
        one_of = np.zeros(len(self.distance_mm), np.int64)
        one_of[self.faces] = np.arange(len(self.faces))[:, None]
        return self.faces[one_of[vertices]]


def surface_distance_mesh(
    *, prediction: Segmentation, reference: Segmentation, label: int | None = None
) -> SurfaceMesh:
    """The surface of one label of the prediction, or of all labels that both have, with its error at every vertex.

    Each mask goes through marching cubes (Lorensen and Cline 1987, in Lewiner's variant). A vertex takes the distance
    of the surface voxel that it bounds, by the survey preset. So the largest magnitude is the directed Hausdorff
    distance, prediction to reference. A single slice gives a wall along its outline.

    Raises GridMismatchError for unequal grids, InputError where no label is in both.
    """
    return run_to_end(surface_distance_mesh_in_steps(prediction=prediction, reference=reference, label=label))


def surface_distance_mesh_in_steps(
    *, prediction: Segmentation, reference: Segmentation, label: int | None = None
) -> Work[SurfaceMesh]:
    """`surface_distance_mesh`, label by label."""
    boxes = yield from chosen_boxes_in_steps(prediction, reference, label)
    meshes = []
    for done, (k, box) in enumerate(boxes.items(), start=1):
        surfaces = surfaces_of(k, box, prediction, reference)
        if len(surfaces.reference_points) and len(surfaces.prediction_points):
            meshes.append(_mesh(surfaces))
        yield Progress(done, len(boxes), "labels measured")
    if not meshes:
        which = "no label is" if label is None else f"label {label} is not"
        raise InputError(f"{which} in both prediction and reference: without both surfaces there is no distance")
    firsts = np.cumsum([0, *(len(vertices) for vertices, _, _ in meshes[:-1])])
    return SurfaceMesh(
        np.concatenate([vertices for vertices, _, _ in meshes]),
        np.concatenate([faces + first for (_, faces, _), first in zip(meshes, firsts, strict=True)]),
        np.concatenate([values for _, _, values in meshes]),
        reference.grid,
    )


def _mesh(surfaces: LabelSurfaces) -> tuple[FloatArray, npt.NDArray[np.int64], FloatArray]:
    """(vertices on the whole grid, faces, signed distances) of one label."""
    start = np.array([s.start for s in surfaces.box])
    vertices, faces = _boundary(surfaces.prediction)
    vertices = vertices + start
    # In voxel units, the voxel that a vertex bounds is half a step away; every other surface voxel is farther.
    _, voxel = scipy.spatial.cKDTree(surfaces.prediction_points).query(vertices)
    inside = surfaces.reference[tuple((surfaces.prediction_points - start).astype(int).T)]
    signed = np.where(inside, -1.0, 1.0) * surfaces.distances.from_prediction
    return vertices, faces, signed[voxel]


def _boundary(mask: Mask) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """(vertices, faces) of the boundary of a mask: closed; for a slice, a wall as high as the slice is thick."""
    from skimage.measure import marching_cubes

    thin = np.array(mask.shape) == 1
    # Background all around closes the surface where the label touches the edge of the image. Above and below a single
    # slice the label goes on instead. There the cubes end at the centres of the next voxels, twice too high.
    padded = np.pad(np.pad(mask, [(int(not t),) * 2 for t in thin]), [(int(t),) * 2 for t in thin], mode="edge")
    vertices, faces, _, _ = marching_cubes(padded.astype(np.float32), 0.5)
    return (vertices.astype(np.float64) - 1) * np.where(thin, 0.5, 1.0), faces.astype(np.int64)
