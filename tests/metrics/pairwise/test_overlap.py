"""Counts per label: equal to counting by hand, whatever the array, the dtype and the ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_medseg.arrays import boxes
from napari_medseg.arrays.label_boxes import checked
from napari_medseg.errors import InputError
from napari_medseg.metrics.pairwise.overlap import Overlap, count, dice_per_label, merged, tally
from napari_medseg.volume import MAX_LABEL

Labels = np.ndarray[Any, np.dtype[np.integer[Any]]]
#: neighbouring small ids, ids with gaps, the largest one
IDS = np.array([0, 1, 2, 7, 5000, 70000, MAX_LABEL])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Labels, Labels]:
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    several = st.sampled_from(range(draw(st.integers(1, len(IDS)))))
    a, b = (IDS[draw(hnp.arrays(np.intp, shape, elements=several))] for _ in range(2))
    return a, b


@settings(max_examples=50, deadline=None)
@given(pair=pairs(), wrap=st.sampled_from([lambda a: a, zarr.array, lambda a: da.from_array(a, chunks=2)]))
def test_tally_equals_counting_by_hand(pair: tuple[Labels, Labels], wrap: Callable[[Labels], Any]) -> None:
    prediction, reference = pair
    found = tally(wrap(prediction), wrap(reference))
    assert list(found.labels) == sorted((set(prediction.flat) | set(reference.flat)) - {0})
    assert found.voxels == reference.size
    assert found.agreeing == (prediction == reference).sum()
    for label, overlap in found.labels.items():
        b, a = prediction == label, reference == label
        assert overlap == Overlap(a.sum(), b.sum(), (a & b).sum())
        inside = np.argwhere(a | b)
        box = found.boxes[label]
        assert [s.start for s in box] == inside.min(axis=0).tolist()
        assert [s.stop - 1 for s in box] == inside.max(axis=0).tolist()


@settings(max_examples=50, deadline=None)
@given(pair=pairs(), cut=st.integers(0, 6))
def test_counts_of_parts_add_up(pair: tuple[Labels, Labels], cut: int) -> None:
    prediction, reference = (checked(array, "") for array in pair)
    at_once = count(prediction, reference)
    lower = count(prediction[:cut], reference[:cut])
    upper = count(prediction[cut:], reference[cut:], (cut, 0, 0))
    together = merged([lower, upper])
    assert list(together.labels) == list(at_once.labels)
    assert together.foreground == at_once.foreground == ((prediction > 0) | (reference > 0)).sum()
    assert together.background(reference.size) == Overlap(
        (reference == 0).sum(), (prediction == 0).sum(), ((reference == 0) & (prediction == 0)).sum()
    )
    for label, row in at_once.labels.items():
        np.testing.assert_array_equal(together.labels[label], row)
        centres = [np.argwhere(a == label).mean(axis=0) for a in (reference, prediction) if (a == label).any()]
        shift = at_once.shift(label)
        assert np.allclose(shift, centres[1] - centres[0]) if len(centres) == 2 else np.isnan(shift).all()


def test_rates_of_one_label() -> None:
    overlap = Overlap(reference=8, prediction=5, both=4)
    assert (overlap.sensitivity, overlap.precision) == (0.5, 0.8)
    assert overlap.outside(voxels=29).sensitivity == 20 / 21, "the specificity"
    assert overlap.swapped == Overlap(5, 8, 4)
    assert overlap + overlap == Overlap(16, 10, 8)


@pytest.mark.parametrize(
    ("overlap", "sensitivity", "precision", "specificity"),
    [
        pytest.param(Overlap(0, 0, 0), 1, 1, 1, id="both empty"),
        pytest.param(Overlap(0, 3, 0), np.nan, 0, 0.7, id="reference empty"),
        pytest.param(Overlap(3, 0, 0), 0, np.nan, 1, id="prediction empty"),
        pytest.param(Overlap(10, 10, 10), 1, 1, 1, id="both fill the image"),
        pytest.param(Overlap(10, 4, 4), 0.4, 1, np.nan, id="the reference fills the image"),
    ],
)
def test_rates_where_nothing_is_there(
    overlap: Overlap, sensitivity: float, precision: float, specificity: float
) -> None:
    found = overlap.sensitivity, overlap.precision, overlap.outside(voxels=10).sensitivity
    np.testing.assert_equal(found, (sensitivity, precision, specificity))


def test_block_by_block_equals_whole() -> None:
    rng = np.random.default_rng(0)
    prediction, reference = IDS[rng.integers(0, len(IDS), (2, 9, 11, 13))]
    at_once = tally(prediction, reference)
    assert tally(prediction, reference, block_voxels=40) == at_once
    chunked = zarr.array(prediction, chunks=(4, 5, 6)), da.from_array(reference, chunks=(3, 3, 3))
    assert tally(*chunked, block_voxels=40) == at_once


def test_never_more_than_a_block_is_read() -> None:
    asked: list[int] = []

    class Spy:
        shape, dtype = (40, 512, 512), np.dtype(np.uint8)

        def __getitem__(self, part: boxes.Box) -> Labels:
            size = [s.stop - s.start for s in part]
            asked.append(int(np.prod(size)))
            return np.ones(size, np.uint8)

    assert tally(Spy(), Spy()).labels[1] == Overlap(*[40 * 512 * 512] * 3)
    assert max(asked) <= boxes.BLOCK_VOXELS
    assert sum(asked) == 2 * 40 * 512 * 512


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">i2", ">u4"])
def test_every_integer_dtype(dtype: str) -> None:
    array = np.array([[[0, 1, 1]]], dtype=dtype)
    assert tally(array, array.astype(np.uint8)).labels == {1: Overlap(2, 2, 2)}


@pytest.mark.parametrize(
    ("wrong", "dtype"),
    [pytest.param(-1, np.int16, id="negative"), pytest.param(2**31, np.uint32, id="above 2^31 - 1")],
)
def test_ids_out_of_range_are_refused(wrong: int, dtype: type[np.integer[Any]]) -> None:
    array: Labels = np.full((1, 1, 1), wrong, dtype)
    background: Labels = np.zeros_like(array)
    with pytest.raises(InputError, match=f"prediction needs label ids from 0 to {MAX_LABEL}; got {wrong}"):
        tally(array, background)
    with pytest.raises(InputError, match=f"reference needs label ids from 0 to {MAX_LABEL}; got {wrong}"):
        tally(background, array)


@settings(max_examples=50, deadline=None)
@given(pair=pairs())
def test_dice_is_symmetric_and_bounded(pair: tuple[Labels, Labels]) -> None:
    prediction, reference = pair
    dice = dice_per_label(prediction, reference, IDS.tolist())
    assert dice == dice_per_label(reference, prediction, IDS.tolist())
    assert all(0 <= value <= 1 for value in dice.values())


def test_dice_per_label() -> None:
    reference, prediction = np.array([1, 1, 1, 2, 0, 0]), np.array([1, 1, 0, 0, 3, 0])
    assert dice_per_label(prediction, reference, [1, 2, 3, 4]) == {1: 0.8, 2: 0.0, 3: 0.0, 4: 1.0}


def test_dice_per_label_leaves_ignored_voxels_out() -> None:
    reference, prediction = np.array([1, 1, 2, 2]), np.array([1, 2, 2, 1])
    ignore = np.array([False, True, False, True])
    assert dice_per_label(prediction, reference, [1, 2], ignore=ignore) == {1: 1.0, 2: 1.0}
    assert dice_per_label(prediction, reference, [1], ignore=np.ones(4, bool)) == {1: 1.0}


@settings(max_examples=50, deadline=None)
@given(reference=st.integers(1, 1000), prediction=st.integers(1, 1000))
def test_swapped_roles_turn_the_volume_difference_round(reference: int, prediction: int) -> None:
    forth = Overlap(reference, prediction, 0).relative_volume_difference
    back = Overlap(prediction, reference, 0).relative_volume_difference
    assert back == pytest.approx(-forth / (1 + forth))
