"""Masks of objects in a volume of any size: only the box around each is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.arrays.boxes import Box, is_empty, placed, union
from napari_medseg.arrays.views import BasicIndexed
from napari_medseg.geometry import Shape3
from napari_medseg.interactive.kernels import Mask

NOWHERE: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True, eq=False)
class SparseMask:
    """A mask (Z, Y, X) of a volume, held inside of a box; False outside of it. Never changed once built."""

    box: Box
    inside: Mask

    @classmethod
    def empty(cls) -> SparseMask:
        return cls(NOWHERE, np.zeros((0, 0, 0), dtype=bool))

    @classmethod
    def of(cls, box: Box, inside: Mask) -> SparseMask:
        """The mask in the tightest box."""
        if not inside.any():
            return cls.empty()
        found = ndimage.find_objects(inside.astype(np.uint8))
        tight = found[0]
        return cls(placed(tight, box), np.ascontiguousarray(inside[tight]))

    @classmethod
    def of_voxels(cls, voxels: npt.NDArray[np.int64]) -> SparseMask:
        """The mask of (n, 3) voxels."""
        low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
        inside = np.zeros(tuple(high - low), dtype=bool)
        inside[tuple((voxels - low).T)] = True
        z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return cls((z, y, x), inside)

    def __bool__(self) -> bool:
        return not is_empty(self.box)

    @property
    def is_one_voxel(self) -> bool:
        return self.inside.shape == (1, 1, 1)

    @property
    def voxels(self) -> int:
        return int(np.count_nonzero(self.inside))

    def within(self, box: Box) -> Mask:
        """The mask inside of a box, as an array of its size."""
        out = np.zeros([b.stop - b.start for b in box], dtype=bool)
        common = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, box, strict=True)]
        if all(c.stop > c.start for c in common):
            to = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, box, strict=True))
            source = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, self.box, strict=True))
            out[to] = self.inside[source]
        return out

    def at(self, where: Sequence[npt.NDArray[np.int64]]) -> Mask:
        """The mask at the crossings of indices along z, y and x; False outside of the volume too."""
        picked, valid = [], np.ones((1, 1, 1), dtype=bool)
        for axis, index in enumerate(where):
            side = self.box[axis]
            inside = (index >= side.start) & (index < side.stop)
            valid = valid & np.expand_dims(inside, [a for a in range(3) if a != axis])
            picked.append((index - side.start).clip(0, max(0, side.stop - side.start - 1)))
        if not self:
            return np.zeros([len(index) for index in where], dtype=bool)
        return self.inside[np.ix_(*picked)] & valid

    def without(self, other: SparseMask) -> SparseMask:
        """The voxels that the other does not hold."""
        if not self or not other:
            return self
        rest = self.inside & ~other.within(self.box)
        return self if rest.sum() == self.inside.sum() else SparseMask.of(self.box, rest)

    def joined(self, other: SparseMask) -> SparseMask:
        """The voxels of either."""
        if not self or not other:
            return self or other
        box = union(self.box, other.box)
        return SparseMask(box, self.within(box) | other.within(box))

    def same_as(self, other: SparseMask) -> bool:
        return self.box == other.box and bool(np.array_equal(self.inside, other.inside))


class LabelView(BasicIndexed):
    """The masks of several labels as one label image (Z, Y, X), made where it is read."""

    def __init__(self, shape: Shape3, masks: Mapping[int, SparseMask]) -> None:
        self.shape: tuple[int, ...] = shape
        self._masks = dict(masks)
        self.dtype = np.min_scalar_type(max(self._masks, default=0))
        if self.dtype.itemsize > 2:
            self.dtype = np.dtype(np.int32)
        self.ndim = 3

    def _read(self, wanted: tuple[slice, ...]) -> npt.NDArray[Any]:
        z, y, x = wanted
        out = np.zeros([s.stop - s.start for s in wanted], self.dtype)
        for label, mask in self._masks.items():
            out[mask.within((z, y, x))] = label
        return out
