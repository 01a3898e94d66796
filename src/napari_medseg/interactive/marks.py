"""What a prompt marks: voxels of the volume that are the label, voxels that are not, and voxels that are typical."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import grid_points_in_poly

from napari_medseg.errors import InputError
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.interactive.kernels import Mask
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.scene import Frame
from napari_medseg.prompts import Box, Lasso, Point, Prompt, Scribble, SliceMask

_TYPICAL = 6
"""Voxels of a stroke or a slice that stand for it."""
_ALL_SAMPLED = 1 << 20
"""A mask in a box of more voxels is seen at the frame's samples only; of a smaller one each voxel counts."""


@dataclass(frozen=True, eq=False)
class Marks:
    """A prompt in voxels of its volume."""

    yes: SparseMask
    """Voxels that the label holds."""
    no: SparseMask
    """Voxels that it does not hold."""
    typical: npt.NDArray[np.int64]
    """(n, 3) voxels of what the prompt points at: of the label, or, where it holds nothing else, of what is not it."""
    limit: SparseMask | None = None
    """Where the label can lie at all."""
    slice_axis: int | None = None
    """The axis along which the slice lies, of a prompt that says of a whole slice where the label is."""

    @property
    def positive(self) -> bool:
        return bool(self.yes)

    @property
    def only_less(self) -> bool:
        """Whether it takes from a mask and adds nothing to it: a correction that does not speak of a whole slice."""
        return not self.yes and self.slice_axis is None

    @property
    def held(self) -> SparseMask:
        """The voxels that the prompt points at."""
        return self.yes or self.no


def marks_of(prompt: Prompt, shape: Shape3) -> Marks:
    """The marks of a prompt in a volume of a shape (Z, Y, X). Raises InputError where it reaches out of the volume."""
    if isinstance(prompt, Point):
        voxels = np.array([prompt.at], dtype=np.int64)
        return _signed(prompt, _inside(prompt, voxels, shape), voxels)
    if isinstance(prompt, Scribble):
        voxels = np.unique(prompt.voxels, axis=0)
        return _signed(prompt, _inside(prompt, voxels, shape), _evenly(prompt.voxels))
    if isinstance(prompt, Box):
        corners = np.array([prompt.low, np.array(prompt.high) - 1], dtype=np.int64)
        _inside(prompt, corners, shape)
        z, y, x = (slice(a, b) for a, b in zip(prompt.low, prompt.high, strict=True))
        # One True seen everywhere: a box may be as large as the volume.
        held = SparseMask((z, y, x), np.broadcast_to(np.True_, [s.stop - s.start for s in (z, y, x)]))
        middle = corners.sum(axis=0, keepdims=True) // 2
        if not prompt.positive:
            return Marks(SparseMask.empty(), held, middle)
        return Marks(SparseMask.of_voxels(middle), SparseMask.empty(), middle, limit=held)
    mask = _of_polygon(prompt, shape) if isinstance(prompt, Lasso) else _of_slice(prompt, shape)
    if not mask.any():
        raise InputError(f"{_what(prompt)} marks no voxel: draw it around at least one")
    held = _lifted(mask, prompt)
    typical = _interior(mask, prompt)
    if isinstance(prompt, SliceMask) and prompt.positive:
        return Marks(held, _lifted(~mask, prompt), typical, slice_axis=prompt.axis)
    marks = _signed(prompt, held, typical)
    return replace(marks, slice_axis=prompt.axis) if isinstance(prompt, SliceMask) and mask.all() else marks


def seeds(mask: SparseMask, frame: Frame, spacing: Triple) -> Mask:
    """The frame's voxels that a mask of the volume marks: those that lie in it, and those that its voxels lie in."""
    if not mask:
        return np.zeros(frame.shape, dtype=bool)
    where = [np.rint(frame.samples(axis, spacing)).astype(np.int64) for axis in range(3)]
    marked = mask.at(where)
    if mask.inside.size > _ALL_SAMPLED or frame.step_mm <= min(spacing):
        return marked
    voxels = np.argwhere(mask.inside) + [side.start for side in mask.box]
    marked[tuple(frame.hits(voxels, spacing).T)] = True
    return marked


def _signed(prompt: Prompt, held: SparseMask, typical: npt.NDArray[np.int64]) -> Marks:
    nothing = SparseMask.empty()
    return Marks(held, nothing, typical) if prompt.positive else Marks(nothing, held, typical)


def _inside(prompt: Prompt, voxels: npt.NDArray[np.int64], shape: Shape3) -> SparseMask:
    if voxels.min() < 0 or (voxels >= shape).any():
        worst = voxels[(voxels < 0).any(axis=1) | (voxels >= shape).any(axis=1)][0]
        raise InputError(
            f"{_what(prompt)} lies outside of the volume: voxel {tuple(worst.tolist())} of a volume of "
            f"{'x'.join(map(str, shape))} (z, y, x); indices count from 0"
        )
    return SparseMask.of_voxels(voxels) if not isinstance(prompt, Box) else SparseMask.empty()


def _of_slice(prompt: SliceMask, shape: Shape3) -> Mask:
    _check_slice(prompt, shape)
    across = _across(shape, prompt.axis)
    if prompt.mask.shape != across:
        raise InputError(
            f"{_what(prompt)} has a mask of {prompt.mask.shape[0]}x{prompt.mask.shape[1]} where slices along axis "
            f"{prompt.axis} have {across[0]}x{across[1]} voxels"
        )
    return np.asarray(prompt.mask)


def _of_polygon(prompt: Lasso, shape: Shape3) -> Mask:
    _check_slice(prompt, shape)
    inside: Mask = grid_points_in_poly(_across(shape, prompt.axis), prompt.polygon)
    return inside


def _check_slice(prompt: Lasso | SliceMask, shape: Shape3) -> None:
    if not 0 <= prompt.index < shape[prompt.axis]:
        raise InputError(
            f"{_what(prompt)} lies outside of the volume: slice {prompt.index} of {shape[prompt.axis]} along axis "
            f"{prompt.axis}; slices count from 0"
        )


def _across(shape: Shape3, axis: int) -> tuple[int, int]:
    rows, columns = (n for a, n in enumerate(shape) if a != axis)
    return rows, columns


def _lifted(mask: Mask, prompt: Lasso | SliceMask) -> SparseMask:
    """A mask of a slice as one of the volume."""
    sides = [slice(0, n) for n in mask.shape]
    sides.insert(prompt.axis, slice(prompt.index, prompt.index + 1))
    return SparseMask.of((sides[0], sides[1], sides[2]), np.expand_dims(mask, prompt.axis))


def _interior(mask: Mask, prompt: Lasso | SliceMask) -> npt.NDArray[np.int64]:
    """Some voxels deep inside of a mask of a slice, spread over it."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    inside = np.argwhere(mask)
    deepest = np.argsort(-depth[mask], kind="stable")[: max(1, len(inside) // 3)]
    chosen = _evenly(inside[np.sort(deepest)])
    lifted: npt.NDArray[np.int64] = np.insert(chosen, prompt.axis, prompt.index, axis=1)
    return lifted


def _evenly(voxels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    count = min(_TYPICAL, len(voxels))
    chosen: npt.NDArray[np.int64] = voxels[np.linspace(0, len(voxels) - 1, count).astype(np.int64)]
    return chosen


def _what(prompt: Prompt) -> str:
    return f"the {type(prompt).__name__} of label {prompt.label}"
