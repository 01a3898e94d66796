from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseg import Grid, Segmentation, Volume, geometry
from napari_medseg.errors import InputError
from napari_medseg.geometry import AxisOrder
from napari_medseg.transforms.regrid import resample_onto

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
