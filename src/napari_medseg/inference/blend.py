"""Logits of windows made into logits of the output, piece by piece: blended, or of the window a voxel lies deepest in.

Shapes: logits of a window are (K, z, y, x) for K classes; the ring of the blended ones is (depth, K, Y, X) over the
columns of a region: plane p of the padded model grid lies at p % depth. No array of classes x volume exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from napari_medseg.arrays.boxes import Box, is_empty
from napari_medseg.geometry import AxisMap, Shape3
from napari_medseg.inference.plan import Maps, ring_depth
from napari_medseg.inference.regions import Cores, Region, padded
from napari_medseg.inference.windows import WindowGrid, Windows
from napari_medseg.transforms.spatial import resample_axis


@dataclass(frozen=True)
class Piece:
    """A box of the output whose logits are final."""

    box: Box
    """In the output's grid, in the model's axis order."""
    logits: torch.Tensor
    """(K, z, y, x); valid until the next event is asked for: it may be a view of memory that is used again."""


class RollingLogits:
    """Weighted logits of the planes that windows still overlap, or that the output is still interpolated from.

    maps: from the model's grid to that of the output. averaged: whether to divide by the summed weights even where
    nothing is interpolated: for outputs that need the logits themselves, and not only which is the largest. summed:
    never divide: shares add up. region: the part of the output; by default all of it.
    """

    def __init__(
        self,
        classes: int,
        windows: Windows,
        maps: Maps,
        device: torch.device,
        *,
        averaged: bool = False,
        summed: bool = False,
        region: Region | None = None,
    ) -> None:
        self.device = device
        region = region or Region.whole(maps)
        self.source = region.source
        self._box = region.box
        self._maps = maps
        self._windows = windows
        self._window = windows.window
        self._inner = padded(region.source, windows)
        """What of the padded grid the output is made of: only that is summed."""
        self._first_z = self._inner[0].start - region.source[0].start
        self._depth = ring_depth(windows, maps)
        height, width = (side.stop - side.start for side in self._inner[1:])
        self._ring = torch.zeros((self._depth, classes, height, width), device=device)
        # All classes of a voxel have the same summed weight: dividing by it does not change which is the largest.
        # Interpolation mixes voxels of different weights, and needs the means.
        averaged = not summed and (averaged or not all(m.is_identity for m in maps))
        self._weights = torch.zeros((self._depth, height, width), device=device) if averaged else None
        self._weight: torch.Tensor | None = None
        self._at_once = classes
        """Classes whose logits are moved to the sums at once."""
        self._divided = self._cleared = self._inner[0].start
        """Model planes (padded) before them are means, and zeros again for those that take their places in the ring."""
        self._emitted = region.box[0].start
        """Output planes before it were handed out."""

    def wants(self, corner: Shape3) -> bool:
        """Whether the window at this corner reaches into what the output is made of."""
        return all(
            c + n > side.start and c < side.stop for c, n, side in zip(corner, self._window, self._inner, strict=True)
        )

    def take(self, corner: Shape3, logits: torch.Tensor) -> Iterator[Piece]:
        """Add a window's logits with a gaussian weight; no piece is final before `finish`."""
        if self._weight is None:
            self._weight = torch.from_numpy(self._windows.weight).to(self.device)
        self.add(corner, logits, self._weight)
        return iter(())

    def leave_device(self) -> None:
        """Sum in the memory of the CPU from now on, some classes after the other: the device needs its own."""
        self.device = torch.device("cpu")
        self._ring = self._ring.cpu()
        self._weights = None if self._weights is None else self._weights.cpu()
        self._weight = None if self._weight is None else self._weight.cpu()
        self._at_once = 4

    def add(self, corner: Shape3, logits: torch.Tensor, weight: torch.Tensor) -> None:
        """Add a window's logits (K, z, y, x) times weight (z, y, x) at its first voxel; changes the logits in place."""
        for first in range(0, len(logits), self._at_once):
            self._add(corner, logits[first : first + self._at_once].to(self.device), weight, first)

    def _add(self, corner: Shape3, logits: torch.Tensor, weight: torch.Tensor, first: int) -> None:
        """Add the logits of some classes, from the class `first` on; with the first class the weights are counted."""
        # What lies beyond the region is left out; in the rest each sum has the same terms in the same order.
        cut = tuple(
            slice(max(0, side.start - c), min(n, side.stop - c))
            for c, n, side in zip(corner, self._window, self._inner, strict=True)
        )
        weight = weight[cut]
        weighted = logits[(slice(None), *cut)].mul_(weight).transpose(0, 1)  # in place: a copy is another window
        z, y, x = (c + part.start - side.start for c, part, side in zip(corner, cut, self._inner, strict=True))
        z += self._inner[0].start
        n, classes, height, width = weighted.shape
        done = 0
        while done < n:  # at most twice: the ring wraps once
            at = (z + done) % self._depth
            count = min(n - done, self._depth - at)
            into = self._ring[at : at + count, first : first + classes, y : y + height, x : x + width]
            into += weighted[done : done + count]
            if self._weights is not None and first == 0:
                self._weights[at : at + count, y : y + height, x : x + width] += weight[done : done + count]
            done += count

    def finish(self, following: int) -> Iterator[Piece]:
        """The output planes that need no model plane from `following` (padded) on.

        Logits are 0 where there was no window. They may be a view of the accumulator: use them before the next ones.
        """
        self._divide(min(following, self._inner[0].stop))
        along_z, last = self._maps[0], self._box[0].stop
        for k in range(self._emitted, self.final(following)):
            yield Piece((slice(k, k + 1), *self._box[1:]), self._logits_of(k, along_z)[:, None])
            self._emitted = k + 1
        # Planes that are final may still be needed: the next output plane is interpolated from them.
        needed = following if self._emitted == last else int(along_z.first[self._emitted]) + self._first_z
        self._clear(min(needed, following, self._inner[0].stop))

    def final(self, following: int) -> int:
        """The output plane before which all is final once no window reaches before the plane `following`."""
        ready: int = self._maps[0].ready(min(max(0, following - self._first_z), self._maps[0].n_old))
        last: int = self._box[0].stop
        emitted: int = self._emitted
        return max(emitted, min(ready, last))

    def _divide(self, stop: int) -> None:
        """Turn sums into means on the planes that became final, those before `stop`."""
        if self._weights is not None:
            for plane in range(self._divided, stop):
                weights = self._weights[plane % self._depth]
                # No window, no weight: 0 / 1 leaves the logits 0.
                self._ring[plane % self._depth].div_(weights.masked_fill(weights == 0, 1))
        self._divided = max(self._divided, stop)

    def _clear(self, stop: int) -> None:
        """Make room in the ring: set the planes before `stop` to zero."""
        for plane in range(self._cleared, stop):
            self._ring[plane % self._depth].zero_()
            if self._weights is not None:
                self._weights[plane % self._depth].zero_()
        self._cleared = max(self._cleared, stop)

    def _logits_of(self, k: int, along_z: AxisMap) -> torch.Tensor:
        first = int(along_z.first[k]) + self._first_z
        planes = [self._ring[(first + t) % self._depth] for t in range(along_z.taps)]
        logits = planes[0]
        if along_z.taps > 1:
            logits = planes[0] * float(along_z.weights[k, 0])
            for t in range(1, along_z.taps):
                logits.add_(planes[t], alpha=float(along_z.weights[k, t]))
        for dim in (1, 2):
            logits = resample_axis(logits, self._maps[dim], dim, self._box[dim], offset=self.source[dim].start)
        return logits


