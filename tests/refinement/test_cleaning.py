"""Steps that make labels better: sizes in ml and mm, other labels untouched."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import napari_medseg as ms
from napari_medseg.config import CleanConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Finished, Progress
from napari_medseg.volume import Grid, Segmentation

SPACING = (5.0, 1.0, 2.0)
"""0.01 ml a voxel."""


def segmentation(data: Any, spacing: tuple[float, float, float] = SPACING, **others: Any) -> Segmentation:
    return Segmentation(data, Grid.from_spacing(data.shape, spacing), **others)


def cleaned_data(data: Any, spacing: tuple[float, float, float] = SPACING, **knobs: Any) -> Any:
    """The array that `clean` returns for an array."""
    return ms.clean(segmentation(data, spacing), **knobs).data


def block(shape: tuple[int, int, int], *boxes: tuple[slice | int, ...], label: int = 1) -> Any:
    data = np.zeros(shape, np.uint8)
    for box in boxes:
        data[box] = label
    return data


def ball(shape: tuple[int, int, int], spacing: tuple[float, float, float], radius_mm: float) -> Any:
    points = np.indices(shape).astype(float)
    z, y, x = [(p - (n - 1) / 2) * s for p, n, s in zip(points, shape, spacing, strict=True)]
    return (z**2 + y**2 + x**2 <= radius_mm**2).astype(np.uint8)


LARGE = np.s_[1:3, 1:6, 1:6]
"""50 voxels."""
SMALL = np.s_[5:6, 8:10, 7:10]
"""6 voxels."""


@pytest.mark.parametrize(("islands_ml", "stays"), [(0.06, True), (0.061, False)])
def test_an_island_goes_only_below_its_size_in_ml(islands_ml: float, stays: bool) -> None:
    data = block((8, 12, 12), LARGE, SMALL)
    cleaned = cleaned_data(data, islands_ml=islands_ml)
    assert bool(cleaned[SMALL].any()) is stays
    assert cleaned[LARGE].all()


def test_the_largest_part_is_kept_of_each_label_and_only_of_the_chosen_ones() -> None:
    data = np.maximum(
        block((8, 12, 12), LARGE, SMALL), block((8, 12, 12), np.s_[7:8, 0:3, 0:3], np.s_[7, 11, 11], label=2)
    )
    both = cleaned_data(data, largest=True)
    assert not both[SMALL].any()
    assert both[7, 11, 11] == 0
    one = cleaned_data(data, largest=True, labels=(2,))
    assert one[SMALL].all()
    assert one[7, 11, 11] == 0


@pytest.mark.parametrize(("connectivity", "voxels"), [(6, 50), (18, 50), (26, 56)])
def test_the_neighbours_decide_what_is_connected(connectivity: int, voxels: int) -> None:
    touching = np.s_[3:4, 6:8, 6:9]  # by one corner
    data = block((8, 12, 12), LARGE, touching)
    assert cleaned_data(data, largest=True, connectivity=connectivity).sum() == voxels


def test_holes_are_filled_where_they_are_background() -> None:
    data = block((5, 7, 7), np.s_[0:5, 1:6, 1:6])
    data[2, 3, 3], data[2, 3, 2], data[0, 4, 4] = 0, 2, 0
    cleaned = cleaned_data(data, fill_holes=True)
    assert (cleaned[2, 3, 3], cleaned[2, 3, 2]) == (1, 2)
    assert cleaned[0, 4, 4] == 0  # open to the face of the volume


def test_a_hole_of_a_single_slice_is_filled() -> None:
    data = block((1, 7, 7), np.s_[:, 1:6, 1:6])
    data[0, 3, 3] = 0
    assert cleaned_data(data, fill_holes=True)[0, 3, 3] == 1


def test_smoothing_follows_millimetres() -> None:
    """A ball in mm stays where it is; a spike of 4 mm goes, along whichever axis it points."""
    shape, spacing = (15, 41, 31), (3.0, 1.0, 1.5)
    smooth = ball(shape, spacing, 12.0)
    spiked = smooth.copy()
    spiked[7, 33:37, 15] = 1
    spiked[7, 20, 23:26] = 1
    cleaned = cleaned_data(spiked, spacing, smooth_mm=2.0)
    assert cleaned[7, 33:37, 15].sum() == 0
    assert cleaned[7, 20, 24:26].sum() == 0
    assert 2 * (cleaned & smooth).sum() / (cleaned.sum() + smooth.sum()) > 0.95


def test_smoothing_opens_no_gap_between_labels_and_spares_the_others() -> None:
    rng = np.random.default_rng(0)
    data = np.ones((9, 16, 16), np.uint8)
    data[:, :, 8:] = 2
    data[:, 8:, :] = np.where(rng.random((9, 8, 16)) < 0.1, 1, data[:, 8:, :])
    data[0, 0, 0] = 3
    cleaned = cleaned_data(data, (1.0, 1.0, 1.0), smooth_mm=1.5, labels=(1, 2))
    assert (cleaned > 0).all()
    assert cleaned[0, 0, 0] == 3
    assert (cleaned[:, 9:, 12:] == 2).all()


def painted(axis: int, indices: list[int]) -> tuple[Any, Any]:
    """(a ball, the same with these slices only)."""
    whole = ball((21, 21, 21), (1.0, 1.0, 1.0), 9.0)
    some = np.zeros_like(whole)
    where = tuple(indices if a == axis else slice(None) for a in range(3))
    some[where] = whole[where]
    return whole, some


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("given", [True, False])
def test_slices_between_painted_ones_are_filled_in(axis: int, given: bool) -> None:
    indices = [2, 5, 8, 11, 14, 18]
    whole, some = painted(axis, indices)
    full = cleaned_data(some, (1.0, 1.0, 1.0), interpolate="zyx"[axis] if given else "auto")
    assert np.array_equal(np.take(full, indices, axis), np.take(some, indices, axis))
    assert 2 * (full & whole).sum() / (full.sum() + whole.sum()) > 0.95


def test_shapes_between_slices_are_measured_in_mm() -> None:
    """Half way between two bars that do not overlap lies a bar where mm say it, not where voxels do."""
    data = np.zeros((3, 20, 20), np.uint8)
    data[0, 2:18, 2:18] = 1
    data[2, 8:12, 8:12] = 1
    same = cleaned_data(data, (1.0, 1.0, 1.0), interpolate="z")[1]
    wide = cleaned_data(data, (1.0, 1.0, 9.0), interpolate="z")[1]
    assert same.any(axis=0).sum() == same.any(axis=1).sum()
    assert not np.array_equal(same, wide)
    assert np.array_equal(wide, wide[:, ::-1])


def test_lines_between_painted_lines_of_a_slice_are_filled_in() -> None:
    """A slice alone has no outside above and below."""
    whole = ball((1, 31, 31), (1.0, 1.0, 1.0), 12.0)
    some = whole.copy()
    some[0, [k for k in range(31) if k % 4 != 3]] = 0
    full = cleaned_data(some, (1.0, 1.0, 1.0), interpolate="y")
    assert 2 * (full & whole).sum() / (full.sum() + whole.sum()) > 0.9


def test_interpolation_leaves_other_labels_and_full_slices() -> None:
    _, some = painted(0, [5, 9, 13])
    some[7, 8:12, 8:12] = 2
    full = cleaned_data(some, (1.0, 1.0, 1.0), interpolate="auto", labels=(1,))
    assert (full[7, 8:12, 8:12] == 2).all()
    assert (full[7] == 1).any()
    solid = ball((9, 9, 9), (1.0, 1.0, 1.0), 3.0)
    assert np.array_equal(cleaned_data(solid, interpolate="auto"), solid)


def test_a_step_may_empty_a_label_for_the_next() -> None:
    data = block((8, 12, 12), SMALL)
    assert not cleaned_data(data, islands_ml=1.0, largest=True).any()


def test_the_input_stays_and_the_result_says_how_it_was_made() -> None:
    data = block((8, 12, 12), LARGE, SMALL)
    before = segmentation(data, labels={1: "liver"}, colours={1: (9, 8, 7)}, provenance={"model": "m"})
    after = ms.clean(before, islands_ml=0.2, connectivity=6)
    assert data[SMALL].all()
    assert (after.labels, after.colours) == (before.labels, before.colours)
    assert after.provenance == {"model": "m", "clean": {"islands_ml": 0.2, "connectivity": 6}}


def test_steps_tell_their_progress() -> None:
    data = block((8, 12, 12), LARGE, SMALL)
    *steps, last = ms.iter_clean(segmentation(data), largest=True)
    assert isinstance(last, Finished)
    told = [step.message for step in steps if isinstance(step, Progress)]
    assert (told[-1], told[0]) == ("labels done", "blocks read")
    assert "blocks read to keep the largest part" in told


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({}, "nothing to do: ask for one or more of interpolate, fill_holes, smooth_mm, islands_ml, largest"),
        ({"labels": (1,)}, "nothing to do"),
        ({"largest": True, "labels": (4,)}, "organs has no label 4: it has 1"),
        ({"largest": True, "labels": (0,)}, "labels needs label ids above 0, such as (1, 2); got (0,)"),
        ({"smooth_mm": -1.0}, "smooth_mm must lie in 0 to 100"),
        ({"interpolate": "w"}, "interpolate is none, auto, z, y or x; got 'w'"),
    ],
)
def test_what_cannot_be_done_is_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        ms.clean(segmentation(block((8, 12, 12), LARGE), name="organs"), **knobs)


def test_a_config_says_the_same_as_its_knobs() -> None:
    data = block((8, 12, 12), LARGE, SMALL)
    by_config = cleaned_data(data, config=CleanConfig(largest=True))
    assert np.array_equal(by_config, cleaned_data(data, largest=True))


def test_two_organs_are_no_painted_slices() -> None:
    """`auto` fills between single slices only: kidneys side by side are not joined."""
    data = np.zeros((20, 20, 60), np.uint8)
    data[5:15, 5:15, 5:15] = data[5:15, 5:15, 45:55] = 1
    organs = Segmentation(data, Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)), {1: "kidney"})
    np.testing.assert_array_equal(ms.clean(organs, interpolate="auto").data, data)
