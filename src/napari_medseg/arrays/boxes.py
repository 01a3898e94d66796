"""Boxes of voxels, and walks over lazy arrays in blocks of bounded size. Pure index code."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import Shape3, triple_of
from napari_medseg.volume import LazyArray

Box = tuple[slice, slice, slice]
"""A box of voxels (z, y, x); every slice has an explicit start and stop."""
BoxND = tuple[slice, ...]
"""A box of an array with any number of axes."""

BLOCK_VOXELS = 1 << 21
"""Voxels of a block: large enough for numpy to be fast, small enough that a few copies cost little memory."""
_READ_AHEAD = 32
"""Planes that are read at once from an array without chunks."""


def shape_of(array: LazyArray) -> Shape3:
    """The shape of an array that has three axes."""
    return triple_of(array.shape)


def chunks_of(array: LazyArray) -> Shape3:
    """The shape (z, y, x) that is read at once: a chunk of a zarr or dask array, one voxel of a numpy array."""
    chunks = getattr(array, "chunksize", None) or getattr(array, "chunks", None) or (1, 1, 1)
    z, y, x = chunks
    return int(z), int(y), int(x)


def chunk_edges(array: LazyArray, axis: int) -> list[int]:
    """Where the chunks of an array end along an axis; of an array without chunks, blocks of a fixed size.

    Chunks in shards are read a shard at a time.
    """
    size = int(array.shape[axis])
    chunks: Any = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if chunks is None:
        step = _READ_AHEAD
    elif isinstance(chunks[axis], tuple):  # dask: the sizes themselves
        return [int(edge) for edge in np.cumsum(chunks[axis])]
    else:
        step = int(chunks[axis])
    return [*range(step, size, step), size]


def common_chunks(a: LazyArray, b: LazyArray) -> Shape3:
    """Per axis the larger chunk of two arrays that are read side by side."""
    return triple_of(max(p, q) for p, q in zip(chunks_of(a), chunks_of(b), strict=True))


def block_shape(shape: Shape3, chunks: Shape3, voxels: int = BLOCK_VOXELS, least: int = 1) -> Shape3:
    """The largest block of whole chunks with at most `voxels` voxels, grown along x first.

    It has at least one chunk, and at least `least` voxels along each axis.
    """
    block = [min(math.ceil(least / c) * c, n) for c, n in zip(chunks, shape, strict=True)]
    for axis in (2, 1, 0):
        room = max(1, voxels // math.prod(block))
        block[axis] = min(shape[axis], block[axis] * room)
    return block[0], block[1], block[2]


@overload
def blocks(box: Box, block: Shape3) -> Iterator[Box]: ...
@overload
def blocks(box: BoxND, block: tuple[int, ...]) -> Iterator[BoxND]: ...
def blocks(box: BoxND, block: tuple[int, ...]) -> Iterator[BoxND]:
    """Boxes of at most `block` voxels per axis that tile `box`, the last axis fastest.

    Their edges lie on multiples of `block`, so that a block of whole chunks reads no chunk twice.
    """
    axes = [
        [slice(max(start, b.start), min(start + n, b.stop)) for start in range(b.start // n * n, b.stop, n)]
        for b, n in zip(box, block, strict=True)
    ]
    yield from itertools.product(*axes)


@dataclass(frozen=True)
class Region:
    """One place of a walk that reads every voxel once and yet shows each place with its surroundings."""

    part: Box
    """The voxels that are read now: a block of whole chunks."""
    core: Box
    """The voxels that can be judged now. The cores tile the image, and lie `halo` voxels behind the parts."""
    read: Box
    """The core and `halo` voxels around it, inside the image."""

    @property
    def core_in_read(self) -> Box:
        return within(self.core, self.read)


def regions(shape: Shape3, block: Shape3, halo: int) -> Iterator[Region]:
    """The regions of an image in reading order, for parts of at most `block` voxels per axis."""
    axes = [_along(n, step, halo) for n, step in zip(shape, block, strict=True)]
    for z, y, x in itertools.product(*axes):
        yield Region(*((z[i], y[i], x[i]) for i in range(3)))


def rolling(array: LazyArray, walk: Iterable[Region], halo: int) -> Iterator[npt.NDArray[Any]]:
    """The array inside the `read` box of each of the `regions`. Only the parts are read; the rest is remembered.

    The memory holds 2 * halo planes of the image and a few rows. The caller may write to the arrays.
    """
    beside: npt.NDArray[Any] | None = None
    above: dict[int, npt.NDArray[Any]] = {}
    before: dict[tuple[int, int], npt.NDArray[Any]] = {}
    for region in walk:
        z, y, x = (p.start - r.start for p, r in zip(region.part, region.read, strict=True))
        row, column = region.part[1].start, region.part[2].start
        part = np.asarray(array[region.part])
        seen = np.empty([r.stop - r.start for r in region.read], part.dtype)
        seen[z:, y:, x:] = part
        if beside is not None and x:
            seen[:, :, :x] = beside
        if y:
            seen[:, :y, x:] = above[column]
        if z:
            seen[:z, y:, x:] = before[row, column]
        beside = seen[:, :, -2 * halo :].copy()
        above[column] = seen[:, -2 * halo :, x:].copy()
        before[row, column] = seen[-2 * halo :, y:, x:].copy()
        yield seen


def within(box: Box, outer: Box) -> Box:
    """The box in indices of the array that holds `outer` only."""
    return triple_of(slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, outer, strict=True))


def placed(box: Box, outer: Box) -> Box:
    """The box of an array that holds `outer` only, in indices of the whole array: the inverse of `within`."""
    return triple_of(slice(b.start + o.start, b.stop + o.start) for b, o in zip(box, outer, strict=True))


def with_margin(box: Box, shape: Sequence[int], voxels: int | Sequence[int] = 1) -> Box:
    """The box grown on all sides by some voxels, the same or its own number along each axis, within the image."""
    more = [voxels] * 3 if isinstance(voxels, int) else voxels
    return triple_of(slice(max(0, b.start - m), min(n, b.stop + m)) for b, m, n in zip(box, more, shape, strict=True))


def intersection(a: Box, b: Box) -> Box:
    """What two boxes share; empty where they are apart."""
    return triple_of(slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))


def parts(side: slice, step: int) -> list[slice]:
    """One side of a box in parts of `step` voxels; the last may be shorter."""
    return [slice(start, min(start + step, side.stop)) for start in range(side.start, side.stop, step)]


def first_of(box: Box) -> Shape3:
    """The index of the box's first voxel."""
    return triple_of(b.start for b in box)


