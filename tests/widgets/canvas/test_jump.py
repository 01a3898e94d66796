"""A voxel of the true grid is brought to where the viewer shows it."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseg.metrics.pairwise.surface_mesh import surface_distance_mesh
from napari_medseg.volume import Grid, Segmentation
from napari_medseg.widgets.canvas.jump import show_surface, show_voxel
from napari_medseg.widgets.canvas.layers import labels_layer, surface_layer, world_point

#: grids of the same patient: as napari shows them, in another axis order with flips, and tilted by 20 degrees
SHAPE = (6, 8, 10)
TILT = np.deg2rad(20)
AFFINES = {
    "straight": np.diag([3.0, 2.0, 1.0, 1.0]),
    "flipped and permuted": np.array([[0, 0, -3.0, 40], [2.0, 0, 0, 5], [0, -1.0, 0, 7], [0, 0, 0, 1]]),
    "oblique": np.array(
        [
            [3 * np.cos(TILT), -2 * np.sin(TILT), 0, 1],
            [3 * np.sin(TILT), 2 * np.cos(TILT), 0, 2],
            [0, 0, 1.0, 3],
            [0, 0, 0, 1],
        ]
    ),
}
VOXEL = (4, 2, 7)


@pytest.fixture(params=AFFINES, ids=str)
def marked(request: pytest.FixtureRequest) -> Segmentation:
    """One voxel has label 5."""
    data = np.zeros(SHAPE, np.uint8)
    data[VOXEL] = 5
    return Segmentation(data, Grid(SHAPE, AFFINES[request.param]))


def test_a_voxel_comes_to_the_middle_of_the_canvas(viewer: ViewerModel, marked: Segmentation) -> None:
    data, arguments, _ = labels_layer(marked)
    layer = viewer.add_labels(data, **arguments)
    show_voxel(viewer, layer, VOXEL)
    assert layer.get_value(viewer.dims.point, world=True) == 5
    np.testing.assert_allclose(viewer.scene.camera.center[1:], viewer.dims.point[1:])


def test_the_displayed_axes_decide_where_the_middle_is(viewer: ViewerModel, marked: Segmentation) -> None:
    data, arguments, _ = labels_layer(marked)
    layer = viewer.add_labels(data, **arguments)
    viewer.dims.order = (2, 0, 1)
    show_voxel(viewer, layer, VOXEL)
    point = world_point(layer, VOXEL)
    np.testing.assert_allclose(viewer.scene.camera.center[1:], point[:2])
    assert viewer.dims.point[2] == pytest.approx(point[2])
    viewer.dims.ndisplay = 3
    show_voxel(viewer, layer, VOXEL)
    np.testing.assert_allclose(viewer.scene.camera.center, [point[axis] for axis in (2, 0, 1)])


def test_a_flat_layer_is_shown_in_its_plane(viewer: ViewerModel) -> None:
    layer = viewer.add_labels(np.ones((8, 10), np.uint8), scale=(2, 1), units=("mm", "mm"))
    show_voxel(viewer, layer, (0, 3, 4))
    np.testing.assert_allclose(viewer.scene.camera.center[1:], (6, 4))


def test_a_surface_lies_around_its_voxels_and_fills_the_canvas(viewer: ViewerModel, marked: Segmentation) -> None:
    data, arguments, _ = labels_layer(marked)
    labels = viewer.add_labels(data, **arguments)
    (vertices, faces, values), given, _ = surface_layer(
        surface_distance_mesh(prediction=marked, reference=marked), labels
    )
    np.testing.assert_allclose(vertices.mean(axis=0), world_point(labels, VOXEL), atol=1e-6)
    half = np.abs(vertices - vertices.mean(axis=0)).max(axis=0)
    np.testing.assert_allclose(half, np.abs(labels.scale) / 2)
    surface = viewer.add_surface((vertices, faces, values), **given)
    show_surface(viewer, surface)
    assert viewer.dims.ndisplay == 3
    np.testing.assert_allclose(viewer.scene.camera.center, world_point(labels, VOXEL), atol=1e-6)
