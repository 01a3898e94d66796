"""A look at a case through a model: where it doubts, in sums that do not grow with the planes of the image.

Doubt is the entropy of the probabilities in bits: 1 is a toss between two labels. A bit in a mm2 of a slice, or in a
mm3, is that area or volume in doubt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.arrays.boxes import Box
from napari_medseg.doubt.streaming import Seen, opened, streamed
from napari_medseg.events import Work
from napari_medseg.geometry import Shape3, triple_of
from napari_medseg.inference.results.softness import Softness
from napari_medseg.inference.suitability import sampled
from napari_medseg.models.file import Model
from napari_medseg.models.trust import Signs
from napari_medseg.volume import Grid, Volume

Values = npt.NDArray[np.float32]
MOST_CELLS = 96
"""Cells along an axis: of an image with more voxels, some voxels make a cell."""
_QUANTILES = (5, 25, 50, 75, 95)


class Cells:
    """An image in coarse cells: sums over the voxels of each, in stored order."""

    def __init__(self, shape: Shape3) -> None:
        self.edges = tuple(-(-n // MOST_CELLS) for n in shape)
        """Voxels of a cell along each axis; the last one of an axis may have fewer."""
        self._shape = shape
        self.sums = np.zeros([-(-n // edge) for n, edge in zip(shape, self.edges, strict=True)], np.float32)

    def add(self, box: Box, values: Values) -> None:
        """The values of a box of the image."""
        places = []
        for axis, (side, edge) in enumerate(zip(box, self.edges, strict=True)):
            cells = np.arange(side.start, side.stop) // edge
            starts = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))
            values = np.add.reduceat(values, starts, axis=axis)
            places.append(slice(int(cells[0]), int(cells[-1]) + 1))
        self.sums[tuple(places)] += values

    @property
    def means(self) -> Values:
        """Per voxel."""
        counts = [np.diff([*range(0, n, edge), n]) for n, edge in zip(self._shape, self.edges, strict=True)]
        z, y, x = counts
        return np.asarray(self.sums / (z[:, None, None] * y[:, None] * x), np.float32)

    def box(self, cells: Sequence[slice]) -> Box:
        """The voxels of a box of cells."""
        return triple_of(
            slice(part.start * edge, min(n, part.stop * edge))
            for part, edge, n in zip(cells, self.edges, self._shape, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Look:
    """What a case looks like to a model."""

    case: str
    grid: Grid
    bits: tuple[Values, Values, Values]
    """The doubt of each slice along z, y and x: its entropy in bits, summed over its voxels."""
    doubt: Cells
    """The entropy in bits."""
    foreground: Cells
    """The probability of any label."""
    voxels: tuple[int, ...]
    """Of each label."""
    signs: Signs
    """What Dice to expect is told from."""
    intensities: tuple[float, ...]
    """Quantiles of each channel, over the spread of that channel in this image."""


def looking(volume: Volume, model: Model, case: str, device: str, overlap: float) -> Work[Look]:
    """Run a model on a volume and look at its doubts; yields a Progress per window."""
    plan, predictor = opened(volume, model, device, overlap)
    shape = volume.grid.shape
    bits = tuple(np.zeros(n, np.float64) for n in shape)
    doubt, foreground = Cells(shape), Cells(shape)
    softness = Softness(len(plan.spec.label_ids))
    for event in streamed(volume, plan, predictor):
        if not isinstance(event, Seen):
            yield event
            continue
        p = (event.logits / model.spec.trust.temperature).softmax(0)
        softness.add(p)
        entropy = (torch.special.entr(p).sum(0) / math.log(2)).cpu().numpy()
        doubt.add(event.box, entropy)
        foreground.add(event.box, (1 - p[0]).cpu().numpy())
        for axis, side in enumerate(event.box):
            bits[axis][side] += entropy.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
    z, y, x = (profile.astype(np.float32) for profile in bits)
    return Look(
        case,
        volume.grid,
        (z, y, x),
        doubt,
        foreground,
        softness.voxels,
        softness.signs(volume.grid.voxel_volume_mm3),
        tuple(value for c in range(len(volume.channels)) for value in _quantiles(volume.data, c)),
    )


def _quantiles(data: Any, channel: int) -> list[float]:
    """How the intensities of a channel are spread, whatever its unit: 0 at the median, 1 a half of the spread above."""
    values = np.asarray(sampled(data, channel), np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return [0.0] * len(_QUANTILES)
    found = np.percentile(values, _QUANTILES)
    return [float(q) for q in (found - found[2]) / max(1e-9, found[-1] - found[0])]
