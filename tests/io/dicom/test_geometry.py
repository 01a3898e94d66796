"""Planes become a grid: worked out by hand on few planes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.errors import FileError
from napari_medseg.geometry import FloatArray
from napari_medseg.io.dicom.geometry import SeriesGeometry, resample, sparse_stack, stack, unit_cosines

X, Y = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def planes(z_mm: list[float], *, y_mm: list[float] | None = None, gap_mm: float | None = None) -> SeriesGeometry:
    """Axial planes of 3 x 4 pixels of 2 x 1 mm."""
    positions = np.array([[10.0, y, z] for z, y in zip(z_mm, y_mm or [0.0] * len(z_mm), strict=True)])
    return SeriesGeometry([f"IM{i}" for i in range(len(z_mm))], positions, X, Y, (2.0, 1.0), (3, 4), gap_mm)


def test_planes_in_any_order_make_a_grid() -> None:
    found = stack(planes([5, 0, 2.5]))
    assert (found.order, found.shape, found.resampling, found.oddities) == ((1, 2, 0), (3, 3, 4), None, ())
    expected = np.diag([1.0, 2.0, 2.5, 1.0])
    expected[0, 3] = 10
    np.testing.assert_allclose(found.affine_lps_xyz, expected)


def test_one_plane_is_as_thick_as_it_says() -> None:
    assert stack(planes([7], gap_mm=3)).affine_lps_xyz[2, 2] == 3
    assert stack(planes([7])).oddities == ("one slice that states no thickness: 1 mm is taken",)


@pytest.mark.parametrize(
    ("z_mm", "reason"),
    [
        ([0, 2.5, 5, 10], r"missing.*: 5 mm between IM2 and IM3 where others are 2.5 mm apart"),
        ([0, 1, 2, 1e9 + 0.3], r"missing.*: 1e\+09 mm between IM2 and IM3"),
        ([0, 2.5, 2.5, 5], r"IM1 and IM2 lie at the same position \(1 such pairs\)"),
    ],
    ids=["missing", "far", "duplicate"],
)
def test_incomplete_stacks_are_refused(z_mm: list[float], reason: str) -> None:
    with pytest.raises(FileError, match=reason):
        stack(planes(z_mm))


def test_a_cloud_of_planes_is_no_volume() -> None:
    with pytest.raises(FileError, match="do not lie above one another"):
        stack(planes([0, 1, 2], y_mm=[0, 500, 0]))


def test_uneven_planes_are_interpolated_in_their_places() -> None:
    found = stack(planes([0, 2, 5]))
    assert found.oddities == ("unevenly spaced slices (2 to 3 mm apart); resampled to 2.5 mm",)
    assert found.resampling is not None
    values = np.array([0, 20, 50], np.float32)[:, None, None] * np.ones((3, 3, 4), np.float32)
    result = resample(found.resampling, found.shape, values)
    np.testing.assert_allclose(result[:, 0, 0], [0, 25, 50], rtol=1e-6)


def test_tilted_planes_move_to_their_places() -> None:
    found = stack(planes([0, 3, 6], y_mm=[0, 2, 4]))
    assert found.oddities[0].startswith("tilted slices (gantry tilt of 33.7 degrees: each position is 2 mm aside")
    assert found.resampling is not None
    assert found.shape == (3, 5, 4)
    values = np.full((3, 3, 4), -5, np.int16)
    values[:, 1, 2] = 100
    result = resample(found.resampling, found.shape, values)
    assert [tuple(at) for at in np.argwhere(result == 100)] == [(0, 1, 2), (1, 2, 2), (2, 3, 2)]
    assert (result.dtype, set(np.unique(result))) == (np.dtype(np.int16), {-5, 100})


@given(
    shear=st.floats(-1.0, 1.0),
    gaps=st.lists(st.floats(1.0, 1.4), min_size=2, max_size=6),
    slope=st.tuples(*[st.floats(-10, 10)] * 3),
)
def test_a_linear_image_stays_where_it_is(shear: float, gaps: list[float], slope: tuple[float, float, float]) -> None:
    """Linear interpolation is exact on a linear image, in every voxel that planes surround."""
    z_mm = np.concatenate([[0.0], np.cumsum(gaps)])
    given_planes = planes(z_mm.tolist(), y_mm=(shear * z_mm).tolist())
    found = stack(given_planes)
    if found.resampling is None:
        return
    size = np.indices((len(z_mm), 3, 4)).reshape(3, -1).T
    world = given_planes.positions_mm[size[:, 0]] + size[:, [2]] * X + size[:, [1]] * 2 * Y
    values = (world @ slope).reshape(len(z_mm), 3, 4)
    result = resample(found.resampling, found.shape, values)
    index = np.indices(found.shape).reshape(3, -1).T
    at: FloatArray = index[:, ::-1] @ found.affine_lps_xyz[:3, :3].T + found.affine_lps_xyz[:3, 3]
    row_of_plane = (at[:, [1]] - given_planes.positions_mm[:, 1]) / 2
    inside = ((row_of_plane >= 0) & (row_of_plane <= 2)).all(axis=1)
    np.testing.assert_allclose(result.ravel()[inside], (at @ slope)[inside], atol=1e-3)


def test_frames_may_share_and_skip_slices() -> None:
    found = sparse_stack(planes([0, 10, 0, 2.5], gap_mm=2.5))
    assert (found.shape, sorted(found.slots)) == ((5, 3, 4), [0, 0, 1, 4])
    assert sparse_stack(planes([0, 5, 10])).shape[0] == 3


def test_frames_of_no_grid_are_refused() -> None:
    with pytest.raises(FileError, match="1000000000 slices apart"):
        sparse_stack(planes([0, 1, 1e9]))
    with pytest.raises(FileError, match="fit no regular grid"):
        sparse_stack(planes([0, 1, 2.5]))


def test_directions_must_stand_at_right_angles() -> None:
    with pytest.raises(ValueError, match="right angle"):
        unit_cosines(np.array([1.0, 0, 0, 0.5, 0.5, 0]))
