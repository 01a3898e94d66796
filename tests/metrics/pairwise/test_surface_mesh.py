"""The coloured mesh lies on the prediction, is closed, and carries the distances of the table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from napari_medseg.errors import InputError
from napari_medseg.metrics.pairwise.places import label_surfaces
from napari_medseg.metrics.pairwise.surface_mesh import surface_distance_mesh
from napari_medseg.volume import Grid, Segmentation

SHAPE = (20, 30, 32)
SPACING = (2.0, 1.0, 1.0)
CENTRE_MM = np.array([20.0, 15.0, 15.0])


def ball(radius_mm: float, shift_x_mm: float = 0.0) -> Segmentation:
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    centre = CENTRE_MM + np.array([0, 0, shift_x_mm])
    squares = sum((i * mm - c) ** 2 for i, mm, c in zip(axes, SPACING, centre, strict=True))
    return Segmentation((squares <= radius_mm**2).astype(np.int32), Grid.from_spacing(SHAPE, SPACING))


def volume_mm3(vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]) -> float:
    """Of a closed mesh, by the divergence theorem."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return abs(float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum())) / 6


def test_a_larger_ball_is_too_large_all_around() -> None:
    mesh = surface_distance_mesh(prediction=ball(12), reference=ball(8))
    assert mesh.distance_mm.min() > 0
    np.testing.assert_allclose(mesh.distance_mm, 4, atol=max(SPACING))
    radii = np.linalg.norm(mesh.vertices_world - CENTRE_MM, axis=1)
    np.testing.assert_allclose(radii, 12, atol=max(SPACING))


@pytest.mark.parametrize("faces", [1000, 200])
def test_a_thinned_mesh_is_the_same_surface_with_the_same_extremes(faces: int) -> None:
    mesh = surface_distance_mesh(prediction=ball(12), reference=ball(8, shift_x_mm=5))
    thin = mesh.thinned(faces)
    assert faces / 3 < len(thin.faces) <= faces < len(mesh.faces)
    assert np.abs(thin.distance_mm).max() == np.abs(mesh.distance_mm).max()
    radii = np.linalg.norm(thin.vertices_world - CENTRE_MM, axis=1)
    np.testing.assert_allclose(radii, 12, atol=2 * max(SPACING))
    whole = volume_mm3(mesh.vertices_world, mesh.faces)
    assert volume_mm3(thin.vertices_world, thin.faces) == pytest.approx(whole, rel=0.15)


@pytest.mark.parametrize("faces", [400, 30, 1])
def test_an_island_smaller_than_a_cell_is_drawn_with_its_error(faces: int) -> None:
    """Its triangles all vanish into one vertex, but for that of the farthest."""
    with_island = np.asarray(ball(12).data).copy()
    with_island[19, 29, 31] = 1
    mesh = surface_distance_mesh(
        prediction=Segmentation(with_island, Grid.from_spacing(SHAPE, SPACING)), reference=ball(12)
    )
    thin = mesh.thinned(faces)
    assert 0 < len(thin.faces) <= faces
    np.testing.assert_array_equal(np.unique(thin.faces), np.arange(len(thin.distance_mm)), "nothing but what is drawn")
    assert thin.distance_mm.max() == mesh.distance_mm.max() > 10


def test_a_mesh_of_few_triangles_is_drawn_as_it_is() -> None:
    mesh = surface_distance_mesh(prediction=ball(12), reference=ball(8))
    assert mesh.thinned(len(mesh.faces)) is mesh


def test_a_smaller_ball_falls_short_all_around() -> None:
    assert surface_distance_mesh(prediction=ball(8), reference=ball(12)).distance_mm.max() < 0


def test_a_perfect_prediction_is_at_distance_zero() -> None:
    assert not surface_distance_mesh(prediction=ball(10), reference=ball(10)).distance_mm.any()


def test_the_largest_value_is_the_directed_hausdorff_distance() -> None:
    a, b = ball(9), ball(9, shift_x_mm=5)
    (surfaces,) = label_surfaces(prediction=b, reference=a)
    mesh = surface_distance_mesh(prediction=b, reference=a)
    assert np.abs(mesh.distance_mm).max() == surfaces.distances.from_prediction.max()
    assert mesh.distance_mm[mesh.vertices_zyx[:, 2].argmax()] > 0
    assert mesh.distance_mm[mesh.vertices_zyx[:, 2].argmin()] < 0


def test_the_mesh_is_closed_also_at_the_edge_of_the_image() -> None:
    seg = ball(10)
    cut = Segmentation(seg.data[:, :, :15], Grid.from_spacing((20, 30, 15), SPACING))
    mesh = surface_distance_mesh(prediction=cut, reference=cut)
    edges = np.sort(np.concatenate([mesh.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    _, shared_by = np.unique(edges, axis=0, return_counts=True)
    assert set(shared_by.tolist()) == {2}
    voxels = np.count_nonzero(np.asarray(cut.data)) * np.prod(SPACING)
    assert volume_mm3(mesh.vertices_world, mesh.faces) == pytest.approx(voxels, rel=0.15)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["z", "y", "x"])
def test_in_one_slice_the_mesh_is_a_wall_along_the_outline(axis: int) -> None:
    shape = tuple(np.insert((40, 44), axis, 1).tolist())
    y, x = np.ogrid[:40, :44]
    discs = (
        ((y - 20) ** 2 + (x - middle) ** 2 <= radius**2).astype(np.uint8) for middle, radius in ((20, 10), (23, 12))
    )
    a, b = (Segmentation(np.expand_dims(disc, axis), Grid.from_spacing(shape, SPACING)) for disc in discs)
    mesh = surface_distance_mesh(prediction=b, reference=a)
    (surfaces,) = label_surfaces(prediction=b, reference=a)
    high, along = mesh.vertices_zyx[:, axis], np.delete(mesh.vertices_zyx, axis, axis=1)
    assert set(high.tolist()) == {-0.5, 0.0, 0.5}
    outline = np.delete(surfaces.prediction_points, axis, axis=1)
    apart = np.linalg.norm(along[:, None] - outline[None], axis=-1)
    assert (apart.min(axis=1) == 0.5).all(), "nothing inside the outline"
    np.testing.assert_array_equal(np.abs(mesh.distance_mm), surfaces.distances.from_prediction[apart.argmin(axis=1)])


def test_all_labels_are_one_mesh_and_those_without_a_partner_are_left_out() -> None:
    a_data, b_data = (np.asarray(ball(radius_mm).data).copy() for radius_mm in (6, 7))
    a_data[1, 1:4, 1:4], b_data[1, 1:4, 1:5] = 2, 2
    a_data[18, 27, 30] = 3
    a, b = (Segmentation(data, Grid.from_spacing(SHAPE, SPACING)) for data in (a_data, b_data))
    whole = surface_distance_mesh(prediction=b, reference=a)
    parts = [surface_distance_mesh(prediction=b, reference=a, label=k) for k in (1, 2)]
    assert len(whole.faces) == sum(len(part.faces) for part in parts)
    np.testing.assert_array_equal(whole.distance_mm, np.concatenate([part.distance_mm for part in parts]))
    np.testing.assert_array_equal(
        whole.vertices_zyx[whole.faces], np.concatenate([part.vertices_zyx[part.faces] for part in parts])
    )
    with pytest.raises(InputError, match="label 3 is not in both prediction and reference"):
        surface_distance_mesh(prediction=b, reference=a, label=3)
