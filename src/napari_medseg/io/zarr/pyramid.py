"""The resolution levels of a stored array, made block by block: memory does not grow with the volume.

Arrays are (..., Z, Y, X); only the last three axes are reduced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import blocks, whole
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.volume import LazyArray

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Level:
    """One level: its shape, and per axis the voxels of the level before that make one of its own."""

    shape: Shape3
    factors: Shape3
    scale: Shape3
    """Per axis the voxels of the finest level that make one of its own."""


def plan(shape: Shape3, spacing_zyx_mm: Triple, *, smallest: int = 64) -> list[Level]:
    """The levels, the finest first, until the longest axis has at most `smallest` voxels.

    The axes with the finer spacing are halved first, so that voxels become cubes and not rods.
    """
    levels = [Level(shape, (1, 1, 1), (1, 1, 1))]
    while max(levels[-1].shape) > smallest:
        levels.append(_coarser(levels[-1], spacing_zyx_mm))
    return levels


def _coarser(level: Level, spacing_zyx_mm: Triple) -> Level:
    spacing = [s * f for s, f in zip(spacing_zyx_mm, level.scale, strict=True)]
    finest = min(s for s, n in zip(spacing, level.shape, strict=True) if n > 1)
    z, y, x = (2 if n > 1 and s < 2 * finest else 1 for s, n in zip(spacing, level.shape, strict=True))
    shape, scale = level.shape, level.scale
    return Level((shape[0] // z, shape[1] // y, shape[2] // x), (z, y, x), (scale[0] * z, scale[1] * y, scale[2] * x))


def copy_blocks(source: LazyArray, target: Any, check: Callable[[Array], None] | None = None) -> None:
    """Fill a zarr array from an array of the same shape, a block of whole chunks at a time.

    check: raises for a block, as it is in the source, that cannot be copied.
    """
    for block in blocks(whole(target.shape), target.chunks):
        values = np.asarray(source[block])
        if check is not None:
            check(values)
        target[block] = values.astype(target.dtype, copy=False)


def reduce_blocks(source: Any, target: Any, factors: Shape3, *, is_labels: bool) -> None:
    """Fill a coarser level from the one before: the mean of an image, one voxel of labels."""
    lead = len(target.shape) - 3
    steps = (1,) * lead + factors
    for block in blocks(whole(target.shape), target.chunks):
        fine = tuple(slice(b.start * f, b.stop * f) for b, f in zip(block, steps, strict=True))
        values = np.asarray(source[fine])
        target[block] = values[tuple(slice(None, None, f) for f in steps)] if is_labels else _mean(values, steps)


def _mean(values: Array, steps: tuple[int, ...]) -> Array:
    split = [part for n, f in zip(values.shape, steps, strict=True) for part in (n // f, f)]
    mean: Array = values.reshape(split).mean(axis=tuple(range(1, len(split), 2)), dtype=np.float64)
    rounded: Array = (np.rint(mean) if values.dtype.kind in "iu" else mean).astype(values.dtype)
    return rounded
