"""Where to look, and how closely: the frame that an object fills, found without being told.

At the first prompt some scales are tried; the one whose mask has its border on edges of the image is kept. Later the
frame follows the mask and the prompts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import Shape3, Triple
from napari_medseg.interactive.scene import Frame
from napari_medseg.volume import Grid

SIZE = 64
"""Voxels along each side of a frame of a volume."""
SIZE_2D = 256
"""The same of an image of one slice."""
_SCALES = (0.5, 0.8, 1.25, 2.0, 3.2)
"""The steps that are tried, in units of the volume's own."""
_FILLED = 0.6
"""The part of a frame's side that mask and prompts should fill."""
_TOO_FULL, _TOO_EMPTY = 0.85, 0.4
"""Beyond these the frame is scaled again."""


def frame_shape(grid: Grid) -> Shape3:
    """The shape of a volume's frames: cubes, and squares of one slice for images."""
    if min(grid.shape) > 1:
        return SIZE, SIZE, SIZE
    z, y, x = (1 if n == 1 else SIZE_2D for n in grid.shape)
    return z, y, x


def own_step_mm(grid: Grid) -> float:
    """The step that shows all of a volume's detail, or, of a very large one, what 160 voxels a side would show."""
    sides_mm = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1]
    finest = min(s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1 or max(grid.shape) == 1)
    if not sides_mm:
        return finest
    return float(max(finest, np.prod(sides_mm) ** (1 / len(sides_mm)) / (2.5 * max(frame_shape(grid)))))


def first_frames(grid: Grid, centre_mm: Triple) -> list[Frame]:
    """The frames to try around a first prompt, the closest first."""
    step, shape = own_step_mm(grid), frame_shape(grid)
    longest_mm = max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    widest = max(1.3, 1.3 * longest_mm / (step * max(shape)))
    return [Frame.around(centre_mm, scale * step, shape) for scale in _SCALES if scale <= widest]


def fit_score(support: float, filled: float) -> float:
    """How well a frame fits what was found in it: its border's support, less what is too large or too small for it."""
    return support - 0.35 * max(0.0, filled - 0.7) - 0.5 * max(0.0, 0.15 - filled)


def filled(mask: npt.NDArray[np.bool_]) -> float:
    """The largest part of a side of a frame that a mask takes."""
    sides = []
    for axis, n in enumerate(mask.shape):
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append((along[-1] - along[0] + 1) / n if len(along) and n > 1 else 0.0)
    return float(max(sides))


def follow(frame: Frame, grid: Grid, low_mm: Triple, high_mm: Triple) -> Frame:
    """The frame for what lies between two corners (mask and prompts): the same one while that fits in it well."""
    low, high = np.asarray(low_mm), np.asarray(high_mm)
    side_mm = np.asarray(frame.shape) * frame.step_mm
    thick = np.asarray(frame.shape) > 1
    part = float(((high - low) / side_mm)[thick].max())
    margin = 0.5 * (1 - _TOO_FULL) * side_mm
    start = np.asarray(frame.low_mm)
    within = ((low >= start + margin) & (high <= start + side_mm - margin))[thick].all()
    step = frame.step_mm
    if part > _TOO_FULL or part < _TOO_EMPTY:
        step = part * step / _FILLED
        finest = 0.5 * min(s for s, n in zip(grid.spacing, grid.shape, strict=True) if n > 1 or max(grid.shape) == 1)
        step = max(step, finest)
    elif within:
        return frame
    if abs(step - frame.step_mm) < 0.1 * frame.step_mm:
        step = frame.step_mm
    z, y, x = ((low + high) / 2).tolist()
    moved = Frame.around((z, y, x), step, frame.shape)
    return replace(moved) if moved != frame else frame
