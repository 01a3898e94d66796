"""Instances: components, pairs, and the metrics of detection that follow from them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_medseg import Grid, Segmentation, io
from napari_medseg.config import Connectivity, InstancesConfig
from napari_medseg.errors import GridMismatchError
from napari_medseg.metrics.pairwise.instances import Instances, components, match_instances, pooled

Labels = np.ndarray[Any, np.dtype[np.integer[Any]]]
IDS = InstancesConfig(instances="ids")
NUMBERS = ("found", "missed", "extra", "recall", "precision", "f1", "sq", "pq", "lesion_dice")


def segmentation(data: Any, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Segmentation:
    return Segmentation(data, Grid.from_spacing(data.shape, spacing, (100.0, 10.0, 0.0)), {1: "lesion"})


def line(text: str) -> Segmentation:
    """Labels along x, a digit each, at 1 x 1 x 2 mm."""
    return segmentation(np.array([[[int(c) for c in text]]]), (1.0, 1.0, 2.0))


def match(prediction: str, reference: str, **knobs: Any) -> Instances:
    return match_instances(prediction=line(prediction), reference=line(reference), config=InstancesConfig(**knobs))


@pytest.fixture
def lesions() -> Instances:
    """Four lesions and four predictions: two pairs (IoU 3/4 and 1), one pair of 1/3, one missed, one extra."""
    return match(
        prediction="0111001100001100011",
        reference="1111001100011001000",
        iou=(0.5, 0.25),
    )


def test_the_counts_and_scores_of_a_line_worked_by_hand(lesions: Instances) -> None:
    strict, lenient = lesions.rows
    assert (strict.instances_reference, strict.instances_prediction) == (4, 4)
    assert (strict.found, strict.missed, strict.extra) == (2, 2, 2)
    assert (strict.recall, strict.precision, strict.f1) == (0.5, 0.5, 0.5)
    assert (strict.sq, strict.pq) == pytest.approx(((3 / 4 + 1) / 2, (3 / 4 + 1) / 4))
    assert strict.lesion_dice == pytest.approx((6 / 7 + 1) / 6)
    assert (lenient.iou_above, lenient.found, lenient.missed, lenient.extra) == (0.25, 3, 1, 1)
    assert lenient.pq == pytest.approx((3 / 4 + 1 + 1 / 3) / 4)
    assert lenient.lesion_dice == pytest.approx((6 / 7 + 1 + 1 / 2) / 5)


def test_the_pairs_say_where_they_are_and_how_large(lesions: Instances) -> None:
    assert [(p.state, p.reference_id, p.prediction_id) for p in lesions.pairs] == [
        ("found", 1, 1),
        ("found", 2, 2),
        ("missed", 3, 0),
        ("missed", 4, 0),
        ("extra", 0, 3),
        ("extra", 0, 4),
    ]
    first, extra = lesions.pairs[0], lesions.pairs[-1]
    assert (first.s_mm, first.p_mm, first.l_mm) == (100.0, 10.0, 3.0), "the mean of voxels 0 to 3 at 2 mm"
    assert (first.reference_mm3, first.prediction_mm3) == (8.0, 6.0)
    assert (first.iou, first.dice) == pytest.approx((3 / 4, 6 / 7))
    assert (extra.l_mm, extra.reference_mm3, extra.prediction_mm3, extra.iou) == (35.0, 0.0, 4.0, 0.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "recall", "precision"),
    [("000", "101", 0.0, math.nan), ("101", "000", math.nan, 0.0)],
    ids=["nothing predicted", "nothing there"],
)
def test_one_side_without_instances(prediction: str, reference: str, recall: float, precision: float) -> None:
    row = match(prediction, reference).rows[0]
    np.testing.assert_equal((row.recall, row.precision, row.sq), (recall, precision, math.nan))
    assert (row.f1, row.pq, row.lesion_dice) == (0.0, 0.0, 0.0)


def test_cases_pooled_are_as_one_large_image(lesions: Instances) -> None:
    other = match(prediction="1100020", reference="1110022", iou=(0.5, 0.25))
    side_by_side = match(
        prediction="0111001100001100011" + "0" + "1100020",
        reference="1111001100011001000" + "0" + "1110022",
        iou=(0.5, 0.25),
    )
    found = pooled([*lesions.rows, *other.rows])
    assert [(row.label, row.iou_above) for row in found] == [(1, 0.25), (1, 0.5), (2, 0.25), (2, 0.5)]
    for row in side_by_side.rows:
        alike = next(r for r in found if (r.label, r.iou_above) == (row.label, row.iou_above))
        np.testing.assert_allclose([getattr(alike, f) for f in NUMBERS], [getattr(row, f) for f in NUMBERS])


def test_no_instance_at_all() -> None:
    assert (match("000", "000").rows, match("000", "000").pairs) == ((), ())
    assert match("000", "000", instances="ids").rows == ()


def test_an_iou_of_the_threshold_itself_does_not_count() -> None:
    assert match("1100", "1111").rows[0].found == 0
    assert match("1100", "1111", iou=(0.49,)).rows[0].found == 1


def test_below_one_half_more_pairs_go_before_closer_ones() -> None:
    # The long prediction overlaps both lesions; the short one only the first, which it could also share.
    row = match("2333333", "1111222", instances="ids", iou=(0.1,)).rows[0]
    assert row.found == 2
    assert row.sq == pytest.approx((1 / 4 + 3 / 6) / 2)


def test_touching_objects_with_ids_stay_apart() -> None:
    found = match("7777990", "5555660", instances="ids")
    assert [(p.label, p.name, p.reference_id, p.prediction_id) for p in found.pairs] == [
        (0, "all ids", 5, 7),
        (0, "all ids", 6, 9),
    ]
    assert found.rows[0].pq == 1.0
    assert match("7777990", "5555660").rows[0].found == 0, "as labels they differ"


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_two_blocks_that_touch_by_a_corner_or_an_edge(connectivity: Connectivity) -> None:
    mask = np.zeros((2, 2, 5), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # by a corner
    mask[0, 0, 3] = mask[0, 1, 4] = True  # by an edge
    assert components(mask, connectivity)[1] == {6: 4, 18: 3, 26: 2}[connectivity]


@pytest.mark.parametrize(("connectivity", "fully"), [(6, False), (26, True)], ids=["6", "26"])
@pytest.mark.parametrize("patient", ["patient07", "patient19", "patient26"])
def test_lesions_are_counted_as_itk_counts_them(
    medseg_data: Path, patient: str, connectivity: Connectivity, fully: bool
) -> None:
    labels = io.read_segmentation(medseg_data / "ms_lesions_mr" / patient / "lesions.nii.gz")
    expected = SimpleITK.ConnectedComponentImageFilter()
    expected.SetFullyConnected(fully)
    numbers = SimpleITK.GetArrayFromImage(
        expected.Execute(SimpleITK.GetImageFromArray((np.asarray(labels.data) == 1) * 1))
    )
    config = InstancesConfig(connectivity=connectivity)
    found = match_instances(prediction=labels, reference=labels, config=config)
    assert found.rows[0].found == expected.GetObjectCount() > 5
    assert (found.rows[0].f1, found.rows[0].pq, found.rows[0].lesion_dice) == (1.0, 1.0, 1.0)
    volumes = sorted(np.bincount(numbers.ravel())[1:] * labels.grid.voxel_volume_mm3)
    assert sorted(p.reference_mm3 for p in found.pairs) == pytest.approx(volumes)


def test_lesions_lost_and_made_up_are_the_ones_reported(medseg_data: Path) -> None:
    labels = io.read_segmentation(medseg_data / "ms_lesions_mr" / "patient19" / "lesions.nii.gz")
    numbers, count = components(np.asarray(labels.data) == 1)
    sizes = np.bincount(numbers.ravel())
    largest = int(sizes[1:].argmax()) + 1
    predicted = np.where(numbers == largest, 0, np.asarray(labels.data))
    predicted[0, 0, 0] = 1
    found = match_instances(prediction=Segmentation(predicted, labels.grid), reference=labels)
    assert (found.rows[0].found, found.rows[0].missed, found.rows[0].extra) == (count - 1, 1, 1)
    missed, extra = (next(p for p in found.pairs if p.state == state) for state in ("missed", "extra"))
    assert missed.reference_mm3 == pytest.approx(sizes[largest] * labels.grid.voxel_volume_mm3)
    middle = labels.grid.index_to_world(np.argwhere(numbers == largest).mean(axis=0))
    assert (missed.s_mm, missed.p_mm, missed.l_mm) == pytest.approx(tuple(middle))
    assert (extra.s_mm, extra.p_mm, extra.l_mm) == pytest.approx(labels.grid.origin)


small = hnp.arrays(np.uint8, (2, 4, 5), elements=st.integers(0, 4))


def best_by_trial(a: Labels, b: Labels, above: float) -> tuple[int, float]:
    """(pairs, sum of their IoU) of the best one-to-one pairing of ids, by trying them all."""
    ids_a, ids_b = ([k for k in np.unique(x) if k] for x in (a, b))
    if len(ids_a) > len(ids_b):
        return best_by_trial(b, a, above)
    iou = {(i, j): ((a == i) & (b == j)).sum() / ((a == i) | (b == j)).sum() for i in ids_a for j in ids_b}
    trials = itertools.permutations([*ids_b, *[None] * len(ids_a)], len(ids_a))
    kept = [[iou[i, j] for i, j in zip(ids_a, t, strict=True) if j is not None and iou[i, j] > above] for t in trials]
    return max((len(values), float(sum(values))) for values in kept)


@settings(max_examples=25, deadline=None)
@given(a=small, b=small, above=st.sampled_from([0.0, 0.1, 0.3, 0.5]))
def test_no_pairing_is_better_than_the_one_found(a: Labels, b: Labels, above: float) -> None:
    config = InstancesConfig(instances="ids", iou=(above,))
    rows = match_instances(prediction=segmentation(b), reference=segmentation(a), config=config).rows
    pairs, total = best_by_trial(a, b, above)
    if not rows:
        assert not a.any()
        assert not b.any()
        return
    assert rows[0].found == pairs
    assert rows[0].sq * pairs == pytest.approx(total) if pairs else math.isnan(rows[0].sq)


@settings(max_examples=30, deadline=None)
@given(a=small, b=small, connectivity=st.sampled_from([6, 18, 26]))
def test_every_instance_is_in_one_pair_and_roles_can_be_swapped(
    a: Labels, b: Labels, connectivity: Connectivity
) -> None:
    config = InstancesConfig(connectivity=connectivity)
    forth = match_instances(prediction=segmentation(b), reference=segmentation(a), config=config)
    back = match_instances(prediction=segmentation(a), reference=segmentation(b), config=config)
    for row, swapped in zip(forth.rows, back.rows, strict=True):
        np.testing.assert_equal(
            (row.found, row.missed, row.extra, row.pq, row.recall, row.lesion_dice),
            (swapped.found, swapped.extra, swapped.missed, swapped.pq, swapped.precision, swapped.lesion_dice),
        )
        of_label = [p for p in forth.pairs if p.label == row.label]
        assert sorted(p.reference_id for p in of_label if p.reference_id) == [*range(1, row.instances_reference + 1)]
        assert sorted(p.prediction_id for p in of_label if p.prediction_id) == [*range(1, row.instances_prediction + 1)]
        assert sum(p.reference_mm3 for p in of_label) == np.count_nonzero(a == row.label)


def test_lazy_arrays_match_as_arrays_in_memory() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, (2, 9, 10, 11))
    lazy = [segmentation(zarr.array(x, chunks=(4, 4, 4))) for x in (a, b)]
    for config in (InstancesConfig(), IDS):
        in_memory = match_instances(prediction=segmentation(b), reference=segmentation(a), config=config)
        assert match_instances(prediction=lazy[1], reference=lazy[0], config=config) == in_memory


def test_unequal_grids_are_refused() -> None:
    with pytest.raises(GridMismatchError, match="the prediction and the reference must lie on the same grid"):
        match_instances(prediction=line("1100"), reference=line("110"))
