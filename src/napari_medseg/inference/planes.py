"""The planes of a volume as a network wants them: in its axis order, normalised, at its spacing, read once each.

Shapes: stored data (C, *stored zyx); everything handed out is (C, planes, Y, X) in the model's axis order.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.arrays.boxes import chunk_edges
from napari_medseg.errors import FileError
from napari_medseg.events import Progress
from napari_medseg.geometry import AxisOrder, Shape3
from napari_medseg.transforms.intensity import Float32Array, RunningStatistics, Statistics, as_float32, standardise
from napari_medseg.transforms.spatial import resample_axis
from napari_medseg.volume import Volume

if TYPE_CHECKING:
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.models.spec import Normalisation

ChannelStatistics = tuple[Statistics | None, ...]
"""Per channel of the image its statistics; None where no normalisation asks for them."""


class PlaneReader:
    """Stored planes in the model's axis order, decoded one row of chunks at a time.

    Reading in ascending order decodes each row of chunks once, and keeps one of them.
    """

    def __init__(self, volume: Volume, order: AxisOrder) -> None:
        self.volume = volume
        self._order = order
        self._stored_shape = volume.grid.shape
        self.shape = order.shape(volume.grid.shape)
        self.rows = self._rows(chunk_edges(volume.data, 1 + order.axes[0]))
        """The planes [start, stop) of each row of chunks, ascending."""
        self._row: tuple[int, int] = (0, 0)
        self._block: npt.NDArray[np.generic] | None = None

    def _rows(self, edges: list[int]) -> list[tuple[int, int]]:
        rows = list(zip([0, *edges[:-1]], edges, strict=True))
        if self._order.flips[0]:
            n = self.shape[0]
            rows = [(n - stop, n - start) for start, stop in reversed(rows)]
        return rows

    def read(self, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Planes [start, stop) as stored values, (C, stop - start, Y, X)."""
        parts = []
        for row in self.rows:
            if row[0] < stop and row[1] > start:
                block = self._load(row)
                parts.append(block[:, max(start, row[0]) - row[0] : min(stop, row[1]) - row[0]])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _load(self, row: tuple[int, int]) -> npt.NDArray[np.generic]:
        if self._block is None or row != self._row:
            self._block = None  # freed before the next is decoded
            window = (slice(*row), slice(0, self.shape[1]), slice(0, self.shape[2]))
            source = self._order.source_slices(window, self._stored_shape)
            try:
                stored = np.asarray(self.volume.data[(slice(None), *source)])
            except (OSError, RuntimeError, ValueError) as error:
                where = ", ".join(f"{s.start}:{s.stop}" for s in source)
                raise FileError(
                    f"{self.volume.name or 'volume'}: voxels [{where}] cannot be read ({error}): check the store's "
                    f"files"
                ) from error
            self._block, self._row = self._order.apply(stored), row
        return self._block


def measuring(reader: PlaneReader, plan: InferencePlan) -> Generator[Progress, None, ChannelStatistics]:
    """Measure the channels that a normalisation of the plan asks for, in one pass over the image.

    Both stages of a cascade are served by the same pass. Yields a Progress per row of chunks where there are several.
    Raises InputError for a channel without a finite voxel, FileError where the image cannot be read.
    """
    specs = [plan.spec] if plan.first is None else [plan.spec, plan.first.spec]
    rules = zip(*(spec.normalisation for spec in specs), strict=True)
    wanted = [c for c, of_stages in enumerate(rules) if any(rule.kind == "zscore" for rule in of_stages)]
    volume = reader.volume
    found: list[Statistics | None] = [None] * len(volume.channels)
    if not wanted:
        return tuple(found)
    running = RunningStatistics([f"{volume.name or 'volume'}, {volume.channels[c]}" for c in wanted])
    for done, (start, stop) in enumerate(reader.rows, start=1):
        block = reader.read(start, stop)
        running.add([block[c] for c in wanted])
        if len(reader.rows) > 1:
            yield Progress(done, len(reader.rows), "statistics")
    for c, statistics in zip(wanted, running.result(), strict=True):
        found[c] = statistics
    return tuple(found)


@dataclass(frozen=True)
class Normaliser:
    """One channel's normalisation with its numbers filled in."""

    low: float | None
    high: float | None
    mean: float
    std: float

    def __call__(self, block: npt.NDArray[np.generic]) -> Float32Array:
        values = as_float32(block)
        if self.low is not None:
            values = np.clip(values, np.float32(self.low), np.float32(self.high))
        return standardise(values, self.mean, self.std)

    @classmethod
    def of(cls, rule: Normalisation, statistics: Statistics | None) -> Normaliser:
        """The rule of a model; the image's own statistics are needed where its kind is zscore."""
        if rule.kind == "zscore":
            assert statistics is not None, "what a rule asks for was measured"
            return cls(None, None, statistics.mean, statistics.std)
        if rule.kind == "clip_zscore":
            assert rule.mean is not None, "the model file's schema holds all four"
            assert rule.std is not None
            return cls(rule.low, rule.high, rule.mean, rule.std)
        return cls(None, None, 0.0, 1.0)


class ModelPlanes:
    """The planes of a volume on the model's grid: reordered, normalised, resampled."""

    guides = 0
    """No channel is a guide: see `stream.PlaneSource`."""

    def __init__(self, reader: PlaneReader, plan: InferencePlan, statistics: ChannelStatistics) -> None:
        self._reader = reader
        self._to_model = plan.to_model
        self.shape: Shape3 = plan.grid.shape
        self._normalisers = [Normaliser.of(*pair) for pair in zip(plan.spec.normalisation, statistics, strict=True)]

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Model planes [start, stop): (C, stop - start, Y, X) float32 on the CPU."""
        along_z, along_y, along_x = self._to_model
        first, last = along_z.needs(start, stop)
        stored = self._reader.read(first, last)
        planes = torch.from_numpy(np.stack([f(stored[c]) for c, f in enumerate(self._normalisers)]))
        planes = resample_axis(planes, along_z, 1, slice(start, stop), offset=first)
        return resample_axis(resample_axis(planes, along_y, 2), along_x, 3)
