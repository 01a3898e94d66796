"""The voxel where the two surfaces of a label are farthest apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_medseg.arrays.boxes import Box, mask_of, with_margin
from napari_medseg.config import Preset
from napari_medseg.errors import InputError
from napari_medseg.events import Work, run_to_end
from napari_medseg.geometry import FloatArray, Shape3
from napari_medseg.metrics.pairwise.overlap import tally_in_steps
from napari_medseg.metrics.pairwise.presets import Rules, rules_of
from napari_medseg.metrics.pairwise.scores import on_grid_of
from napari_medseg.metrics.pairwise.surface import Mask, Steps, SurfaceDistances, surface_distances, surface_of
from napari_medseg.volume import Segmentation


@dataclass(frozen=True, kw_only=True)
class Place:
    """A surface voxel of a label, and how far it is from the other surface of that label."""

    label: int
    index_zyx: Shape3
    """On the reference's grid."""
    distance_mm: float
    """The label's largest surface distance (Hausdorff); infinite where only one of the two has the label."""


@dataclass(frozen=True, eq=False)
class LabelSurfaces:
    """The two masks of one label inside `box`, and every surface voxel with its distance to the other surface."""

    label: int
    box: Box
    reference: Mask
    prediction: Mask
    reference_points: FloatArray
    """(n, 3) voxel indices (z, y, x) on the whole grid, in the order of `distances.from_reference`."""
    prediction_points: FloatArray
    """(n, 3), in the order of `distances.from_prediction`."""
    distances: SurfaceDistances

    @property
    def worst(self) -> Place:
        """The farthest voxel. Among infinitely far ones, the nearest to their middle; without a surface, any voxel."""
        points = np.concatenate([self.reference_points, self.prediction_points])
        mm = np.concatenate([self.distances.from_reference, self.distances.from_prediction])
        if not len(points):  # the label fills the image, and this preset does not count its edge as surface
            points = np.argwhere(self.reference | self.prediction).astype(float)
            mm = np.full(len(points), 0.0 if self.reference.any() and self.prediction.any() else np.inf)
        off_middle = np.linalg.norm(points - points.mean(axis=0), axis=1)
        at = int(off_middle.argmin() if np.isinf(mm).any() else mm.argmax())
        z, y, x = (int(i) for i in points[at])
        return Place(label=self.label, index_zyx=(z, y, x), distance_mm=float(mm[at]))


def worst_place(
    *, prediction: Segmentation, reference: Segmentation, label: int | None = None, preset: Preset = "survey"
) -> Place:
    """The surface voxel that is farthest from the other surface, of one label or of all.

    A label that only one of the two has is infinitely far; it counts only where no label is in both. Raises
    GridMismatchError for unequal grids, InputError where neither has the label, or any label.
    """
    found = label_surfaces(prediction=prediction, reference=reference, label=label, preset=preset)
    return max((surfaces.worst for surfaces in found), key=_finite_first)


def label_surfaces(
    *, prediction: Segmentation, reference: Segmentation, label: int | None = None, preset: Preset = "survey"
) -> Iterator[LabelSurfaces]:
    """Yield both surfaces of one label, or of every label in turn, by the rules of a preset.

    Raises GridMismatchError for unequal grids, InputError where neither has the label, or any label.
    """
    for k, box in run_to_end(chosen_boxes_in_steps(prediction, reference, label)).items():
        yield surfaces_of(k, box, prediction, reference, preset)


def chosen_boxes_in_steps(prediction: Segmentation, reference: Segmentation, label: int | None) -> Work[dict[int, Box]]:
    """{label: the box that its surfaces depend on}, for one label or all; the images are read block by block.

    Raises as `label_surfaces`.
    """
    boxes = yield from all_boxes_in_steps(prediction, reference)
    wanted = list(boxes) if label is None else [label]
    if not wanted or not set(wanted) <= boxes.keys():
        which = "any label" if label is None else f"label {label}"
        raise InputError(f"neither the prediction nor the reference has {which}: choose labels that one of them has")
    return {k: boxes[k] for k in wanted}


def all_boxes_in_steps(prediction: Segmentation, reference: Segmentation) -> Work[dict[int, Box]]:
    """{label: the box that its surfaces depend on}, for all labels, if any. Raises GridMismatchError."""
    boxes = (yield from tally_in_steps(on_grid_of(reference, prediction), reference.data)).boxes
    return {k: with_margin(box, reference.grid.shape) for k, box in boxes.items()}


def surfaces_of(
    label: int, box: Box, prediction: Segmentation, reference: Segmentation, preset: Preset = "survey"
) -> LabelSurfaces:
    """Both surfaces of a label. box: what `chosen_boxes_in_steps` found for it."""
    b, a = on_grid_of(reference, prediction), reference.data
    masks = mask_of(a, label, box), mask_of(b, label, box)
    return _measured(label, box, *masks, Steps.of(reference.grid), rules_of(preset))


def _measured(label: int, box: Box, a: Mask, b: Mask, steps: Steps, by: Rules) -> LabelSurfaces:
    neighbours, beyond_edge = by.neighbours, by.beyond_edge
    start = np.array([float(s.start) for s in box])
    a_points, b_points = (
        np.argwhere(surface_of(mask, neighbours=neighbours, beyond_edge=beyond_edge)) + start for mask in (a, b)
    )
    distances = surface_distances(a, b, steps, neighbours=neighbours, beyond_edge=beyond_edge)
    return LabelSurfaces(label, box, a, b, a_points, b_points, distances)


def _finite_first(place: Place) -> float:
    return place.distance_mm if math.isfinite(place.distance_mm) else -1.0
