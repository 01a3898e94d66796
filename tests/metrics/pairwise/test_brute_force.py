"""Random pairs by all presets: equal to an implementation that shares nothing with ours; a thousand of them if slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from brute_force import expected_rows
from napari_medseg import Grid, Segmentation
from napari_medseg.config import Preset
from napari_medseg.metrics import Comparison

Labels = np.ndarray[Any, np.dtype[np.integer[Any]]]
Pair = tuple[Labels, Labels]
Rng = np.random.Generator

FEW, MANY = range(8), range(8, 125)
"""Seeds of every kind of pair. Of eight defects that were planted for a trial, each fails within the first two."""
GAPS = np.array([0, 3, 700, 70_000, 2**31 - 1], np.int32)


def shape(rng: Rng, longest: int = 9) -> tuple[int, ...]:
    return tuple(rng.integers(1, longest + 1, 3))


def boxes(rng: Rng, labels: int, size: tuple[int, ...]) -> Labels:
    """Boxes anywhere, also across the border, one over the other."""
    array = np.zeros(size, np.uint8)
    for label in range(1, labels + 1):
        start = [int(rng.integers(-2, n)) for n in size]
        stop = [max(0, s) + int(rng.integers(1, 7)) for s in start]
        array[tuple(slice(max(0, s), e) for s, e in zip(start, stop, strict=True))] = label
    return array


def noise(rng: Rng) -> Pair:
    a, b = rng.integers(0, 3, (2, *shape(rng, 6)), dtype=np.uint8)
    return b, a


def organs(rng: Rng) -> Pair:
    size = shape(rng)
    return boxes(rng, 4, size), boxes(rng, 4, size)


def edited(rng: Rng) -> Pair:
    """Mostly equal, as after a correction."""
    a = boxes(rng, 3, shape(rng))
    return np.where(rng.random(a.shape) < 0.1, rng.integers(0, 4, a.shape, dtype=np.uint8), a), a


def single_voxels(rng: Rng) -> Pair:
    """One voxel each, mostly too far apart for the steps that are looked up."""
    size = shape(rng, 12)
    a, b = np.zeros((2, *size), np.uint8)
    for array in (a, b):
        array[tuple(rng.integers(0, n) for n in size)] = 1
    return b, a


def far_apart(rng: Rng) -> Pair:
    """Some voxels within a step of the other surface, others beyond all steps."""
    a, b = np.zeros((2, 3, 5, 40), np.int16)
    a[..., : rng.integers(1, 5)] = 5
    a[1, 2, rng.integers(5, 40)] = 5
    b[..., : rng.integers(1, 8)] = 5
    return (b, a) if rng.random() < 0.5 else (a, b)


def one_sided(rng: Rng) -> Pair:
    """Labels that only one of the two has; sometimes one is all background."""
    a = boxes(rng, 3, shape(rng))
    b = np.where(a == 1, 9, a) * (rng.random() < 0.7)
    return b.astype(np.uint8), a


def gaps(rng: Rng) -> Pair:
    b, a = organs(rng)
    return GAPS[b], GAPS[a]


def slices(rng: Rng) -> Pair:
    """One slice, at times one row or voxel, along any axes; often filled to the border, or empty."""
    size = np.array(shape(rng, 12))
    size[rng.permutation(3)[: rng.choice([1, 1, 1, 2, 3])]] = 1
    a, b = boxes(rng, 2, tuple(size)), boxes(rng, 2, tuple(size))
    return (np.full_like(b, rng.integers(2)) if rng.random() < 0.4 else b), a


KINDS = (noise, organs, edited, single_voxels, far_apart, one_sided, gaps, slices)


@pytest.mark.parametrize("preset", get_args(Preset))
@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
@pytest.mark.parametrize("seeds", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_every_column_equals_brute_force(kind: Callable[[Rng], Pair], preset: Preset, seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        prediction, reference = kind(rng)
        spacing = tuple(rng.choice([0.4, 0.7, 1.0, 1.3, 3.0, 5.0], 3).tolist())
        tolerance = float(rng.choice([0.0, 0.7, 1.0, 2.5]))
        grid = Grid.from_spacing(reference.shape, spacing)
        rows = Comparison(
            prediction=Segmentation(prediction, grid),
            reference=Segmentation(reference, grid),
            preset=preset,
            nsd_tolerance_mm=tolerance,
            block_voxels=int(rng.choice([20, 200, 5000])),
        ).scores.rows
        expected = expected_rows(prediction, reference, spacing, preset, tolerance)
        assert [row.label for row in rows] == list(expected), f"seed {seed}"
        for row in rows:
            found = {column: getattr(row, column) for column in expected[row.label]}
            assert found == pytest.approx(expected[row.label], rel=1e-9, abs=1e-9, nan_ok=True), f"seed {seed}"
