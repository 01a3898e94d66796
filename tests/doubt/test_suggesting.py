"""What is suggested: hand-made looks give known slices and regions, and a run gives the same twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from balls import segmentation, volume
from napari_medseg import Grid, Segmentation, Suggestion, Volume, suggest
from napari_medseg.arrays.boxes import whole
from napari_medseg.config import SuggestConfig
from napari_medseg.doubt.candidates import axis_of, case_of, regions_of, slices_of
from napari_medseg.doubt.diversity import covering, joined, k_center
from napari_medseg.doubt.look import MOST_CELLS, Cells, Look
from napari_medseg.doubt.suggesting import _best, iter_suggest
from napari_medseg.errors import InputError, MedsegError, UnknownKnobError
from napari_medseg.events import Progress
from napari_medseg.models.trust import DiceLine, Signs
from orientations import stored_otherwise

SHAPE = (4, 6, 8)


Array = npt.NDArray[np.floating[Any]]


def look(doubt: Array, foreground: Array | None = None, spacing: tuple[float, float, float] = (2, 1, 1)) -> Look:
    """A look at an image with this entropy in bits."""
    depth, rows, columns = doubt.shape
    shape = (depth, rows, columns)
    made = Cells(shape), Cells(shape)
    for cells, values in zip(made, (doubt, doubt if foreground is None else foreground), strict=True):
        cells.add(whole(shape), values.astype(np.float32))
    z, y, x = (doubt.sum(axis=tuple(a for a in range(3) if a != axis)).astype(np.float32) for axis in range(3))
    return Look(
        case="a",
        grid=Grid.from_spacing(shape, spacing),
        bits=(z, y, x),
        doubt=made[0],
        foreground=made[1],
        voxels=(10,),
        signs=Signs(0.5, 0.02, 0.0),
        intensities=(0.0,),
    )


def one_bright(index: tuple[int, int, int]) -> Array:
    found = np.zeros(SHAPE)
    found[index] = 1.0
    return found


def test_cells_are_sums_of_their_voxels_whatever_the_boxes() -> None:
    shape = (2 * MOST_CELLS + 1, 3, 5)
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    whole, parts = Cells(shape), Cells(shape)
    whole.add((slice(0, shape[0]), slice(0, 3), slice(0, 5)), values)
    for start in range(0, shape[0], 7):
        stop = min(shape[0], start + 7)
        parts.add((slice(start, stop), slice(0, 3), slice(0, 5)), values[start:stop])
    assert whole.edges == (3, 1, 1)
    np.testing.assert_allclose(whole.sums[1], values[3:6].sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-5)
    np.testing.assert_allclose(whole.means[-1], values[192:].mean(axis=0), rtol=1e-6)
    assert whole.box([slice(64, 65), slice(0, 1), slice(0, 1)])[0] == slice(192, 193)


def test_a_slice_scores_its_area_in_doubt() -> None:
    found = [c.suggestion for c in slices_of(look(one_bright((2, 3, 4)) * 0.5, spacing=(2, 3, 1)), axis=0)]
    assert [s.score for s in found] == [0, 0, 1.5, 0]
    assert found[2].centre == (2, 3, 4)
    assert "1.5 mm² are in doubt" in found[2].reason
    assert [c.taken for c in slices_of(look(one_bright((2, 3, 4))), 0, {1})] == [False, True, False, False]


def test_regions_are_cubes_around_the_most_doubt_and_lie_apart() -> None:
    doubt = np.zeros((20, 20, 20))
    doubt[4:6, 4:6, 4:6], doubt[14:16, 15:17, 15:17] = 0.5, 1.0
    found = [c.suggestion for c in regions_of(look(doubt, spacing=(1, 1, 1)), count=9, edge_mm=6)]
    assert [s.score for s in found] == pytest.approx([8, 4])
    for suggestion, voxels in zip(found, ((14, 15, 15), (4, 4, 4)), strict=True):
        assert suggestion.box is not None
        assert all(
            low <= v and v + 2 <= high and high - low == 6
            for (low, high), v in zip(suggestion.box, voxels, strict=True)
        )
    assert not list(regions_of(look(np.zeros(SHAPE)), 3, 6))


def test_a_case_scores_the_dice_that_it_lacks() -> None:
    plain = case_of(look(one_bright((0, 0, 1))), None).suggestion
    line = DiceLine(intercept=0.2, slope=1.0, per_volume=0.0, spread=0.05, cases=11)
    known = case_of(look(one_bright((0, 0, 1))), line).suggestion
    assert (plain.score, plain.centre) == (0.5, (0, 0, 1))
    assert known.score == pytest.approx(0.3)
    assert "expected Dice 0.70 (95 of 100 such cases: 0.59 to 0.81)" in known.reason


def test_slices_lie_along_the_coarsest_axis() -> None:
    assert axis_of(Grid.from_spacing(SHAPE, (1, 3, 1)), "auto") == 1
    assert axis_of(Grid.from_spacing(SHAPE, (1, 1, 1)), "auto") == 0
    assert axis_of(Grid.from_spacing(SHAPE, (1, 3, 1)), "x") == 2


def test_the_next_one_is_unsure_and_far_from_those_before() -> None:
    features = np.array([[0.0], [0.1], [5.0], [6.0]])
    assert k_center(features, [2, 1.9, 1, 1], 3) == [0, 3, 2]
    assert k_center(features, [2, 30, 1, 1], 2, taken=[0]) == [3, 1]
    assert k_center(features, [0, 0, 0, 0], 9) == [0, 1, 2, 3]


def test_what_is_taken_stands_for_the_better_half() -> None:
    features = np.array([[0.0], [1.0], [1.1], [1.2], [5.0], [5.0], [90.0], [0.2], [0.3], [0.4], [0.5], [0.6], [1.05]])
    scores, one = [0, 9, 9, 9, 8, 8, 0, 0, 0, 0, 0, 7, 7], [0] * 13
    # The outlier and what has no score are left out; then the middle of the many is taken, and one of the others.
    assert covering(features, scores, one, 2) == [2, 4]
    assert covering(features, scores, one, 1, taken=[2]) == [4]
    assert k_center(features, np.ones(13), 1, taken=[2]) == [6]
    assert covering(features, scores, [0] * 4 + [1] * 9, 2, taken=[4]) == [2, 11], "of the group with the fewest rows"
    assert covering(features, scores, one, 99) == covering(features, scores, one, 13)
    assert sorted(covering(features, scores, one, 13)) == list(range(13))
    assert covering(np.ones((2, 1)), [1, 2], [0, 1], 2, taken=[0]) == [1]


def test_a_slice_counts_by_doubt_in_what_may_be_a_label() -> None:
    doubt, foreground = np.zeros(SHAPE), np.zeros(SHAPE)
    doubt[0], doubt[2], foreground[2] = 0.5, 0.25, 0.5
    found = list(slices_of(look(doubt, foreground), 0))
    assert [c.suggestion.score for c in found] == [24, 0, 12, 0]
    assert [c.weight for c in found] == pytest.approx([0, 0, math.sqrt(12 * 24), 0])


def test_groups_count_alike() -> None:
    found = joined([[0.0, 0.0], [2.0, 0.0]], [[5.0], [5.0]], [[1e6], [3e6]])
    np.testing.assert_allclose(found, [[-1, 0, 0, -1], [1, 0, 0, 1]])


def test_doubt_alone_takes_neighbours_and_both_does_not() -> None:
    doubt = np.zeros((6, 6, 6))
    doubt[1], doubt[2], doubt[4] = 0.9, 1.0, 0.8
    foreground = np.zeros((6, 6, 6))
    foreground[1:3, :3], foreground[4, 3:] = 1, 1
    candidates = list(slices_of(look(doubt, foreground), 0))
    alone, both = (_best(candidates, SuggestConfig(count=2, by=by)) for by in ("doubt", "both"))
    assert [s.index for s in alone] == [2, 1]
    assert [s.index for s in both] == [2, 4]


@pytest.fixture
def images() -> list[Volume]:
    return [replace(volume(seed=seed), name=f"case{seed}") for seed in range(2)]


@pytest.mark.parametrize("stored", [replace, stored_otherwise], ids=["as the image", "otherwise"])
def test_a_run_gives_the_same_twice_and_leaves_out_what_is_annotated(
    ball_model: Path, images: list[Volume], stored: Callable[[Segmentation], Segmentation]
) -> None:
    first = suggest(images, ball_model, count=3, device="cpu")
    assert first == suggest(images, ball_model, count=3, device="cpu")
    assert all(isinstance(s, Suggestion) and s.score > 0 and s.axis == 0 for s in first)
    taken = {first[0].case: {first[0].index or 0}}
    again = suggest(images, ball_model, count=24, annotated=taken, device="cpu")
    assert len(again) == 23
    assert (first[0].case, first[0].index) not in {(s.case, s.index) for s in again}
    labelled = suggest(images, ball_model, count=24, labels={"case0": stored(segmentation())}, device="cpu", by="doubt")
    held = set(np.flatnonzero(np.asarray(segmentation().data).any(axis=(1, 2))).tolist())
    assert {s.index for s in labelled if s.case == "case0"} == set(range(12)) - held


def bad(images: list[Volume]) -> Iterator[tuple[object, dict[str, object], str]]:
    yield [], {}, "no image is given"
    yield images[0], {}, "give a list"
    yield [images[0], images[0]], {}, "two images have the name 'case0'"
    yield images, {"annotated": {"other": [1]}}, "no image has that name"
    yield images, {"count": 0}, "count"
    yield ["ct.nii.gz"], {}, "a Volume or a Case"


@pytest.mark.parametrize("number", range(6))
def test_bad_input_is_refused_in_one_line(ball_model: Path, images: list[Volume], number: int) -> None:
    given, options, message = list(bad(images))[number]
    with pytest.raises(MedsegError, match=message) as caught:
        suggest(given, ball_model, device="cpu", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError | UnknownKnobError)


def test_the_progress_says_what_it_counts(ball_model: Path) -> None:
    images = [replace(volume(seed=seed), name=f"image {seed}") for seed in range(2)]
    told = [event for event in iter_suggest(images, ball_model, count=1) if isinstance(event, Progress)]
    assert {(event.total, event.message) for event in told} == {(100, "percent of 2 images")}
    done = [event.done for event in told]
    assert done == sorted(done)
    assert {50, 100} <= set(done)
