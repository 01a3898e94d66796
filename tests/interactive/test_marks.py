"""What prompts mark, and what is said of those that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.errors import InputError
from napari_medseg.interactive.marks import marks_of, seeds
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.scene import Frame
from napari_medseg.prompts import Box, Lasso, Point, Prompt, Scribble, SliceMask

SHAPE = (6, 8, 10)
SQUARE = np.array([[1.0, 2.0], [1.0, 5.0], [4.0, 5.0], [4.0, 2.0]])
MASK = np.zeros((6, 10), dtype=bool)
MASK[2:4, 3:8] = True


@pytest.mark.parametrize(
    ("prompt", "yes", "no"),
    [
        pytest.param(Point((1, 2, 3), label=1), 1, 0, id="point"),
        pytest.param(Point((1, 2, 3), label=1, positive=False), 0, 1, id="not here"),
        pytest.param(Scribble(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 1]]), label=1), 2, 0, id="scribble"),
        pytest.param(Box((0, 0, 0), (2, 3, 4), label=1), 1, 0, id="box"),
        pytest.param(Box((0, 0, 0), (2, 3, 4), label=1, positive=False), 0, 24, id="no box"),
        pytest.param(SliceMask(MASK, axis=1, index=7, label=1), 10, 50, id="slice"),
        pytest.param(SliceMask(MASK, axis=1, index=7, label=1, positive=False), 0, 10, id="part of no slice"),
    ],
)
def test_voxels_of_a_prompt(prompt: Prompt, yes: int, no: int) -> None:
    marks = marks_of(prompt, SHAPE)
    assert (marks.yes.voxels, marks.no.voxels) == (yes, no)
    assert marks.positive == prompt.positive
    assert len(marks.typical) >= 1


def test_a_lasso_marks_what_it_encloses() -> None:
    marks = marks_of(Lasso(SQUARE, axis=0, index=2, label=1), SHAPE)
    inside = marks.yes.within((slice(0, 6), slice(0, 8), slice(0, 10)))
    assert np.argwhere(inside)[:, 0].tolist() == [2] * inside.sum()
    assert inside[2, 2:4, 3:5].all()
    assert not inside[2, 6:].any()


def test_a_slice_speaks_of_all_of_it_and_a_lasso_does_not() -> None:
    assert marks_of(SliceMask(MASK, axis=1, index=7, label=1), SHAPE).slice_axis == 1
    assert marks_of(SliceMask(np.ones_like(MASK), axis=1, index=7, label=1, positive=False), SHAPE).slice_axis == 1
    assert marks_of(SliceMask(MASK, axis=1, index=7, label=1, positive=False), SHAPE).slice_axis is None
    assert marks_of(Lasso(SQUARE, axis=0, index=2, label=1), SHAPE).slice_axis is None


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param(Point((6, 0, 0), label=4), r"Point of label 4 lies outside.*\(6, 0, 0\).*6x8x10", id="point"),
        pytest.param(Scribble(np.array([[0, 0, 0], [0, 9, 0]]), label=1), r"\(0, 9, 0\)", id="scribble"),
        pytest.param(Box((0, 0, 0), (6, 8, 11), label=1), r"Box.*outside", id="box"),
        pytest.param(SliceMask(MASK, axis=1, index=8, label=1), r"slice 8 of 8 along axis 1", id="slice"),
        pytest.param(SliceMask(MASK, axis=0, index=0, label=1), r"6x10 where slices along axis 0 have 8x10", id="size"),
        pytest.param(SliceMask(MASK & False, axis=1, index=0, label=1), "marks no voxel", id="empty"),
        pytest.param(Lasso(SQUARE + 50, axis=0, index=0, label=1), "marks no voxel", id="lasso elsewhere"),
        pytest.param(Lasso(SQUARE, axis=0, index=6, label=1), "slice 6 of 6", id="lasso"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(prompt: Prompt, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        marks_of(prompt, SHAPE)
    assert "\n" not in str(refusal.value)


def test_a_voxel_counts_in_a_coarse_frame() -> None:
    one = SparseMask.of_voxels(np.array([[5, 3, 7]]))
    frame = Frame((0.0, 0.0, 0.0), 4.0, (2, 2, 3))
    assert np.argwhere(seeds(one, frame, (1.0, 1.0, 1.0))).tolist() == [[1, 0, 1]]


def test_a_huge_box_takes_no_memory() -> None:
    side = 1 << 14
    held = marks_of(Box((0, 0, 0), (side, side, side), label=1), (side, side, side)).limit
    assert held is not None
    frame = Frame((100.0, 100.0, 100.0), 2.0, (4, 4, 4))
    assert seeds(held, frame, (1.0, 1.0, 1.0)).all()
