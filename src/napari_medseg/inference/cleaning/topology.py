"""Masks that change without changing their topology: one simple voxel after the other.

A voxel is simple where flipping it neither joins nor parts anything, in the mask (26 neighbours) or around it (6), nor
makes or closes a hole or a tunnel. Source: Bertrand and Malandain, Pattern Recognition Letters 1994.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box
from napari_medseg.arrays.views import BoxView
from napari_medseg.events import Filled, Progress, Work

F = TypeVar("F", bound=Callable[..., Any])
Mask = npt.NDArray[np.bool_]

_ROUNDS = 50
"""Passes over the voxels, at most: every pass moves a border by one voxel."""


def _compiled(function: F) -> F:
    compiled: F = numba.njit(cache=True, nogil=True)(function)
    return compiled


def towards(labels: Any, label: int, wanted: Any, box: Box, voxels: int) -> Work[None]:
    """Bring the mask of a label as near to that in other labels as simple flips do, in place, block by block.

    Parts, holes and tunnels stay as many as they were; voxels of other labels stay. labels, wanted: (Z, Y, X). box:
    holds both masks and a voxel around them, inside the image. What lies beyond is not in the mask. voxels: of a block,
    which has the planes of a chunk at least.
    """
    here, there = BoxView(labels, box), BoxView(wanted, box)
    depth, height, width = here.shape
    step = max(here.chunks[0], voxels // (height * width))
    planes = [slice(z, min(z + step, depth)) for z in range(0, depth, step)]
    # A block that is as wanted stays so: flips lead to what is wanted only.
    left = [part for part in planes if _differing(here, there, label, part).any()]
    for turn in range(_ROUNDS):
        changed = False
        for part in left if turn % 2 == 0 else left[::-1]:
            written = _flipped(here, there, label, part, backwards=turn % 2 == 1)
            if written is not None:
                changed = True
                yield Filled(here.of_source(written))
        yield Progress(turn + 1, _ROUNDS, "rounds of smoothing")
        if not changed:
            return


def _differing(here: BoxView, there: BoxView, label: int, part: slice) -> Mask:
    sides = (part, slice(0, here.shape[1]), slice(0, here.shape[2]))
    differing: Mask = (here[sides] == label) != (there[sides] == label)
    return differing


def _flipped(here: BoxView, there: BoxView, label: int, part: slice, *, backwards: bool) -> Box | None:
    """Flip simple voxels of some planes; returns their box where one was flipped."""
    depth, height, width = here.shape
    sides = slice(0, height), slice(0, width)
    low, high = max(0, part.start - 1), min(depth, part.stop + 1)
    seen = here[slice(low, high), *sides]
    ends = (low - (part.start - 1), part.stop + 1 - high)  # planes beyond the image
    around = np.pad(seen == label, [ends, (1, 1), (1, 1)])
    wanted, held = np.zeros_like(around), np.ones_like(around)
    inner = seen[part.start - low : part.stop - low]
    wanted[1:-1, 1:-1, 1:-1] = there[part, *sides] == label
    held[1:-1, 1:-1, 1:-1] = (inner != 0) & (inner != label)
    if not _flip(around, wanted, held, backwards):
        return None
    after = around[1:-1, 1:-1, 1:-1]
    values = np.where(after, label, np.where(inner == label, 0, inner)).astype(inner.dtype)
    box = (part, *sides)
    here[box] = values
    return box


@_compiled
def _flip(mask: Mask, target: Mask, fixed: Mask, backwards: bool) -> bool:
    """Flip simple voxels that differ from the target, in place, one plane after the other; whether there was one."""
    depth, height, width = mask.shape
    around = np.empty(27, np.bool_)
    changed = False
    for i in range(1, depth - 1):
        z = depth - 1 - i if backwards else i
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                if mask[z, y, x] == target[z, y, x] or fixed[z, y, x]:
                    continue
                for k in range(27):
                    around[k] = mask[z + k // 9 - 1, y + k // 3 % 3 - 1, x + k % 3 - 1]
                if _is_simple(around):
                    mask[z, y, x] = target[z, y, x]
                    changed = True
    return changed


@_compiled
def _is_simple(around: Mask) -> bool:
    """Whether the middle of 3 x 3 x 3 voxels can be flipped: one part of the mask around it, and one of the rest."""
    return _parts(around, True) == 1 and _parts(around, False) == 1


@_compiled
def _parts(around: Mask, inside: bool) -> int:
    """Parts of the mask (26 neighbours) or of the rest (6 neighbours, that touch the middle by a face) around it."""
    seen = np.zeros(27, np.bool_)
    stack = np.empty(27, np.int64)
    count = 0
    for start in range(27):
        if start == 13 or seen[start] or around[start] != inside:
            continue
        if not inside and _off(start) != 1:  # parts of the rest count from the six faces
            continue
        count += 1
        seen[start] = True
        stack[0], size = start, 1
        while size:
            size -= 1
            one = stack[size]
            for other in range(27):
                if other == 13 or seen[other] or around[other] != inside or (not inside and _off(other) > 2):
                    continue
                dz, dy, dx = (
                    abs(one // 9 - other // 9),
                    abs(one // 3 % 3 - other // 3 % 3),
                    abs(one % 3 - other % 3),
                )
                near = max(dz, dy, dx) <= 1 if inside else dz + dy + dx == 1
                if near:
                    seen[other] = True
                    stack[size] = other
                    size += 1
    return count


@_compiled
def _off(k: int) -> int:
    """Along how many axes a neighbour lies off the middle."""
    return abs(k // 9 - 1) + abs(k // 3 % 3 - 1) + abs(k % 3 - 1)
