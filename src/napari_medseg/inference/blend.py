"""Logits of windows made into logits of the output, piece by piece: blended, or of the window a voxel lies deepest in.

Shapes: logits of a window are (K, z, y, x) for K classes; sums of blended ones exist where windows still
overlap. No array of classes x volume exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from napari_medseg.arrays.boxes import Box, is_empty
from napari_medseg.geometry import Shape3, triple_of
from napari_medseg.inference.plan import Maps
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


_PLANES, _ROWS = 8, 16
"""Planes and rows of a block of `_Sums`: smaller ones are freed earlier, and take more calls."""


class _Sums:
    """Sums (C, z, y, x) over a grid of which a part exists: blocks of some planes and rows, made where they are needed.

    Planes count as in the padded grid, rows and columns from those of the region on.
    """

    def __init__(self, channels: int, height: int, width: int, device: torch.device) -> None:
        self._shape = (channels, height, width)
        self._device = device
        self._blocks: dict[tuple[int, int], torch.Tensor] = {}
        """(planes, C, rows, x) by (first plane / _PLANES, first row / _ROWS)."""
        self._spare: list[torch.Tensor] = []
        """Blocks of the full size that are used again: a heap in which they come and go grows by gaps."""

    def move(self, device: torch.device) -> None:
        """Have all sums on another device."""
        self._device = device
        self._blocks = {at: block.to(device) for at, block in self._blocks.items()}
        self._spare.clear()

    def add(self, corner: Shape3, values: torch.Tensor, first: int = 0) -> None:
        """Add values (z, C, y, x) of some channels, from the channel `first` on."""
        z, y, x = corner
        depth, channels, height, width = values.shape
        for p, planes in _split(z, z + depth, _PLANES):
            for r, rows in _split(y, y + height, _ROWS):
                part = values[_moved(planes, p * _PLANES - z), :, _moved(rows, r * _ROWS - y)]
                self._block(p, r)[planes, first : first + channels, rows, x : x + width] += part

    def divide(self, planes: slice, rows: slice, by: _Sums) -> None:
        """Divide by sums of one channel; where those are 0, these stay 0."""
        for p, inner in _split(planes.start, planes.stop, _PLANES):
            for r, row in _split(rows.start, rows.stop, _ROWS):
                if (p, r) in self._blocks:
                    weights = by._block(p, r)[inner, :, row]
                    self._blocks[p, r][inner, :, row].div_(weights.masked_fill(weights == 0, 1))

    def plane(self, plane: int, rows: slice) -> torch.Tensor:
        """(C, y, x): some rows of a plane, 0 where there is no block."""
        found = [self._of(plane, r, inner) for r, inner in _split(rows.start, rows.stop, _ROWS)]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def forget(self, plane: int, row: int) -> None:
        """Give up the blocks that lie before this plane and this row, for others to take their place."""
        done = [(p, r) for p, r in self._blocks if (p + 1) * _PLANES <= plane and self._stop(r) <= row]
        for at in done:
            block = self._blocks.pop(at)
            if block.shape[2] == _ROWS:
                self._spare.append(block)

    def _stop(self, r: int) -> int:
        return min((r + 1) * _ROWS, self._shape[1])

    def _of(self, plane: int, r: int, rows: slice) -> torch.Tensor:
        channels, _, width = self._shape
        block = self._blocks.get((plane // _PLANES, r))
        if block is None:
            return torch.zeros((channels, rows.stop - rows.start, width), device=self._device)
        return block[plane % _PLANES, :, rows]

    def _block(self, p: int, r: int) -> torch.Tensor:
        if (p, r) not in self._blocks:
            channels, _, width = self._shape
            rows = self._stop(r) - r * _ROWS
            if rows == _ROWS and self._spare:
                self._blocks[p, r] = self._spare.pop().zero_()
            else:
                self._blocks[p, r] = torch.zeros((_PLANES, channels, rows, width), device=self._device)
        return self._blocks[p, r]


def _split(start: int, stop: int, size: int) -> Iterator[tuple[int, slice]]:
    """The blocks of `size` that [start, stop) touches: each with its number, and what of it is touched."""
    for number in range(start // size, -(-stop // size)):
        yield number, slice(max(start - number * size, 0), min(stop - number * size, size))


def _moved(side: slice, by: int) -> slice:
    return slice(side.start + by, side.stop + by)


class RollingLogits:
    """Weighted logits of what windows still overlap, or what the output is still interpolated from.

    maps: from the model's grid to that of the output. averaged: whether to divide by the summed weights even where
    nothing is interpolated: for outputs that need the logits themselves, and not only which is the largest. summed:
    never divide: shares add up. region: the part of the output; by default all of it. strips: whether the rows of
    planes are handed out as soon as they are final; else planes are whole.
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
        strips: bool = False,
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
        height, width = (side.stop - side.start for side in self._inner[1:])
        self._height = height
        self._sums = _Sums(classes, height, width, device)
        # All classes of a voxel have the same summed weight: dividing by it does not change which is the largest.
        # Interpolation mixes voxels of different weights, and needs the means.
        averaged = not summed and (averaged or not all(m.is_identity for m in maps))
        self._weights = _Sums(1, height, width, device) if averaged else None
        self._weight: torch.Tensor | None = None
        self._strips = strips
        self._at_once = classes
        """Classes whose logits are moved to the sums at once."""
        self._divided, self._divided_rows = self._inner[0].start, 0
        """Model planes (padded) before it are means, and of those that become final next the rows before it."""
        self._emitted, self._emitted_rows = region.box[0].start, region.box[1].start
        """Output planes before it were handed out, and of those that become final next the rows before it."""

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
        self._sums.move(self.device)
        if self._weights is not None:
            self._weights.move(self.device)
        self._weight = None if self._weight is None else self._weight.cpu()
        self._at_once = 4

    def add(self, corner: Shape3, logits: torch.Tensor, weight: torch.Tensor) -> None:
        """Add a window's logits (K, z, y, x) times weight (z, y, x) at its first voxel; changes the logits in place."""
        # What lies beyond the region is left out; in the rest each sum has the same terms in the same order.
        cut = tuple(
            slice(max(0, side.start - c), min(n, side.stop - c))
            for c, n, side in zip(corner, self._window, self._inner, strict=True)
        )
        z, y, x = (c + part.start - side.start for c, part, side in zip(corner, cut, self._inner, strict=True))
        at = (z + self._inner[0].start, y, x)
        weight = weight[cut]
        for first in range(0, len(logits), self._at_once):
            some = logits[first : first + self._at_once].to(self.device)
            weighted = some[(slice(None), *cut)].mul_(weight)  # in place: a copy is another window
            self._sums.add(at, weighted.transpose(0, 1), first)
        if self._weights is not None:
            self._weights.add(at, weight[:, None])

    def finish(self, following: int, row: int | None = None) -> Iterator[Piece]:
        """The output planes that need no model plane from `following` (padded) on.

        row: of these planes, the rows before it (padded) are final; by default all are. Logits are 0 where there was no
        window. They may be a view of the accumulator: use them before the next ones.
        """
        if row is not None and not self._strips:
            return
        rows = self._height if row is None else min(max(0, row - self._inner[1].start), self._height)
        stop = self._box[1].stop if row is None else self._final_rows(rows)
        self._divide(min(following, self._inner[0].stop), rows)
        last = self.final(following)
        for k in range(self._emitted, last) if stop > self._emitted_rows else ():
            strip = slice(self._emitted_rows, stop)
            yield Piece((slice(k, k + 1), strip, self._box[2]), self._logits_of(k, strip)[:, None])
        self._emitted_rows = max(self._emitted_rows, stop)
        # Planes and rows that are final may still be needed: the next ones of the output are interpolated from them.
        along_z, along_y = self._maps[:2]
        needed, needed_row = min(following, self._inner[0].stop), self._height
        if last < self._box[0].stop:
            needed = min(needed, int(along_z.first[last]) + self._first_z)
        if self._emitted_rows < self._box[1].stop:
            needed_row = min(rows, int(along_y.first[self._emitted_rows]) - self.source[1].start)
        for sums in (self._sums, self._weights):
            if sums is not None:
                sums.forget(needed, needed_row)
        if row is None:
            self._emitted, self._emitted_rows = last, self._box[1].start
            self._divided, self._divided_rows = max(self._divided, min(following, self._inner[0].stop)), 0

    def final(self, following: int) -> int:
        """The output plane before which all is final once no window reaches before the plane `following`."""
        ready: int = self._maps[0].ready(min(max(0, following - self._first_z), self._maps[0].n_old))
        last: int = self._box[0].stop
        emitted: int = self._emitted
        return max(emitted, min(ready, last))

    def _final_rows(self, rows: int) -> int:
        """The output row before which all is final once the first `rows` of the model's are."""
        ready: int = self._maps[1].ready(min(rows + self.source[1].start, self._maps[1].n_old))
        last: int = self._box[1].stop
        emitted: int = self._emitted_rows
        return max(emitted, min(ready, last))

    def _divide(self, stop: int, rows: int) -> None:
        """Turn sums into means in the planes before `stop` that became final, in the rows before `rows`."""
        if self._weights is not None and rows > self._divided_rows and stop > self._divided:
            self._sums.divide(slice(self._divided, stop), slice(self._divided_rows, rows), self._weights)
        self._divided_rows = max(self._divided_rows, rows)

    def _logits_of(self, k: int, strip: slice) -> torch.Tensor:
        """The logits (K, y, x) of some rows of an output plane."""
        along_z, along_y, along_x = self._maps
        start, stop = along_y.needs(strip.start, strip.stop)
        rows = slice(start - self.source[1].start, stop - self.source[1].start)
        first = int(along_z.first[k]) + self._first_z
        logits = self._sums.plane(first, rows)
        if along_z.taps > 1:
            logits = logits * float(along_z.weights[k, 0])
            for t in range(1, along_z.taps):
                logits.add_(self._sums.plane(first + t, rows), alpha=float(along_z.weights[k, t]))
        logits = resample_axis(logits, along_y, 1, strip, offset=start)
        return resample_axis(logits, along_x, 2, self._box[2], offset=self.source[2].start)


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

    def finish(self, following: int, row: int | None = None) -> Iterator[Piece]:
        """Nothing is left: each window gave all that it decides."""
        return iter(())

    def final(self, following: int) -> int:
        """The output plane before which all is final once no window begins before `following` (padded)."""
        starts = self._starts[0]
        row = starts.index(following) if following in starts else len(starts)
        return min(max(int(self._box[0].start), int(self._edges[0][row])), int(self._box[0].stop))

    def _indices(self, corner: Shape3) -> Shape3:
        return triple_of(starts.index(c) for starts, c in zip(self._starts, corner, strict=True))

    def _outputs(self, indices: Shape3) -> Box:
        return triple_of(core.inside(i, side) for core, i, side in zip(self._cores, indices, self._box, strict=True))


def classes_of(logits: torch.Tensor) -> torch.Tensor:
    """The class of the largest of the logits (K, ...); the first one of several that are equal."""
    # Class by class: torch's argmax along the first axis took 3 to 12 times as long on a CPU (24 and 3 classes).
    best = logits[0].clone()
    classes = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    for k in range(1, len(logits)):
        classes.masked_fill_(logits[k] > best, k)
        torch.maximum(best, logits[k], out=best)
    return classes
