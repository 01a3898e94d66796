"""Size, place, shape and intensities of labels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK
import zarr
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_medseg import Grid, Segmentation, Volume, io
from napari_medseg.errors import GridMismatchError
from napari_medseg.geometry import AxisOrder
from napari_medseg.metrics.descriptive.intensity import intensity_statistics
from napari_medseg.metrics.descriptive.shape import ShapeRow, diameter, moments, shape_statistics

Mask = np.ndarray[Any, np.dtype[np.bool_]]
STEP = np.diag([3.0, 1.5, 0.5])
masks = hnp.arrays(bool, (3, 4, 5)).filter(np.any)


def ellipsoid(grid: Grid, half_axes: tuple[float, float, float]) -> Segmentation:
    """Label 3, on half axes in voxels, about the middle of the grid."""
    z, y, x = np.ogrid[tuple(slice(n) for n in grid.shape)]
    terms = [((i - n // 2) / r) ** 2 for i, n, r in zip((z, y, x), grid.shape, half_axes, strict=True)]
    return Segmentation(np.where(sum(terms, np.zeros(grid.shape)) <= 1, 3, 0), grid, {3: "egg"})


def turned(grid: Grid) -> Grid:
    """The grid of the same voxels, rotated and moved in the patient."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, 25, -40], degrees=True).as_matrix()
    affine[:3, 3] = (7.0, -3.0, 11.0)
    return Grid(grid.shape, affine @ grid.affine)


def test_an_ellipsoid_has_its_known_measures() -> None:
    grid = Grid.from_spacing((41, 51, 61), (1.0, 0.8, 0.5), (100.0, 50.0, 0.0))
    whole = shape_statistics(ellipsoid(grid, (10, 15, 28)))[0]
    a, b, c = 10 * 1.0, 15 * 0.8, 28 * 0.5
    assert (whole.label, whole.name) == (3, "egg")
    assert whole.volume_ml == pytest.approx(4 / 3 * math.pi * a * b * c / 1000, rel=0.01)
    assert whole.mesh_volume_ml == pytest.approx(whole.volume_ml, rel=0.01)
    # A homogeneous ellipsoid has the variance r^2 / 5 along each axis.
    axes = [4 * r / math.sqrt(5) for r in (c, b, a)]
    assert (whole.major_mm, whole.minor_mm, whole.least_mm) == pytest.approx(tuple(axes), rel=0.01)
    assert (whole.elongation, whole.flatness) == pytest.approx((b / c, a / c), rel=0.02)
    assert whole.diameter_mm == pytest.approx(2 * c + 0.5, rel=0.01)
    assert (whole.box_z_mm, whole.box_y_mm, whole.box_x_mm) == pytest.approx((21, 31 * 0.8, 57 * 0.5))
    assert (whole.s_mm, whole.p_mm, whole.l_mm) == pytest.approx((120.0, 70.0, 15.0))
    assert 0.7 < whole.sphericity < 1


@pytest.mark.parametrize("case", ["brain1", "breast1"])
def test_the_published_shapes_of_two_regions(medseg_data: Path, case: str) -> None:
    folder = medseg_data / "roi_mr"
    published = pd.read_csv(folder / "baseline_shape.csv", index_col="featureName")[case]
    row = shape_statistics(io.read_segmentation(folder / f"{case}_label.nrrd"), labels=[1])[0]

    def expected(feature: str) -> float:
        return float(str(published[f"original_shape_{feature}"]))

    exact = {
        "VoxelVolume": row.volume_ml * 1000,
        "MajorAxisLength": row.major_mm,
        "MinorAxisLength": row.minor_mm,
        "LeastAxisLength": row.least_mm,
        "Elongation": row.elongation,
        "Flatness": row.flatness,
        "Maximum3DDiameter": row.diameter_mm,
    }
    assert exact == pytest.approx({feature: expected(feature) for feature in exact}, rel=1e-9)
    # Its table cuts polygons otherwise, and cubes of more than half their complement's way, which leaves holes.
    meshed = {
        "SurfaceArea": row.surface_mm2,
        "MeshVolume": row.mesh_volume_ml * 1000,
        "Sphericity": row.sphericity,
    }
    assert meshed == pytest.approx({feature: expected(feature) for feature in meshed}, rel=3e-3)


@pytest.mark.parametrize("path", ["roi_mr/brain1_label.nrrd", "spine_mr/t2_seg-manual_labeled.nii.gz"])
def test_centroids_and_sizes_are_those_of_itk(medseg_data: Path, path: str) -> None:
    """On oblique grids and with flipped axes too."""
    segmentation = io.read_segmentation(medseg_data / path)
    image = SimpleITK.Cast(SimpleITK.ReadImage(str(medseg_data / path)), SimpleITK.sitkInt32)
    expected = SimpleITK.LabelShapeStatisticsImageFilter()
    expected.Execute(image)
    rows = shape_statistics(segmentation)
    assert [row.label for row in rows] == list(expected.GetLabels())
    for row in rows:
        assert (row.l_mm, row.p_mm, row.s_mm) == pytest.approx(expected.GetCentroid(row.label), abs=2e-3)
        assert row.volume_ml * 1000 == pytest.approx(expected.GetPhysicalSize(row.label), rel=1e-5)


def test_volumes_of_forty_organs(medseg_data: Path) -> None:
    folder = medseg_data / "abdomen_ct"
    published = json.loads((folder / "example_seg_fast_statistics.json").read_text())
    expected = {k: organ["volume"] for k, organ in enumerate(published.values(), start=1) if organ["volume"]}
    rows = shape_statistics(io.read_segmentation(folder / "example_seg_fast.nii.gz"))
    assert {row.label: row.volume_ml * 1000 for row in rows} == pytest.approx(expected)
    assert len(rows) == 40


