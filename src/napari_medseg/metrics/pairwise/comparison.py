"""`evaluate`, and the comparison behind it, which measures again only what changed."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from napari_medseg.arrays.boxes import (
    BLOCK_VOXELS,
    Box,
    Region,
    block_shape,
    common_chunks,
    is_empty,
    overlaps,
    regions,
    rolling,
    with_margin,
)
from napari_medseg.config import MetricsConfig, RegionsConfig, configured
from napari_medseg.events import Progress, Work, run_to_end
from napari_medseg.metrics.inputs import require_segmentation
from napari_medseg.metrics.pairwise.overlap import merged
from napari_medseg.metrics.pairwise.pieces import HALO, Gauge, Piece
from napari_medseg.metrics.pairwise.presets import RULES
from napari_medseg.metrics.pairwise.scores import ImageSize, Row, Scores, on_grid_of, score
from napari_medseg.metrics.pairwise.surface import Steps
from napari_medseg.transforms.regions import Merge, passes
from napari_medseg.volume import Segmentation

_WORKERS = 4
"""Labels that are measured at once, at most."""
_VOXELS_AT_ONCE = 1 << 22
"""Surface voxels that are measured at once, at most; each takes about 100 bytes meanwhile."""


def evaluate(
    *,
    prediction: Segmentation,
    reference: Segmentation,
    config: MetricsConfig | None = None,
    merge: Merge = (),
    foreground: bool = False,
    **knobs: Any,
) -> Scores:
    """Compare a segmentation with its reference: a row per label id > 0 that is present in either.

    Both lie on the same grid; grids that are equal up to flips and permutations of the axes are matched without loss.
    Distances are in mm, by the reference's spacing. numpy, dask and zarr data are read once, block by block. Memory
    holds a block and the surface voxels of the labels. config, or
    knobs: the fields of MetricsConfig (preset, nsd_tolerance_mm).
    merge: {name: label ids} of regions, each measured as one label in place of those in it, such as the liver with its
    tumours, {"liver": (1, 2), "tumour": (2,)}; regions that share labels are measured one after the other, and pixel
    accuracy is that of the first ones. foreground: all that is labelled is measured as one label.

    Raises GridMismatchError for unequal grids, InputError for an unknown preset, a tolerance that is not valid, or
    regions that are no ids above 0.
    """
    require_segmentation(prediction, "the prediction")
    require_segmentation(reference, "the reference")
    chosen = configured(MetricsConfig, config, knobs)
    wanted = RegionsConfig(merge=merge, foreground=foreground)  # type: ignore[arg-type]  # made a tuple there
    return joined(
        Comparison(prediction=one.of(prediction), reference=one.of(reference), config=chosen).scores
        for one in passes(wanted)
    )


def joined(parts: Iterable[Scores]) -> Scores:
    """The scores of several passes over one case: all rows, and the voxels of the first pass."""
    first, *further = parts
    rows = sorted([*first.rows, *(row for scores in further for row in scores.rows)], key=lambda row: row.label)
    return replace(first, rows=tuple(rows))


class Comparison:
    """A prediction beside its reference, measured again only where it changed.

    It is made for editing. After a brush stroke, `update` reads the surroundings of the stroke and computes only the
    labels that the stroke touched. It keeps the surface voxels (5 bytes each), never a copy of the images.

    Raises GridMismatchError for unequal grids, InputError for an unknown preset or a tolerance that is not valid.
    """

    def __init__(
        self,
        *,
        prediction: Segmentation,
        reference: Segmentation,
        block_voxels: int = BLOCK_VOXELS,
        config: MetricsConfig | None = None,
        **knobs: Any,
    ) -> None:
        self._begin(prediction, reference, configured(MetricsConfig, config, knobs))
        run_to_end(self._measure(block_voxels))

    @classmethod
    def in_steps(
        cls, *, prediction: Segmentation, reference: Segmentation, config: MetricsConfig | None = None, **knobs: Any
    ) -> Work[Comparison]:
        """Make a Comparison in steps: blocks, then labels. Raises as the constructor."""
        made = cls.__new__(cls)
        made._begin(prediction, reference, configured(MetricsConfig, config, knobs))
        yield from made._measure(BLOCK_VOXELS)
        return made

    def _begin(self, prediction: Segmentation, reference: Segmentation, config: MetricsConfig) -> None:
        self._config = config
        self._prediction, self._reference = prediction, reference
        self._data = on_grid_of(reference, prediction)
        self._gauge = Gauge(Steps.of(reference.grid), RULES[config.preset])
        self._regions: list[Region] = []
        self._pieces: list[Piece] = []
        self._rows: dict[int, Row] = {}
        self.computed: frozenset[int] = frozenset()
        """The labels that the last measurement computed; it kept the rows of all others."""

    @property
    def scores(self) -> Scores:
        """The scores as of the last measurement."""
        return Scores(
            rows=tuple(row for _, row in sorted(self._rows.items())),
            voxels=self._voxels,
            agreeing=self._background.both + sum(row.voxels_both for row in self._rows.values()),
            background=self._background,
            config=self._config,
        )

    def update(self, changed: Box) -> Scores:
        """Measure again after the arrays changed in place, inside the box only.

        changed: box of voxels (z, y, x) in the prediction's own array, with explicit starts and stops; its parts
        outside the image are ignored. Every label that changed in the box is computed, in whichever array it changed.
        """
        near = with_margin(self._in_reference(changed), self._reference.grid.shape, HALO)
        # All regions are measured before the first is stored: if an id is refused, nothing has changed.
        measured = {
            i: self._gauge.piece(self._data[region.read], self._reference.data[region.read], region)
            for i, region in enumerate(self._regions)
            if overlaps(region.core, near)
        }
        touched: set[int] = set()
        for i, piece in measured.items():
            touched |= piece.differing(self._pieces[i])
            self._pieces[i] = piece
        run_to_end(self._compute(touched))
        return self.scores

    def _measure(self, block_voxels: int) -> Work[None]:
        """Measure every region of the image, then every label; each voxel is read once."""
        a, b, shape = self._reference.data, self._data, self._reference.grid.shape
        # A block as thin as one stored slice would consist mostly of its neighbours' surroundings.
        block = block_shape(shape, common_chunks(b, a), block_voxels, least=2 * HALO)
        walk = list(regions(shape, block, HALO))
        seen = zip(walk, rolling(b, walk, HALO), rolling(a, walk, HALO), strict=True)
        for done, (region, of_b, of_a) in enumerate(seen, start=1):
            if not is_empty(region.core):
                self._regions.append(region)
                self._pieces.append(self._gauge.piece(of_b, of_a, region))
            yield Progress(done, len(walk), "blocks read")
        yield from self._compute({label for piece in self._pieces for label in piece.counts.labels})

    @property
    def _voxels(self) -> int:
        return math.prod(self._reference.grid.shape)

    def _compute(self, labels: Set[int]) -> Work[None]:
        """Compute the rows of these labels and drop rows of labels that are gone. Old rows stay until all are done."""
        self._counts = merged(piece.counts for piece in self._pieces)
        self._background = self._counts.background(self._voxels)
        self.computed = frozenset(labels & self._counts.labels.keys())
        rows = {label: row for label, row in self._rows.items() if label not in labels}
        # Threads help: SciPy's trees release the interpreter lock. The rest is short, so that a window stays
        # responsive.
        with ThreadPoolExecutor(self._workers(), "metrics") as pool:
            futures = {label: pool.submit(self._row, label) for label in sorted(self.computed)}
            try:
                for done, (label, future) in enumerate(futures.items(), start=1):
                    rows[label] = future.result()
                    yield Progress(done, len(futures), "labels measured")
            finally:
                for future in futures.values():
                    future.cancel()  # after an early close, the pool would still run those that have not begun
        self._rows = rows

    def _workers(self) -> int:
        """How many labels are measured at once: one per processor, fewer where surfaces are large."""
        voxels = sum((piece.surface_voxels for piece in self._pieces), Counter())
        largest = max((voxels[label] for label in self.computed), default=0)
        return max(1, min(_WORKERS, os.cpu_count() or 1, _VOXELS_AT_ONCE // max(1, largest)))

    def _row(self, label: int) -> Row:
        return score(
            self._counts.overlap(label),
            self._gauge.distances(self._pieces, label),
            self._centroid_distance_mm(label),
            ImageSize(self._voxels, self._reference.grid.voxel_volume_mm3 / 1000),
            self._gauge.rules,
            label=label,
            name=self._reference.labels.get(label) or self._prediction.label_name(label),
            nsd_tolerance_mm=self._config.nsd_tolerance_mm,
        )

    def _centroid_distance_mm(self, label: int) -> float:
        distance = float(np.linalg.norm(self._reference.grid.affine[:3, :3] @ self._counts.shift(label)))
        return math.inf if math.isnan(distance) else distance

    def _in_reference(self, box: Box) -> Box:
        """The box of the prediction's array in the reading order of the reference."""
        order = self._prediction.grid.order_onto(self._reference.grid)
        assert order is not None, "unequal grids are refused at the beginning"
        return order.inverse.source_slices(box, self._reference.grid.shape)
