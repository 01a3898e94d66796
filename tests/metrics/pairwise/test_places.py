"""The voxel to look at first is where the table's largest distance comes from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_medseg.config import Preset
from napari_medseg.errors import GridMismatchError, InputError
from napari_medseg.geometry import Shape3
from napari_medseg.metrics import evaluate
from napari_medseg.metrics.pairwise.places import Place, worst_place
from napari_medseg.volume import Grid, Segmentation

SPACING = (3.0, 2.0, 1.0)


def blocks(*, tail: int, extra: int = 0) -> Segmentation:
    """Label 1: a block with a tail of `tail` voxels along x. Label 2: a block that has `extra` more planes in z."""
    data = np.zeros((14, 16, 18), np.uint8)
    data[2:5, 2:6, 2:6] = 1
    data[3, 3, 6 : 6 + tail] = 1
    data[6 : 9 + extra, 9:13, 9:13] = 2
    return Segmentation(data, Grid.from_spacing(data.shape, SPACING))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        pytest.param(1, Place(label=1, index_zyx=(3, 3, 9), distance_mm=4.0), id="the tip of the tail"),
        pytest.param(None, Place(label=2, index_zyx=(10, 9, 9), distance_mm=6.0), id="of all labels, the extra planes"),
    ],
)
def test_the_worst_place_is_the_farthest_voxel(label: int | None, expected: Place) -> None:
    assert worst_place(prediction=blocks(tail=4, extra=2), reference=blocks(tail=0), label=label) == expected


@pytest.mark.parametrize("preset", ["survey", "lits", "chaos"])
def test_the_distance_is_that_of_the_table(preset: str) -> None:
    a, b = blocks(tail=1), blocks(tail=7, extra=2)
    scores = evaluate(prediction=b, reference=a, preset=preset)
    for row in scores.rows:
        place = worst_place(prediction=b, reference=a, label=row.label, preset=preset)  # type: ignore[arg-type]
        assert place.distance_mm == row.msd_mm


def test_the_reference_may_hold_the_place() -> None:
    place = worst_place(prediction=blocks(tail=0), reference=blocks(tail=4), label=1)
    assert place.index_zyx == (3, 3, 9)


def test_a_missed_label_is_shown_at_its_middle_and_ranks_last() -> None:
    reference, data = blocks(tail=4), np.asarray(blocks(tail=0).data)
    prediction = Segmentation(np.where(data == 2, 0, data), reference.grid)
    missed = worst_place(prediction=prediction, reference=reference, label=2)
    assert missed.distance_mm == math.inf
    assert np.abs(np.array(missed.index_zyx) - (7, 10.5, 10.5)).max() <= 1.5
    assert worst_place(prediction=prediction, reference=reference).label == 1


@pytest.mark.parametrize(
    ("shape", "preset"), [((4, 5, 6), "chaos"), ((1, 1, 1), "survey")], ids=["edge that is none", "single voxel"]
)
def test_a_label_that_fills_the_image_has_a_place_though_no_surface(shape: Shape3, preset: Preset) -> None:
    grid = Grid.from_spacing(shape, SPACING)
    full, none = (Segmentation(np.full(shape, value, np.uint8), grid) for value in (1, 0))
    for prediction, expected in ((full, 0.0), (none, math.inf)):
        place = worst_place(prediction=prediction, reference=full, preset=preset)
        (row,) = evaluate(prediction=prediction, reference=full, preset=preset).rows
        assert place.distance_mm == row.msd_mm == expected
        assert all(0 <= i < n for i, n in zip(place.index_zyx, shape, strict=True))


def test_the_worst_place_in_one_slice_is_on_its_outline() -> None:
    a, b = np.zeros((2, 1, 12, 12), np.uint8)
    a[0, 2:5, 2:7], b[0, 2:5, 2:10] = 1, 1
    grid = Grid.from_spacing(a.shape, SPACING)
    place = worst_place(prediction=Segmentation(b, grid), reference=Segmentation(a, grid))
    assert (place.index_zyx[2], place.distance_mm) == (9, 3.0)


def test_a_flipped_prediction_is_matched() -> None:
    reference, prediction = blocks(tail=0), blocks(tail=4)
    grid = Grid(prediction.grid.shape, prediction.grid.affine @ flip_x(prediction.grid.shape[2]))
    flipped = Segmentation(prediction.data[:, :, ::-1], grid)
    assert worst_place(prediction=flipped, reference=reference, label=1).index_zyx == (3, 3, 9)


def flip_x(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    affine = np.diag([1.0, 1.0, -1.0, 1.0])
    affine[2, 3] = n - 1
    return affine


def test_what_is_in_neither_has_no_place() -> None:
    with pytest.raises(InputError, match="neither the prediction nor the reference has label 9"):
        worst_place(prediction=blocks(tail=0), reference=blocks(tail=0), label=9)
    empty = Segmentation(np.zeros((14, 16, 18), np.uint8), blocks(tail=0).grid)
    with pytest.raises(InputError, match="has any label"):
        worst_place(prediction=empty, reference=empty)


def test_unequal_grids_are_refused() -> None:
    other = Segmentation(blocks(tail=0).data, Grid.from_spacing((14, 16, 18), (2.0, 2.0, 2.0)))
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        worst_place(prediction=other, reference=blocks(tail=0))
