"""`evaluate` and `Scores`: rows, presets, empty masks, grids, real volumes, tables and files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_medseg import Grid, Scores, Segmentation, evaluate, io
from napari_medseg.config import Preset
from napari_medseg.errors import FileError, GridMismatchError, InputError
from napari_medseg.geometry import AxisOrder
from napari_medseg.metrics import combine
from napari_medseg.metrics.pairwise.columns import COLUMNS
from napari_medseg.metrics.pairwise.overlap import Overlap
from napari_medseg.metrics.pairwise.presets import RULES
from napari_medseg.metrics.pairwise.scores import ImageSize, Row, score
from napari_medseg.metrics.pairwise.surface import SurfaceDistances

METRIC_COLUMNS = ["dice", "iou", "voe", "rvd", "asd_mm", "msd_mm", "hd95_mm", "nsd"]
FIXED = ["label", "name", "voxels_reference", "voxels_prediction", *METRIC_COLUMNS]
Labels = np.ndarray[Any, np.dtype[np.integer[Any]]]


def segmentation(data: Any, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), **names: str) -> Segmentation:
    return Segmentation(data, Grid.from_spacing(data.shape, spacing), {int(k[1:]): v for k, v in names.items()})


def empty(*, reference: bool, prediction: bool, preset: Preset) -> Row:
    """A label of 10 voxels, or none, in the reference and in the prediction."""
    mask = np.zeros((2, 5, 5), np.uint8)
    mask[0, :2] = 1
    a, b = (np.zeros_like(mask) if none else mask for none in (reference, prediction))
    if reference and prediction:  # evaluate has no row for a label that is nowhere
        nowhere, image = SurfaceDistances(np.zeros(0), np.zeros(0)), ImageSize(voxels=50, voxel_ml=0.001)
        return score(Overlap(0, 0, 0), nowhere, 0.0, image, RULES[preset], label=1, name="", nsd_tolerance_mm=1.0)
    return evaluate(prediction=segmentation(b), reference=segmentation(a), preset=preset).rows[0]


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("preset", "reference", "prediction", "expected"),
    [
        # dice, iou, voe, rvd, asd, msd, hd95, nsd
        pytest.param("survey", True, True, (1, 1, 0, 0, 0, 0, 0, 1), id="survey, both empty"),
        pytest.param("survey", True, False, (0, 0, 1, NAN, INF, INF, INF, 0), id="survey, reference empty"),
        pytest.param("survey", False, True, (0, 0, 1, -1, INF, INF, INF, 0), id="survey, prediction empty"),
        pytest.param("lits", True, True, (0, 0, 1, 9001, 9001, 9001, 9001, 1), id="lits, both empty"),
        pytest.param("lits", True, False, (0, 0, 1, 9001, 9001, 9001, 9001, 0), id="lits, reference empty"),
        pytest.param("lits", False, True, (0, 0, 1, 9001, 9001, 9001, 9001, 0), id="lits, prediction empty"),
        pytest.param("chaos", True, True, (1, 1, 0, 0, 0, 0, 0, 1), id="chaos, both empty"),
        pytest.param("chaos", True, False, (0, 0, 1, NAN, INF, INF, INF, 0), id="chaos, reference empty"),
        pytest.param("chaos", False, True, (0, 0, 1, 100, INF, INF, INF, 0), id="chaos, prediction empty"),
    ],
)
def test_empty_masks(preset: Preset, reference: bool, prediction: bool, expected: tuple[float, ...]) -> None:
    row = empty(reference=reference, prediction=prediction, preset=preset)
    np.testing.assert_equal([getattr(row, m) for m in METRIC_COLUMNS], expected)


def balls() -> tuple[Segmentation, Segmentation]:
    z, y, x = np.ogrid[:40, :48, :48]
    reference = (z - 20) ** 2 + (y - 24) ** 2 + (x - 24) ** 2 <= 14**2
    prediction = (z - 20) ** 2 + (y - 26) ** 2 + (x - 24) ** 2 <= 12**2
    a, b = (segmentation(m.astype(np.uint8), (2.5, 1.0, 1.0)) for m in (reference, prediction))
    return b, a


@pytest.mark.parametrize(
    ("preset", "rvd", "asd"),
    [("survey", -0.3787, 2.5568), ("lits", 0.6096, 2.2546), ("chaos", 37.87, 2.5568)],
    ids=["survey", "lits", "chaos"],
)
def test_presets_differ_on_balls(preset: Preset, rvd: float, asd: float) -> None:
    prediction, reference = balls()
    row = evaluate(prediction=prediction, reference=reference, preset=preset).rows[0]
    assert row.rvd == pytest.approx(rvd, rel=2e-4)
    assert row.asd_mm == pytest.approx(asd, abs=5e-5)


def test_the_edge_of_the_image_is_no_surface_in_chaos() -> None:
    reference, prediction = np.zeros((2, 6, 6, 6), np.uint8)
    reference[:3], prediction[:2] = 1, 1
    b, a = segmentation(prediction), segmentation(reference)
    chaos = evaluate(prediction=b, reference=a, preset="chaos").rows[0]
    survey = evaluate(prediction=b, reference=a).rows[0]
    assert (chaos.asd_mm, chaos.nsd) == (1.0, 1.0), "one plane against the next one"
    assert survey.asd_mm < chaos.asd_mm


def test_half_blocks() -> None:
    reference, prediction = np.zeros((2, 100, 100, 100), np.uint8)
    reference[:50], prediction[:51] = 1, 1
    spacing = (2.0, 1.0, 1.0)
    scores = evaluate(prediction=segmentation(prediction, spacing), reference=segmentation(reference, spacing))
    row = scores.rows[0]
    assert (round(row.dice, 3), row.msd_mm, row.hd95_mm) == (0.990, 2.0, 2.0)
    assert scores.pa == 0.99


def test_rows_columns_names_and_means() -> None:
    reference = segmentation(np.array([[[0, 3, 3, 900, 0]]]), l3="liver", l5="never there")
    prediction = segmentation(np.array([[[0, 3, 7, 0, 0]]]), l3="hepar", l7="spleen")
    scores = evaluate(prediction=prediction, reference=reference)
    assert [(row.label, row.name) for row in scores.rows] == [(3, "liver"), (7, "spleen"), (900, "label 900")]
    assert scores.to_frame().columns.tolist()[: len(FIXED)] == FIXED, "scripts outside the project count on these"
    assert [(r.voxels_reference, r.voxels_prediction) for r in scores.rows] == [(2, 1), (0, 1), (1, 0)]
    assert scores.pa == 0.6
    assert scores.mean["dice"] == pytest.approx(2 / 9)
    assert scores.mean["asd_mm"] == pytest.approx(1 / 3), "of the finite one only"
    assert scores.mean["rvd"] == pytest.approx((-0.5 - 1) / 2), "NaN for a label that the reference lacks"


def test_further_columns() -> None:
    """Reference: 4 voxels in a row; prediction: 3 of them moved by two, one slice up; 30 voxels of 2 x 1 x 0.5 mm."""
    reference, prediction = np.zeros((2, 3, 1, 10), np.uint8)
    reference[0, 0, 1:5], prediction[0, 0, 3:5], prediction[1, 0, 4] = 1, 1, 1
    spacing = (2.0, 1.0, 0.5)
    scores = evaluate(prediction=segmentation(prediction, spacing), reference=segmentation(reference, spacing))
    row = scores.rows[0]
    assert (row.sensitivity, row.specificity, row.precision) == pytest.approx((2 / 4, 25 / 26, 2 / 3))
    assert (row.volume_reference_ml, row.volume_prediction_ml) == pytest.approx((0.004, 0.003))
    assert row.centroid_distance_mm == pytest.approx(math.hypot(2 / 3, 0.5 * (11 / 3 - 2.5)))
    # From the reference 1, 0.5, 0, 0 mm; from the prediction 0, 0, 2 mm.
    assert row.masd_mm == pytest.approx((1.5 / 4 + 2 / 3) / 2)
    assert row.asd_mm == pytest.approx(3.5 / 7)
    assert (row.hd95_mm, row.hd95_pooled_mm) == pytest.approx((1.8, 1.7))
    assert scores.miou == pytest.approx((2 / 5 + 25 / 28) / 2)


def test_miou_is_of_all_cases_together() -> None:
    reference = segmentation(np.array([[[1, 1, 2, 0]]]))
    missed = evaluate(prediction=segmentation(np.array([[[1, 0, 2, 0]]])), reference=reference)
    perfect = evaluate(prediction=reference, reference=reference)
    assert missed.miou == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert combine([("a", missed), ("b", perfect)]).miou == pytest.approx((2 / 3 + 3 / 4 + 1) / 3)


def test_no_label_at_all() -> None:
    background = segmentation(np.zeros((2, 2, 2), np.uint8))
    scores = evaluate(prediction=background, reference=background)
    assert (scores.rows, scores.pa) == ((), 1.0)
    assert math.isnan(scores.mean["dice"])
    assert scores.to_frame().columns.tolist() == list(COLUMNS)[1:]


small = hnp.arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 2))


@settings(max_examples=25, deadline=None)
@given(a=small, b=small, preset=st.sampled_from(["survey", "lits", "chaos"]))
def test_swapped_roles_keep_all_but_the_volume_difference(a: Labels, b: Labels, preset: Preset) -> None:
    x, y = segmentation(a, (3.0, 1.5, 0.5)), segmentation(b, (3.0, 1.5, 0.5))
    forth = evaluate(prediction=x, reference=y, preset=preset).to_frame()
    back = evaluate(prediction=y, reference=x, preset=preset).to_frame()
    same = [m for m in METRIC_COLUMNS if m != "rvd"]
    pd.testing.assert_frame_equal(forth[same], back[same])
    assert forth["voxels_reference"].tolist() == back["voxels_prediction"].tolist()


@settings(max_examples=25, deadline=None)
@given(a=small, b=small, axes=st.permutations(range(3)), preset=st.sampled_from(["survey", "lits", "chaos"]))
def test_permuted_axes_with_their_spacing_keep_every_metric(
    a: Labels, b: Labels, axes: list[int], preset: Preset
) -> None:
    spacing = (3.0, 1.5, 0.5)
    moved = (spacing[axes[0]], spacing[axes[1]], spacing[axes[2]])
    before = evaluate(prediction=segmentation(a, spacing), reference=segmentation(b, spacing), preset=preset)
    after = evaluate(
        prediction=segmentation(a.transpose(axes), moved),
        reference=segmentation(b.transpose(axes), moved),
        preset=preset,
    )
    pd.testing.assert_frame_equal(before.to_frame(), after.to_frame())


@pytest.mark.parametrize("orientation", ["SPL", "LAI", "RSP", "IPR", "ALS"])
def test_grids_equal_up_to_flips_and_permutations_are_matched(orientation: str) -> None:
    rng = np.random.default_rng(1)
    reference, stored = (segmentation(rng.integers(0, 3, (6, 7, 8)), (3.0, 2.0, 1.0)) for _ in range(2))
    order = AxisOrder.between("SPL", orientation)
    moved = zarr.array(np.ascontiguousarray(order.apply(np.asarray(stored.data))), chunks=(3, 3, 3))
    prediction = Segmentation(moved, stored.grid.reordered(order))
    assert prediction.grid.orientation == orientation
    assert evaluate(prediction=prediction, reference=reference) == evaluate(prediction=stored, reference=reference)


def test_lazy_arrays_score_as_arrays_in_memory() -> None:
    prediction, reference = balls()
    lazy = [Segmentation(zarr.array(np.asarray(s.data), chunks=(16, 16, 16)), s.grid) for s in (prediction, reference)]
    assert evaluate(prediction=lazy[0], reference=lazy[1]) == evaluate(prediction=prediction, reference=reference)


@pytest.mark.parametrize(
    "grid",
    [
        pytest.param(Grid.from_spacing((4, 4, 4), (1.0, 1.0, 1.1)), id="another spacing"),
        pytest.param(Grid.from_spacing((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 5.0)), id="moved"),
        pytest.param(Grid((4, 4, 4), np.diag([1.0, 1.0, -1.0, 1.0])), id="flipped about another place"),
    ],
)
def test_unequal_grids_are_refused(grid: Grid) -> None:
    reference = segmentation(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(GridMismatchError, match="the prediction and the reference must lie on the same grid"):
        evaluate(prediction=Segmentation(np.zeros((4, 4, 4), np.uint8), grid), reference=reference)


def test_wrong_requests_are_refused() -> None:
    background = segmentation(np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(InputError, match="preset is survey, lits or chaos; got 'brats'"):
        evaluate(prediction=background, reference=background, preset="brats")
    with pytest.raises(InputError, match="nsd_tolerance_mm must be at least 0; got -1"):
        evaluate(prediction=background, reference=background, nsd_tolerance_mm=-1)


@pytest.fixture
def with_misses() -> Scores:
    """A label that is found, one that is missed (infinite distances), one that is made up (RVD is NaN)."""
    reference = segmentation(np.array([[[1, 1, 2, 0, 0]]]), l1="liver, left", l2="spleen")
    prediction = segmentation(np.array([[[1, 1, 0, 0, 3]]]))
    return evaluate(prediction=prediction, reference=reference)


def test_csv_round_trip(tmp_path: Path, with_misses: Scores) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with_misses.to_csv(path)
    pd.testing.assert_frame_equal(pd.read_csv(path), with_misses.to_frame())
    assert [p.name for p in tmp_path.iterdir()] == ["scores.csv"]


def test_json_holds_no_infinity_and_loses_none(tmp_path: Path, with_misses: Scores) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    path = tmp_path / "scores.json"
    with_misses.to_json(path)
    content = json.loads(path.read_text(), parse_constant=refuse)
    assert (content["preset"], content["nsd_tolerance_mm"], content["pa"]) == ("survey", 1.0, 0.6)
    assert [row["label"] for row in content["rows"]] == [1, 2, 3]
    assert (float(content["rows"][1]["asd_mm"]), content["rows"][0]["asd_mm"]) == (math.inf, 0.0)
    assert math.isnan(float(content["rows"][2]["rvd"]))
    assert content["mean"]["dice"] == with_misses.mean["dice"]


@pytest.mark.parametrize("method", ["to_csv", "to_json"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, with_misses: Scores, method: str) -> None:
    with pytest.raises(FileError, match=r"no such folder: .*nowhere"):
        getattr(with_misses, method)(tmp_path / "nowhere" / "scores.x")


def test_combined_cases(tmp_path: Path, with_misses: Scores) -> None:
    background = segmentation(np.zeros((1, 1, 5), np.uint8))
    none = evaluate(prediction=background, reference=background)
    both = combine([("b", with_misses), ("a", none), ("c", with_misses)])
    assert both.to_frame().columns.tolist() == list(COLUMNS)
    assert [(row.case, row.label) for row in both.rows] == [(case, k) for case in "bc" for k in (1, 2, 3)]
    assert both.pa == pytest.approx((3 + 5 + 3) / 15)
    assert both.mean == with_misses.mean
    assert both.of_label(1).mean["dice"] == 1.0
    both.to_csv(tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == ",".join(list(COLUMNS))


def test_only_alike_scores_are_combined(with_misses: Scores) -> None:
    background = segmentation(np.zeros((1, 1, 5), np.uint8))
    other = evaluate(prediction=background, reference=background, preset="lits")
    with pytest.raises(InputError, match="one preset and one NSD tolerance"):
        combine([("a", with_misses), ("b", other)])
    with pytest.raises(InputError, match="one case or more"):
        combine([])


def test_volumes_of_forty_organs(medseg_data: Path) -> None:
    folder = medseg_data / "abdomen_ct"
    # Ids are the places in the list of names, from 1 on.
    published = json.loads((folder / "example_seg_fast_statistics.json").read_text())
    expected = {k: organ["volume"] for k, organ in enumerate(published.values(), start=1) if organ["volume"]}
    reference = io.read_segmentation(folder / "example_seg_fast.nii.gz")
    scores = evaluate(prediction=io.read_segmentation(folder / "example_seg.nii.gz"), reference=reference)
    volumes = {r.label: r.voxels_reference * reference.grid.voxel_volume_mm3 for r in scores.rows if r.voxels_reference}
    assert volumes == pytest.approx(expected)
    assert len(volumes) == 40
    assert scores.mean["dice"] == pytest.approx(0.902, abs=5e-4), "stated for this pair by its source"


@pytest.mark.parametrize(("case", "label"), [("brain1", 1), ("breast1", 1)])
def test_volumes_of_regions(medseg_data: Path, case: str, label: int) -> None:
    folder = medseg_data / "roi_mr"
    table = pd.read_csv(folder / "baseline_shape.csv", index_col="featureName")
    region = io.read_segmentation(folder / f"{case}_label.nrrd")
    row = next(r for r in evaluate(prediction=region, reference=region).rows if r.label == label)
    expected = float(str(table.loc["original_shape_VoxelVolume", case]))
    assert row.voxels_reference * region.grid.voxel_volume_mm3 == pytest.approx(expected, rel=1e-6)
    assert (row.dice, row.asd_mm, row.nsd) == (1, 0, 1)
