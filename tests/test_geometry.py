from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from grids import ORIENTATIONS, grid, grids, oblique, rotation, shapes
from napari_medseg import geometry
from napari_medseg.geometry import AxisMap, AxisOrder
from napari_medseg.volume import Grid

orientations = st.sampled_from(ORIENTATIONS)
lengths = st.integers(1, 40)


def test_an_affine_of_itk_is_ours_reversed() -> None:
    lps_xyz = [[1, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]]
    assert geometry.from_itk(lps_xyz).tolist() == [[3, 0, 0, 30], [0, 2, 0, 20], [0, 0, 1, 10], [0, 0, 0, 1]]


def test_an_affine_of_nifti_loses_two_signs() -> None:
    ras_xyz = [[-1, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
    assert geometry.from_nifti(ras_xyz).tolist() == [[3, 0, 0, 30], [0, -2, 0, 20], [0, 0, 1, -10], [0, 0, 0, 1]]


@given(grids)
def test_affines_of_other_worlds_come_back(drawn: Grid) -> None:
    assert np.array_equal(geometry.from_itk(geometry.to_itk(drawn.affine)), drawn.affine)
    assert np.array_equal(geometry.from_nifti(geometry.to_nifti(drawn.affine)), drawn.affine)


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_is_read_from_the_affine(orientation: str) -> None:
    straight, turned = grid(orientation), oblique(orientation)
    assert (geometry.orientation_of(straight.affine), geometry.is_oblique(straight.affine)) == (orientation, False)
    assert (geometry.orientation_of(turned.affine), geometry.is_oblique(turned.affine)) == (orientation, True)
    assert geometry.spacing_of(turned.affine) == pytest.approx((2.5, 0.7, 1.2))


@given(st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
def test_nearest_axes_are_a_permutation_at_any_angle(angles: tuple[float, float, float]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles)
    axes, signs = geometry.nearest_axes(affine)
    assert sorted(axes) == [0, 1, 2]
    assert set(signs) <= {1, -1}


def test_half_way_between_two_axes_the_first_order_wins() -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation((np.pi / 4, 0, 0))
    assert geometry.nearest_axes(affine)[0] == (0, 1, 2)


@given(source=orientations, target=orientations, shape=shapes)
def test_reordering_moves_no_voxel_in_the_world(source: str, target: str, shape: tuple[int, int, int]) -> None:
    before = grid(source, shape, angles_rad=(0.1, 0.2, -0.1))
    positions = before.index_to_world(np.moveaxis(np.indices(shape), 0, -1))
    order = AxisOrder.between(source, target)
    after = before.reordered(order)
    moved = np.stack([order.apply(positions[..., axis]) for axis in range(3)], axis=-1)
    assert after.orientation == target
    assert moved.shape[:3] == after.shape
    assert np.allclose(moved, after.index_to_world(np.moveaxis(np.indices(after.shape), 0, -1)))


@given(source=orientations, target=orientations, shape=shapes)
def test_reordering_is_undone_by_its_inverse(source: str, target: str, shape: tuple[int, int, int]) -> None:
    order = AxisOrder.between(source, target)
    array = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(order.inverse.apply(order.apply(array)), array)
    assert order.inverse == AxisOrder.between(target, source)
    assert order.inverse.inverse == order
    assert order.is_identity == (source == target)
    affine = grid(source, shape).affine
    assert np.allclose(order.inverse.affine(order.affine(affine, shape), order.shape(shape)), affine)


def test_leading_axes_stay_where_they_are() -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    order = AxisOrder.between("SPL", "LSA")
    assert np.array_equal(order.apply(array)[1], order.apply(array[1]))


@given(source=orientations, target=orientations, shape=shapes, data=st.data())
def test_source_slices_read_a_window_of_the_reordered_array(
    source: str, target: str, shape: tuple[int, int, int], data: st.DataObject
) -> None:
    order = AxisOrder.between(source, target)
    array = np.arange(np.prod(shape)).reshape(shape)
    starts = [data.draw(st.integers(0, n - 1)) for n in order.shape(shape)]
    stops = [data.draw(st.integers(a + 1, n)) for a, n in zip(starts, order.shape(shape), strict=True)]
    z, y, x = (slice(a, b) for a, b in zip(starts, stops, strict=True))
    read = array[order.source_slices((z, y, x), shape)]
    assert np.array_equal(order.apply(read), order.apply(array)[z, y, x])


@given(drawn=grids, spacing=st.tuples(*[st.floats(0.1, 20.0)] * 3))
def test_another_spacing_covers_the_same_box(drawn: Grid, spacing: tuple[float, float, float]) -> None:
    changed = drawn.with_spacing(spacing)
    for edge in (lambda n: np.full(3, -0.5), lambda n: np.array(n) - 0.5):
        assert np.allclose(drawn.index_to_world(edge(drawn.shape)), changed.index_to_world(edge(changed.shape)))
    extent = np.array(drawn.shape) * drawn.spacing
    assert np.all(np.abs(extent / spacing - changed.shape) <= 0.5 + 1e-6) or min(changed.shape) == 1


def resampled(
    axis: AxisMap, old: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    columns = axis.first[:, None] + np.arange(axis.taps)
    return np.asarray((old[columns] * axis.weights).sum(axis=1))


@given(n_old=lengths, n_new=lengths, seed=st.integers(0, 99))
def test_denser_samples_are_those_of_linear_interpolation(n_old: int, n_new: int, seed: int) -> None:
    n_old, n_new = sorted((n_old, n_new))
    old = np.random.default_rng(seed).normal(size=n_old)
    centres = (np.arange(n_new) + 0.5) * n_old / n_new - 0.5
    ours = resampled(AxisMap.between(n_old, n_new), old)
    assert ours == pytest.approx(np.interp(centres, np.arange(n_old), old), abs=1e-5)
    assert ours == pytest.approx(ndimage.zoom(old, n_new / n_old, order=1, mode="nearest", grid_mode=True), abs=1e-5)


@given(n_old=lengths, n_new=lengths, seed=st.integers(0, 99))
def test_sparser_samples_are_those_of_an_antialiased_resize(n_old: int, n_new: int, seed: int) -> None:
    n_new, n_old = sorted((n_old, n_new))
    old = np.random.default_rng(seed).normal(size=n_old)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(old)[None, None, None], size=(1, n_new), mode="bilinear", antialias=True
    )
    # At the ends torch drops the weights that fall outside where ours repeat the last sample.
    width = n_old / n_new
    centres = (np.arange(n_new) + 0.5) * width - 0.5
    inside = (centres - width >= -1) & (centres + width <= n_old)
    ours = resampled(AxisMap.between(n_old, n_new), old)
    assert ours[inside] == pytest.approx(theirs[0, 0, 0].numpy()[inside], abs=1e-5)


@given(n_old=lengths, n_new=lengths)
def test_weights_of_a_sample_sum_to_one_and_stay_inside(n_old: int, n_new: int) -> None:
    axis = AxisMap.between(n_old, n_new)
    assert axis.weights.sum(axis=1) == pytest.approx(np.ones(n_new), abs=1e-6)
    assert axis.weights.min() >= 0
    assert axis.first.min() >= 0
    assert axis.first.max() + axis.taps <= n_old
    assert np.all(np.diff(axis.first) >= 0)


@given(n_old=lengths, n_new=lengths)
def test_nearest_takes_a_sample_at_most_half_a_step_away(n_old: int, n_new: int) -> None:
    axis = AxisMap.between(n_old, n_new, mode="nearest")
    centres = (np.arange(n_new) + 0.5) * n_old / n_new - 0.5
    assert axis.taps == 1
    assert np.all(np.abs(axis.first - np.clip(centres, 0, n_old - 1)) <= 0.5 + 1e-9)


@given(n=lengths)
def test_the_same_number_of_samples_is_the_identity(n: int) -> None:
    axis = AxisMap.between(n, n)
    assert axis.first.tolist() == list(range(n))
    assert axis.weights.tolist() == [[1.0]] * n


@given(n_old=lengths, n_new=lengths, data=st.data())
def test_ready_and_needs_agree(n_old: int, n_new: int, data: st.DataObject) -> None:
    axis = AxisMap.between(n_old, n_new)
    available = data.draw(st.integers(0, n_old))
    ready = axis.ready(available)
    assert ready == sum(1 for first in axis.first if first + axis.taps <= available)
    if ready:
        start = data.draw(st.integers(0, ready - 1))
        low, high = axis.needs(start, ready)
        assert (low, high) == (axis.first[start], axis.first[ready - 1] + axis.taps)
        assert high <= available
