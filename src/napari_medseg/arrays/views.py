"""Arrays that are read when they are indexed, and lazy views of them with the axes in another order."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, BoxND, chunks_of, shape_of
from napari_medseg.geometry import AxisOrder, Shape3
from napari_medseg.volume import LazyArray

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
