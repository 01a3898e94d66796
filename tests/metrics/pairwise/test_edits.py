"""Scores that follow painting equal a fresh evaluation, and compute only the labels that were touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseg.config import MetricsConfig
from napari_medseg.errors import GridMismatchError
from napari_medseg.metrics import evaluate
from napari_medseg.metrics.pairwise.edits import EditedScores
from napari_medseg.volume import Grid, Segmentation

SHAPE = (10, 12, 14)
GRID = Grid.from_spacing(SHAPE, (2.0, 1.0, 1.5))
CONFIG = MetricsConfig(preset="chaos", nsd_tolerance_mm=0.5)

Array = npt.NDArray[np.uint8]


def labels() -> Array:
    data = np.zeros(SHAPE, np.uint8)
    data[1:4, 1:5, 1:6], data[5:9, 6:11, 7:13] = 1, 2
    return data


def followed(prediction: Array, reference: Array) -> EditedScores:
    return EditedScores(
        prediction=Segmentation(prediction, GRID), reference=Segmentation(reference, GRID), config=CONFIG
    )


def fresh(prediction: Array, reference: Array) -> str:
    a, b = Segmentation(reference, GRID), Segmentation(prediction, GRID)
    return repr(evaluate(prediction=b, reference=a, preset="chaos", nsd_tolerance_mm=0.5))  # NaN equals itself as text


def test_only_the_painted_label_is_computed() -> None:
    prediction, reference = labels(), labels()
    scores = followed(prediction, reference)
    prediction[2, 5:7, 2:4] = 1
    assert scores.update()
    assert scores.computed == {1}
    assert repr(scores.scores) == fresh(prediction, reference)


def test_nothing_is_computed_where_nothing_was_painted() -> None:
    scores = followed(labels(), labels())
    assert not scores.update()


def test_undo_is_an_edit() -> None:
    prediction, reference = labels(), labels()
    scores = followed(prediction, reference)
    before = repr(scores.scores)
    prediction[2, 5:7, 2:4] = 1
    scores.update()
    assert repr(scores.scores) != before
    prediction[:] = labels()
    scores.update()
    assert repr(scores.scores) == before


def test_the_reference_may_be_painted_on_flipped_arrays() -> None:
    prediction, reference = labels(), labels()
    turn = np.diag([1.0, -1.0, -1.0, 1.0])
    turn[:3, 3] = 0, SHAPE[1] - 1, SHAPE[2] - 1
    flipped = Segmentation(prediction[:, ::-1, ::-1], Grid(SHAPE, GRID.affine @ turn))
    scores = EditedScores(prediction=flipped, reference=Segmentation(reference, GRID), config=CONFIG)
    reference[1, 1, 1] = 0
    prediction[8, 10, 12] = 3
    assert scores.update()
    assert repr(scores.scores) == fresh(prediction, reference)


def test_a_zarr_array_is_followed(tmp_path: Path) -> None:
    stored = zarr.create_array(tmp_path / "labels.zarr", shape=SHAPE, chunks=(4, 5, 6), dtype="uint8")
    stored[:] = labels()
    reference = Segmentation(labels(), GRID)
    scores = EditedScores(prediction=Segmentation(stored, GRID), reference=reference, config=CONFIG)
    stored[6, 3, 3] = 2
    assert scores.update()
    assert repr(scores.scores) == fresh(np.asarray(stored[:]), labels())


box = st.tuples(*(st.tuples(st.integers(0, n - 1), st.integers(1, 4)) for n in SHAPE))
stroke = st.tuples(st.booleans(), box, st.integers(0, 3))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(stroke, min_size=1, max_size=3), min_size=1, max_size=4))
def test_any_strokes_in_either_array_give_the_scores_of_a_fresh_evaluation(
    rounds: list[list[tuple[bool, tuple[tuple[int, int], ...], int]]],
) -> None:
    prediction, reference = labels(), labels()
    scores = followed(prediction, reference)
    for strokes in rounds:
        for in_reference, corner_and_size, label in strokes:
            part = tuple(slice(start, start + size) for start, size in corner_and_size)
            (reference if in_reference else prediction)[part] = label
        scores.update()
        assert repr(scores.scores) == fresh(prediction, reference)


def test_unequal_grids_are_refused() -> None:
    other = Segmentation(labels(), Grid.from_spacing(SHAPE, (3.0, 1.0, 1.5)))
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        EditedScores(prediction=other, reference=Segmentation(labels(), GRID), config=CONFIG)
