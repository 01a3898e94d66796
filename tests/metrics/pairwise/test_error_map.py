"""The error map: three kinds of wrong voxel, on the reference's grid."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.errors import GridMismatchError
from napari_medseg.geometry import AxisOrder
from napari_medseg.metrics.pairwise.error_map import error_map
from napari_medseg.volume import Grid, Segmentation


def row(*ids: int, spacing: float = 1.0) -> Segmentation:
    return Segmentation(np.array([[ids]], np.int32), Grid.from_spacing((1, 1, len(ids)), (1, 1, spacing)))


def test_each_kind_of_error_has_its_id() -> None:
    errors = error_map(prediction=row(0, 4, 0, 4, 4), reference=row(0, 0, 7, 7, 4))
    assert np.asarray(errors.data).tolist() == [[[0, 1, 2, 3, 0]]]
    assert dict(errors.labels) == {1: "false positive", 2: "false negative", 3: "wrong label"}


def test_a_flipped_prediction_is_matched() -> None:
    reference = row(0, 1, 1, 2)
    order = AxisOrder((2, 1, 0), (True, False, False))
    flipped = Segmentation(order.apply(np.asarray(reference.data)), reference.grid.reordered(order))
    assert not np.asarray(error_map(prediction=flipped, reference=reference).data).any()


def test_other_grids_are_refused() -> None:
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        error_map(prediction=row(1, 1), reference=row(1, 1, spacing=2))
