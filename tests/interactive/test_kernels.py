"""Distances along an image, against plain shortest paths, and the random walker."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from napari_medseg.interactive.kernels import FAR, Map, Mask, geodesic, minimax, random_walk

STEP = 0.3
SHAPE = (4, 5, 6)
FACES = [o for o in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, o)) == 1]
ALL = [o for o in itertools.product((-1, 0, 1), repeat=3) if any(o)]


def shortest(
    starts: dict[tuple[int, ...], float],
    domain: Mask,
    further: Callable[[float, tuple[int, ...], tuple[int, ...]], float],
) -> npt.NDArray[np.float64]:
    """Dijkstra's distances, over the neighbours for which `further` says how far a neighbour is."""
    out = np.full(domain.shape, float(FAR))
    heap = [(d, v) for v, d in starts.items()]
    heapq.heapify(heap)
    while heap:
        distance, voxel = heapq.heappop(heap)
        if distance >= out[voxel]:
            continue
        out[voxel] = distance
        for offset in ALL:
            other = tuple(a + b for a, b in zip(voxel, offset, strict=True))
            if all(0 <= a < n for a, n in zip(other, domain.shape, strict=True)) and domain[other]:
                heapq.heappush(heap, (further(distance, voxel, other), other))
    return out


@pytest.fixture(params=range(4))
def scene(request: pytest.FixtureRequest) -> tuple[Map, Mask, Mask]:
    """(image of two channels, domain with barriers, seeds)"""
    rng = np.random.default_rng(request.param)
    image = rng.normal(0, 1, (2, *SHAPE)).astype(np.float32)
    domain = rng.random(SHAPE) > 0.3
    seeds = rng.random(SHAPE) > 0.9
    seeds[tuple(np.argwhere(domain)[0])] = True
    return image, domain, seeds


def test_geodesic_equals_shortest_paths(scene: tuple[Map, Mask, Mask]) -> None:
    image, domain, seeds = scene

    def further(distance: float, a: tuple[int, ...], b: tuple[int, ...]) -> float:
        length = np.linalg.norm(np.subtract(a, b))
        changes = [abs(float(channel[a]) - float(channel[b])) for channel in image]
        return distance + STEP * float(length) + max(changes)

    starts = {tuple(v): 0.0 for v in np.argwhere(seeds & domain).tolist()}
    found = geodesic(seeds, image, domain, STEP, sweeps=50)
    np.testing.assert_allclose(found, shortest(starts, domain, further), rtol=1e-5)


def test_minimax_equals_the_lowest_passes(scene: tuple[Map, Mask, Mask]) -> None:
    image, domain, seeds = scene
    height = np.abs(image[0])

    def further(level: float, a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return max(level, float(height[b])) if np.abs(np.subtract(a, b)).sum() == 1 else float(FAR)

    starts = {tuple(v): float(height[tuple(v)]) for v in np.argwhere(seeds & domain).tolist()}
    found = minimax(seeds, height, domain, sweeps=50)
    np.testing.assert_allclose(found, shortest(starts, domain, further), rtol=1e-6)


def test_a_wall_is_not_passed() -> None:
    image, domain = np.zeros((1, 3, 3, 7), np.float32), np.ones((3, 3, 7), dtype=bool)
    domain[:, :, 3] = False
    seeds = np.zeros(domain.shape, dtype=bool)
    seeds[1, 1, 0] = True
    distance = geodesic(seeds, image, domain, 1.0)
    assert (distance[:, :, 3:] == FAR).all()
    assert (distance[:, :, :3] < 4).all()
    assert (minimax(seeds, image[0], domain)[:, :, 4:] == FAR).all()


def test_the_walker_solves_its_equations() -> None:
    rng = np.random.default_rng(0)
    shape = (3, 4, 5)
    image = rng.normal(0, 1, (1, *shape)).astype(np.float32)
    prior, fixed = rng.random(shape).astype(np.float32), rng.random(shape) > 0.8
    domain = np.ones(shape, dtype=bool)
    found = random_walk(prior, image, domain, fixed, weight=0.2, edge=1.5, sweeps=400)
    np.testing.assert_array_equal(found[fixed], prior[fixed])
    for voxel in np.argwhere(~fixed):
        total, norm = 0.2 * prior[tuple(voxel)], 0.2
        for offset in FACES:
            other = tuple(voxel + offset)
            if all(0 <= a < n for a, n in zip(other, shape, strict=True)):
                close = 1 / (1 + (abs(image[0][tuple(voxel)] - image[0][other]) / 1.5) ** 4)
                total, norm = total + close * found[other], norm + close
        assert found[tuple(voxel)] == pytest.approx(total / norm, abs=1e-4)


def test_the_same_twice_is_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    image, seeds = rng.normal(0, 1, (1, *SHAPE)).astype(np.float32), rng.random(SHAPE) > 0.9
    domain = np.ones(SHAPE, dtype=bool)
    np.testing.assert_array_equal(geodesic(seeds, image, domain, STEP), geodesic(seeds, image, domain, STEP))
