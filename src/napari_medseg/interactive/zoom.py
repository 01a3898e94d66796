"""Where to look, and how closely: the frame that an object fills, found without asking for it.

At the first click several scales are tried; the one whose mask has its border on edges of the image is kept. Later the
frame follows the mask and the prompts, as elongated as they are, and grows where the mask runs out of it. A frame has a
bounded number of voxels, and so has the part of the volume that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_medseg.geometry import Shape3, Triple
from napari_medseg.interactive.scene import Frame
from napari_medseg.volume import Grid

SIZE = 64
"""Voxels along each side of the first frames of a volume."""
SIZE_2D = 256
"""The same of an image of one slice."""
_SCALES = (0.5, 0.8, 1.25, 2.0, 3.2)
"""The steps that the first click tries, in units of the volume's own step."""
_CLOSER = (0.25, 0.35, 0.5, 0.8)
"""The same of a click that says that what was found has leaked."""
_ACROSS = 2.5
"""The volume's own step shows a volume of average sides in that many frames."""
_CENTRAL_WEIGHT = 0.4
"""Of a click in the middle of what is found: users click there."""
_SPREAD_WEIGHT, _MOST_SPREAD = 0.17, 3.0
"""What a spread of intensities by the noise costs, and the largest one that counts: an object looks alike."""
_COARSEST_OWN = 3.0
"""The volume's own step is at most that many voxels: a volume of any size is first seen as closely as a usual one."""
_WIDEST_FIRST = 4.0
"""The widest step that the first click tries, in voxels: it bounds what is read of a large volume."""
_WIDEST = 8.0
"""The widest step at all, in voxels."""
_FINEST = 0.5
"""The finest step at all, in voxels."""
_OUTSIDE = 3
"""Voxels of a frame that lie outside of the volume at the most, on each side: smoothing reaches that far."""
_MARGIN = 0.2
"""What should lie around mask and prompts on each side, as a part of a first frame's side."""
_LEAST_MARGIN = 0.075
"""A frame is kept while at least that much lies around mask and prompts, as a part of a first frame's side."""
_TOO_COARSE, _TOO_FINE = 1.5, 0.7
"""A frame is kept while its step lies within these factors of the step that would fit best."""
_SHORTEST = 0.6
"""The shortest side of a frame, in its longest: what competes with an object stands on all sides of it."""
_LONGEST = 3.0
"""The longest side of a frame, in sides of a first one."""
_GROWTH = 1.5
"""How much longer a side becomes where the mask runs out of the frame; where that is too much, the step grows by it."""
_MOST_GROWN = 2
"""A grown frame has at most that many times the voxels of a first one."""
_NEAR_FACE = 0.1
"""What lies near a face, as a part of a first frame's side."""
_RUNS_OUT = 0.03
"""A mask runs out of a frame where it holds that many voxels near a face, in units of its own average cross section."""


def frame_shape(grid: Grid) -> Shape3:
    """The shape of a volume's first frames: cubes, and squares for images of one slice."""
    if min(grid.shape) > 1:
        return SIZE, SIZE, SIZE
    z, y, x = (1 if n == 1 else SIZE_2D for n in grid.shape)
    return z, y, x


def finest_spacing(grid: Grid) -> float:
    """The smallest spacing, in mm, of the axes that have more than one voxel; of all where none has."""
    return min(s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1 or max(grid.shape) == 1)


def own_step_mm(grid: Grid) -> float:
    """The step of a volume that the tried scales are multiples of, in mm."""
    finest = finest_spacing(grid)
    sides_mm = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True) if n > 1]
    if not sides_mm:
        return finest
    average = math.exp(sum(map(math.log, sides_mm)) / len(sides_mm))
    return min(max(finest, average / (_ACROSS * max(frame_shape(grid)))), _COARSEST_OWN * finest)


def first_frames(grid: Grid, centre_mm: Triple) -> list[Frame]:
    """The frames to try around a first click, the closest first."""
    step, shape = own_step_mm(grid), frame_shape(grid)
    longest_mm = max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    widest = max(1.3, 1.3 * longest_mm / (step * max(shape)))
    widest = max(_SCALES[0], min(widest, _WIDEST_FIRST * finest_spacing(grid) / step))
    return [clipped(Frame.around(centre_mm, scale * step, shape), grid) for scale in _SCALES if scale <= widest]


def closer_frames(frame: Frame, grid: Grid, low_mm: Triple, high_mm: Triple) -> list[Frame]:
    """The frames to try, the closest first, where what was found in a frame has leaked out of a smaller object.

    low_mm, high_mm: the corners of what the object is known to hold, which all of them show.
    """
    step, shape = own_step_mm(grid), frame_shape(grid)
    z, y, x = ((low + high) / 2 for low, high in zip(low_mm, high_mm, strict=True))
    shown = max(high - low for low, high in zip(low_mm, high_mm, strict=True))
    steps = [scale * step for scale in _CLOSER]
    return [
        clipped(Frame.around((z, y, x), fine, shape), grid)
        for fine in steps
        if fine < frame.step_mm and shown < (1 - 2 * _MARGIN) * max(shape) * fine
    ]


