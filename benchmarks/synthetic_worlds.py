"""Packed synthetic worlds: what a network of clicks is trained on instead of images of people.

A world is filled by cells of all sizes with warped borders, as an abdomen is by organs. Few tissues share few
intensities, so that neighbours are often alike; thin planes of fat part some of them and not others. Cells are solid,
have a bright shell as bones do, or hold lesions; tubes with and without a wall run through all of it. Noise, texture,
shading, blur, thick slices and the field of view differ from world to world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

import napari_medseg as ms

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
LEAST_VOXELS = 30
"""Of an object."""
MOST_OF_WORLD = 0.5
"""Of the volume, that an object may fill."""
_KINDS = {"cell": 0.5, "tube": 0.2, "blob": 0.16, "group": 0.07, "part": 0.07}
"""What is to be segmented, and how often."""


@dataclass(frozen=True, eq=False)
class World:
    """An image, and one object in it."""

    volume: ms.Volume
    mask: Mask
    kind: str


@dataclass(eq=False)
class _Scene:
    """A world while it is made: labels of everything, its image without noise, and the labels of each kind."""

    labels: Labels
    image: Floats
    cells: list[int]
    tubes: list[int]
    blobs: list[int]


def world(seed: int) -> World:
    """The world of a seed; the same seed gives the same one."""
    rng = np.random.default_rng(seed)
    while True:
        shape = tuple(int(n) for n in rng.integers(44, 77, 3))
        scene = _cells(shape, rng)
        for _ in range(int(rng.integers(1, 5))):
            _add_tube(scene, rng)
        for _ in range(int(rng.integers(0, 5))):
            _add_blob(scene, rng)
        kind, mask = _object(scene, rng)
        image, mask, spacing = _acquired(scene.image, mask, rng)
        if LEAST_VOXELS <= np.count_nonzero(mask) <= MOST_OF_WORLD * mask.size:
            grid = ms.Grid.from_spacing(image.shape, spacing, (0.0, 0.0, 0.0))
            return World(ms.Volume(image[None], grid, ("image",)), mask, kind)


def smooth(shape: Sequence[int], knots: int, rng: np.random.Generator) -> Floats:
    """(Z, Y, X) a smooth random field of mean 0 and deviation 1, with so many knots along each axis."""
    field = rng.normal(size=(knots,) * 3).astype(np.float32)
    for axis, n in enumerate(shape):
        weights = ndimage.zoom(np.eye(knots, dtype=np.float32), (n / knots, 1), order=2)
        field = np.moveaxis(np.tensordot(weights, field, (1, axis)), 0, axis)
    spread: Floats = (field - field.mean()) / field.std()
    return spread


def _cells(shape: tuple[int, ...], rng: np.random.Generator) -> _Scene:
    """Cells around warped seeds of random weight, some of them joined, painted by tissue."""
    count = int(np.exp(rng.uniform(np.log(15), np.log(70))))
    side = float(np.prod(shape) / count) ** (1 / 3)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * np.exp(rng.normal(0, 0.3, 3))
    places = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))
    for knots, height in ((4, 0.25), (8, 0.1), (16, rng.uniform(0, 0.06))):
        for axis in range(3):
            places[axis] += rng.uniform(0.3, 1) * height * side * smooth(shape, knots, rng)
    seeds = rng.uniform(0, 1, (count, 3)) * shape
    lift = (rng.uniform(0, 1, count) * side) ** 2
    turned, seeds = np.tensordot(turn, places, 1).astype(np.float32), seeds @ turn.T
    nearest = np.full(shape, np.inf, np.float32)
    second = np.full(shape, np.inf, np.float32)
    owner, other = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    joined = _joined(seeds, side, rng)
    for k in range(count):
        away = sum((turned[axis] - np.float32(seeds[k, axis])) ** 2 for axis in range(3)) + np.float32(lift[k])
        away = np.sqrt(away)
        own = owner == joined[k]
        closer = away < nearest
        pushed = closer & ~own
        second[pushed], other[pushed] = nearest[pushed], owner[pushed]
        between = ~closer & ~own & (away < second)
        second[between], other[between] = away[between], joined[k]
        nearest[closer], owner[closer] = away[closer], joined[k]
    return _painted(owner, other, ((second - nearest) / 2).astype(np.float32), rng)


def _joined(seeds: npt.NDArray[np.float64], side: float, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """(n,) the cell that each seed belongs to, from 1 on: some cells have several seeds and are not convex."""
    count = len(seeds)
    cell = np.arange(1, count + 1, dtype=np.int32)
    often = rng.uniform(0, 0.25)
    for k in range(1, count):
        if rng.random() < often:
            away = np.linalg.norm(seeds[:k] - seeds[k], axis=1)
            if away.min() < 1.5 * side:
                cell[k] = cell[int(away.argmin())]
    return cell


def _painted(owner: Labels, other: Labels, gap: Floats, rng: np.random.Generator) -> _Scene:
    """The image of cells: tissues, planes between them, shells, and air around a body."""
    shape, last = owner.shape, 1 + int(max(owner.max(), other.max()))
    tissues = rng.normal(0, 1, int(rng.integers(4, 10)))
    tissue = rng.integers(0, len(tissues), last)
    own = tissues[tissue] + rng.normal(0, rng.uniform(0.05, 0.4), last)
    texture = (rng.random(len(tissues)) < 0.5) * rng.uniform(0, 0.5, len(tissues))
    fine = smooth(shape, int(rng.integers(10, 30)), rng)
    image = (own[owner] + texture[tissue][owner] * fine).astype(np.float32)
    plane = np.zeros((last, last), np.float32)
    often, thickness = rng.uniform(0.2, 1), rng.uniform(0.4, 2.0)
    pairs = np.triu(rng.random((last, last)) < often)
    plane[pairs] = rng.uniform(0.4, 1) * thickness
    plane = np.maximum(plane, plane.T)
    between = gap < plane[owner, other]
    image[between] = rng.choice([tissues[0], rng.normal(0, 1.5)])
    shelled = rng.random(last) < rng.choice([0.0, 0.1, 0.3])
    shell = shelled[owner] & ~between & (gap < plane[owner, other] + rng.uniform(1, 3))
    image[shell] = tissues.max() + rng.uniform(0.5, 2)
    labels = owner.copy()
    labels[between & (gap < plane[owner, other] - 0.5)] = 0
    cells = [int(k) for k in np.unique(labels[labels > 0])]
    if rng.random() < 0.3:
        middle = np.array(shape) * rng.uniform(0.3, 0.7, 3)
        radii = np.array(shape) * rng.uniform(0.4, 0.8, 3)
        places = np.ogrid[tuple(slice(0, n) for n in shape)]
        level = sum(((p - m) / r) ** 2 for p, m, r in zip(places, middle, radii, strict=True))
        air = level + 0.1 * smooth(shape, 4, rng) > 1
        image[air], labels[air] = tissues.min() - rng.uniform(0, 2), 0
    return _Scene(labels, image, cells, [], [])


def _add_tube(scene: _Scene, rng: np.random.Generator) -> None:
    """A curved tube, with a wall or without, with a branch or without; of an intensity of its own or one of others."""
    shape = np.array(scene.labels.shape)
    radius = float(np.exp(rng.uniform(np.log(1.2), np.log(6))))
    points = _curve(rng.uniform(0, 1, 3) * shape, shape, rng)
    radii = np.full(len(points), radius)
    if rng.random() < 0.4:
        branch = _curve(points[int(rng.integers(len(points)))], shape, rng)
        points = np.concatenate([points, branch])
        radii = np.append(radii, np.full(len(branch), radius * rng.uniform(0.5, 0.9)))
    away, at = cKDTree(points).query(
        np.argwhere(np.ones(tuple(-(-shape // 2)), dtype=bool)) * 2 + 0.5, distance_upper_bound=2 * radius + 6
    )
    ratio = np.where(np.isfinite(away), away / np.append(radii, 1)[at], 9).reshape(-(-shape // 2))
    ratio = ndimage.zoom(ratio.astype(np.float32), 2, order=1)[tuple(slice(0, n) for n in shape)]
    ratio = ratio * (1 + rng.uniform(0, 0.2) * smooth(tuple(shape), 8, rng))
    wall = rng.uniform(0.15, 0.5) if rng.random() < 0.4 else 0.0
    label = int(scene.labels.max()) + 1
    inside, outer = ratio < 1, ratio < 1 + wall
    scene.image[outer] = rng.normal(0, 1.3)
    places = rng.integers(0, shape)
    alike = float(scene.image[tuple(places)])
    scene.image[inside] = alike if rng.random() < 0.3 else rng.normal(0, 1.3)
    scene.labels[outer] = 0
    scene.labels[outer if rng.random() < 0.5 else inside] = label
    scene.tubes.append(label)


def _curve(
    start: npt.NDArray[np.float64], shape: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(n, 3) points of a smooth curve from a place on, about a voxel apart."""
    step = rng.uniform(0.15, 0.5) * float(shape.mean())
    heading, wander = rng.normal(size=3), rng.uniform(0.1, 1.0)
    knots = [start]
    for _ in range(int(rng.integers(2, 7))):
        heading = heading / np.linalg.norm(heading) + wander * rng.normal(size=3) / np.sqrt(3)
        knots.append(knots[-1] + step * heading / np.linalg.norm(heading))
    at = np.linspace(0, len(knots) - 1, int(step * (len(knots) - 1)) + 2)
    points: npt.NDArray[np.float64] = CubicSpline(np.arange(len(knots)), np.array(knots))(at)
    return points


