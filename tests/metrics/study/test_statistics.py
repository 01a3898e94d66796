"""Scores over cases: spread, two methods, volumes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from napari_medseg import Grid, Scores, Segmentation, evaluate
from napari_medseg.config import InstancesConfig, MetricsConfig, Preset, StatisticsConfig
from napari_medseg.errors import InputError, UnknownNameError
from napari_medseg.metrics import combine
from napari_medseg.metrics.pairwise.instances import match_instances
from napari_medseg.metrics.pairwise.scores import absent
from napari_medseg.metrics.study.statistics import (
    SummaryRow,
    bootstrap_interval,
    compare,
    holm,
    judged_metrics,
    median_interval,
    summarise,
    summarise_instances,
    volume_agreement,
    wilcoxon,
)

Array = np.ndarray[Any, np.dtype[Any]]
QUICK = StatisticsConfig(bootstrap=200)
NONE = StatisticsConfig(bootstrap=0)


def scores(dice: Sequence[float], **columns: Sequence[float]) -> Scores:
    """A case for each value, with one label "liver" whose row has these values."""
    data = np.ones((1, 1, 2), np.uint8)
    one = Segmentation(data, Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)), {1: "liver"})
    measured = evaluate(prediction=one, reference=one)
    cases = []
    for number in range(len(dice)):
        values: dict[str, Any] = {column: of_cases[number] for column, of_cases in columns.items()}
        row = replace(measured.rows[0], dice=dice[number], **values)
        cases.append((f"case{number}", replace(measured, rows=(row,))))
    return combine(cases)


def summary(of: Scores, metric: str, config: StatisticsConfig = QUICK) -> SummaryRow:
    return next(row for row in summarise(of, config) if row.metric == metric)


def test_the_summary_of_five_cases_worked_by_hand() -> None:
    row = summary(scores([0.9, 0.8, 0.7, 0.5, 0.6]), "dice")
    assert (row.label, row.name, row.cases, row.left_out) == (1, "liver", 5, 0)
    assert (row.mean, row.median, row.q1, row.q3) == pytest.approx((0.7, 0.7, 0.6, 0.8))
    assert row.sd == pytest.approx(math.sqrt(0.1 / 4))
    assert 0.5 < row.mean_low < 0.65
    assert 0.75 < row.mean_high < 0.9


def test_only_finite_values_count_and_their_number_is_told() -> None:
    row = summary(scores([0.9, 0.8, 0.0], asd_mm=[1.0, 2.0, math.inf]), "asd_mm", NONE)
    assert (row.cases, row.left_out, row.mean) == (2, 1, 1.5)
    assert math.isnan(row.mean_low)
    nowhere = summary(scores([0.0, 0.0], asd_mm=[math.inf, math.nan]), "asd_mm")
    assert (nowhere.cases, nowhere.left_out) == (0, 2)
    assert math.isnan(nowhere.mean)
    assert math.isnan(nowhere.median)


def test_every_judged_metric_has_a_row_and_counts_have_none() -> None:
    assert {"dice", "iou", "voe", "rvd", "asd_mm", "hd95_mm", "nsd"} < set(judged_metrics())
    assert not {"label", "voxels_reference", "voxels_prediction"} & set(judged_metrics())
    assert [row.metric for row in summarise(scores([0.5, 0.6]), NONE)] == list(judged_metrics())


def test_instances_over_cases_are_summed_up_per_threshold() -> None:
    data = np.array([[[1, 1, 0, 1, 0, 1]]])
    one = Segmentation(data, Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)), {1: "lesion"})
    half = Segmentation(np.array([[[1, 1, 0, 1, 0, 0]]]), one.grid)
    config = InstancesConfig(iou=(0.5, 0.0))
    found = [match_instances(prediction=p, reference=one, config=config).rows for p in (one, half)]
    rows = {row.metric: row for row in summarise_instances([*found[0], *found[1]], NONE)}
    assert len(rows) == 2 * 6
    recall = rows["recall, IoU above 0.5"]
    assert (recall.label, recall.name, recall.cases) == (1, "lesion", 2)
    assert recall.mean == pytest.approx((1 + 2 / 3) / 2)
    assert rows["f1, IoU above 0"].mean == pytest.approx((1 + 4 / 5) / 2)


def test_the_interval_is_that_of_the_normal_distribution_where_it_applies() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)
    low, high = bootstrap_interval(values, np.mean, StatisticsConfig(bootstrap=4000))
    margin = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - margin, values.mean() + margin), abs=0.02)


def test_the_seed_fixes_the_interval_and_the_confidence_widens_it() -> None:
    values = np.random.default_rng(2).exponential(1.0, 30)
    narrow = bootstrap_interval(values, np.mean, QUICK)
    assert narrow == bootstrap_interval(values, np.mean, QUICK)
    assert narrow != bootstrap_interval(values, np.mean, replace(QUICK, seed=1))
    wide = bootstrap_interval(values, np.mean, replace(QUICK, confidence=0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@given(values=st.lists(st.sampled_from([0.0, 1e-9, 0.5, 0.99, 1.0, 7.0]), min_size=2, max_size=8))
@settings(max_examples=20, deadline=None)
def test_few_cases_and_ties_have_an_interval_about_their_mean(values: list[float]) -> None:
    low, high = bootstrap_interval(np.array(values), np.mean, StatisticsConfig(bootstrap=50))
    rounding = 1e-12  # the mean of three times 0.99 is 0.9899999999999999
    assert min(values) - rounding <= low <= high <= max(values) + rounding


def test_equal_cases_have_an_interval_of_no_width_and_one_case_has_none() -> None:
    assert bootstrap_interval(np.array([0.5, 0.5, 0.5]), np.mean, QUICK) == (0.5, 0.5)
    assert all(math.isnan(end) for end in bootstrap_interval(np.array([0.5]), np.mean, QUICK))


def test_cases_that_are_equal_but_for_rounding_have_an_interval_of_next_to_no_width() -> None:
    values = np.array([2.0, 2.0 + 4e-16, 2.0 - 4e-16] * 8)
    assert np.unique(values).size > 1
    assert bootstrap_interval(values, np.mean, QUICK) == (values.min(), values.max())


def test_holm_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    np.testing.assert_allclose(holm([0.01, math.nan, 0.02]), [0.02, math.nan, 0.02])
    assert holm([]) == []


@settings(max_examples=50, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_procedure_rejects(p: list[float]) -> None:
    """Reject in order of p while p(i) <= alpha / (m - i); the corrected p is the least alpha that rejects."""
    for alpha in (0.01, 0.05, 0.3):
        rejected: set[int] = set()
        for done, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if p[i] * (len(p) - done) > alpha:
                break
            rejected.add(i)
        assert rejected == {i for i, corrected in enumerate(holm(p)) if corrected <= alpha}


def p_by_every_sign(differences: Sequence[float]) -> float:
    """The signed-rank test by its definition: all ways to give the ranks signs are equally likely."""
    ranks = stats.rankdata(np.abs(differences))
    centre = ranks.sum() / 2
    observed = abs(ranks[np.array(differences) > 0].sum() - centre)
    sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return float(np.mean([abs(total - centre) >= observed - 1e-9 for total in sums]))


@pytest.mark.parametrize(
    "differences",
    [[0.1, 0.2, 0.3, 0.4, 0.5], [0.1, -0.2, 0.3, 0.4, 0.5, -0.05, 0.25], [0.1, 0.1, -0.1, 0.3, 0.2, 0.2]],
    ids=["all_up", "mixed", "ties"],
)
def test_p_is_that_of_all_signs(differences: list[float]) -> None:
    assert wilcoxon(np.array(differences)) == pytest.approx(p_by_every_sign(differences))


def test_equal_methods_do_not_differ() -> None:
    rows = compare(scores([0.5, 0.6, 0.7]), scores([0.5, 0.6, 0.7]), QUICK)
    assert {(row.difference, row.p, row.p_holm, row.better) for row in rows} == {(0.0, 1.0, 1.0, "neither")}
    assert math.isnan(wilcoxon(np.zeros(0)))


def test_two_methods_worked_by_hand() -> None:
    ours = scores([0.9, 0.8, 0.85, 0.7, 0.95], asd_mm=[1.0, 2.0, 1.5, math.inf, 0.5], rvd=[-0.1, 0.0, 0.1, 0.0, 0.1])
    other = scores([0.85, 0.7, 0.7, 0.5, 0.7], asd_mm=[2.0, 3.0, 1.0, 4.0, 2.5], rvd=[0.3, 0.2, -0.3, 0.2, 0.3])
    rows = {row.metric: row for row in compare(ours, other, QUICK)}
    dice, asd, rvd = rows["dice"], rows["asd_mm"], rows["rvd"]
    assert (dice.cases, dice.left_out, dice.better) == (5, 0, "prediction")
    assert (dice.median, dice.median_compared, dice.difference) == pytest.approx((0.85, 0.7, 0.15))
    assert 0.05 <= dice.low < dice.difference < dice.high <= 0.25
    assert dice.p == 2 / 2**5
    assert dice.p_holm == pytest.approx(min(1.0, dice.p * len(rows))), "the smallest p of all"
    assert (asd.cases, asd.left_out, asd.difference, asd.better) == (5, 0, -1.0, "prediction")
    assert asd.p == wilcoxon(np.array([-1.0, -1.0, 0.5, 9.0, -2.0])), "what is infinite has the highest rank"
    assert (rvd.median, rvd.median_compared, rvd.difference) == pytest.approx((0.1, 0.3, -0.2))
    assert rvd.better == "prediction", "closer to 0"


def test_of_a_metric_that_is_best_at_zero_all_numbers_are_about_the_magnitudes() -> None:
    """One method too large, the other too small by as much and a bit more: only the signs differ clearly."""
    ours = scores([1.0] * 6, rvd=[0.30, 0.28, 0.31, 0.29, 0.33, 0.27])
    other = scores([1.0] * 6, rvd=[-0.31, -0.27, -0.33, -0.32, -0.31, -0.29])
    (row,) = compare(ours, other, replace(QUICK, metrics=("rvd",)))
    gains = [-0.01, 0.01, -0.02, -0.03, 0.02, -0.02]
    assert row.p == pytest.approx(p_by_every_sign(gains)), "of the signed values it is 2 / 2**6"
    assert row.difference == pytest.approx(np.median(gains))
    assert -0.03 <= row.low < row.difference < row.high <= 0.02
    assert (row.median, row.median_compared) == pytest.approx((0.295, 0.31))
    assert row.better == "prediction"


def test_the_correction_is_over_the_chosen_metrics() -> None:
    ours, other = scores([0.9, 0.8, 0.85, 0.7, 0.95]), scores([0.85, 0.7, 0.7, 0.5, 0.7])
    dice, nsd = compare(ours, other, replace(QUICK, metrics=("dice", "nsd", "dice")))
    assert (dice.metric, nsd.metric) == ("dice", "nsd"), "each once, in the order chosen"
    assert (dice.p, dice.p_holm) == (2 / 2**5, 2 * 2 / 2**5)
    assert [row.metric for row in compare(ours, other, NONE)] == list(judged_metrics())


def test_a_metric_that_is_none_is_refused() -> None:
    ours = scores([0.9])
    with pytest.raises(UnknownNameError, match="no metric is called 'volume_ml'; methods are compared by dice, iou"):
        compare(ours, ours, StatisticsConfig(metrics=("dice", "volume_ml")))
    for wrong in ("dice", ()):
        with pytest.raises(InputError, match="needs one or more names of columns"):
            StatisticsConfig(metrics=wrong)  # type: ignore[arg-type]


def test_cases_are_paired_by_name() -> None:
    ours = scores([0.9, 0.8, 0.7])
    other = combine([(case, replace(ours, rows=(row,), cases=())) for case, row in zip("ab", ours.rows, strict=False)])
    with pytest.raises(InputError, match="need cases of the same names"):
        compare(ours, other, NONE)
    reversed_cases = replace(ours, rows=ours.rows[::-1], cases=ours.cases[::-1])
    assert {row.difference for row in compare(ours, reversed_cases, NONE)} == {0.0}


def test_unlike_definitions_are_not_compared() -> None:
    one = scores([0.9])
    with pytest.raises(InputError, match="need the same definitions"):
        compare(one, replace(one, config=replace(one.config, preset="chaos")), NONE)


def measured(prediction: Array, reference: Array, preset: Preset = "survey") -> Scores:
    grid = Grid.from_spacing(reference.shape, (1.0, 1.0, 1.0))
    return evaluate(prediction=Segmentation(prediction, grid), reference=Segmentation(reference, grid), preset=preset)


@functools.cache
def healthy_and_ill(preset: Preset = "survey", cases: int = 10) -> tuple[Scores, Scores]:
    """Every second case has a lesion. One method finds it, one row off; the other exactly, and others too."""
    careful, eager = [], []
    for number in range(cases):
        reference = np.zeros((4, 8, 8), np.uint8)
        reference[1:3, 2:5, 2:5] = number % 2
        found = reference if number % 2 else np.ones_like(reference)
        careful.append((f"case{number}", measured(np.roll(reference, 1, axis=1), reference, preset)))
        eager.append((f"case{number}", measured(found, reference, preset)))
    return combine(careful), combine(eager)


def test_a_false_positive_loses_against_rightly_predicting_nothing() -> None:
    careful, eager = healthy_and_ill()
    assert len(careful.rows) == 5, "a label in neither image has no row"
    rows = {row.metric: row for row in compare(careful, eager, replace(QUICK, metrics=("dice", "asd_mm")))}
    dice, asd = rows["dice"], rows["asd_mm"]
    assert (dice.cases, dice.left_out, dice.better) == (10, 0, "prediction")
    assert (dice.median, dice.median_compared) == pytest.approx(((1 + 2 / 3) / 2, 0.5))
    assert (asd.cases, asd.left_out, asd.better) == (10, 0, "prediction")
    assert asd.p == pytest.approx(p_by_every_sign([0.1] * 5 + [-0.2] * 5))


def test_what_is_undefined_is_left_out_of_both_methods_and_counted() -> None:
    rows = {row.metric: row for row in compare(*healthy_and_ill(cases=4), NONE)}
    assert {metric for metric, row in rows.items() if row.left_out} == {"rvd", "sensitivity"}
    sensitivity = rows["sensitivity"]
    assert (sensitivity.cases, sensitivity.left_out) == (2, 2)
    assert (sensitivity.median, sensitivity.median_compared) == pytest.approx((2 / 3, 1)), "of the same cases"


def test_two_empty_masks_count_as_the_preset_has_them() -> None:
    rows = {row.metric: row for row in compare(*healthy_and_ill("lits"), replace(NONE, metrics=("dice", "msd_mm")))}
    careful, eager = rows["dice"].median, rows["dice"].median_compared
    assert (careful, eager) == pytest.approx(((0 + 2 / 3) / 2, (0 + 1) / 2)), "0 for both in its scorer"
    assert rows["msd_mm"].left_out == 0


@pytest.mark.parametrize(
    ("preset", "overlap", "error", "distance"), [("survey", 1, 0, 0), ("chaos", 1, 0, 0), ("lits", 0, 1, 9001)]
)
def test_the_row_of_two_empty_masks(preset: Preset, overlap: float, error: float, distance: float) -> None:
    row = absent(3, MetricsConfig(preset=preset))
    assert (row.dice, row.iou, row.voe) == (overlap, overlap, error)
    distances = {row.rvd, row.asd_mm, row.msd_mm, row.hd95_mm, row.hd95_pooled_mm, row.masd_mm}
    assert distances | {row.centroid_distance_mm} == {distance}
    assert {row.nsd, row.sensitivity, row.specificity, row.precision} == {1}


def test_infinite_distances_are_worse_than_all_others_and_equal_among_themselves() -> None:
    ours = scores([1.0] * 6, msd_mm=[math.inf, 5.0, 3.0, 2.0, math.inf, math.inf])
    other = scores([1.0] * 6, msd_mm=[math.inf, math.inf, math.inf, math.inf, 9.0, math.inf])
    (row,) = compare(ours, other, replace(QUICK, metrics=("msd_mm",)))
    assert (row.cases, row.left_out) == (6, 0)
    assert row.p == pytest.approx(p_by_every_sign([-1, -1, -1, 1])), "two pairs of infinities are ties"
    assert (row.median, row.median_compared) == (math.inf, math.inf)
    assert (row.difference, row.better) == (-math.inf, "prediction")
    assert (row.low, row.high) == (-math.inf, math.inf)


def test_gains_and_losses_of_infinity_cancel_out() -> None:
    ours, other = scores([1.0, 1.0], asd_mm=[1.0, math.inf]), scores([1.0, 1.0], asd_mm=[math.inf, 1.0])
    (row,) = compare(ours, other, replace(NONE, metrics=("asd_mm",)))
    assert (row.difference, row.p, row.better) == (0.0, 1.0, "neither")


def test_the_interval_of_a_median_is_that_of_scipy_where_all_is_finite() -> None:
    values = np.random.default_rng(5).exponential(1.0, 25)
    found = median_interval(values, StatisticsConfig(bootstrap=3001))
    expected = stats.bootstrap(
        (values,), np.median, n_resamples=3001, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high))
    assert all(math.isnan(end) for end in median_interval(values, NONE))
    assert all(math.isnan(end) for end in median_interval(values[:1], QUICK))


def test_methods_of_other_references_are_not_compared() -> None:
    ours = scores([0.9, 0.8])
    with pytest.raises(InputError, match="need the same references; that of 'case1' has 'liver' for one method only"):
        compare(ours, replace(ours, rows=ours.rows[:1]), NONE)


def test_bland_altman_worked_by_hand() -> None:
    measured = scores([1, 1, 1, 1], volume_reference_ml=[10, 20, 30, 40], volume_prediction_ml=[12, 20, 34, 42])
    row = volume_agreement(measured)[0]
    sd = math.sqrt((0 + 4 + 4 + 0) / 3)
    assert (row.label, row.name, row.cases, row.bias_ml) == (1, "liver", 4, 2.0)
    assert (row.sd_ml, row.lower_ml, row.upper_ml) == pytest.approx((sd, 2 - 1.96 * sd, 2 + 1.96 * sd))
