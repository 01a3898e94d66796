"""Filling an object from its slices, and which slice to paint next: on a ball of known shape."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import napari_medseg as ms
from click_phantoms import balls
from napari_medseg.errors import InputError
from napari_medseg.interactive.propagation import PropagationMethod
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.interactive.slices import fill_from_slices, next_slice, painted_slices, slice_quality

A, B = (12, 14, 12), (12, 14, 34)
VOLUME, (BALL, _) = balls((24, 28, 46), A, B, radius=7)


def session_of(*slices: int, label: int = 1) -> InteractiveSession:
    session = ms.interact(VOLUME)
    for z in slices:
        session.add(ms.SliceMask(BALL[z], 0, z, label=label))
    return session


def mask_of(session: InteractiveSession, label: int = 1) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.asarray(session.segmentation.data[:, :, :]) == label
    return found


def test_filling_between_leaves_what_lies_beyond() -> None:
    session = session_of(9, 15)
    before = mask_of(session)
    fill_from_slices(session, 1, between=True)
    after = mask_of(session)
    np.testing.assert_array_equal(np.delete(after, slice(9, 16), axis=0), np.delete(before, slice(9, 16), axis=0))
    for z in (9, 15):
        np.testing.assert_array_equal(after[z], BALL[z])
    assert 2 * (after & BALL)[9:16].sum() / (after[9:16].sum() + BALL[9:16].sum()) > 0.9
    with pytest.raises(InputError, match="one painted slice: paint another one"):
        fill_from_slices(session_of(12), 1, between=True)


CROSSING = {0: [9, 15], 2: [10, 14]}


def crossing_session() -> InteractiveSession:
    session = session_of(*CROSSING[0])
    for x in CROSSING[2]:
        session.add(ms.SliceMask(BALL[:, :, x], 2, x, label=1))
    return session


def propagated(slices: dict[int, list[int]], method: PropagationMethod = "auto") -> npt.NDArray[np.bool_]:
    painted = np.zeros_like(BALL)
    for axis, indices in slices.items():
        np.moveaxis(painted, axis, 0)[indices] = np.moveaxis(BALL, axis, 0)[indices]
    some = ms.Segmentation(painted.astype(np.uint8), VOLUME.grid)
    found: npt.NDArray[np.bool_] = np.asarray(ms.propagate(VOLUME, some, slices=slices, method=method).data) == 1
    return found


def test_slices_along_two_axes_fill_together() -> None:
    session, expected = crossing_session(), propagated(CROSSING)
    assert fill_from_slices(session, 1) == ""
    np.testing.assert_array_equal(mask_of(session), expected)
    session = crossing_session()
    before = mask_of(session)
    fill_from_slices(session, 1, between=True)
    filled = np.zeros_like(BALL)
    filled[9:16], filled[:, :, 10:15] = True, True
    np.testing.assert_array_equal(mask_of(session), np.where(filled, expected, before))


def test_by_shapes_the_axis_with_most_slices_counts() -> None:
    session = crossing_session()
    told = fill_from_slices(session, 1, method="interpolation")
    assert told == "filled from the 2 slices along axis 0; 2 across it left out"
    np.testing.assert_array_equal(mask_of(session), propagated({0: CROSSING[0]}, "interpolation"))


def test_one_slice_along_each_axis_has_nothing_between() -> None:
    session = session_of(12)
    session.add(ms.SliceMask(BALL[:, :, 12], 2, 12, label=1))
    with pytest.raises(InputError, match="one painted slice along each axis: paint another one"):
        fill_from_slices(session, 1, between=True)


def test_names_outlive_a_fill() -> None:
    session = session_of(9, 15)
    session.rename(1, "spleen")
    fill_from_slices(session, 1)
    assert session.segmentation.labels == {1: "spleen"}


def test_a_fill_leaves_the_clicks_of_other_objects() -> None:
    session = session_of(9, 15)
    click = ms.Point((2, 2, 2), label=300)
    session.add(click)
    before = session.mask(300)
    fill_from_slices(session, 1)
    assert session.mask(300) is before
    session.remove(click)
    assert session.labels == (1,)


def test_the_weakest_slice_is_the_one_that_disagrees_with_the_painted_ones() -> None:
    session = session_of(9, 12, 15)
    wrong = BALL.copy()
    wrong[13] = np.roll(BALL[13], 5, axis=1)
    session.start_from(ms.Segmentation(wrong.astype(np.uint8), VOLUME.grid, {1: "ball"}))
    quality = slice_quality(session, 1)
    assert quality is not None
    assert (quality.axis, quality.first) == (0, int(np.flatnonzero(BALL.any(axis=(1, 2)))[0]))
    assert quality.weakest == 13
    assert next_slice(session, 1, 2) == (0, 13)
    at = {k: quality.values[k - quality.first] for k in range(9, 16)}
    assert at[9] == at[12] == at[15] == 1
    shifted = 2 * (wrong[13] & BALL[12]).sum() / (wrong[13].sum() + BALL[12].sum())
    assert at[13] < at[10]
    assert at[13] == pytest.approx(shifted, abs=0.1)
    assert all(0 <= value <= 1 for value in quality.values)


def test_the_first_slice_to_paint_is_the_largest() -> None:
    session = ms.interact(VOLUME)
    assert next_slice(session, 1, 0) is None
    session.start_from(ms.Segmentation(BALL.astype(np.uint8), VOLUME.grid, {1: "ball"}))
    assert slice_quality(session, 1) is None
    for axis, middle in enumerate(A):
        assert next_slice(session, 1, axis) == (axis, middle)


def test_nothing_is_left_to_paint_where_all_is_painted() -> None:
    volume, (ball,) = balls((5, 9, 9), (2, 4, 4), radius=1)
    session = ms.interact(volume)
    held = np.flatnonzero(ball.any(axis=(1, 2))).tolist()
    for z in held:
        session.add(ms.SliceMask(ball[z], 0, z, label=1))
    session.start_from(ms.Segmentation(ball.astype(np.uint8), volume.grid, {1: "ball"}))
    quality = slice_quality(session, 1)
    assert quality is not None
    assert set(quality.values) == {1.0}
    assert quality.weakest is None
    assert next_slice(session, 1, 0) is None
    assert painted_slices(session.prompts, 1) == {0: held}
