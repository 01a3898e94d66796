"""The loops of the engine, compiled: distances along an image, and a random walker.

Shapes: images (C, Z, Y, X) float32, maps (Z, Y, X) float32, masks (Z, Y, X) bool. What lies outside of `domain` is a
barrier that no path enters, not padding.

The loops run on one thread, in a fixed order and without fast-math, so that the same prompts give the same mask.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., Any])
Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FAR = np.float32(1e6)
"""The distance of what no path has reached."""

_BEHIND = np.array([o for o in product((-1, 0, 1), repeat=3) if o < (0, 0, 0)], dtype=np.int64)
"""The 13 neighbours that a sweep in reading order has passed; their opposites are the other 13."""
_CUBES = (1.0, 1.0, 1.0)
"""The spacing of voxels that are cubes, their side being the unit of length."""


def compiled(function: F) -> F:
    """The function as machine code, kept on the disk: the first click of a session shall not wait for a compiler."""
    compiled: F = numba.njit(cache=True, nogil=True)(function)
    return compiled


def geodesic(
    seeds: Mask, image: Map, domain: Mask, step: float, sweeps: int = 4, spacing: tuple[float, float, float] = _CUBES
) -> Map:
    """The length of the shortest path from the seeds to each voxel, over its 26 neighbours.

    A step costs `step` times its length in units of `spacing`, and the largest difference of intensities among the
    channels. image is in units of its noise. sweeps: the most pairs of sweeps, forwards and backwards; it ends when
    nothing changes.
    """
    nz, ny, nx = seeds.shape
    # With a layer around that stays far, each voxel has 26 neighbours at the same distances in memory.
    inner = (slice(1, -1),) * 3
    distance = np.full((nz + 2, ny + 2, nx + 2), FAR, np.float32)
    distance[inner][seeds & domain] = 0
    padded = np.zeros((len(image), *distance.shape), np.float32)
    padded[(slice(None), *inner)] = image
    open_here = np.zeros(distance.shape, dtype=bool)
    open_here[inner] = domain
    flat = distance.ravel(), padded.reshape(len(image), -1), open_here.ravel()
    behind = _BEHIND @ np.array([(ny + 2) * (nx + 2), nx + 2, 1])
    costs = np.float32(step) * np.sqrt(((_BEHIND * spacing) ** 2).sum(axis=1)).astype(np.float32)
    for _ in range(sweeps):
        if _sweep_geodesic(*flat, costs, behind) + _sweep_geodesic(*flat, costs, -behind) == 0:
            break
    return np.ascontiguousarray(distance[inner])


def minimax(seeds: Mask, height: Map, domain: Mask, sweeps: int = 4) -> Map:
    """The lowest pass on the way from the seeds: the smallest possible maximum of `height` along a path of faces.

    Fuzzy connectedness (Udupa and Samarasekera, GMIP 1996) is one minus such a map.
    """
    level = np.full(seeds.shape, FAR, np.float32)
    inside = seeds & domain
    level[inside] = height[inside]
    for _ in range(sweeps):
        if _sweep_minimax(level, height, domain, 1) + _sweep_minimax(level, height, domain, -1) == 0:
            break
    return level


def random_walk(prior: Map, image: Map, domain: Mask, fixed: Mask, *, weight: float, edge: float, sweeps: int) -> Map:
    """The random walker with priors (Grady, CVPR 2005) by Gauss-Seidel: probabilities that follow edges of the image.

    prior: (Z, Y, X) in 0 to 1; kept where `fixed`. weight: of the prior beside the neighbours. edge: the difference of
    intensities at which neighbours are half as close.
    """
    probability = prior.copy()
    closeness = _closeness(image, domain, np.float32(1 / edge))
    for sweep in range(sweeps):
        _sweep_walker(probability, prior, closeness, domain, fixed, np.float32(weight), 1 if sweep % 2 == 0 else -1)
    return probability


@compiled
def _sweep_geodesic(distance: Map, image: Map, domain: Mask, costs: Map, behind: npt.NDArray[np.int64]) -> int:
    """One sweep over flat arrays. behind: where the 13 neighbours lie that the sweep has passed."""
    channels, size = image.shape
    forwards = behind[0] < 0
    changed = 0
    for n in range(size):
        at = n if forwards else size - 1 - n
        if not domain[at]:
            continue
        here = np.uint64(at)
        before = distance[here]
        best = before
        for k in range(behind.shape[0]):
            other = np.uint64(at + behind[k])  # unsigned: an index that could be negative is looked at twice
            reached = distance[other] + costs[k]
            if reached >= best:  # also from outside of the domain, which stays far
                continue
            difference = abs(image[0, here] - image[0, other])
            for channel in range(1, channels):
                difference = max(difference, abs(image[channel, here] - image[channel, other]))
            best = min(best, reached + difference)
        if best < before:
            distance[here] = best
            changed += 1
    return changed


@compiled
def _sweep_minimax(level: Map, height: Map, domain: Mask, direction: int) -> int:
    nz, ny, nx = level.shape
    changed = 0
    for a in range(nz):
        z = a if direction > 0 else nz - 1 - a
        for b in range(ny):
            y = b if direction > 0 else ny - 1 - b
            for c in range(nx):
                x = c if direction > 0 else nx - 1 - c
                if not domain[z, y, x]:
                    continue
                before = level[z, y, x]
                best = before
                i, j, h = z - direction, y - direction, x - direction
                if 0 <= i < nz:
                    best = min(best, level[i, y, x])
                if 0 <= j < ny:
                    best = min(best, level[z, j, x])
                if 0 <= h < nx:
                    best = min(best, level[z, y, h])
                best = max(best, height[z, y, x])
                if best < before:
                    level[z, y, x] = best
                    changed += 1
    return changed


@compiled
def _closeness(image: Map, domain: Mask, inverse_edge: np.float32) -> Map:
    """(3, Z, Y, X): how close each voxel is to the one before it along each axis, 1 to 0; 0 at barriers."""
    channels, nz, ny, nx = image.shape
    close = np.zeros((3, nz, ny, nx), np.float32)
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if not domain[z, y, x]:
                    continue
                for axis in range(3):
                    i, j, h = z - (axis == 0), y - (axis == 1), x - (axis == 2)
                    if i < 0 or j < 0 or h < 0 or not domain[i, j, h]:
                        continue
                    difference = np.float32(0)
                    for channel in range(channels):
                        difference = max(difference, abs(image[channel, z, y, x] - image[channel, i, j, h]))
                    ratio = difference * inverse_edge
                    close[axis, z, y, x] = np.float32(1) / (np.float32(1) + ratio * ratio * ratio * ratio)
    return close


@compiled
def _sweep_walker(
    probability: Map, prior: Map, close: Map, domain: Mask, fixed: Mask, weight: np.float32, direction: int
) -> None:
    nz, ny, nx = probability.shape
    for a in range(nz):
        z = a if direction > 0 else nz - 1 - a
        for b in range(ny):
            y = b if direction > 0 else ny - 1 - b
            for c in range(nx):
                x = c if direction > 0 else nx - 1 - c
                if fixed[z, y, x] or not domain[z, y, x]:
                    continue
                total, norm = weight * prior[z, y, x], weight
                if z > 0:
                    w = close[0, z, y, x]
                    total += w * probability[z - 1, y, x]
                    norm += w
                if y > 0:
                    w = close[1, z, y, x]
                    total += w * probability[z, y - 1, x]
                    norm += w
                if x > 0:
                    w = close[2, z, y, x]
                    total += w * probability[z, y, x - 1]
                    norm += w
                if z + 1 < nz:
                    w = close[0, z + 1, y, x]
                    total += w * probability[z + 1, y, x]
                    norm += w
                if y + 1 < ny:
                    w = close[1, z, y + 1, x]
                    total += w * probability[z, y + 1, x]
                    norm += w
                if x + 1 < nx:
                    w = close[2, z, y, x + 1]
                    total += w * probability[z, y, x + 1]
                    norm += w
                probability[z, y, x] = total / norm
