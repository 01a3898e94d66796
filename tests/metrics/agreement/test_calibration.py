"""Calibration of probabilities against a reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseg import Grid, Segmentation, Volume
from napari_medseg.arrays import boxes
from napari_medseg.config import CalibrationConfig
from napari_medseg.errors import GridMismatchError, InputError, MedsegWarning
from napari_medseg.metrics.agreement.calibration import Calibration, calibrate, channel_ids
from napari_medseg.metrics.study.study import CaseImages, measure

Array = np.ndarray[Any, np.dtype[Any]]


def on_grid(data: Array) -> Grid:
    return Grid.from_spacing(data.shape[-3:], (2.0, 1.0, 1.0))


def calibrated(p: Array, truth: Array, labels: list[int] | None = None, **knobs: Any) -> Calibration:
    """Of probabilities (C, n) and ids (n,)."""
    p, truth = p.reshape(len(p), 1, 1, -1), truth.reshape(1, 1, -1)
    return calibrate(
        probabilities=Volume(p, on_grid(p)),
        reference=Segmentation(truth, on_grid(truth), {1: "liver"}),
        labels=labels,
        config=CalibrationConfig(**knobs),
    )


def test_four_voxels_worked_by_hand() -> None:
    """Foreground 0.9 right, 0.8 right, 0.6 wrong, 0.1 (background 0.9 sure) right."""
    found = calibrated(np.array([[0.9, 0.8, 0.6, 0.1]]), np.array([1, 1, 0, 0]), bins=2)
    top, foreground = found.rows
    assert (top.label, top.name, top.voxels) == (0, "all labels", 4)
    assert (foreground.label, foreground.name) == (1, "any label")
    # All four are at least half sure of their label: one bin of mean confidence 0.8, of which three are right.
    assert (top.ece, top.mce) == pytest.approx((0.05, 0.05))
    assert top.brier == pytest.approx(2 * (0.01 + 0.04 + 0.36 + 0.01) / 4)
    # Of the foreground's probability: 0.1 alone in the lower bin, the others above (mean 0.7667, two of three right).
    assert foreground.ece == pytest.approx((abs(0 - 0.1) + abs(2 - 2.3)) / 4)
    assert foreground.mce == pytest.approx(0.1)
    assert foreground.brier == pytest.approx((0.01 + 0.04 + 0.36 + 0.01) / 4)


def test_the_reliability_table_has_a_row_per_bin() -> None:
    found = calibrated(np.array([[0.9, 0.8, 0.6, 0.1]]), np.array([1, 1, 0, 0]), bins=2)
    lower, upper = (row for row in found.reliability if row.label == 1)
    assert (lower.above, lower.upto, lower.voxels, lower.accuracy) == (0.0, 0.5, 1, 0.0)
    assert (upper.above, upper.upto, upper.voxels) == (0.5, 1.0, 3)
    assert (upper.confidence, upper.accuracy) == pytest.approx((2.3 / 3, 2 / 3))
    empty = next(row for row in found.reliability if row.label == 0)
    assert empty.voxels == 0
    assert math.isnan(empty.confidence)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    found = calibrated(np.array([[0.5, 1.0, 0.0]]), np.array([1, 1, 0]), bins=4)
    assert [row.voxels for row in found.reliability if row.label == 1] == [1, 1, 0, 1]


def test_labels_name_the_ids_of_channels() -> None:
    p = np.array([[0.7, 0.1], [0.2, 0.2], [0.1, 0.7]])
    found = calibrated(p, np.array([0, 7]), labels=[0, 3, 7])
    assert [(row.label, row.name) for row in found.rows] == [(0, "all labels"), (3, "label 3"), (7, "label 7")]
    assert found.rows[0].ece == pytest.approx(0.3)
    assert found.rows[2].brier == pytest.approx((0.01 + 0.09) / 2)


NAMED = {1: "liver", 4: "Spleen"}
CLASSES = ("background", "liver", "spleen")
"""Channels of a probability file of a model with the ids 1 and 4."""


def one_hot(truth: Array, ids: tuple[int, ...], channels: tuple[str, ...] = CLASSES) -> Volume:
    return Volume(np.stack([truth == k for k in ids]).astype(np.float32), on_grid(truth), channels)


@pytest.mark.parametrize("reference_names", [NAMED, {}], ids=["the reference", "the prediction"])
def test_channels_stand_for_the_labels_that_they_are_named_as(reference_names: dict[int, str]) -> None:
    truth = np.array([[[0, 1, 4, 4]]])
    reference = Segmentation(truth, on_grid(truth), reference_names)
    case = CaseImages(
        prediction=Segmentation(truth, on_grid(truth), NAMED),
        reference=reference,
        probabilities=one_hot(truth, (0, 1, 4)),
    )
    rows: Any = measure(case).rows["calibration"]
    assert [(row.label, row.ece, row.brier) for row in rows] == [(0, 0, 0), (1, 0, 0), (4, 0, 0)]


def test_a_label_without_a_channel_is_refused() -> None:
    truth = np.array([[[0, 1, 4, 4]]])
    with pytest.raises(InputError, match=r"none stands for 4: they are of the labels 0, 1, 2\. Name the channels as"):
        calibrate(probabilities=one_hot(truth, (0, 1, 4)), reference=Segmentation(truth, on_grid(truth)))


@pytest.mark.parametrize("names", [{1: "liver", 2: "spleen"}, {}], ids=["named", "by place"])
def test_voxels_that_nobody_annotated_count_as_wrong_and_are_told(names: dict[int, str]) -> None:
    truth = np.array([[[0, 1, 2, 255]]])
    p = one_hot(np.array([[[0, 1, 2, 0]]]), (0, 1, 2))
    with pytest.warns(MedsegWarning, match="no channel stands for 255"):
        found = calibrate(probabilities=p, reference=Segmentation(truth, on_grid(truth), names))
    assert found.rows[0].ece == pytest.approx(1 / 4)
    assert [row.ece for row in found.rows[1:]] == [0, 0]


def test_names_of_channels_are_taken_as_written_first() -> None:
    truth = np.array([[[0, 1, 2, 2]]])
    p = one_hot(truth, (0, 2, 1), ("background", "left-kidney", "left kidney"))
    names = {1: "left kidney", 2: "left-kidney"}
    assert channel_ids(p.channels, Segmentation(truth, on_grid(truth), names)) == [0, 2, 1]


def test_channels_of_which_some_are_named_are_refused() -> None:
    truth = np.array([[[0, 2, 4, 4]]])
    p = one_hot(truth, (0, 2, 4))
    with pytest.raises(InputError, match="channels background, liver, spleen some are named as labels and some not"):
        calibrate(probabilities=p, reference=Segmentation(truth, on_grid(truth), {2: "liver", 4: "lien"}))


def test_the_foreground_alone_leaves_sure_background_out() -> None:
    p = np.array([[0.99, 0.99, 0.2, 0.9]])
    p = np.concatenate([p, 1 - p])
    found = calibrated(p, np.array([0, 0, 1, 1]), region="foreground")
    assert found.rows[0].voxels == 2
    assert found.rows[0].ece == pytest.approx((abs(1 - 0.8) + abs(0 - 0.9)) / 2)
    nothing = calibrated(p[:, :2], np.array([0, 0]), region="foreground")
    assert nothing.rows[0].voxels == 0
    assert math.isnan(nothing.rows[0].ece)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), bins=st.integers(1, 12))
def test_sums_equal_the_definitions_voxel_by_voxel(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([1, 1, 1], 60).T
    truth = rng.integers(0, 3, 60)
    row = calibrated(p, truth, bins=bins).rows[0]
    confidence, right = p.max(axis=0), p.argmax(axis=0) == truth
    ece = 0.0
    for low in np.arange(bins) / bins:
        inside = (confidence > low) & (confidence <= low + 1 / bins)
        ece += abs(right[inside].sum() - confidence[inside].sum()) / 60
    assert row.ece == pytest.approx(ece)
    assert row.brier == pytest.approx(np.mean([((p[:, i] - np.eye(3)[truth[i]]) ** 2).sum() for i in range(60)]))


def test_lazy_arrays_in_small_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    p = np.moveaxis(rng.dirichlet([1, 1], (5, 6, 7)), -1, 0)
    truth = rng.integers(0, 2, (5, 6, 7))
    whole = calibrate(probabilities=Volume(p, on_grid(p)), reference=Segmentation(truth, on_grid(truth)))
    monkeypatch.setattr("napari_medseg.metrics.agreement.calibration.BLOCK_VOXELS", 20)
    assert boxes.BLOCK_VOXELS > 20
    lazy = calibrate(
        probabilities=Volume(zarr.array(p, chunks=(1, 2, 3, 3)), on_grid(p)),
        reference=Segmentation(zarr.array(truth, chunks=(2, 2, 3)), on_grid(truth)),
    )
    for row, other in zip(lazy.rows, whole.rows, strict=True):
        assert (row.voxels, row.ece, row.brier) == pytest.approx((other.voxels, other.ece, other.brier))


@pytest.mark.parametrize(
    "p",
    [
        pytest.param([[1.5, -2.0], [-0.5, 3.0]], id="logits"),
        pytest.param([[0.9, 0.9], [0.9, 0.9]], id="sigmoids"),
        pytest.param([[np.nan, 0.5], [0.5, 0.5]], id="nan"),
    ],
)
def test_what_is_no_probability_is_refused(p: list[list[float]]) -> None:
    with pytest.raises(InputError, match="need values from 0 to 1 that add up to 1"):
        calibrated(np.array(p), np.array([0, 1]))


def test_a_wrong_number_of_ids_is_refused() -> None:
    with pytest.raises(InputError, match=r"an id for each channel; got 2 channels and the ids \[1\]"):
        calibrated(np.full((2, 2), 0.5), np.array([0, 1]), labels=[1])


def test_another_grid_is_refused() -> None:
    p, truth = np.full((2, 1, 1, 3), 0.5), np.zeros((1, 1, 2), np.uint8)
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        calibrate(probabilities=Volume(p, on_grid(p)), reference=Segmentation(truth, on_grid(truth)))