class CoreLogits:
    """Logits of the one window that an output voxel lies deepest in: nothing is summed, and nothing is kept.

    Memory holds one window's logits, whatever the image's size. Windows depend on nothing but their own voxels.
    """

    def __init__(self, windows: WindowGrid, maps: Maps, region: Region | None = None) -> None:
        region = region or Region.whole(maps)
        self.source = region.source
        self._box = region.box
        self._starts = windows.starts_zyx
        z, y, x = (
            Cores(tuple(s - before for s in starts), n, axis)
            for starts, before, n, axis in zip(self._starts, windows.pad_before, windows.window, maps, strict=True)
        )
        self._cores = (z, y, x)
        self._edges = [core.edges for core in self._cores]

    def wants(self, corner: Shape3) -> bool:
        """Whether the window at this corner decides a voxel of the region."""
        return not is_empty(self._outputs(self._indices(corner)))

    def take(self, corner: Shape3, logits: torch.Tensor) -> Iterator[Piece]:
        """The voxels that the window at this corner decides, at once, or plane by plane where they are resampled."""
        indices = self._indices(corner)
        outputs = self._outputs(indices)
        maps = [core.map_of(i, side) for core, i, side in zip(self._cores, indices, outputs, strict=True)]
        if all(core.axis.is_identity for core in self._cores):
            cut = tuple(slice(int(m.first[0]), int(m.first[0]) + len(m.first)) for m in maps)
            yield Piece(outputs, logits[(slice(None), *cut)])
            return
        for i, k in enumerate(range(outputs[0].start, outputs[0].stop)):
            plane = resample_axis(logits, maps[0], 1, slice(i, i + 1))
            plane = resample_axis(resample_axis(plane, maps[1], 2), maps[2], 3)
            yield Piece((slice(k, k + 1), *outputs[1:]), plane)

    def finish(self, following: int) -> Iterator[Piece]:
        """Nothing is left: each window gave all that it decides."""
        return iter(())

    def final(self, following: int) -> int:
        """The output plane before which all is final once no window begins before `following` (padded)."""
        starts = self._starts[0]
        row = starts.index(following) if following in starts else len(starts)
        return min(max(int(self._box[0].start), int(self._edges[0][row])), int(self._box[0].stop))

    def _indices(self, corner: Shape3) -> Shape3:
        z, y, x = (starts.index(c) for starts, c in zip(self._starts, corner, strict=True))
        return z, y, x

    def _outputs(self, indices: Shape3) -> Box:
        z, y, x = (core.inside(i, side) for core, i, side in zip(self._cores, indices, self._box, strict=True))
        return z, y, x


def classes_of(logits: torch.Tensor) -> torch.Tensor:
    """The class of the largest of the logits (K, ...); the first one of several that are equal."""
    # Class by class: torch's argmax along the first axis took 3 to 12 times as long on a CPU (24 and 3 classes).
    best = logits[0].clone()
    classes = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    for k in range(1, len(logits)):
        classes.masked_fill_(logits[k] > best, k)
        torch.maximum(best, logits[k], out=best)
    return classes