def test_a_turned_grid_keeps_the_shape_and_moves_the_centroid() -> None:
    grid = Grid.from_spacing((20, 24, 28), (1.5, 1.0, 0.7))
    straight, oblique = (shape_statistics(ellipsoid(g, (6, 9, 12)))[0] for g in (grid, turned(grid)))
    places = {"s_mm", "p_mm", "l_mm"}
    kept = [f for f in ShapeRow.__dataclass_fields__ if f not in {*places, "case", "name"}]
    assert [getattr(oblique, f) for f in kept] == pytest.approx([getattr(straight, f) for f in kept])
    middle = turned(grid).index_to_world((10, 12, 14))
    assert (oblique.s_mm, oblique.p_mm, oblique.l_mm) == pytest.approx(tuple(middle))


def test_a_single_voxel_has_no_axes() -> None:
    one = np.zeros((3, 3, 3), np.uint8)
    one[1, 1, 1] = 1
    row = shape_statistics(Segmentation(one, Grid.from_spacing((3, 3, 3), (2.0, 1.0, 1.0))))[0]
    assert (row.voxels, row.volume_ml, row.major_mm, row.diameter_mm) == (1, 0.002, 0.0, 2.0)
    assert math.isnan(row.elongation)
    assert math.isnan(row.flatness)


def test_rows_are_in_the_order_of_ids_and_can_be_chosen() -> None:
    data = np.array([[[900, 0, 7, 7, 3]]])
    lazy = Segmentation(zarr.array(data, chunks=(1, 1, 2)), Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)))
    assert [row.label for row in shape_statistics(lazy)] == [3, 7, 900]
    assert [row.label for row in shape_statistics(lazy, labels=[900, 4, 7])] == [7, 900]


@settings(max_examples=25, deadline=None)
@given(mask=masks)
def test_moments_are_those_of_the_list_of_voxels(mask: Mask) -> None:
    points = np.argwhere(mask)
    mean, covariance = moments(mask)
    np.testing.assert_allclose(mean, points.mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(points.T, bias=True), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(mask=masks)
def test_the_diameter_is_the_largest_distance_of_all_cut_edges(mask: Mask) -> None:
    padded = np.pad(mask, 1)
    middles = [np.argwhere(np.diff(padded.astype(int), axis=axis) != 0) + 0.5 * np.eye(3)[axis] for axis in range(3)]
    points = np.concatenate(middles) @ STEP.T
    largest = np.linalg.norm(points[:, None] - points[None], axis=-1).max()
    assert diameter(mask, STEP) == pytest.approx(largest)


@pytest.fixture
def image_and_labels() -> tuple[Volume, Segmentation]:
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing((6, 7, 8), (2.0, 1.0, 1.0))
    image = rng.normal(100, 20, (2, *grid.shape))
    return Volume(image, grid, ("T1", "T2")), Segmentation(rng.integers(0, 4, grid.shape), grid, {1: "one"})


def test_intensities_are_those_inside_the_label(image_and_labels: tuple[Volume, Segmentation]) -> None:
    image, labels = image_and_labels
    rows = intensity_statistics(labels, image)
    assert [(row.label, row.channel) for row in rows] == [(k, c) for k in (1, 2, 3) for c in ("T1", "T2")]
    values = np.asarray(image.data[1])
    for row in rows[1::2]:
        inside = {"labels": labels.data, "index": row.label}
        assert row.mean == pytest.approx(ndimage.mean(values, **inside))
        assert row.sd == pytest.approx(ndimage.standard_deviation(values, **inside))
        assert row.median == pytest.approx(ndimage.median(values, **inside))
        assert (row.minimum, row.maximum) == ndimage.extrema(values, **inside)[:2]
        assert row.voxels == np.count_nonzero(np.asarray(labels.data) == row.label)
        assert row.minimum < row.p5 < row.p25 < row.median < row.p75 < row.p95 < row.maximum


def test_an_image_in_another_reading_order_is_matched(image_and_labels: tuple[Volume, Segmentation]) -> None:
    image, labels = image_and_labels
    order = AxisOrder.between("SPL", "LAI")
    moved = zarr.array(np.ascontiguousarray(order.apply(np.asarray(image.data))), chunks=(1, 3, 3, 3))
    other = Volume(moved, image.grid.reordered(order), image.channels)
    assert other.grid.orientation == "LAI"
    assert intensity_statistics(labels, other) == intensity_statistics(labels, image)


def test_what_is_not_finite_is_left_out(image_and_labels: tuple[Volume, Segmentation]) -> None:
    image, labels = image_and_labels
    holes = np.where(np.asarray(labels.data) == 2, np.nan, np.asarray(image.data))
    rows = intensity_statistics(labels, Volume(holes, image.grid))
    assert rows[2].voxels == 0
    assert math.isnan(rows[2].mean)
    assert rows[0].mean == intensity_statistics(labels, image)[0].mean


def test_an_image_on_another_grid_is_refused(image_and_labels: tuple[Volume, Segmentation]) -> None:
    image, labels = image_and_labels
    moved = Volume(image.data, Grid.from_spacing(image.grid.shape, (2.0, 1.0, 1.0), (0.0, 0.0, 5.0)))
    with pytest.raises(GridMismatchError, match="the image and the segmentation must lie on the same grid"):
        intensity_statistics(labels, moved)
