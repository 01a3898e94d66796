"""Arrays that are read when they are indexed, and lazy views of them with the axes in another order."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, BoxND, chunk_edges, chunks_of, placed, shape_of
from napari_medseg.geometry import AxisOrder, Shape3, triple_of
from napari_medseg.volume import Grid, LazyArray, Segmentation

Array = npt.NDArray[Any]


class BasicIndexed(ABC):
    """An array that reads boxes, indexed like numpy. An index other than numbers and slices reads all of it first."""

    shape: tuple[int, ...]

    @abstractmethod
    def _read(self, wanted: BoxND) -> Array:
        """The box `wanted`, with as many axes as the array."""

    def __getitem__(self, key: Any, /) -> Any:
        basic = basic_index(key, self.shape)
        if basic is None:
            return self[...][key]
        wanted, rest = basic
        return self._read(wanted)[rest]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]


class AxisView(BasicIndexed):
    """A lazy view of a lazy array with axes left out, reordered or added; indexed like numpy.

    Less general than dask, whose graph costs more time than the chunks.
    """

    def __init__(self, array: LazyArray, axes: Sequence[int | None], fixed: Mapping[int, int] | None = None) -> None:
        """axes: for each axis of the view that of the array, None for a new one of length 1. fixed: the index along
        each axis that is left out."""
        self._array, self._axes, self._fixed = array, tuple(axes), dict(fixed or {})
        self.shape: tuple[int, ...] = self._of(array.shape, 1)
        chunks = getattr(array, "chunks", array.shape)
        self.chunks: tuple[Any, ...] = self._of(chunks, (1,) if isinstance(chunks[0], tuple) else 1)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"<AxisView {self.shape} {self.dtype} of {self._array!r}>"

    def _of(self, values: Sequence[Any], new: Any) -> tuple[Any, ...]:
        return tuple(new if axis is None else values[axis] for axis in self._axes)

    def absent_value(self, wanted: BoxND) -> Any:
        """See the function `absent_value`."""
        return absent_value(self._array, self._inner(wanted))

    def _inner(self, wanted: BoxND) -> BoxND:
        """The box of the array behind a box of the view."""
        inner = [slice(0, n) for n in self._array.shape]
        for axis, index in self._fixed.items():
            inner[axis] = slice(index, index + 1)
        for axis_or_none, part in zip(self._axes, wanted, strict=True):
            if axis_or_none is not None:
                inner[axis_or_none] = part
        return tuple(inner)

    def _read(self, wanted: BoxND) -> Array:
        kept = [axis for axis in self._axes if axis is not None]
        block: Array = np.asarray(self._array[self._inner(wanted)])
        block = block.transpose([*self._fixed, *kept])[(0,) * len(self._fixed)]
        block = block[tuple(None if axis is None else slice(None) for axis in self._axes)]
        # A new axis is whole by now; the others hold the wanted part.
        return block[tuple(w if axis is None else slice(None) for axis, w in zip(self._axes, wanted, strict=True))]


class Inside(BasicIndexed):
    """A box of a lazy array, read where it is indexed; indexed like numpy."""

    def __init__(self, array: LazyArray, box: BoxND) -> None:
        """box: a slice with an explicit start and stop for each axis of the array."""
        self._array, self._box = array, box
        self.shape = tuple(side.stop - side.start for side in box)
        self.chunks: tuple[tuple[int, ...], ...] = tuple(
            _sizes_inside(chunk_edges(array, axis), side) for axis, side in enumerate(box)
        )
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def absent_value(self, wanted: BoxND) -> Any:
        """See the function `absent_value`."""
        return absent_value(self._array, self._inner(wanted))

    def _inner(self, wanted: BoxND) -> BoxND:
        return tuple(slice(o.start + w.start, o.start + w.stop) for o, w in zip(self._box, wanted, strict=True))

    def _read(self, wanted: BoxND) -> Array:
        return np.asarray(self._array[self._inner(wanted)])


def _sizes_inside(edges: Sequence[int], side: slice) -> tuple[int, ...]:
    """The sizes of the chunks, which end at these edges, in a part of an axis; the outer ones are cut."""
    inner = [side.start, *(edge for edge in edges if side.start < edge < side.stop), side.stop]
    return tuple(stop - start for start, stop in itertools.pairwise(inner))


class Mapped(BasicIndexed):
    """A lazy array with a function of each voxel in place of its value; indexed like numpy."""

    def __init__(self, array: LazyArray, function: Callable[[Array], Array], dtype: npt.DTypeLike) -> None:
        self._array, self._function = array, function
        self.shape = tuple(array.shape)
        self.chunks: tuple[Any, ...] = getattr(array, "chunks", self.shape)
        self.dtype = np.dtype(dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def _read(self, wanted: BoxND) -> Array:
        return self._function(np.asarray(self._array[wanted])).astype(self.dtype)


@dataclass(frozen=True)
class Reordered:
    """An array (Z, Y, X) seen with its axes permuted and flipped. It reads box by box and copies nothing before."""

    source: LazyArray
    order: AxisOrder

    @property
    def shape(self) -> Shape3:
        return self.order.shape(shape_of(self.source))

    @property
    def dtype(self) -> Any:
        return self.source.dtype

    @property
    def chunks(self) -> Shape3:
        return self.order.shape(chunks_of(self.source))

    def __getitem__(self, box: Box) -> npt.NDArray[Any]:
        return self.order.apply(np.asarray(self.source[self.order.source_slices(box, shape_of(self.source))]))


@dataclass(frozen=True)
class BoxView:
    """A box of an array (Z, Y, X), as an array of its own that is read and written box by box; nothing is copied."""

    source: Any
    box: Box

    @classmethod
    def around(cls, source: Any, box: Box) -> BoxView:
        """The box and what lies before it in its first chunks, so that blocks of whole chunks read no chunk twice."""
        z, y, x = (slice(b.start // c * c, b.stop) for b, c in zip(box, chunks_of(source), strict=True))
        return cls(source, (z, y, x))

    @property
    def shape(self) -> Shape3:
        return triple_of(side.stop - side.start for side in self.box)

    @property
    def dtype(self) -> Any:
        return self.source.dtype

    @property
    def chunks(self) -> Shape3:
        return chunks_of(self.source)

    def of_source(self, box: Box) -> Box:
        """A box of the view, in indices of the array."""
        return placed(box, self.box)

    def __getitem__(self, box: Box) -> npt.NDArray[Any]:
        return np.asarray(self.source[self.of_source(box)])

    def __setitem__(self, box: Box, values: npt.NDArray[Any]) -> None:
        self.source[self.of_source(box)] = values


def absent_value(data: LazyArray, wanted: BoxND) -> Any:
    """The value of all voxels of a box that is not on the disk; None where a part of it is, or nobody knows."""
    known = getattr(data, "absent_value", None)
    return None if known is None else known(wanted)


def lazy_view(data: LazyArray) -> Any:
    """A dask array over an array on the disk, chunk by chunk: it can be indexed and transposed without reading."""
    import dask.array as da

    if isinstance(data, da.Array):
        return data
    return da.from_array(data, chunks=getattr(data, "chunks", "auto"), name=False)


def basic_index(key: Any, shape: Sequence[int]) -> tuple[BoxND, tuple[Any, ...]] | None:
    """An index of whole numbers, slices and an ellipsis as (the box that it touches, the index inside that box).

    None for other indices. Raises IndexError for an index that is out of bounds or has too many items.
    """
    items = _expanded(key, len(shape))
    if not all(isinstance(item, int | np.integer | slice) for item in items):
        return None
    wanted = tuple(_range(item, n) for item, n in zip(items, shape, strict=True))
    return wanted, tuple(slice(None, None, item.step) if isinstance(item, slice) else 0 for item in items)


def _expanded(key: Any, ndim: int) -> list[Any]:
    """One item of an index per axis."""
    items = list(key) if isinstance(key, tuple) else [key]
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    items[at : at + 1] = [slice(None)] * (ndim - len(items) + (at < len(items)))
    if len(items) != ndim:
        raise IndexError(f"too many indices: {len(items)} for {ndim} axes")
    return items


def _range(item: Any, n: int) -> slice:
    """The part of an axis that an index touches."""
    if isinstance(item, slice):
        start, stop, step = item.indices(n)
        # Backwards: the same voxels; the first of them comes last.
        return slice(start, max(start, stop)) if step > 0 else slice(min(start, stop) + 1, start + 1)
    if not -n <= item < n:
        raise IndexError(f"index {item} is out of bounds for an axis of {n}")
    return slice(int(item) % n, int(item) % n + 1)


def onto(segmentation: Segmentation, grid: Grid) -> Segmentation:
    """The segmentation reordered to `grid`, losslessly, where the two grids are equal up to flips and permutations.

    Returned as it is where they are not: what needs equal grids refuses it with both in its message.
    """
    order = segmentation.grid.order_onto(grid)
    if order is None or order.is_identity:
        return segmentation
    return replace(segmentation, data=order.apply(with_transpose(segmentation.data)), grid=grid)


def with_transpose(data: LazyArray) -> Any:
    """The array, or a dask array over it where it cannot be transposed and sliced lazily (zarr)."""
    return data if isinstance(data, np.ndarray) else lazy_view(data)
