"""Surfaces and their distances: the published check values, and what must hold for any pair of masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial import distance

from napari_medseg.metrics.pairwise.comparison import evaluate
from napari_medseg.metrics.pairwise.places import worst_place
from napari_medseg.metrics.pairwise.surface import Mask, Neighbours, Steps, surface_distances, surface_of
from napari_medseg.volume import Grid, Segmentation

ANISOTROPIC = (2.5, 1.0, 1.0)
masks = hnp.arrays(bool, st.tuples(*[st.integers(1, 7)] * 3))
CONNECTIVITY: dict[Neighbours, int] = {6: 1, 18: 2, 26: 3}


def ball(centre: tuple[int, int, int], radius: float) -> Mask:
    z, y, x = np.ogrid[:40, :48, :48]
    inside: Mask = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2
    return inside


REFERENCE = ball((20, 24, 24), 14)
SHIFTED = [pytest.param(ball((20, 26, 24), 12), id="along y"), pytest.param(ball((20, 24, 26), 12), id="along x")]


@pytest.mark.parametrize("prediction", SHIFTED)
@pytest.mark.parametrize(("neighbours", "asd"), [(6, 2.5568), (18, 2.2546), (26, 2.1220)])
def test_average_distance_of_balls(prediction: Mask, neighbours: Neighbours, asd: float) -> None:
    distances = surface_distances(REFERENCE, prediction, ANISOTROPIC, neighbours=neighbours)
    assert distances.asd == pytest.approx(asd, abs=5e-5)


@pytest.mark.parametrize("prediction", SHIFTED)
def test_other_distances_of_balls(prediction: Mask) -> None:
    distances = surface_distances(REFERENCE, prediction, ANISOTROPIC)
    assert distances.msd == pytest.approx(5.83095, abs=5e-6)
    assert distances.from_prediction.mean() == pytest.approx(2.3195, abs=5e-5)
    assert distances.hd95 == pytest.approx(4.822, abs=5e-4)
    pooled = np.percentile(np.concatenate([distances.from_reference, distances.from_prediction]), 95)
    assert pooled == pytest.approx(4.717, abs=5e-4), "the other definition of HD95, which ours is not"


def test_half_blocks() -> None:
    reference, prediction = np.zeros((2, 100, 100, 100), bool)
    reference[:50], prediction[:51] = True, True
    distances = surface_distances(reference, prediction, (2.0, 1.0, 1.0))
    assert (distances.msd, distances.hd95) == (2.0, 2.0)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["z", "y", "x"])
def test_single_voxels(axis: int) -> None:
    spacing = (3.0, 2.0, 1.0)
    reference, prediction = np.zeros((2, 100, 100, 100), bool)
    at = [70, 70, 70]
    reference[tuple(at)] = True
    at[axis] = 72
    prediction[tuple(at)] = True
    distances = surface_distances(reference, prediction, spacing)
    assert distances.hd95 == distances.msd == distances.asd == 2 * spacing[axis]


@settings(max_examples=50, deadline=None)
@given(mask=masks, neighbours=st.sampled_from([6, 18, 26]), beyond_edge=st.booleans())
def test_surface_equals_erosion(mask: Mask, neighbours: Neighbours, beyond_edge: bool) -> None:
    image = mask.squeeze()  # a slice has no neighbours but those in it
    structure = ndimage.generate_binary_structure(image.ndim, min(image.ndim, CONNECTIVITY[neighbours]))
    eroded = ndimage.binary_erosion(image, structure, border_value=beyond_edge) if image.ndim else image
    found = surface_of(mask, neighbours=neighbours, beyond_edge=beyond_edge)
    np.testing.assert_array_equal(found.squeeze(), image & ~eroded)


@settings(max_examples=50, deadline=None)
@given(mask=masks, other=masks)
def test_distances_equal_a_distance_transform(mask: Mask, other: Mask) -> None:
    shape = np.maximum(mask.shape, other.shape)
    a, b = (np.pad(m, [(0, n - k) for n, k in zip(shape, m.shape, strict=True)]) for m in (mask, other))
    assume(a.any() and b.any())
    found = surface_distances(a, b, (0.7, 1.3, 2.9))
    surface_a, surface_b = surface_of(a), surface_of(b)
    to_a, to_b = (ndimage.distance_transform_edt(~s, sampling=(0.7, 1.3, 2.9)) for s in (surface_a, surface_b))
    np.testing.assert_allclose(found.from_reference, to_b[surface_a], atol=1e-12)
    np.testing.assert_allclose(found.from_prediction, to_a[surface_b], atol=1e-12)


SHEARS = {
    "a tilted gantry": [[4.7, 0.0, 0.0], [1.7, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "all axes": [[2.0, 0.3, -0.5], [0.4, 1.1, 0.3], [0.0, -0.6, 0.9]],
    "turned": [[0.0, 0.0, 0.8], [1.5, 0.0, 0.4], [0.0, -1.0, 0.0]],
}


@pytest.mark.parametrize("axes", SHEARS.values(), ids=SHEARS)
def test_distances_in_a_sheared_grid_are_those_between_the_places_of_voxels(axes: list[list[float]]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = axes
    draw = np.random.default_rng(0)
    for _ in range(20):
        a, b = (ndimage.gaussian_filter(draw.normal(size=(12, 11, 10)), 1.5) > 0.1 for _ in range(2))
        found = surface_distances(a, b, Steps.of(Grid((12, 11, 10), affine)))
        places = [np.argwhere(surface_of(mask)) @ affine[:3, :3].T for mask in (a, b)]
        between = distance.cdist(*places)
        np.testing.assert_allclose(found.from_reference, between.min(axis=1), atol=1e-12)
        np.testing.assert_allclose(found.from_prediction, between.min(axis=0), atol=1e-12)


def test_scores_of_a_sheared_grid_are_in_its_mm() -> None:
    affine = np.array([[3.0, 0, 0, 0], [1.5, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    reference, prediction = np.zeros((2, 9, 9, 9), np.uint8)
    reference[3, 5, 2], prediction[6, 2, 2] = 1, 1
    grid = Grid((9, 9, 9), affine)
    (row,) = evaluate(prediction=Segmentation(prediction, grid), reference=Segmentation(reference, grid)).rows
    assert row.msd_mm == row.centroid_distance_mm == pytest.approx(np.hypot(9, 1.5))
    place = worst_place(label=1, prediction=Segmentation(prediction, grid), reference=Segmentation(reference, grid))
    assert place.distance_mm == pytest.approx(row.msd_mm)


def test_rounded_directions_are_no_shear() -> None:
    turned = np.eye(4)
    turned[:3, :3] = np.array([[1, 1e-5, 0], [-1e-5, 1, 0], [0, 1e-5, 1]]) * (2, 1, 1)
    assert Steps.of(Grid((3, 3, 3), turned)).axes is None


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["z", "y", "x"])
@pytest.mark.parametrize("beyond_edge", [False, True], ids=["background beyond", "goes on beyond"])
def test_the_surface_in_one_slice_is_its_outline(axis: int, beyond_edge: bool) -> None:
    outline = np.zeros((7, 7), bool)
    outline[1:6, 1:6] = True
    square = np.expand_dims(outline, axis).copy()
    outline[2:5, 2:5] = False
    found = surface_of(square, beyond_edge=beyond_edge)
    np.testing.assert_array_equal(found, np.expand_dims(outline, axis))


def test_a_thin_label_in_a_thick_image_is_all_surface() -> None:
    mask = np.zeros((2, 7, 7), bool)
    mask[0, 1:6, 1:6] = True
    assert surface_of(mask).sum() == 25


def test_a_mask_that_fills_the_image_has_no_surface_without_the_edge() -> None:
    full, part = np.ones((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
    part[1, 1, 1] = True
    both = surface_distances(full, full, ANISOTROPIC, beyond_edge=True)
    assert (both.asd, both.msd, both.hd95, both.nsd(1)) == (0, 0, 0, 1)
    one = surface_distances(full, part, ANISOTROPIC, beyond_edge=True)
    assert (one.asd, one.msd, one.hd95, one.nsd(1)) == (np.inf, np.inf, np.inf, 0)


@pytest.mark.parametrize(("tolerance", "expected"), [(0.0, 0.0), (0.29, 0.0), (0.3, 1.0), (1.0, 1.0)])
def test_a_distance_that_is_the_tolerance_is_within_it(tolerance: float, expected: float) -> None:
    reference, prediction = np.zeros((2, 1, 1, 9), bool)
    reference[..., 2], prediction[..., 5] = True, True
    distances = surface_distances(reference, prediction, (1.0, 1.0, 0.1))  # 0.30000000000000004 mm apart
    assert distances.nsd(tolerance) == expected
