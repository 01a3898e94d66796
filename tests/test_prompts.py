"""Prompts are valid once built, and cannot be changed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any, get_args

import numpy as np
import pytest

from napari_medseg.errors import InputError
from napari_medseg.prompts import Box, Lasso, Point, Prompt, Scribble, SliceMask
from napari_medseg.volume import MAX_LABEL

TRIANGLE = [(0.5, 0.0), (3.0, 0.0), (3.0, 4.5)]
MASK = np.eye(3, dtype=bool)
VALID: list[Callable[..., Prompt]] = [
    lambda **sign: Point((1, 2, 3), **{"label": 1} | sign),
    lambda **sign: Box((0, 0, 0), (1, 2, 3), **{"label": 1} | sign),
    lambda **sign: Scribble(np.array([[1, 2, 3]]), **{"label": 1} | sign),
    lambda **sign: Lasso(np.array(TRIANGLE), axis=0, index=12, **{"label": 1} | sign),
    lambda **sign: SliceMask(MASK, axis=2, index=0, **{"label": 1} | sign),
]
each = pytest.mark.parametrize("make", VALID, ids=["point", "box", "scribble", "lasso", "mask"])


def test_each_kind_is_a_prompt() -> None:
    assert [type(make()) for make in VALID] == list(get_args(Prompt))


@each
def test_a_prompt_is_positive_unless_it_says_not_here(make: Callable[..., Prompt]) -> None:
    assert (make().label, make().positive) == (1, True)
    assert make(label=MAX_LABEL, positive=False).positive is False


@each
@pytest.mark.parametrize("label", [0, -1, MAX_LABEL + 1, 1.0, True, "liver"])
def test_a_label_that_no_voxel_can_have_is_refused(make: Callable[..., Prompt], label: Any) -> None:
    with pytest.raises(InputError, match=rf"needs a label id from 1 to {MAX_LABEL}; got .*positive=False"):
        make(label=label)


@each
def test_the_sign_is_a_bool(make: Callable[..., Prompt]) -> None:
    with pytest.raises(InputError, match="needs positive=True or positive=False; got 'no'"):
        make(positive="no")


@each
def test_a_prompt_is_frozen_and_crosses_processes(make: Callable[..., Prompt]) -> None:
    made = make()
    with pytest.raises(FrozenInstanceError):
        made.label = 2  # type: ignore[misc]
    copy = pickle.loads(pickle.dumps(made))
    assert type(copy) is type(made)
    for name, value in vars(made).items():
        assert np.array_equal(getattr(copy, name), value), name


@pytest.mark.parametrize("at", [(1, 2), (1, 2, 3, 4), (1, 2, -1), (1.5, 2, 3), (True, 2, 3), "123", None])
def test_indices_are_three_whole_numbers(at: Any) -> None:
    with pytest.raises(InputError, match=r"a Point needs at as voxel indices \(z, y, x\), whole numbers from 0 on"):
        Point(at, label=1)
    with pytest.raises(InputError, match="a Box needs low as voxel indices"):
        Box(at, (9, 9, 9), label=1)
    with pytest.raises(InputError, match="a Box needs high as voxel indices"):
        Box((0, 0, 0), at, label=1)


def test_indices_of_numpy_become_plain_ones() -> None:
    made = Point(np.array([1, 2, 3]), label=1)  # type: ignore[arg-type]
    assert made.at == (1, 2, 3)
    assert [type(n) for n in made.at] == [int] * 3


@pytest.mark.parametrize("high", [(0, 2, 3), (1, 2, 0)])
def test_a_box_holds_a_voxel(high: tuple[int, int, int]) -> None:
    assert Box((0, 1, 2), (1, 2, 3), label=1).high == (1, 2, 3)
    with pytest.raises(InputError, match="needs high above low along each axis"):
        Box((0, 1, 2), high, label=1)


@pytest.mark.parametrize(
    "voxels", [[], [[1, 2]], [1, 2, 3], [[1.0, 2.0, 3.0]], [[1, 2, -3]], [[1, 2, 3], [4]], np.zeros((0, 3), int)]
)
def test_a_scribble_is_rows_of_indices(voxels: Any) -> None:
    with pytest.raises(InputError, match="a Scribble needs voxels"):
        Scribble(voxels, label=1)


@pytest.mark.parametrize("polygon", [TRIANGLE[:2], [(0, 1, 2)] * 3, [(0, 0), (1, 1), (np.nan, 2)], "a polygon"])
def test_a_lasso_is_three_finite_points(polygon: Any) -> None:
    with pytest.raises(InputError, match=r"a Lasso needs a polygon of shape \(n, 2\)"):
        Lasso(polygon, axis=0, index=0, label=1)


@pytest.mark.parametrize("mask", [np.zeros((2, 2, 2), bool), np.zeros((0, 3), bool), [[0, 2]], [[0.5, 1.0]], 1])
def test_a_mask_is_a_slice_of_0_and_1(mask: Any) -> None:
    with pytest.raises(InputError, match=r"a SliceMask needs a mask of shape \(rows, columns\) of 0 and 1"):
        SliceMask(mask, axis=0, index=0, label=1)


@pytest.mark.parametrize(
    "make",
    [lambda **at: Lasso(np.array(TRIANGLE), label=1, **at), lambda **at: SliceMask(MASK, label=1, **at)],
    ids=["lasso", "mask"],
)
def test_a_slice_lies_on_an_axis(make: Callable[..., Prompt]) -> None:
    for axis in (-1, 3, 1.0, True):
        with pytest.raises(InputError, match=r"needs an axis: 0 \(z\), 1 \(y\) or 2 \(x\); got"):
            make(axis=axis, index=0)
    for index in (-1, 0.5):
        with pytest.raises(InputError, match="needs the index of a slice, a whole number from 0 on; got"):
            make(axis=0, index=index)


def test_arrays_are_copied_and_cannot_be_changed() -> None:
    drawn = MASK.copy()
    made = SliceMask(drawn, axis=0, index=0, label=1)
    drawn[0, 0] = False
    assert made.mask[0, 0]
    for array in (made.mask, Scribble(np.array([[1, 2, 3]]), label=1).voxels):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0
    assert SliceMask([[0, 1]], axis=0, index=0, label=1).mask.dtype == bool  # type: ignore[arg-type]
