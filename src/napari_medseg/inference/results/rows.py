"""Boxes in the model's axis order into an array in its stored order, by whole rows of chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, chunk_edges
from napari_medseg.geometry import AxisOrder, Shape3

Array = npt.NDArray[Any]


def edges_of(array: Any, order: AxisOrder, axis: int) -> list[int]:
    """Where the chunks of an array (..., Z, Y, X) end along an axis of the model; of an array in memory, its end."""
    stored = len(array.shape) - 3 + order.axes[axis]
    n = int(array.shape[stored])
    if isinstance(array, np.ndarray):
        return [n]
    edges = chunk_edges(array, stored)
    return [*(n - edge for edge in reversed(edges[:-1])), n] if order.flips[axis] else edges


class RowWriter:
    """Fills a box of an array, row of chunks by row of chunks.

    A store would have to read, decode and encode again a chunk that is written in part. Rows are kept until they are
    whole; an array in memory is written at once.
    """

    def __init__(self, array: Any, order: AxisOrder, box: Box, empty: Array | None = None) -> None:
        """array: (Z, Y, X) or (C, Z, Y, X). box: what is filled, of whole chunks, in the model's axis order. empty:
        (C, 1, 1, 1), the values where nothing is put; by default 0."""
        self._array = array
        self._empty = empty
        self._order = order
        self._box = box
        self._stored_shape: Shape3 = array.shape[-3:]
        self._lead: tuple[int, ...] = array.shape[:-3]
        self._in_memory = isinstance(array, np.ndarray)
        self._ends = [end for end in edges_of(array, order, 0) if box[0].start < end < box[0].stop] + [box[0].stop]
        self._rows: dict[int, Array] = {}
        """The rows that are not whole yet, by their first plane."""
        self._written = box[0].start

    def put(self, box: Box, values: Array) -> None:
        """The values ([C,] z, y, x) of a box inside the writer's."""
        if self._in_memory:
            self._write(box, values)
            return
        for start, stop in self._row_bounds():
            first, last = max(start, box[0].start), min(stop, box[0].stop)
            if first < last:
                _, ys, xs = (slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, self._box, strict=True))
                part = values[..., first - box[0].start : last - box[0].start, :, :]
                self._row(start, stop)[..., first - start : last - start, ys, xs] = part

    def advance(self, stop: int) -> Box | None:
        """All planes before `stop` were put: write the rows that are whole now. What was written, in stored order."""
        begun = self._written
        if self._in_memory:
            self._written = max(self._written, stop)
        else:
            for start, end in self._row_bounds():
                if end > stop:
                    break
                self._write((slice(start, end), *self._box[1:]), self._row(start, end))
                self._rows.pop(start)
                self._written = end
        if self._written == begun:
            return None
        return self._order.source_slices((slice(begun, self._written), *self._box[1:]), self._stored_shape)

    def _row_bounds(self) -> list[tuple[int, int]]:
        starts = [self._box[0].start, *self._ends[:-1]]
        return [(start, end) for start, end in zip(starts, self._ends, strict=True) if start >= self._written]

    def _row(self, start: int, stop: int) -> Array:
        if start not in self._rows:
            _, ys, xs = self._box
            shape = (*self._lead, stop - start, ys.stop - ys.start, xs.stop - xs.start)
            self._rows[start] = np.zeros(shape, self._array.dtype)
            if self._empty is not None:
                self._rows[start][...] = self._empty
        return self._rows[start]

    def _write(self, box: Box, values: Array) -> None:
        stored = self._order.source_slices(box, self._stored_shape)
        self._array[(*(slice(None) for _ in self._lead), *stored)] = self._order.inverse.apply(values)
