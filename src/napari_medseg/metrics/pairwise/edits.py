"""Scores that follow what is painted. Changes are found in the arrays, so that it does not matter who made them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from napari_medseg.arrays.boxes import Box, chunks_of, shape_of, union, whole
from napari_medseg.config import MetricsConfig
from napari_medseg.events import Work, run_to_end
from napari_medseg.metrics.pairwise.comparison import Comparison
from napari_medseg.metrics.pairwise.scores import Scores
from napari_medseg.volume import LazyArray, Segmentation

Planes = tuple[int, ...]
"""A checksum for each plane (z) of an array."""


class EditedScores:
    """The scores of two segmentations that are painted in place; `update` brings them up to date.

    A checksum per plane shows where an array changed. It finds strokes, fills, undo and scripts alike, and needs no
    copy of the arrays. Then only the labels that differ there are computed (`Comparison.update`).

    Raises GridMismatchError for unequal grids.
    """

    def __init__(self, *, prediction: Segmentation, reference: Segmentation, config: MetricsConfig) -> None:
        run_to_end(self._measure(prediction, reference, config))

    @classmethod
    def in_steps(
        cls, *, prediction: Segmentation, reference: Segmentation, config: MetricsConfig
    ) -> Work[EditedScores]:
        """Make EditedScores in steps, as `Comparison.in_steps`."""
        made = cls.__new__(cls)
        yield from made._measure(prediction, reference, config)
        return made

    def _measure(self, prediction: Segmentation, reference: Segmentation, config: MetricsConfig) -> Work[None]:
        self._prediction, self._reference = prediction, reference
        # Before the arrays are read, so that the next update finds what is painted meanwhile.
        self._planes = self._checksums()
        self._comparison = yield from Comparison.in_steps(prediction=prediction, reference=reference, config=config)

    @property
    def scores(self) -> Scores:
        """The scores as of the last update."""
        return self._comparison.scores

    @property
    def computed(self) -> frozenset[int]:
        """The labels that the last update computed; it kept all other rows."""
        return self._comparison.computed

    def update(self) -> bool:
        """Compute again what changed since the last update. Returns whether anything did."""
        planes = self._checksums()
        before, self._planes = self._planes, planes
        boxes = [self._changed(old, new) for old, new in zip(before, planes, strict=True)]
        in_prediction, in_reference = boxes
        if in_reference is not None and self._prediction.grid.orientation != self._reference.grid.orientation:
            in_reference = whole(self._prediction.grid.shape)
        changed = [box for box in (in_prediction, in_reference) if box is not None]
        if changed:
            self._comparison.update(union(changed[0], changed[-1]))
        return bool(changed)

    def _checksums(self) -> tuple[Planes, Planes]:
        return tuple(_checksums(self._prediction.data)), tuple(_checksums(self._reference.data))

    def _changed(self, before: Planes, after: Planes) -> Box | None:
        """The box of the planes from the first to the last that differ."""
        differing = np.flatnonzero(np.not_equal(before, after))
        if not differing.size:
            return None
        _, y, x = self._prediction.grid.shape
        return slice(int(differing[0]), int(differing[-1]) + 1), slice(0, y), slice(0, x)


def _checksums(array: LazyArray) -> Iterator[int]:
    """CRC-32 of each plane. Each chunk is read once."""
    depth = chunks_of(array)[0]
    for z in range(0, shape_of(array)[0], depth):
        for plane in np.asarray(array[z : z + depth]):
            yield zlib.crc32(np.ascontiguousarray(plane).data)
