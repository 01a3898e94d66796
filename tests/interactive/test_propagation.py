"""Some slices become a volume; the annotated ones come back as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_medseg as ms
from click_phantoms import Mask, balls, dice
from napari_medseg.errors import GridMismatchError, InputError, MedsegWarning
from napari_medseg.interactive.propagation import PaintedSlices, PropagationMethod, annotated, interpolated, neighbours
from orientations import stored_otherwise

SHAPE, A, B = (22, 26, 40), (11, 13, 12), (11, 13, 28)
METHODS: list[PropagationMethod] = ["auto", "geodesic", "interpolation"]


@pytest.fixture(scope="module")
def phantom() -> tuple[ms.Volume, npt.NDArray[np.uint8]]:
    volume, (a, b) = balls(SHAPE, A, B, radius=7)
    return volume, (a * 1 + b * 6).astype(np.uint8)


def some(labels: npt.NDArray[Any], axis: int, indices: list[int], grid: ms.Grid) -> ms.Segmentation:
    chosen = np.zeros_like(labels)
    where = tuple(indices if a == axis else slice(None) for a in range(3))
    chosen[where] = labels[where]
    return ms.Segmentation(chosen, grid, {1: "left", 6: "right"})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("axis", "indices"), [(0, [4, 8, 11, 15, 18]), (1, [6, 11, 16, 20])], ids=["z", "y"])
def test_slices_become_balls(
    method: PropagationMethod, axis: int, indices: list[int], phantom: tuple[ms.Volume, npt.NDArray[np.uint8]]
) -> None:
    volume, labels = phantom
    given = some(labels, axis, indices, volume.grid)
    found = ms.propagate(volume, given, method=method)
    data = np.asarray(found.data[...])
    where = tuple(indices if a == axis else slice(None) for a in range(3))
    np.testing.assert_array_equal(data[where], labels[where])
    assert found.labels == {1: "left", 6: "right"}
    for label in (1, 6):
        assert dice(data == label, labels == label) > 0.85


@pytest.mark.parametrize("slices", [None, {0: [4, 8, 11, 15, 18]}], ids=["found", "said"])
def test_slices_may_be_stored_in_another_order(slices: Any, phantom: tuple[ms.Volume, npt.NDArray[np.uint8]]) -> None:
    volume, labels = phantom
    given = some(labels, 0, [4, 8, 11, 15, 18], volume.grid)
    expected = ms.propagate(volume, given, method="interpolation")
    found = ms.propagate(volume, stored_otherwise(given), method="interpolation", slices=slices)
    assert found.grid is volume.grid
    np.testing.assert_array_equal(found.data, expected.data)


def test_slices_without_the_label_end_it(phantom: tuple[ms.Volume, npt.NDArray[np.uint8]]) -> None:
    volume, labels = phantom
    given = some(labels, 0, [11], volume.grid)
    found = ms.propagate(volume, given, slices={0: [9, 11, 13]})
    assert not np.asarray(found.data[...])[[9, 13]].any()


def test_a_label_that_ends_where_another_begins_leaves_no_gap() -> None:
    shape = (30, 24, 24)
    bar = np.zeros(shape, dtype=bool)
    bar[3:27, 8:16, 8:16] = True
    image = np.random.default_rng(0).normal(0, 1, shape) + 6 * bar
    volume = ms.Volume(image[None].astype(np.float32), ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0)))
    labels = bar * np.where(np.arange(30) < 15, 1, 6).astype(np.uint8)[:, None, None]
    indices = [3, 11, 19, 26]
    found = np.asarray(ms.propagate(volume, some(labels, 0, indices, volume.grid)).data[...])
    assert neighbours(labels, [1, 6], {0: indices}) == [(1, 6)]
    assert dice(found > 0, bar) > 0.95
    assert (found[12:19][bar[12:19]] > 0).mean() > 0.95
    assert dice(found == 1, labels == 1) > 0.85
    assert dice(found == 6, labels == 6) > 0.85


def test_neighbours_by_hand() -> None:
    labels = np.zeros((3, 6, 6), np.uint8)
    labels[0, 0, 0] = 1
    labels[0, 1, 1] = 2  # touches 1 at a corner
    labels[0, 4:, 4:] = 3
    labels[1, 4:, 4:] = 4  # takes the place of 3
    labels[2, 4, 0] = 5
    assert neighbours(labels, [1, 2, 3, 4, 5], {0: [0, 1, 2]}) == [(1, 2), (3, 4), (5,)]
    assert neighbours(labels, [1, 2, 3, 4, 5], {0: [0, 2]}) == [(1, 2), (3,), (4,), (5,)]
    labels[1, 4, 4] = 3  # goes on, and touches 4
    assert neighbours(labels, [1, 2, 3, 4, 5], {0: [1]}) == [(1,), (2,), (3, 4), (5,)]


def test_the_axis_with_the_fewest_slices_is_the_annotated_one() -> None:
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:4, [2, 5], 3:6] = 1
    assert annotated(labels) == (1, [2, 5])


def test_interpolation_by_hand() -> None:
    mask: Mask = np.zeros((5, 7, 7), dtype=bool)
    mask[0, 2:5, 2:5] = True
    mask[4, 0:7, 0:7] = True
    filled = interpolated(mask, {0: [0, 4]})
    areas = [int(plane.sum()) for plane in filled]
    assert areas == sorted(areas)
    np.testing.assert_array_equal(filled[[0, 4]], mask[[0, 4]])
    assert not interpolated(mask, {0: [0]})[1:].any()


def test_refusals_say_the_way_out(phantom: tuple[ms.Volume, npt.NDArray[np.uint8]]) -> None:
    volume, labels = phantom
    given = some(labels, 0, [11], volume.grid)
    elsewhere = ms.Segmentation(labels, ms.Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0)))
    nothing = ms.Segmentation(np.zeros_like(labels), volume.grid)
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        ms.propagate(volume, elsewhere)
    with pytest.raises(InputError, match="paint at least one slice"):
        ms.propagate(volume, nothing)
    with pytest.raises(InputError, match=r"no slice 22 along axis 0: the volume has 22"):
        ms.propagate(volume, given, slices={0: [22]})
    with pytest.raises(InputError, match=r"slices are along axis 0 \(z\), 1 \(y\) or 2 \(x\); got axis 3"):
        ms.propagate(volume, given, slices={3: [1]})
    with pytest.raises(InputError, match=r"method is auto, geodesic, interpolation, memory or learn; got 'magic'"):
        ms.propagate(volume, given, method="magic")
    with pytest.raises(InputError, match="slices along one axis"):
        ms.propagate(volume, given, method="interpolation", slices={0: [11], 1: [13]})


@pytest.mark.parametrize("method", ["auto", "learn"])
def test_a_map_of_instances_is_refused_before_hours_of_work(method: Any) -> None:
    grid = ms.Grid.from_spacing((3, 24, 24), (1.0, 1.0, 1.0))
    numbers = np.zeros(grid.shape, np.int32)
    numbers[[0, 2]] = np.arange(576).reshape(24, 24)
    volume = ms.Volume(np.zeros((1, *grid.shape), np.float32), grid)
    painted = ms.Segmentation(numbers, grid, name="nuclei")
    with pytest.raises(InputError, match=r"nuclei: 575 .* a map of instances\? 500 are the most: .*`instances`"):
        ms.propagate(volume, painted, slices={0: [0, 2]}, method=method)
    with pytest.warns(MedsegWarning, match="nuclei: 51 different labels .* is it a map of instances"):
        PaintedSlices.of(replace(painted, data=numbers.clip(max=51)), {0: [0, 2]})


def test_slices_of_a_thin_object_are_those_with_gaps() -> None:
    """A sheet of two voxels in y, painted in four axial slices: along y it would be annotated as a whole."""
    labels = np.zeros((16, 6, 12), np.uint8)
    labels[[2, 6, 10, 14], 2:4, 3:9] = 1
    assert annotated(labels) == (0, [2, 6, 10, 14])