def clipped(frame: Frame, grid: Grid) -> Frame:
    """The frame without most of what lies outside of the volume: nothing is found there."""
    low, shape = [], []
    for axis, n in enumerate(frame.shape):
        start, size = frame.low_mm[axis], grid.shape[axis] * grid.spacing[axis]
        before = max(0, math.floor(-start / frame.step_mm) - _OUTSIDE) if n > 1 else 0
        after = max(0, math.floor((start + n * frame.step_mm - size) / frame.step_mm) - _OUTSIDE) if n > 1 else 0
        low.append(start + before * frame.step_mm)
        shape.append(n - before - after)
    return Frame((low[0], low[1], low[2]), frame.step_mm, (shape[0], shape[1], shape[2]))


def fit_score(support: float, filled: float, central: float, spread: float) -> float:
    """How well a frame fits what was found in it.

    support: how much of its border lies on edges. filled: its extent in sides of a first frame, which is not too large
    nor too small. central: how near to its middle the clicks lie. spread: of its intensities, in noise.
    """
    ill_fitting = 0.35 * max(0.0, filled - 0.7) + 0.5 * max(0.0, 0.15 - filled)
    return support - ill_fitting + _CENTRAL_WEIGHT * central - _SPREAD_WEIGHT * min(spread, _MOST_SPREAD)


def filled(grid: Grid, mask: npt.NDArray[np.bool_]) -> float:
    """The largest extent of a mask in a frame, in sides of a first frame."""
    side = max(frame_shape(grid))
    sides = []
    for axis, n in enumerate(mask.shape):
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append((along[-1] - along[0] + 1) / side if len(along) and n > 1 else 0.0)
    return float(max(sides))


def fitted(grid: Grid, low_mm: Triple, high_mm: Triple) -> Frame:
    """The frame that shows what lies between two corners, with a margin, as finely as its number of voxels allows."""
    extent = [high - low for low, high in zip(low_mm, high_mm, strict=True)]
    most = math.prod(frame_shape(grid))
    finest = finest_spacing(grid)
    step = _FINEST * finest
    while step < _WIDEST * finest and math.prod(_sides(grid, extent, step)) > most:
        step *= 1.05
    step = min(step, _WIDEST * finest)
    shape = _sides(grid, extent, step)
    z, y, x = ((low + high) / 2 for low, high in zip(low_mm, high_mm, strict=True))
    return clipped(Frame.around((z, y, x), step, shape), grid)


def follow(frame: Frame, grid: Grid, low_mm: Triple, high_mm: Triple) -> Frame:
    """The frame for what lies between two corners (mask and prompts): the same one while that fits in it well."""
    best = fitted(grid, low_mm, high_mm)
    clear = _LEAST_MARGIN * max(frame_shape(grid)) * frame.step_mm
    fits = True
    for axis, n in enumerate(frame.shape):
        start, end = frame.low_mm[axis], frame.low_mm[axis] + n * frame.step_mm
        size = grid.shape[axis] * grid.spacing[axis]
        fits &= (start <= 0 or low_mm[axis] >= start + clear) and (end >= size or high_mm[axis] <= end - clear)
    return frame if fits and _TOO_FINE < frame.step_mm / best.step_mm < _TOO_COARSE else best


def grown(frame: Frame, grid: Grid, mask: npt.NDArray[np.bool_]) -> Frame | None:
    """A larger frame, where the mask runs out of this one and the volume goes on there; None where it does not."""
    before, after = _run_out(frame, grid, mask)
    if not any(before) and not any(after):
        return None
    low, shape = list(frame.low_mm), list(frame.shape)
    for axis, n in enumerate(frame.shape):
        more = math.ceil(n * (_GROWTH - 1))
        if before[axis]:
            low[axis] -= more * frame.step_mm
        shape[axis] = n + more * (before[axis] + after[axis])
    if math.prod(shape) <= _MOST_GROWN * math.prod(frame_shape(grid)) and max(shape) <= 2 * _LONGEST * max(
        frame_shape(grid)
    ):
        return clipped(Frame((low[0], low[1], low[2]), frame.step_mm, (shape[0], shape[1], shape[2])), grid)
    step = min(frame.step_mm * _GROWTH, _WIDEST * finest_spacing(grid))
    return None if step <= frame.step_mm else clipped(frame.widened(step / frame.step_mm), grid)


def _sides(grid: Grid, extent_mm: Sequence[float], step: float) -> Shape3:
    side = max(frame_shape(grid))
    wanted = [e / step + 2 * _MARGIN * side for e in extent_mm]
    longest = min(_LONGEST * side, max((w for w, n in zip(wanted, grid.shape, strict=True) if n > 1), default=1.0))
    z, y, x = (
        1 if n == 1 else round(min(longest, max(_SHORTEST * longest, w)))
        for n, w in zip(grid.shape, wanted, strict=True)
    )
    return z, y, x


def _run_out(frame: Frame, grid: Grid, mask: npt.NDArray[np.bool_]) -> tuple[list[bool], list[bool]]:
    """Per axis, whether the mask comes near the frame's first and last layers where the volume goes on."""
    before, after = [], []
    near = max(1, round(_NEAR_FACE * max(frame_shape(grid))))
    enough = max(1.0, _RUNS_OUT * np.count_nonzero(mask) ** (2 / 3))
    for axis, n in enumerate(frame.shape):
        layers = np.moveaxis(mask, axis, 0)
        low, high = frame.low_mm[axis], frame.low_mm[axis] + n * frame.step_mm
        end = grid.shape[axis] * grid.spacing[axis]
        before.append(n > 1 and low > 0 and bool(np.count_nonzero(layers[:near]) >= enough))
        after.append(n > 1 and high < end and bool(np.count_nonzero(layers[-near:]) >= enough))
    return before, after
