"""Regions: boxes of the output that are worked out on their own, and how an image is cut into them. Pure index code.

A window lies where volume and model put it, whatever the regions are. A region runs every window that it needs, in one
order, so that its labels do not depend on where the others begin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, whole
from napari_medseg.geometry import AxisMap, triple_of
from napari_medseg.inference.plan import Maps
from napari_medseg.inference.windows import Row, Windows


@dataclass(frozen=True)
class Region:
    """A box of the output's grid, in the model's axis order."""

    box: Box
    source: Box
    """The voxels of the model's grid (without padding) that the box is interpolated from."""

    @classmethod
    def of(cls, box: Box, maps: Maps) -> Region:
        """The region of a box. maps: from the model's grid to that of the output."""
        z, y, x = (slice(*axis.needs(side.start, side.stop)) for axis, side in zip(maps, box, strict=True))
        return cls(box, (z, y, x))

    @classmethod
    def whole(cls, maps: Maps) -> Region:
        """All of the output."""
        z, y, x = (len(axis.first) for axis in maps)
        return cls.of(whole((z, y, x)), maps)


def padded(box: Box, windows: Windows) -> Box:
    """A box of the model's grid in voxels of the padded grid."""
    return triple_of(
        slice(side.start + before, side.stop + before) for side, before in zip(box, windows.pad_before, strict=True)
    )


def rows_of(windows: Windows, source: Box) -> Iterator[Row]:
    """The rows of windows that reach into a box of the padded grid, each with those of its windows that do."""
    (depth, height, width), (zs, ys, xs) = windows.window, source
    for z, following, corners in windows.rows():
        if z + depth <= zs.start:
            continue
        if z >= zs.stop:
            return
        inside = [
            (y, x) for y, x in corners if y + height > ys.start and y < ys.stop and x + width > xs.start and x < xs.stop
        ]
        yield z, following, inside


@dataclass(frozen=True, eq=False)
class Cores:
    """Which window decides an output voxel, along one axis, where windows are not blended: the one it lies deepest in.

    The output is cut in the middle of the overlap of two windows.
    """

    starts: tuple[int, ...]
    """First voxels of the windows, in the grid without padding; the first may be negative."""
    window: int
    axis: AxisMap
    """From the model's samples to those of the output."""

    @cached_property
    def edges(self) -> npt.NDArray[np.int64]:
        """The output voxels of window i are [edges[i], edges[i + 1])."""
        middles = [(a + self.window + b) // 2 for a, b in zip(self.starts, self.starts[1:], strict=False)]
        anchors = self.axis.first + self.axis.weights.argmax(axis=1)  # the model's sample that counts most
        inner = np.searchsorted(anchors, middles, side="left")
        return np.array([0, *inner, len(anchors)], dtype=np.int64)

    def inside(self, index: int, wanted: slice) -> slice:
        """The output voxels of a window, in the part `wanted` of the axis; may be empty."""
        edges = self.edges
        start, stop = max(int(edges[index]), wanted.start), min(int(edges[index + 1]), wanted.stop)
        return slice(start, max(start, stop))

    def map_of(self, index: int, outputs: slice) -> AxisMap:
        """From the samples of a window to these output voxels; beyond the window its end samples are repeated."""
        first = self.axis.first[outputs] - self.starts[index]
        weights, taps, n = self.axis.weights[outputs], self.axis.taps, self.window
        kept = min(taps, n)
        begin = np.clip(first, 0, n - kept)
        if np.array_equal(begin, first):
            return AxisMap(first, weights, n)
        moved = np.zeros((len(first), kept), dtype=np.float32)
        rows = np.arange(len(first))
        for tap in range(taps):
            np.add.at(moved, (rows, np.clip(first + tap, 0, n - 1) - begin), weights[:, tap])
        return AxisMap(begin, moved, n)


def columns(edges: tuple[list[int], list[int]], widest: int) -> list[tuple[slice, slice]]:
    """Rows and columns (y, x) of an output in tiles of whole chunks, of about `widest` voxels each at most.

    edges: where the chunks end along y and x. A tile has one chunk at least. The tiles are square, because the windows
    at their borders run for both.
    """
    height, width = edges[0][-1], edges[1][-1]
    if height * width <= widest:
        return [(slice(0, height), slice(0, width))]
    y, x = (_grouped(ends, math.isqrt(widest)) for ends in edges)
    return list(itertools.product(y, x))


def _grouped(ends: list[int], longest: int) -> list[slice]:
    """Chunks that end there, in groups of at most `longest` voxels, or of one chunk."""
    groups, start = [], 0
    for end, following in zip(ends, [*ends[1:], math.inf], strict=True):
        if following - start > longest:
            groups.append(slice(start, end))
            start = end
    return groups


def spans(ends: list[int], is_done: Callable[[slice], bool]) -> list[slice]:
    """The rows of chunks that are not done, neighbours as one. ends: where the rows end."""
    found: list[slice] = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        if is_done(slice(start, end)):
            continue
        if found and found[-1].stop == start:
            found[-1] = slice(found[-1].start, end)
        else:
            found.append(slice(start, end))
    return found
