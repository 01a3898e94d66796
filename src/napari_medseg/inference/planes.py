"""The planes of a volume as a network wants them: in its axis order, normalised, at its spacing, read once each.

Shapes: stored data (C, *stored zyx); everything handed out is (C, planes, Y, X) in the model's axis order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.arrays.boxes import chunk_edges
from napari_medseg.errors import FileError
from napari_medseg.geometry import AxisMap, AxisOrder, Shape3
from napari_medseg.transforms.intensity import Float32Array, as_float32, standardise, statistics
from napari_medseg.transforms.spatial import resample_axis
from napari_medseg.volume import Grid, Volume

if TYPE_CHECKING:
    from napari_medseg.models.spec import ModelSpec, Normalisation

Maps = tuple[AxisMap, AxisMap, AxisMap]


class PlaneReader:
    """Stored planes in the model's axis order, decoded one row of chunks at a time and each row once per pass."""

    def __init__(self, volume: Volume, order: AxisOrder) -> None:
        self._data = volume.data
        self._name = volume.name
        self._order = order
        self._stored_shape = volume.grid.shape
        self.shape = order.shape(volume.grid.shape)
        self._rows = self._chunk_rows(chunk_edges(volume.data, 1 + order.axes[0]))
        self._row: tuple[int, int] = (0, 0)
        self._block: npt.NDArray[np.generic] | None = None

    def _chunk_rows(self, edges: list[int]) -> list[tuple[int, int]]:
        rows = list(zip([0, *edges[:-1]], edges, strict=True))
        if self._order.flips[0]:
            n = self.shape[0]
            rows = [(n - stop, n - start) for start, stop in reversed(rows)]
        return rows

    def read(self, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Planes [start, stop) as stored values, (C, stop - start, Y, X); cheap when called in ascending order."""
        parts = []
        for row in self._rows:
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
                stored = np.asarray(self._data[(slice(None), *source)])
            except (OSError, RuntimeError, ValueError) as error:
                where = ", ".join(f"{s.start}:{s.stop}" for s in source)
                raise FileError(
                    f"{self._name or 'volume'}: voxels [{where}] cannot be read ({error}): check the store's files"
                ) from error
            self._block, self._row = self._order.apply(stored), row
        return self._block

    def channel_blocks(self, channel: int) -> Iterator[npt.NDArray[np.generic]]:
        """All planes of a channel, row of chunks by row of chunks."""
        for start, stop in self._rows:
            yield self.read(start, stop)[channel]


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
    def of(cls, rule: Normalisation, reader: PlaneReader, channel: int, name: str) -> Normaliser:
        """The rule of a model, with the image's own statistics where the rule asks for them (one streaming pass)."""
        if rule.kind == "zscore":
            found = statistics(reader.channel_blocks(channel), name)
            return cls(None, None, found.mean, found.std)
        if rule.kind == "clip_zscore":
            assert rule.mean is not None, "the model file's schema holds all four"
            assert rule.std is not None
            return cls(rule.low, rule.high, rule.mean, rule.std)
        return cls(None, None, 0.0, 1.0)


class ModelPlanes:
    """The planes of a volume on the model's grid: reordered, normalised, resampled."""

    guides = 0
    """None of the channels is a guide: see `stream.PlaneSource`."""

    def __init__(self, volume: Volume, spec: ModelSpec) -> None:
        self.order = axis_order(volume.grid, spec)
        self._reader = PlaneReader(volume, self.order)
        image_grid = volume.grid.reordered(self.order)
        self.grid = image_grid if spec.spacing_zyx_mm is None else model_grid(image_grid, spec.spacing_zyx_mm)
        self.shape: Shape3 = self.grid.shape
        self.to_model = axis_maps(image_grid.shape, self.grid.shape)
        self.to_image = axis_maps(self.grid.shape, image_grid.shape)
        self.image_shape: Shape3 = image_grid.shape
        self._normalisers = [
            Normaliser.of(rule, self._reader, c, f"{volume.name or 'volume'}, {volume.channels[c]}")
            for c, rule in enumerate(spec.normalisation)
        ]

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Model planes [start, stop): (C, stop - start, Y, X) float32 on the CPU."""
        first, last = self.to_model[0].needs(start, stop)
        stored = self._reader.read(first, last)
        planes = torch.from_numpy(np.stack([f(stored[c]) for c, f in enumerate(self._normalisers)]))
        planes = resample_axis(planes, self.to_model[0], 1, slice(start, stop), offset=first)
        return resample_axis(resample_axis(planes, self.to_model[1], 2), self.to_model[2], 3)


def axis_order(grid: Grid, spec: ModelSpec) -> AxisOrder:
    """The reordering from the image's axes to those the model was trained in; none where the model states none."""
    return AxisOrder.between(grid.orientation, spec.orientation or grid.orientation)


def model_grid(image_grid: Grid, spacing_zyx_mm: tuple[float, float, float]) -> Grid:
    """The grid at the model's spacing; the image's own where they agree to 1 %."""
    close = all(abs(a - b) <= 0.01 * b for a, b in zip(image_grid.spacing, spacing_zyx_mm, strict=True))
    return image_grid if close else image_grid.with_spacing(spacing_zyx_mm)


def axis_maps(old: Shape3, new: Shape3) -> Maps:
    """Per axis the linear map from the samples of one grid to those of another over the same box."""
    z, y, x = (AxisMap.between(a, b) for a, b in zip(old, new, strict=True))
    return z, y, x
