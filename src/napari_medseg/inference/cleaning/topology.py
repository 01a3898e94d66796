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

F = TypeVar("F", bound=Callable[..., Any])
Mask = npt.NDArray[np.bool_]

_ROUNDS = 50
"""Passes over the voxels, at most: every pass moves a border by one voxel."""


def _compiled(function: F) -> F:
    compiled: F = numba.njit(cache=True, nogil=True)(function)
    return compiled


def towards(mask: Mask, target: Mask, fixed: Mask) -> Mask:
    """The mask (Z, Y, X) brought as near to the target as simple flips do; voxels of `fixed` stay as they are.

    Parts, holes and tunnels stay as many as they were. What lies beyond the array is not in the mask.
    """
    padded = np.pad(mask, 1)
    wanted, held = np.pad(target, 1), np.pad(fixed, 1, constant_values=True)
    _flip(padded, wanted, held, _ROUNDS)
    inner: Mask = padded[1:-1, 1:-1, 1:-1]
    return inner


@_compiled
def _flip(mask: Mask, target: Mask, fixed: Mask, rounds: int) -> None:
    """Flip simple voxels that differ from the target, in place, until none is left."""
    depth, height, width = mask.shape
    around = np.empty(27, np.bool_)
    for turn in range(rounds):
        changed = False
        for i in range(1, depth - 1):
            z = i if turn % 2 == 0 else depth - 1 - i
            for y in range(1, height - 1):
                for x in range(1, width - 1):
                    if mask[z, y, x] == target[z, y, x] or fixed[z, y, x]:
                        continue
                    for k in range(27):
                        around[k] = mask[z + k // 9 - 1, y + k // 3 % 3 - 1, x + k % 3 - 1]
                    if _is_simple(around):
                        mask[z, y, x] = target[z, y, x]
                        changed = True
        if not changed:
            return


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
