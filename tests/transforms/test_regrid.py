from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from napari_medseg import Grid, Segmentation, Volume, geometry
from napari_medseg.errors import InputError
from napari_medseg.events import Progress
from napari_medseg.geometry import AxisOrder
from napari_medseg.transforms.regrid import resample_onto, resampling_onto

SHAPE = (9, 10, 11)


def turned(
    degrees: float, spacing: tuple[float, float, float] = (1.7, 1.1, 0.9), shape: tuple[int, int, int] = SHAPE
) -> Grid:
    """A grid turned about the first axis, its centre near that of the others."""
    a = np.radians(degrees)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def ball(grid: Grid, ids: tuple[int, int] = (7, 2_000_000_000)) -> Segmentation:
    """Two half balls of 4.5 mm around the world's origin."""
    world = grid.index_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    inside = np.linalg.norm(world, axis=-1) < 4.5
    return Segmentation(
        np.where(inside, np.where(world[..., 1] < 0, *ids), 0).astype(np.int32), grid, {ids[0]: "seven"}
    )


def as_itk(data: np.ndarray, grid: Grid) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(data)
    affine = geometry.to_itk(grid.affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


@pytest.mark.parametrize("degrees", [0.0, 20.0, 45.0])
def test_equals_simpleitk(degrees: float) -> None:
    source, target = turned(0, (2.0, 1.0, 1.0)), turned(degrees)
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32) + 5
    found = resample_onto(Volume(data[None], source), target)
    peer = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(
            as_itk(data, source),
            as_itk(np.zeros(SHAPE, np.float32), target),
            SimpleITK.Transform(),
            SimpleITK.sitkLinear,
            float(data.min()),
        )
    )
    inside = source.world_to_index(target.index_to_world(np.moveaxis(np.indices(SHAPE), 0, -1)))
    inner = ((inside >= 0) & (inside <= np.array(SHAPE) - 1)).all(axis=-1)
    assert inner.mean() > 0.2
    np.testing.assert_allclose(np.asarray(found.data)[0][inner], peer[inner], atol=1e-4)


@settings(max_examples=30)
@given(
    orientation=st.sampled_from(["SPL", "RAI", "LSP", "AIR", "IPR"]),
    interpolation=st.sampled_from(["linear", "nearest"]),
)
def test_flips_and_permutations_lose_nothing(orientation: str, interpolation: str) -> None:
    labels = ball(turned(0))
    order = AxisOrder.between(labels.grid.orientation, orientation)
    there = resample_onto(labels, labels.grid.reordered(order), interpolation)  # type: ignore[arg-type]
    np.testing.assert_array_equal(there.data, order.apply(np.asarray(labels.data)))
    back = resample_onto(there, labels.grid)
    np.testing.assert_array_equal(back.data, labels.data)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_labels_keep_their_ids_names_and_place(interpolation: str) -> None:
    coarse, fine = ball(turned(0, (2.0, 2.0, 2.0))), turned(30, (0.5, 0.5, 0.5), (24, 24, 24))
    found = resample_onto(coarse, fine, interpolation)  # type: ignore[arg-type]
    truth = np.asarray(ball(fine).data)
    assert set(np.unique(np.asarray(found.data))) == {0, 7, 2_000_000_000}
    assert dict(found.labels) == {7: "seven"}
    assert found.grid is fine
    agree = (np.asarray(found.data) == truth).mean()
    assert agree > (0.9 if interpolation == "linear" else 0.85)


def label_by_label(labels: Segmentation, grid: Grid) -> np.ndarray:
    """Each mask interpolated over the whole target, the largest share wins."""
    ids, to_source = np.asarray(labels.data), np.linalg.inv(labels.grid.affine) @ grid.affine
    best, made = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, ids.dtype)
    for label in np.union1d([0], np.unique(ids)):
        share = affine_transform(
            (ids == label).astype(np.float32),
            to_source[:3, :3],
            to_source[:3, 3],
            grid.shape,
            order=1,
            mode="grid-constant",
            cval=float(label == 0),
        )
        made[share > best] = label
        np.maximum(best, share, out=best)
    return made


sides = st.tuples(*[st.integers(1, 9)] * 3)
spacings = st.tuples(*[st.sampled_from([0.5, 1 / 3, 0.7, 1.0, 2.5])] * 3)


@settings(max_examples=80, deadline=None)
@given(
    shapes=st.tuples(sides, sides),
    steps=st.tuples(spacings, spacings),
    degrees=st.sampled_from([0.0, 10.0, 45.0, 90.0, 137.0]),
    far=st.sampled_from([0.0, 0.25, 3.0, 100.0]),
    ids=st.sampled_from([[0], [4], [0, 0, 0, 0, 9], [0, 1, 2, 3], [1, 2], [0, 5, 70_000, 2**31 - 1], range(60)]),
    seed=st.integers(0, 999),
)
def test_labels_equal_those_of_a_pass_over_all_for_each(
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]],
    steps: tuple[tuple[float, float, float], tuple[float, float, float]],
    degrees: float,
    far: float,
    ids: list[int],
    seed: int,
) -> None:
    data = np.random.default_rng(seed).choice(np.array(ids), shapes[0])
    labels = Segmentation(data, turned(0, steps[0], shapes[0]))
    grid = turned(degrees, steps[1], shapes[1])
    affine = grid.affine.copy()
    affine[0, 3] += far
    grid = Grid(grid.shape, affine)
    found = np.asarray(resample_onto(labels, grid).data)
    if labels.grid.order_onto(grid) is None:
        np.testing.assert_array_equal(found, label_by_label(labels, grid))
        assert found.dtype == data.dtype


def test_a_voxel_and_nothing_equal_them_too() -> None:
    grid = turned(33, (0.8, 0.4, 0.5), (20, 20, 20))
    for ids in ((), (3,)):
        data = np.zeros(SHAPE, np.int16)
        data[4, 5, 5] = sum(ids)
        found = np.asarray(resample_onto(Segmentation(data, turned(0)), grid).data)
        assert set(np.unique(found)) == {0, *ids}
        np.testing.assert_array_equal(found, label_by_label(Segmentation(data, turned(0)), grid))


def test_labels_and_channels_are_told_one_by_one() -> None:
    grid = turned(30)
    assert list(resampling_onto(ball(turned(0)), grid)) == [Progress(k, 2, "labels resampled") for k in (1, 2)]
    image = Volume(np.zeros((3, *SHAPE), np.float32), turned(0))
    assert list(resampling_onto(image, grid)) == [Progress(k, 3, "channels resampled") for k in (1, 2, 3)]


def test_outside_is_the_smallest_value_and_background() -> None:
    source = turned(0, (1.0, 1.0, 1.0), (3, 3, 3))
    target = turned(0, (1.0, 1.0, 1.0), (9, 9, 9))
    image = resample_onto(Volume(np.full((1, 3, 3, 3), -7, np.int16), source), target, "nearest")
    assert np.asarray(image.data).dtype == np.int16
    assert (np.asarray(image.data) == -7).all()
    labels = resample_onto(Segmentation(np.ones((3, 3, 3), np.uint8), source), target)
    assert int(np.asarray(labels.data).sum()) == 27


def test_another_interpolation_is_refused() -> None:
    with pytest.raises(InputError, match="interpolation is one of linear, nearest; got 'cubic'"):
        resample_onto(ball(turned(0)), turned(5), "cubic")  # type: ignore[arg-type]
