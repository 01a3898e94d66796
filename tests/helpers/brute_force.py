"""The metrics once more, straight from their definitions and for tiny arrays only: every distance of every two voxels.

A is the reference, B the prediction. Nothing here comes from the package, so that a defect there cannot hide here.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Convention:
    """What the presets differ in."""

    differing_axes: int
    """Neighbours differ in at most so many axes: 1 gives 6 of them, 2 gives 18."""
    beyond_edge: bool
    """Whether what lies beyond the edge of the image counts as inside."""
    penalty: float | None = None


CONVENTIONS = {
    "survey": Convention(1, beyond_edge=False),
    "lits": Convention(2, beyond_edge=False, penalty=9001),
    "chaos": Convention(1, beyond_edge=True),
}


def expected_rows(
    b: Array, a: Array, spacing: tuple[float, float, float], preset: str, tolerance: float
) -> dict[int, dict[str, float]]:
    """{label: {column: value}} of two arrays of ids (Z, Y, X)."""
    labels = sorted((set(a.ravel().tolist()) | set(b.ravel().tolist())) - {0})
    return {label: _row(b == label, a == label, np.array(spacing), preset, tolerance) for label in labels}


def _row(b: Array, a: Array, spacing: Array, preset: str, tolerance: float) -> dict[str, float]:
    convention = CONVENTIONS[preset]
    size_a, size_b, both = float(a.sum()), float(b.sum()), float((a & b).sum())
    either, image = float((a | b).sum()), float(a.size)
    surface_a, surface_b = (_surface(mask, convention) for mask in (a, b))
    from_a, from_b = _directed(surface_a, surface_b, spacing), _directed(surface_b, surface_a, spacing)
    if not (size_a and size_b):
        from_a, from_b = [math.inf], []
    pooled = from_a + from_b
    means = [math.fsum(d) / len(d) for d in (from_a, from_b) if d]
    millilitres = float(np.prod(spacing)) / 1000
    row = {
        "voxels_reference": size_a,
        "voxels_prediction": size_b,
        "dice": 2 * both / (size_a + size_b),
        "iou": both / either,
        "voe": 1 - both / either,
        "rvd": _rvd(size_b, size_a, preset),
        "asd_mm": math.fsum(pooled) / len(pooled) if pooled else 0.0,
        "msd_mm": max(pooled, default=0.0),
        "hd95_mm": max(_percentile(d, 0.95) for d in (from_a, from_b)),
        "nsd": sum(d <= tolerance + 1e-6 for d in pooled) / len(pooled) if pooled else 1.0,
        "sensitivity": both / size_a if size_a else math.nan,
        "specificity": (image - either) / (image - size_a) if image > size_a else math.nan if image > size_b else 1.0,
        "precision": both / size_b if size_b else math.nan,
        "masd_mm": sum(means) / len(means) if means else 0.0,
        "hd95_pooled_mm": _percentile(pooled, 0.95),
        "centroid_distance_mm": _between_centres(b, a, spacing),
        "volume_reference_ml": size_a * millilitres,
        "volume_prediction_ml": size_b * millilitres,
        "voxels_both": both,
    }
    if convention.penalty is not None and not (size_a and size_b):
        distances = [column for column in row if column.endswith("_mm")]
        row |= dict.fromkeys([*distances, "rvd"], convention.penalty) | {"dice": 0.0, "iou": 0.0, "voe": 1.0}
    return row


def _rvd(size_b: float, size_a: float, preset: str) -> float:
    if preset == "lits":
        size_a, size_b = size_b, size_a
    difference = (size_b - size_a) / size_a if size_a else math.nan
    return abs(difference) * 100 if preset == "chaos" else difference


def _surface(mask: Array, convention: Convention) -> Array:
    """(N, 3): voxels of the mask that have a neighbour outside it; none of them along an axis of a single voxel."""
    padded = np.pad(mask, 1, constant_values=convention.beyond_edge)
    inside = np.argwhere(mask)
    steps = [(0,) if n == 1 else (-1, 0, 1) for n in mask.shape]
    neighbours = [o for o in itertools.product(*steps) if 1 <= np.abs(o).sum() <= convention.differing_axes]
    looked_up = [np.ones(len(inside), bool), *(padded[tuple((inside + 1 + o).T)] for o in neighbours)]
    surface: Array = inside[~np.all(looked_up, axis=0)]
    return surface


def _directed(source: Array, target: Array, spacing: Array) -> list[float]:
    if not len(target):
        return [math.inf] * len(source)
    offsets = (source[:, None] - target[None]) * spacing
    found: list[float] = np.sqrt((offsets**2).sum(axis=-1)).min(axis=1).tolist() if len(source) else []
    return found


def _percentile(values: list[float], fraction: float) -> float:
    """Between the two nearest ranks, linearly."""
    if not values or math.inf in values:
        return math.inf if values else 0.0
    ordered, place = sorted(values), fraction * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _between_centres(b: Array, a: Array, spacing: Array) -> float:
    if not (a.any() and b.any()):
        return math.inf
    return math.dist(np.argwhere(a).mean(axis=0) * spacing, np.argwhere(b).mean(axis=0) * spacing)
