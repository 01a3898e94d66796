"""Several readers, and several time points."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_medseg import Grid, Segmentation, evaluate
from napari_medseg.errors import GridMismatchError, InputError, NotSupportedError
from napari_medseg.geometry import AxisOrder
from napari_medseg.metrics.agreement.raters import agreement_of, majority_vote
from napari_medseg.metrics.agreement.staple import staple
from napari_medseg.metrics.descriptive.series import volume_series

Array = np.ndarray[Any, np.dtype[Any]]
votes_of_three = hnp.arrays(np.uint8, (3, 2, 3, 4), elements=st.integers(0, 3))


def reader(data: Array, **names: str) -> Segmentation:
    grid = Grid.from_spacing(data.shape, (2.0, 1.0, 1.0))
    return Segmentation(data, grid, {int(k[1:]): name for k, name in names.items()})


def line(text: str) -> Segmentation:
    return reader(np.array([[[int(c) for c in text]]]), l1="lesion")


def test_two_readers_worked_by_hand() -> None:
    """The classical table: 20 both, 5 first only, 10 second only, 15 neither: kappa 0.4 (Cohen 1960)."""
    first = line("1" * 20 + "1" * 5 + "0" * 10 + "0" * 15)
    second = line("1" * 20 + "0" * 5 + "1" * 10 + "0" * 15)
    found = agreement_of({"Ann": first, "Ben": second})
    all_labels, lesion = found.pairs
    assert (lesion.reader, lesion.other, lesion.label, lesion.name) == ("Ann", "Ben", 1, "lesion")
    assert lesion.kappa == pytest.approx(0.4)
    assert lesion.dice == pytest.approx(40 / 55)
    assert (all_labels.label, all_labels.kappa) == (0, lesion.kappa), "two categories either way"


def test_fleiss_own_example() -> None:
    """Table 1 of Fleiss, Psychological Bulletin 1971: 30 subjects, 6 raters, 5 categories: kappa 0.430."""
    counts = [
        (0, 0, 0, 6, 0), (0, 3, 0, 0, 3), (0, 1, 4, 0, 1), (0, 0, 0, 0, 6), (0, 3, 0, 3, 0), (2, 0, 4, 0, 0),
        (0, 0, 4, 0, 2), (2, 0, 3, 1, 0), (2, 0, 0, 4, 0), (0, 0, 0, 0, 6), (1, 0, 0, 5, 0), (1, 1, 0, 4, 0),
        (0, 3, 3, 0, 0), (1, 0, 0, 5, 0), (0, 2, 0, 3, 1), (0, 0, 5, 0, 1), (3, 0, 0, 1, 2), (5, 1, 0, 0, 0),
        (0, 2, 0, 4, 0), (1, 0, 2, 0, 3), (0, 0, 0, 0, 6), (0, 1, 0, 5, 0), (0, 2, 0, 1, 3), (2, 0, 0, 4, 0),
        (1, 0, 0, 4, 1), (0, 5, 0, 1, 0), (4, 0, 0, 0, 2), (0, 2, 0, 4, 0), (1, 0, 5, 0, 0), (0, 0, 0, 0, 6),
    ]  # fmt: skip
    votes = np.array([np.repeat(range(5), row) for row in counts]).T
    found = agreement_of({f"rater {n}": reader(ids.reshape(1, 1, -1)) for n, ids in enumerate(votes)})
    assert found.rows[0].fleiss_kappa == pytest.approx(0.430, abs=5e-4)
    assert found.rows[0].readers == 6


@settings(max_examples=30, deadline=None)
@given(votes=votes_of_three)
def test_kappa_and_dice_are_those_of_their_definitions(votes: Array) -> None:
    assume(len(np.unique(votes)) > 1)
    found = agreement_of({name: reader(v) for name, v in zip("abc", votes, strict=True)})
    ids = np.unique(votes)
    counts = np.stack([(votes == k).sum(axis=0).ravel() for k in ids], axis=1)
    observed = ((counts**2).sum(axis=1) - 3).mean() / (3 * 2)
    expected = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
    assert found.rows[0].fleiss_kappa == pytest.approx((observed - expected) / (1 - expected))
    for label in ids[ids > 0]:
        matrix = found.dice_matrix(int(label), "abc")
        for i, j in itertools.combinations(range(3), 2):
            size = (votes[i] == label).sum() + (votes[j] == label).sum()
            both = ((votes[i] == label) & (votes[j] == label)).sum()
            assert matrix[i, j] == matrix[j, i] == pytest.approx(2 * both / size if size else 1.0)
    for row in (r for r in found.pairs if r.label == 0):
        a, b = votes["abc".index(row.reader)], votes["abc".index(row.other)]
        chance = sum((a == k).mean() * (b == k).mean() for k in ids)
        expected_kappa = ((a == b).mean() - chance) / (1 - chance) if chance < 1 else math.nan
        assert row.kappa == pytest.approx(expected_kappa, nan_ok=True)


def test_readers_agree_as_evaluate_measures_them() -> None:
    rng = np.random.default_rng(0)
    a, b = (reader(rng.integers(0, 3, (4, 5, 6))) for _ in range(2))
    found = agreement_of({"a": a, "b": b})
    expected = {row.label: row.dice for row in evaluate(prediction=a, reference=b).rows}
    assert {row.label: row.dice for row in found.pairs if row.label} == pytest.approx(expected)


def test_a_name_comes_from_the_first_who_has_one() -> None:
    readers = {"a": reader(np.full((1, 1, 2), 7)), "b": reader(np.full((1, 1, 2), 7), l7="left")}
    assert {row.name for row in agreement_of(readers).pairs} == {"all labels", "left"}
    assert agreement_of(readers, {7: "lung"}).rows[1].name == "lung"
    assert agreement_of({"a": readers["a"], "c": readers["a"]}).rows[1].name == "label 7"


def test_a_single_category_leaves_nothing_to_chance() -> None:
    found = agreement_of({"a": line("000"), "b": line("000")})
    assert [row.label for row in found.rows] == [0]
    assert math.isnan(found.rows[0].fleiss_kappa)
    assert found.rows[0].mean_dice == 1.0


@settings(max_examples=30, deadline=None)
@given(votes=votes_of_three)
def test_the_majority_is_that_of_each_voxel(votes: Array) -> None:
    found = np.asarray(majority_vote([reader(v) for v in votes]).data)
    for place in np.ndindex(*found.shape):
        counts = np.bincount(votes[(slice(None), *place)])
        assert found[place] == counts.argmax(), "argmax takes the smallest of several"


def test_votes_are_counted_once_a_reader_however_many_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = np.random.default_rng(0).integers(0, 90, (3, 5, 6, 7)) ** 5 % 2**31
    votes[1:, :, :, :4] = votes[0, :, :, :4]
    counted, count_nonzero = list[int](), np.count_nonzero

    def counting(*arguments: Any, **named: Any) -> Any:
        counted.append(1)
        return count_nonzero(*arguments, **named)

    monkeypatch.setattr(np, "count_nonzero", counting)
    found = np.asarray(majority_vote([reader(v) for v in votes]).data)
    assert len(counted) == 3
    for place in np.ndindex(*found.shape):
        ids, counts = np.unique(votes[(slice(None), *place)], return_counts=True)
        assert found[place] == ids[counts.argmax()]


def test_lazy_readers_in_other_reading_orders_are_matched() -> None:
    rng = np.random.default_rng(1)
    arrays = rng.integers(0, 3, (3, 6, 7, 8))
    plain = [reader(a, l1="one") for a in arrays]
    order = AxisOrder.between("SPL", "LAI")
    moved = zarr.array(np.ascontiguousarray(order.apply(arrays[2])), chunks=(3, 3, 3))
    mixed = [
        Segmentation(zarr.array(arrays[0], chunks=(4, 4, 4)), plain[0].grid, {1: "one"}),
        plain[1],
        Segmentation(moved, plain[2].grid.reordered(order)),
    ]
    assert agreement_of(dict(zip("abc", mixed, strict=True))) == agreement_of(dict(zip("abc", plain, strict=True)))
    np.testing.assert_array_equal(majority_vote(mixed).data, majority_vote(plain).data)
    assert majority_vote(mixed).labels == {1: "one"}


def staple_by_definition(decisions: Array) -> tuple[Array, Array, Array]:
    """(probabilities, sensitivities, specificities) of (readers, voxels), by Warfield et al. 2004, section II."""
    prior = decisions.mean()
    p = np.full(len(decisions), 0.99999)
    q = p.copy()
    weights = np.zeros(decisions.shape[1])
    for _ in range(2000):
        a = prior * np.prod(np.where(decisions == 1, p[:, None], 1 - p[:, None]), axis=0)
        b = (1 - prior) * np.prod(np.where(decisions == 0, q[:, None], 1 - q[:, None]), axis=0)
        weights = a / (a + b)
        p = (decisions * weights).sum(axis=1) / weights.sum()
        q = ((1 - decisions) * (1 - weights)).sum(axis=1) / (1 - weights).sum()
    return weights, p, q


def noisy_readers(errors: tuple[float, ...]) -> tuple[Array, list[Array]]:
    rng = np.random.default_rng(3)
    z, y, x = np.ogrid[-5:6, -8:9, -8:9]
    truth = (z**2 + y**2 + x**2 <= 36).astype(np.uint8)
    return truth, [np.where(rng.random(truth.shape) < e, 1 - truth, truth) for e in errors]


def test_staple_is_that_of_its_equations() -> None:
    _, arrays = noisy_readers((0.05, 0.1, 0.15, 0.35))
    names = ("Ann", "Ben", "Cem", "Dee")
    found = staple({name: reader(a, l1="ball") for name, a in zip(names, arrays, strict=True)})
    weights, p, q = staple_by_definition(np.stack([a.ravel() for a in arrays]))
    assert [(row.reader, row.label, row.name) for row in found.raters] == [(name, 1, "ball") for name in names]
    assert [row.sensitivity for row in found.raters] == pytest.approx(p.tolist(), abs=1e-3)
    assert [row.specificity for row in found.raters] == pytest.approx(q.tolist(), abs=1e-3)
    np.testing.assert_array_equal(np.asarray(found.segmentation.data).ravel(), weights > 0.5)


def test_staple_beats_the_vote_where_one_reader_is_better() -> None:
    truth, arrays = noisy_readers((0.01, 0.3, 0.3))
    readers = [reader(a) for a in arrays]
    consensus = np.asarray(staple(dict(zip("abc", readers, strict=True))).segmentation.data)
    assert np.mean(consensus == truth) > np.mean(np.asarray(majority_vote(readers).data) == truth)


@settings(max_examples=30, deadline=None)
@given(data=hnp.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3)), count=st.integers(2, 4))
@example(data=np.ones((2, 3, 4), np.uint8), count=2)
@example(data=np.zeros((2, 3, 4), np.uint8), count=3)
def test_staple_of_readers_who_agree_is_what_they_say(data: Array, count: int) -> None:
    found = staple({f"reader {n}": reader(data) for n in range(count)})
    np.testing.assert_array_equal(found.segmentation.data, data)
    for row in found.raters:
        assert row.sensitivity == pytest.approx(1)
        everywhere = bool((data == row.label).all())
        assert row.specificity == pytest.approx(math.nan if everywhere else 1, nan_ok=True)


def test_staple_of_several_labels_keeps_them_apart() -> None:
    data = np.zeros((4, 6, 8), np.uint8)
    data[:, :, :3], data[:, :, 5:] = 2, 9
    other = data.copy()
    other[0] = 0
    found = staple({"a": reader(data, l2="left"), "b": reader(data), "c": reader(other)})
    np.testing.assert_array_equal(found.segmentation.data, data)
    assert found.segmentation.labels == {2: "left"}
    assert {row.name for row in found.raters} == {"left", "label 9"}


def test_staple_without_itk_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(NotSupportedError, match=r"pip install 'napari-medseg\[readers\]', or take the majority vote"):
        staple({"a": line("01"), "b": line("11")})


def test_one_reader_or_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match="two readers or more; got 1"):
        agreement_of({"a": line("01")})
    with pytest.raises(InputError, match="two readers or more; got 0"):
        staple({})
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        majority_vote([line("01"), line("011")])


def test_a_lesion_that_grows_and_goes_worked_by_hand() -> None:
    rows = volume_series({"May": line("1100"), "June": line("1110"), "July": line("0000"), "August": line("0020")})
    lesion = [row for row in rows if row.label == 1]
    assert [(row.name, row.step, row.point) for row in lesion[:2]] == [("lesion", 0, "May"), ("lesion", 1, "June")]
    assert [row.volume_ml for row in lesion] == pytest.approx([0.004, 0.006, 0, 0])
    np.testing.assert_allclose([row.change_ml for row in lesion], [math.nan, 0.002, -0.006, 0], atol=1e-12)
    np.testing.assert_allclose([row.change_percent for row in lesion], [math.nan, 50, -100, math.nan])
    np.testing.assert_allclose([row.since_first_percent for row in lesion], [0, 50, -100, -100])
    new = [row for row in rows if row.label == 2]
    assert [row.volume_ml for row in new] == [0, 0, 0, 0.002]
    assert math.isnan(new[3].since_first_percent)


def test_time_points_on_other_grids_keep_their_volume() -> None:
    fine = Segmentation(np.ones((2, 2, 2), np.uint8), Grid.from_spacing((2, 2, 2), (1.0, 1.0, 1.0)))
    coarse = Segmentation(zarr.array(np.ones((1, 1, 1), np.uint8)), Grid.from_spacing((1, 1, 1), (2.0, 2.0, 2.0)))
    assert [row.volume_ml for row in volume_series({"a": fine, "b": coarse})] == pytest.approx([0.008, 0.008])
