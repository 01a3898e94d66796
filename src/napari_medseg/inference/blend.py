"""Overlapping windows blended in a rolling accumulator, and final logits turned into labels on the image's grid.

Shapes: the accumulator is (depth, K, Y, X) for K classes: a ring of planes in the padded model grid. Plane p of that
grid lies at p % depth. No array of classes x volume exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.arrays.boxes import chunk_edges
from napari_medseg.geometry import AxisMap, AxisOrder, Shape3
from napari_medseg.inference.plan import Maps, ring_depth
from napari_medseg.inference.windows import Windows
from napari_medseg.transforms.spatial import resample_axis


class RollingLogits:
    """Weighted logits of the planes that windows still overlap, or that the output is still interpolated from.

    maps: from the model's grid to that of the output. averaged: whether to divide by the summed weights even where
    nothing is interpolated: for outputs that need the logits themselves, and not only which is the largest.
    """

    def __init__(
        self, classes: int, windows: Windows, maps: Maps, device: torch.device, *, averaged: bool = False
    ) -> None:
        self.device = device
        self._maps = maps
        self._crop = tuple(
            slice(before, before + n) for before, n in zip(windows.pad_before, windows.shape, strict=True)
        )
        self._depth = ring_depth(windows, maps)
        self._ring = torch.zeros((self._depth, classes, *windows.padded[1:]), device=device)
        # All classes of a voxel have the same summed weight: dividing by it does not change which is the largest.
        # Interpolation mixes voxels of different weights, and needs the means.
        averaged = averaged or not all(m.is_identity for m in maps)
        self._weights = torch.zeros((self._depth, *windows.padded[1:]), device=device) if averaged else None
        self._divided = 0
        """Model planes (padded) before it are means."""
        self._emitted = 0
        """Output planes before it were handed out."""
        self._cleared = 0
        """Model planes (padded) before it are zeros again, for the planes that take their places in the ring."""

    def add(self, corner: Shape3, logits: torch.Tensor, weight: torch.Tensor) -> None:
        """Add a window's logits (K, z, y, x) times weight (z, y, x) at its first voxel; changes the logits in place."""
        weighted = logits.mul_(weight).transpose(0, 1)  # in place: a copy is another array of classes x window
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
        """The output planes that need no model plane from `following` (padded) on: (index, logits (K, Y, X)).

        Logits are 0 where there was no window. They may be a view of the accumulator: use them before the next ones.
        """
        first_z = self._crop[0].start
        final = min(max(0, following - first_z), self._crop[0].stop - first_z)  # without the padding
        self._divide(following)
        along_z = self._maps[0]
        for k in range(self._emitted, along_z.ready(final)):
            yield k, self._logits_of(k, along_z)
            self._emitted = k + 1
        # Planes that are final may still be needed: the next output plane is interpolated from them.
        everything = self._emitted == len(along_z.first)
        needed = following if everything else int(along_z.first[self._emitted]) + first_z
        self._clear(min(needed, following))

    def _divide(self, stop: int) -> None:
        """Turn sums into means on the planes that became final, those before `stop`."""
        if self._weights is not None:
            for plane in range(self._divided, stop):
                weights = self._weights[plane % self._depth]
                # No window, no weight: 0 / 1 leaves the logits 0.
                self._ring[plane % self._depth].div_(weights.masked_fill(weights == 0, 1))
        self._divided = stop

    def _clear(self, stop: int) -> None:
        """Make room in the ring: set the planes before `stop` to zero."""
        for plane in range(self._cleared, stop):
            self._ring[plane % self._depth].zero_()
            if self._weights is not None:
                self._weights[plane % self._depth].zero_()
        self._cleared = max(self._cleared, stop)

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
    """The class (Y, X) of the largest of the logits (K, Y, X); the first one of several that are equal."""
    # Class by class: torch's argmax along the first axis took 3 to 12 times as long on a CPU (24 and 3 classes).
    best = logits[0].clone()
    classes = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    for k in range(1, len(logits)):
        classes.masked_fill_(logits[k] > best, k)
        torch.maximum(best, logits[k], out=best)
    return classes


class LabelWriter:
    """Class indices, plane by plane, into a label array in its stored order.

    labels: the array to fill. order: from its stored axes to those of the planes. Whole rows of chunks are written at a
    time: a store would have to read, decode and encode again a chunk that is written in part.
    """

    def __init__(self, labels: Any, order: AxisOrder, label_ids: tuple[int, ...]) -> None:
        self._labels = labels
        self._order = order
        self._stored_shape: Shape3 = labels.shape
        self._shape = order.shape(self._stored_shape)
        self._ids = np.asarray(label_ids, dtype=labels.dtype)
        self._ends = self._row_ends()
        self._buffer: list[npt.NDArray[np.generic]] = []
        """The planes of a row that is not whole yet, from `_start` on."""
        self._start = 0

    def _row_ends(self) -> set[int]:
        """The numbers of planes after which a row of chunks is whole."""
        if isinstance(self._labels, np.ndarray):
            return set(range(1, self._shape[0] + 1))
        edges = chunk_edges(self._labels, self._order.axes[0])
        n = self._shape[0]
        # Planes that come in flipped order fill the last row of chunks first.
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
