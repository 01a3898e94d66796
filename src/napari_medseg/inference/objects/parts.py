"""The connected parts of labels, found block by block, and their numbers.

Each block numbers its own parts: 64 bits, the block's number and the part's number in it. Blocks overlap by a voxel on
each side, and numbers that two blocks give to the same voxel become one. Every voxel is read once for each pass.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import (
    Box,
    Region,
    block_shape,
    blocks,
    chunks_of,
    first_of,
    intersection,
    overlaps,
    regions,
    rolling,
    shape_of,
    union,
    whole,
    within,
)
from napari_medseg.arrays.label_boxes import connected_parts
from napari_medseg.config import Connectivity
from napari_medseg.geometry import Shape3
from napari_medseg.volume import LazyArray

Ids = npt.NDArray[np.int64]
Classes = npt.NDArray[np.integer[Any]]

_SHIFT = 32
"""Bits of a part's number in its block."""
_IN_BLOCK = (1 << _SHIFT) - 1
_STEPS = {6: 1, 18: 2, 26: 3}
"""{neighbours of a voxel: axes along which a neighbour may lie off}."""
_HALO = 1


class UnionFind:
    """Ids that belong together; the smallest stands for all."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def find(self, one: int) -> int:
        """The id that stands for this one."""
        root = one
        while (parent := self._parents.get(root, root)) != root:
            root = parent
        while one != root:  # the way is shorter next time
            self._parents[one], one = root, self._parents.get(one, one)
        return root

    def join(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Take the ids of each pair for one."""
        for a, b in pairs:
            low, high = sorted((self.find(a), self.find(b)))
            self._parents[high] = low
            self._parents.setdefault(low, low)


@dataclass(frozen=True)
class Part:
    """A connected part of one class."""

    of: int
    """Its class."""
    box: Box
    """All its voxels lie in it."""
    first: int
    """Its first voxel in reading order, as an index of the flat array."""
    voxels: int

    def and_(self, other: Part) -> Part:
        """Both as one."""
        return Part(self.of, union(self.box, other.box), min(self.first, other.first), self.voxels + other.voxels)


@dataclass(frozen=True)
class Walk:
    """The blocks of an array of labels, always the same ones, and how a block becomes classes."""

    labels: LazyArray
    class_of: Callable[[npt.NDArray[Any]], Classes]
    """From labels to classes, 0 outside; a part is of one class."""
    connectivity: Connectivity
    block: Shape3

    @classmethod
    def over(
        cls, labels: LazyArray, class_of: Callable[[npt.NDArray[Any]], Classes], connectivity: Connectivity, voxels: int
    ) -> Walk:
        """A walk in blocks of whole chunks of at most `voxels` voxels, or of the fewest that hold two voxels a side."""
        block = block_shape(shape_of(labels), chunks_of(labels), voxels, least=2 * _HALO)
        return cls(labels, class_of, connectivity, block)

    @property
    def shape(self) -> Shape3:
        return shape_of(self.labels)

    def __len__(self) -> int:
        return len(list(regions(self.shape, self.block, _HALO)))

    def __iter__(self) -> Iterator[tuple[Region, npt.NDArray[Any], Ids]]:
        """(place, labels, ids) of each block, the last two in the `read` box of the place."""
        return self.over_blocks(range(len(self)))

    def over_blocks(self, numbers: Container[int]) -> Iterator[tuple[Region, npt.NDArray[Any], Ids]]:
        """The same of some blocks only, with the ids that they have in the whole walk.

        The `core` of a block may be written before the next is asked for: no later block reads it.
        """
        walk = list(regions(self.shape, self.block, _HALO))
        for number, (region, seen) in enumerate(zip(walk, rolling(self.labels, walk, _HALO), strict=True)):
            if number in numbers:
                yield region, seen, parts_of(self.class_of(seen), self.connectivity, number)


def parts_of(classes: Classes, connectivity: Connectivity, number: int = 0) -> Ids:
    """The connected parts of each class (Z, Y, X): ids that no other block has; 0 outside. number: the block's."""
    found = np.zeros(classes.shape, np.int64)
    count = (number + 1) << _SHIFT
    structure = ndimage.generate_binary_structure(3, _STEPS[connectivity])
    for parts in connected_parts(classes, structure):
        inside = parts.numbers > 0
        found[parts.box][inside] = parts.numbers[inside].astype(np.int64) + count
        count += parts.count
    return found


