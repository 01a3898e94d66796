"""Volumes and means of one layer, without a reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_medseg.errors import GridMismatchError, InputError
from napari_medseg.geometry import AxisOrder
from napari_medseg.metrics import middle_voxel, size_table
from napari_medseg.volume import Grid, Segmentation, Volume

SHAPE = (6, 8, 10)
GRID = Grid.from_spacing(SHAPE, (5.0, 1.0, 2.0))


def labelled(large: int = 7) -> Segmentation:
    data = np.zeros(SHAPE, np.int32)
    data[1:3, 2:4, 3:8] = 1
    data[5, 7, 9] = large
    return Segmentation(data, GRID, {1: "liver", 4: "tumour"}, name="organs")


@pytest.mark.parametrize("large", [7, 70_000])
def test_rows_hold_ml_and_means_of_all_that_occurs_or_has_a_name(large: int) -> None:
    values = np.arange(math.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    segmentation = labelled(large)
    values[1, 2, 3] = np.nan
    rows = size_table(segmentation, Volume(values[None], GRID))
    assert [(row.label, row.name, row.voxels) for row in rows] == [
        (1, "liver", 20),
        (4, "tumour", 0),
        (large, f"label {large}", 1),
    ]
    assert [row.volume_ml for row in rows] == pytest.approx([0.2, 0.0, 0.01])
    assert rows[0].mean == pytest.approx(np.nanmean(values[np.asarray(segmentation.data) == 1]))
    assert math.isnan(rows[1].mean)
    assert rows[2].mean == values[5, 7, 9]


def test_an_image_in_another_reading_order_gives_the_same_means_and_another_grid_is_refused() -> None:
    values = np.random.default_rng(0).normal(size=SHAPE)
    order = AxisOrder((2, 0, 1), (True, False, True))
    turned = Volume(order.apply(values)[None], GRID.reordered(order))
    there, here = (size_table(labelled(), image) for image in (turned, Volume(values[None], GRID)))
    assert there[0].mean == pytest.approx(here[0].mean)
    moved = replace(turned, grid=Grid.from_spacing(turned.grid.shape, (1.0, 1.0, 1.0)))
    with pytest.raises(GridMismatchError, match="the same grid"):
        size_table(labelled(), moved)


def test_without_an_image_there_is_no_mean() -> None:
    assert all(math.isnan(row.mean) for row in size_table(labelled()))


def test_the_middle_of_a_ring_is_a_voxel_of_it() -> None:
    data: Any = np.zeros((3, 9, 9), np.uint8)
    data[1, 1:8, 1:8] = 2
    data[1, 2:7, 2:7] = 0
    ring = Segmentation(data, Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)), {5: "empty"})
    z, y, x = middle_voxel(ring, 2)
    assert data[z, y, x] == 2
    with pytest.raises(InputError, match="has no voxel of empty"):
        middle_voxel(ring, 5)
