"""The overview shows the radiological picture, however the array is stored."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from balls import segmentation, volume
from napari_medseg import Grid, Segmentation, Volume
from napari_medseg.errors import GridMismatchError
from napari_medseg.geometry import AxisOrder
from napari_medseg.overview import cut_planes, save_overview
from orientations import stored_otherwise

ORDERS = [AxisOrder(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]  # type: ignore[arg-type]


def marked() -> tuple[Volume, Segmentation]:
    """Voxels brighter to the left, then to the back, then to the top; one labelled voxel, off the middle."""
    data = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)
    labels = np.zeros(data.shape, np.uint8)
    labels[1, 4, 6] = 3
    grid = Grid.from_spacing((4, 6, 8), (3.0, 2.0, 1.0))
    return Volume(data[None], grid), Segmentation(labels, grid)


def test_planes_pass_through_the_labels_with_head_and_front_up() -> None:
    axial, coronal, sagittal = cut_planes(*marked())
    data = np.asarray(marked()[0].data)[0]
    np.testing.assert_array_equal(axial.image, data[1])
    np.testing.assert_array_equal(coronal.image, data[::-1, 4])
    np.testing.assert_array_equal(sagittal.image, data[::-1, :, 6])
    assert [plane.spacing_mm for plane in (axial, coronal, sagittal)] == [(2.0, 1.0), (3.0, 1.0), (3.0, 2.0)]
    assert all(3 in plane.labels for plane in (axial, coronal, sagittal))


@pytest.mark.parametrize(
    "order", ORDERS, ids=lambda o: "".join("zyx"[a] for a in o.axes) + "".join("+-"[f] for f in o.flips)
)
def test_the_picture_does_not_depend_on_the_stored_order(order: AxisOrder) -> None:
    image, labels = marked()
    grid = image.grid.reordered(order)
    stored = Volume(order.apply(np.asarray(image.data)), grid)
    marks = Segmentation(order.apply(np.asarray(labels.data)), grid)
    for found, expected in zip(cut_planes(stored, marks), cut_planes(image, labels), strict=True):
        np.testing.assert_array_equal(found.image, expected.image)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.spacing_mm == pytest.approx(expected.spacing_mm)


def test_without_labels_the_planes_cut_the_middle() -> None:
    image, labels = marked()
    empty = Segmentation(np.zeros_like(np.asarray(labels.data)), labels.grid)
    axial = cut_planes(image, empty)[0]
    np.testing.assert_array_equal(axial.image, np.asarray(image.data)[0, 1])


def test_the_file_is_a_picture_with_the_labels_in_colour(tmp_path: Path) -> None:
    path = tmp_path / "overview.png"
    save_overview(path, volume(), segmentation())
    pixels = imread(path)[..., :3]
    coloured = pixels.max(axis=2) - pixels.min(axis=2) > 0.2
    assert 0.005 < coloured.mean() < 0.5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["overview.png"]


def test_labels_may_be_stored_in_another_order() -> None:
    image, labels = marked()
    for plane, same in zip(cut_planes(image, labels), cut_planes(image, stored_otherwise(labels)), strict=True):
        np.testing.assert_array_equal(same.labels, plane.labels)


def test_labels_of_another_grid_are_refused(tmp_path: Path) -> None:
    moved = Segmentation(segmentation().data, Grid.from_spacing((12, 20, 16), (2.0, 1.0, 1.0), (9.0, 0.0, 0.0)))
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        save_overview(tmp_path / "overview.png", volume(), moved)