def by_block(ids: Iterable[int]) -> dict[int, npt.NDArray[np.int64]]:
    """{number of a block: those of the ids that it gave}."""
    found: dict[int, list[int]] = {}
    for one in ids:
        found.setdefault((one >> _SHIFT) - 1, []).append(one)
    return {number: np.array(own, np.int64) for number, own in found.items()}


def values_of(ids: Ids, known: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The value of each id that a block gave; 0 for an id without one. known: those with a value, of this block."""
    numbers, own = ids & _IN_BLOCK, known & _IN_BLOCK
    table = np.zeros(1 + max(int(numbers.max(initial=0)), int(own.max(initial=0))), values.dtype)
    table[own] = values
    found: npt.NDArray[Any] = table[numbers]
    return found


@dataclass
class Finder:
    """Brings the parts of the blocks together, one block after the other."""

    walk: Walk

    def __post_init__(self) -> None:
        self._joined = UnionFind()
        self._parts: dict[int, Part] = {}
        self._edges: list[tuple[Box, Ids]] = []
        """Planes beyond the core of a block, on the side of blocks to come."""

    def add(self, region: Region, seen: npt.NDArray[Any], ids: Ids) -> None:
        """Take the next block of the walk."""
        core = ids[region.core_in_read]
        self._edges = [(box, edge) for box, edge in self._edges if box[0].stop > region.core[0].start]
        for box, edge in self._edges:
            if overlaps(box, region.core):
                shared = intersection(box, region.core)
                self._join(edge[within(shared, box)], core[within(shared, region.core)])
        for axis in range(3):
            side = region.read[axis]
            if side.stop > region.core[axis].stop:
                sides = list(region.read)
                sides[axis] = slice(region.core[axis].stop, side.stop)
                box = (sides[0], sides[1], sides[2])
                self._edges.append((box, ids[within(box, region.read)].copy()))
        self._note(region, self.walk.class_of(seen)[region.core_in_read], core)

    def result(self) -> tuple[dict[int, int], dict[int, Part]]:
        """({id in a block: id of its part}, {id of a part: the part})."""
        groups: dict[int, list[Part]] = {}
        for one, part in self._parts.items():
            groups.setdefault(self._joined.find(one), []).append(part)
        return {one: self._joined.find(one) for one in self._parts}, {
            root: reduce(Part.and_, members) for root, members in groups.items()
        }

    def _join(self, before: Ids, after: Ids) -> None:
        both = (before > 0) & (after > 0)
        pairs = np.unique(np.stack([before[both], after[both]], axis=1), axis=0)
        self._joined.join((int(one), int(other)) for one, other in pairs)

    def _note(self, region: Region, classes: Classes, core: Ids) -> None:
        # The numbers in a block are small and dense: tables are much faster than sorting.
        numbers = (core & _IN_BLOCK).astype(np.int32)
        flat = numbers.ravel()
        inside = np.flatnonzero(flat)
        if not len(inside):
            return
        offset = int(core.flat[inside[0]]) - int(flat[inside[0]])
        counts = np.bincount(flat[inside])
        first = np.zeros(len(counts), np.int64)
        first[flat[inside][::-1]] = inside[::-1]  # of several values the last one stays: that of the first voxel
        places = np.stack(np.unravel_index(first, core.shape))
        corner = np.array(first_of(region.core))
        firsts = np.ravel_multi_index(list(places + corner[:, None]), self.walk.shape)
        for number, place in enumerate(ndimage.find_objects(numbers), start=1):
            if place is None:  # the part lies in the surroundings only
                continue
            z, y, x = (slice(s.start + int(o), s.stop + int(o)) for s, o in zip(place, corner, strict=True))
            of = int(classes[tuple(places[:, number])])
            self._parts[offset + number] = Part(of, (z, y, x), int(firsts[number]), int(counts[number]))


def looked_up(ids: Ids, values: Mapping[int, int]) -> npt.NDArray[np.int32]:
    """The value of each id; 0 for an id without one."""
    known, places = np.unique(ids, return_inverse=True)
    table = np.array([values.get(one, 0) for one in known.tolist()], np.int32)
    return table[places.reshape(ids.shape)]


def blocks_of(target: Any, voxels: int) -> Iterator[Box]:
    """The boxes of whole chunks of an array that is changed in place."""
    shape = shape_of(target)
    yield from blocks(whole(shape), block_shape(shape, chunks_of(target), voxels))
