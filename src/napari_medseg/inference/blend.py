"""Overlapping windows blended in a rolling accumulator, and final logits turned into labels on the image's grid.

Shapes: the accumulator is (depth, K, Y, X) for K classes: a ring of planes in the padded model grid. No array of
classes x volume exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.arrays.boxes import chunk_edges
from napari_medseg.geometry import AxisMap, AxisOrder, Shape3
from napari_medseg.inference.planes import Maps
from napari_medseg.inference.windows import Windows
from napari_medseg.transforms.spatial import resample_axis


class RollingLogits:
    """Weighted logits of the planes that windows still overlap or that the output still interpolates from.

    maps: per axis from the model's grid to that of the output. averaged: whether the sums are made means although
    nothing interpolates them, for outputs that need the logits themselves and not only which is the largest.
    """

    def __init__(
        self, classes: int, windows: Windows, maps: Maps, device: torch.device, *, averaged: bool = False
    ) -> None:
        self._maps = maps
        self._crop = tuple(
            slice(before, before + n) for before, n in zip(windows.pad_before, windows.shape, strict=True)
        )
        self._depth = ring_depth(windows, maps)
        self._ring = torch.zeros((self._depth, classes, *windows.padded[1:]), device=device)
        # The largest class is the same without dividing by the summed weights, until logits are interpolated.
        averaged = averaged or not all(m.is_identity for m in maps)
        self._weights = torch.zeros((self._depth, *windows.padded[1:]), device=device) if averaged else None
        self._final = 0
        self._emitted = 0
        self._cleared = 0

    def add(self, corner: Shape3, logits: torch.Tensor, weight: torch.Tensor) -> None:
        """Add a window's logits (K, z, y, x), multiplied in place by weight (z, y, x), at its first voxel."""
        weighted = logits.mul_(weight).transpose(0, 1)
        z, y, x = corner
        n, _, height, width = weighted.shape
        done = 0
        while done < n:  # at most twice: the ring wraps once
            at = (z + done) % self._depth
            count = min(n - done, self._depth - at)
            self._ring[at : at + count, :, y : y + height, x : x + width] += weighted[done : done + count]
            if self._weights is not None:
                self._weights[at : at + count, y : y + height, x : x + width] += weight[done : done + count]
            done += count

    def finish(self, following: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Logits (K, Y, X) of each output plane that needs no model plane from `following` (padded) on.

        They are 0 where there was no window.
        """
        first_z = self._crop[0].start
        final = min(max(0, following - first_z), self._crop[0].stop - first_z)
        self._divide(following)
        along_z = self._maps[0]
        for k in range(self._emitted, along_z.ready(final)):
            yield k, self._logits_of(k, along_z)
            self._emitted = k + 1
        count = len(along_z.first)
        keep = int(along_z.first[self._emitted]) + first_z if self._emitted < count else following
        for plane in range(self._cleared, min(keep, following)):
            self._ring[plane % self._depth].zero_()
            if self._weights is not None:
                self._weights[plane % self._depth].zero_()
        self._cleared = max(self._cleared, min(keep, following))

    def _divide(self, following: int) -> None:
        """Turn sums into means on the planes that became final."""
        if self._weights is not None:
            for plane in range(self._final, following):
                weights = self._weights[plane % self._depth]
                self._ring[plane % self._depth].div_(weights.masked_fill(weights == 0, 1))
        self._final = following

    def _logits_of(self, k: int, along_z: AxisMap) -> torch.Tensor:
        first = int(along_z.first[k]) + self._crop[0].start
        _, ys, xs = self._crop
        planes = [self._ring[(first + t) % self._depth][:, ys, xs] for t in range(along_z.taps)]
        logits = planes[0]
        if along_z.taps > 1:
            logits = planes[0] * float(along_z.weights[k, 0])
            for t in range(1, along_z.taps):
                logits.add_(planes[t], alpha=float(along_z.weights[k, t]))
        return resample_axis(resample_axis(logits, self._maps[1], 1), self._maps[2], 2)


def classes_of(logits: torch.Tensor) -> torch.Tensor:
    """The first class (Y, X) with the largest of the logits (K, Y, X)."""
    best = logits[0].clone()
    classes = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    for k in range(1, len(logits)):
        classes.masked_fill_(logits[k] > best, k)
        torch.maximum(best, logits[k], out=best)
    return classes


def ring_depth(windows: Windows, maps: Maps) -> int:
    """Planes the accumulator holds: a window, and those that interpolation to the output's planes still needs."""
    return windows.window[0] + maps[0].taps - 1


class LabelWriter:
    """Class indices plane by plane into a label array in its stored order, whole rows of chunks at a time."""

    def __init__(self, labels: Any, order: AxisOrder, label_ids: tuple[int, ...]) -> None:
        self._labels = labels
        self._order = order
        self._stored_shape: Shape3 = labels.shape
        self._shape = order.shape(self._stored_shape)
        self._ids = np.asarray(label_ids, dtype=labels.dtype)
        self._ends = self._row_ends()
        self._buffer: list[npt.NDArray[np.generic]] = []
        self._start = 0

    def _row_ends(self) -> set[int]:
        if isinstance(self._labels, np.ndarray):
            return set(range(1, self._shape[0] + 1))
        edges = chunk_edges(self._labels, self._order.axes[0])
        n = self._shape[0]
        return {n - e for e in [0, *edges[:-1]]} if self._order.flips[0] else set(edges)

    def put(self, classes: torch.Tensor) -> None:
        """The class indices (Y, X) of the next plane."""
        self._buffer.append(self._ids[classes.cpu().numpy()])
        stop = self._start + len(self._buffer)
        if stop not in self._ends:
            return
        window = (slice(self._start, stop), slice(0, self._shape[1]), slice(0, self._shape[2]))
        block = self._order.inverse.apply(np.stack(self._buffer))
        self._labels[self._order.source_slices(window, self._stored_shape)] = block
        self._buffer, self._start = [], stop
