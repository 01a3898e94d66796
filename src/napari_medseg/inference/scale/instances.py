"""Instances across blocks: each block numbers its own parts, and parts that touch across a face become one.

Ids are 64 bits wide until the end: the block's number and the part's number in it. Two passes over the blocks, in any
order and by anyone; only pairs of ids that touch are brought together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import BLOCK_VOXELS, block_shape, blocks, chunks_of, first_of, shape_of, whole
from napari_medseg.geometry import Shape3
from napari_medseg.volume import LazyArray

Ids = npt.NDArray[np.int64]

_SHIFT = 32
"""Bits of a part's number in its block."""


def parts_of(mask: npt.NDArray[np.bool_], number: int) -> Ids:
    """The parts of a block's mask that are connected by faces: ids that no other block has. number: the block's."""
    found, _ = ndimage.label(mask)
    ids: Ids = found.astype(np.int64)
    ids[ids > 0] += (number + 1) << _SHIFT
    return ids


def touching(before: Ids, after: Ids) -> Ids:
    """The pairs (n, 2) of ids on both sides of a face between two blocks; each pair once."""
    both = (before > 0) & (after > 0)
    return np.unique(np.stack([before[both], after[both]], axis=1), axis=0)


def _face(ids: Ids, axis: int, at: int) -> Ids:
    face: Ids = np.moveaxis(ids, axis, 0)[at]
    return face


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


def number_instances(labels: LazyArray, label: int, target: Any, *, voxels: int = BLOCK_VOXELS) -> int:
    """Number the parts of a label that are connected by faces: 1, 2, 3 ... in the order of their blocks.

    Returns how many there are.
    labels, target: (Z, Y, X); the target holds integers. voxels: of a block; a block, and one face of each block of a
    layer of them, are in memory.
    """
    shape = shape_of(labels)
    walk = list(blocks(whole(shape), block_shape(shape, chunks_of(labels), voxels)))
    joined, found = UnionFind(), dict[int, None]()
    faces: dict[tuple[int, Shape3], Ids] = {}
    """The last face along an axis of a block, by the first voxel of the block behind it."""
    for number, box in enumerate(walk):
        ids = parts_of(np.asarray(labels[box]) == label, number)
        found.update(dict.fromkeys(np.unique(ids[ids > 0]).tolist()))
        for axis, side in enumerate(box):
            if side.start:
                pairs = touching(faces.pop((axis, first_of(box))), _face(ids, axis, 0))
                joined.join((int(one), int(other)) for one, other in pairs)
            if side.stop < shape[axis]:
                z, y, x = (s.stop if other == axis else s.start for other, s in enumerate(box))
                faces[axis, (z, y, x)] = _face(ids, axis, -1)
    names: dict[int, int] = {}
    for one in found:
        names.setdefault(joined.find(one), len(names) + 1)
    for number, box in enumerate(walk):
        ids = parts_of(np.asarray(labels[box]) == label, number)
        known, places = np.unique(ids, return_inverse=True)
        values = np.array([names[joined.find(one)] if one else 0 for one in known.tolist()])
        target[box] = values[places.reshape(ids.shape)].astype(target.dtype)
    return len(names)