def _add_blob(scene: _Scene, rng: np.random.Generator) -> None:
    """A small uneven ellipsoid in a cell."""
    shape = np.array(scene.labels.shape)
    middle, radii = (
        rng.uniform(0.1, 0.9, 3) * shape,
        np.exp(rng.uniform(np.log(1.5), np.log(14))) * rng.uniform(0.6, 1.5, 3),
    )
    low = np.maximum(0, middle - 1.6 * radii).astype(int)
    high = np.minimum(shape, middle + 1.6 * radii + 1).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    places = np.ogrid[box]
    level = sum(((p - m) / r) ** 2 for p, m, r in zip(places, middle, radii, strict=True))
    inside = level + rng.uniform(0, 0.4) * smooth(level.shape, 4, rng) < 1
    label = int(scene.labels.max()) + 1
    around = float(np.median(scene.image[box]))
    scene.image[box][inside] = around + rng.choice([-1, 1]) * rng.uniform(0.3, 2)
    scene.labels[box][inside] = label
    scene.blobs.append(label)


def _object(scene: _Scene, rng: np.random.Generator) -> tuple[str, Mask]:
    """What is to be segmented: (its kind, where it is)."""
    sizes = np.bincount(scene.labels.ravel(), minlength=1)
    kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
    among = {"tube": scene.tubes, "blob": scene.blobs}.get(kind, scene.cells)
    held = [k for k in among if k < len(sizes) and sizes[k] >= LEAST_VOXELS]
    if not held:
        return kind, np.zeros(scene.labels.shape, dtype=bool)
    faces = scene.labels.copy()
    faces[1:-1, 1:-1, 1:-1] = 0
    cut = np.isin(held, faces)
    label = int(rng.choice(held, p=np.where(cut, 0.1, 1) / np.where(cut, 0.1, 1).sum()))
    mask = _largest(scene.labels == label)
    if kind == "group":
        near = scene.labels[ndimage.binary_dilation(mask, iterations=4) & ~mask]
        counts = np.bincount(near[near > 0], minlength=1)
        if counts.any():
            both = mask | (scene.labels == int(counts.argmax()))
            mask = _largest(ndimage.binary_closing(np.pad(both, 4), iterations=3)[4:-4, 4:-4, 4:-4])
    elif kind == "part":
        places = np.argwhere(mask) - np.argwhere(mask).mean(axis=0)
        along = places @ np.linalg.svd(places[:: max(1, len(places) // 2000)], full_matrices=False)[2][0]
        mask[mask] = along > np.quantile(along, rng.uniform(0.2, 0.7))
    elif kind == "cell":
        mask = ndimage.binary_fill_holes(mask) if rng.random() < 0.5 else mask
    return kind, mask


def _largest(mask: Mask) -> Mask:
    """The largest part of a mask."""
    parts, count = ndimage.label(mask)
    largest: Mask = parts == 1 + np.bincount(parts.ravel())[1:].argmax() if count > 1 else mask
    return largest


def _acquired(image: Floats, mask: Mask, rng: np.random.Generator) -> tuple[Floats, Mask, tuple[float, float, float]]:
    """(image, mask, spacing in mm) as a scanner shows them: shading, noise, blur, thick slices, a field of view."""
    shape = image.shape
    if rng.random() < 0.6:
        image = image * (1 + rng.uniform(0, 0.3) * smooth(shape, 3, rng)) + rng.uniform(0, 0.4) * smooth(shape, 3, rng)
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.1))
    level = rng.uniform(0, 0.25) if rng.random() < 0.85 else rng.uniform(0.25, 0.7)
    noise = rng.normal(size=shape).astype(np.float32)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, rng.uniform(0.4, 1.0))
        noise /= noise.std()
    image = image + np.float32(level) * noise
    spacing = [1.0, 1.0, 1.0]
    if rng.random() < 0.35:
        axis, factor = int(rng.integers(3)), int(rng.integers(2, 5))
        starts = np.arange(0, shape[axis] - factor + 1, factor)
        sums = np.add.reduceat(image, starts, axis).take(range(len(starts) - 1), axis)
        image = (sums / factor).astype(np.float32)
        mask = np.add.reduceat(mask.astype(np.uint8), starts, axis).take(range(len(starts) - 1), axis) * 2 > factor
        spacing[axis] = float(factor)
    if rng.random() < 0.5:
        low, high = np.quantile(image, (rng.uniform(0, 0.1), rng.uniform(0.9, 1)))
        image = image.clip(low, high)
    if rng.random() < 0.25:
        box = _view(mask, rng)
        image, mask = image[box], mask[box]
    z, y, x = spacing
    return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(mask), (z, y, x)


def _view(mask: Mask, rng: np.random.Generator) -> tuple[slice, ...]:
    """A part of the field of view around a voxel of the object: it may end in the object."""
    inner = np.argwhere(mask)
    if not len(inner):
        return tuple(slice(0, n) for n in mask.shape)
    centre = inner[int(rng.integers(len(inner)))]
    half = [max(6, int(rng.uniform(0.25, 0.6) * n)) for n in mask.shape]
    return tuple(slice(max(0, int(c) - h), int(c) + h + 1) for c, h in zip(centre, half, strict=True))
