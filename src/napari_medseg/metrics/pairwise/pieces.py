"""What is measured in one region of a prediction and its reference; the scores are sums over the regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_medseg.arrays.boxes import Region, first_of
from napari_medseg.arrays.label_boxes import checked
from napari_medseg.metrics.pairwise.overlap import Counts, count
from napari_medseg.metrics.pairwise.presets import Rules
from napari_medseg.metrics.pairwise.surface import (
    REACH,
    Steps,
    SurfaceDistances,
    SurfaceVoxels,
    distances_between,
    surface_ids,
    surface_voxels,
)

HALO = REACH + 1
"""Voxels around a region that its measures depend on: a step to the other surface, and one more for its neighbours."""


@dataclass(frozen=True)
class Piece:
    """All that the scores depend on in one region: the counts, and {id: its surface voxels} of both arrays."""

    counts: Counts
    reference: Mapping[int, SurfaceVoxels]
    prediction: Mapping[int, SurfaceVoxels]

    @property
    def surface_voxels(self) -> Counter[int]:
        """{id: its surface voxels in both arrays}."""
        return Counter({k: len(v.index) for k, v in self.reference.items()}) + Counter(
            {k: len(v.index) for k, v in self.prediction.items()}
        )

    def differing(self, other: Piece) -> set[int]:
        """The labels that differ in another piece of the same region."""
        either = self.counts.labels.keys() | other.counts.labels.keys()
        return {label for label in either if not self._agrees(other, label)}

    def _agrees(self, other: Piece, label: int) -> bool:
        if not np.array_equal(self.counts.labels.get(label, ()), other.counts.labels.get(label, ())):
            return False
        sides = ((self.reference, other.reference), (self.prediction, other.prediction))
        return all(_same(mine.get(label), others.get(label)) for mine, others in sides)


@dataclass(frozen=True)
class Gauge:
    """Measures an image region by region, and its labels from the pieces."""

    steps: Steps
    rules: Rules

    def piece(self, prediction: Any, reference: Any, region: Region) -> Piece:
        """Measure the arrays that hold the region's `read` box. Raises InputError for ids out of range."""
        a, b = checked(reference, "the reference"), checked(prediction, "the prediction")
        core = region.core_in_read
        counts = count(b[core], a[core], first_of(region.core))
        if not counts.foreground:
            return Piece(counts, {}, {})
        # The faces of the box that cut through the image look like surfaces here. They do no harm: the halo keeps them
        # beyond every step from the core.
        neighbours, beyond_edge = self.rules.neighbours, self.rules.beyond_edge
        of_a, of_b = (surface_ids(ids, neighbours, beyond_edge=beyond_edge) for ids in (a, b))
        return Piece(counts, *surface_voxels(of_a, of_b, region, self.steps))

    def distances(self, pieces: Sequence[Piece], label: int) -> SurfaceDistances:
        """The label's distances over all pieces, ascending, so that sums do not depend on how the image was cut."""
        of_reference = [p.reference[label] for p in pieces if label in p.reference]
        of_prediction = [p.prediction[label] for p in pieces if label in p.prediction]
        return distances_between(of_reference, of_prediction, self.steps).ascending


def _same(mine: SurfaceVoxels | None, other: SurfaceVoxels | None) -> bool:
    """Whether both are the same voxels. Where all voxels of a label are the same, so are the steps between them."""
    if mine is None or other is None:
        return mine is other
    return np.array_equal(mine.index, other.index)