def is_empty(box: Box) -> bool:
    return any(b.stop <= b.start for b in box)


def overlaps(a: Box, b: Box) -> bool:
    """Whether the boxes share a voxel."""
    return all(max(p.start, q.start) < min(p.stop, q.stop) for p, q in zip(a, b, strict=True))


@overload
def whole(shape: Shape3) -> Box: ...
@overload
def whole(shape: tuple[int, ...]) -> BoxND: ...
def whole(shape: tuple[int, ...]) -> BoxND:
    """The box that holds every voxel."""
    return tuple(slice(0, n) for n in shape)


def union(a: Box, b: Box) -> Box:
    """The smallest box that holds both."""
    return triple_of(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))


def holds_any(array: LazyArray) -> bool:
    """Whether a voxel is not 0; blocks are read until one is found."""
    walk = blocks(whole(shape_of(array)), block_shape(shape_of(array), chunks_of(array)))
    return any(np.asarray(array[box]).any() for box in walk)


def mask_of(array: LazyArray, label: int, box: Box) -> npt.NDArray[np.bool_]:
    """The voxels of the box that hold the label; one block at a time is read."""
    mask = np.empty([b.stop - b.start for b in box], dtype=bool)
    for part in blocks(box, block_shape(shape_of(array), chunks_of(array))):
        mask[within(part, box)] = np.asarray(array[part]) == label
    return mask


def _along(n: int, step: int, halo: int) -> list[tuple[slice, slice, slice]]:
    """part, core and read of each region along an axis of n voxels."""
    found = []
    for start in range(0, n, step):
        stop = min(start + step, n)
        core = slice(max(0, start - halo), n if stop == n else max(0, stop - halo))
        found.append((slice(start, stop), core, slice(max(0, start - 2 * halo), stop)))
    return found
