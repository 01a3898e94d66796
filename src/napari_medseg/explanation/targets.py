"""What is explained: a label, a component of it, or one voxel; and how much each voxel of the model's grid counts.

Shapes: masks are (z, y, x), in the model's axis order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_medseg.arrays.boxes import Box, intersection, is_empty
from napari_medseg.errors import InputError, UnknownNameError, did_you_mean
from napari_medseg.geometry import AxisMap, AxisOrder, Shape3, triple_of
from napari_medseg.inference.plan import Maps
from napari_medseg.registry import shown
from napari_medseg.volume import Segmentation, places_of

Place = tuple[int, int, int]
_ANY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Target:
    """Voxels whose label is explained."""

    box: Box
    """On the image's grid."""
    mask: npt.NDArray[np.bool_]
    """The voxels of the box that count."""

    @classmethod
    def voxel(cls, at: Place, shape: Shape3, order: AxisOrder) -> Target:
        """One voxel of the stored array. Raises InputError for one outside of it."""
        place = checked_place(at, shape)
        z, y, x = (slice(i, i + 1) for i in place)
        return cls(_reordered((z, y, x), shape, order), np.ones((1, 1, 1), dtype=bool))

    @classmethod
    def component(cls, labels: Segmentation, label: int, which: int | Place, order: AxisOrder) -> Target:
        """A connected part (26 neighbours) of a label: its number, by size from 1 on, or one of its voxels.

        The label's mask is in memory while the part is looked for. Raises InputError where there is no such part.
        """
        shape = labels.grid.shape
        who = f"{labels.name or 'the labels'}: label {label} ({labels.label_name(label)})"
        numbered, count = ndimage.label(np.asarray(labels.data[...]) == label, _ANY_NEIGHBOUR)
        if not count:
            raise InputError(f"{who} has no voxel, and so no component")
        if isinstance(which, int):
            if not 1 <= which <= count:
                raise InputError(f"{who} has components 1 (the largest) to {count}; got {which}")
            sizes = np.bincount(numbered.ravel())[1:]
            number = 1 + int(np.argsort(-sizes, kind="stable")[which - 1])
        else:
            number = int(numbered[checked_place(which, shape)])
            if not number:
                raise InputError(f"{who} is not at voxel {which}: choose a voxel of that label")
        box = ndimage.find_objects(numbered)[number - 1]
        mask = order.apply(numbered[box] == number).astype(bool)
        return cls(_reordered(box, shape, order), np.ascontiguousarray(mask))

    def on_model(self, maps: Maps) -> ModelTarget:
        """How much each voxel of the model's grid counts, so that the sum is over the voxels of the image.

        maps: from the model's grid to that of the image. Raises InputError where the model looks at none of them.
        """
        weights = self.mask.astype(np.float32)
        sides = []
        for axis, (along, side) in enumerate(zip(maps, self.box, strict=True)):
            start, matrix = _rows(along, side)
            weights = np.moveaxis(np.tensordot(matrix, weights, axes=(0, axis)), 0, axis)
            sides.append(slice(start, start + matrix.shape[1]))
        if not weights.any():
            raise InputError("the model does not look at these voxels: it crops the image before")
        return ModelTarget((sides[0], sides[1], sides[2]), torch.from_numpy(np.ascontiguousarray(weights)))


@dataclass(frozen=True, eq=False)
class ModelTarget:
    """A target on the model's grid."""

    box: Box
    weights: torch.Tensor
    """(z, y, x) of the box."""

    def in_window(self, corner: Place, window: Shape3) -> torch.Tensor | None:
        """The weights in a window; None where it holds none of them. corner: on the grid without padding."""
        z, y, x = (slice(c, c + n) for c, n in zip(corner, window, strict=True))
        shared = intersection(self.box, (z, y, x))
        if is_empty(shared):
            return None
        inside = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(shared, self.box, strict=True))
        at = tuple(slice(s.start - c, s.stop - c) for s, c in zip(shared, corner, strict=True))
        found = torch.zeros(window)
        found[at] = self.weights[inside]
        return found if found.any() else None


def checked_place(at: Any, shape: Shape3) -> Place:
    """A voxel of the stored array as whole numbers. Raises InputError for anything else."""
    whole = isinstance(at, tuple | list) and len(at) == 3 and all(isinstance(i, int | np.integer) for i in at)
    if not whole or not all(0 <= i < n for i, n in zip(at, shape, strict=True)):
        sizes = ", ".join(f"0 to {n - 1}" for n in shape)
        raise InputError(f"a voxel is three whole numbers (z, y, x) within {sizes}; got {shown(at)}")
    return triple_of(int(i) for i in at)


def label_of(asked: int | str, labels: Mapping[int, str], owner: str) -> int:
    """The id of a label that is named by its id, or by its name in any spelling. Raises UnknownNameError."""
    if isinstance(asked, str) and asked.strip().isdecimal():
        asked = int(asked)
    if isinstance(asked, int) and not isinstance(asked, bool) and asked in labels:
        return asked
    named = places_of(asked, list(labels.values())) if isinstance(asked, str) else []
    if len(named) == 1:
        return list(labels)[named[0]]
    known = ", ".join(f"{label} {name}".strip() for label, name in labels.items())
    if named:
        raise UnknownNameError(f"{owner} has several labels {shown(asked)}: give the id; its labels are {known}")
    hint = did_you_mean(asked, [name for name in labels.values() if name]) if isinstance(asked, str) else ""
    raise UnknownNameError(f"{owner} has no label {shown(asked)}: {hint}its labels are {known}")


def _rows(along: AxisMap, side: slice) -> tuple[int, npt.NDArray[np.float32]]:
    """The first of the model's samples behind some output samples, and the weights (outputs, samples)."""
    first, last = along.needs(side.start, side.stop)
    matrix = np.zeros((side.stop - side.start, last - first), np.float32)
    for row, k in enumerate(range(side.start, side.stop)):
        at = int(along.first[k]) - first
        matrix[row, at : at + along.taps] += along.weights[k]
    return first, matrix


def _reordered(stored: Box, shape: Shape3, order: AxisOrder) -> Box:
    """A box of the stored array in the model's axis order."""
    return order.inverse.source_slices(stored, order.shape(shape))
