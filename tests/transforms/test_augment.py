from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medseg.transforms import augment
from napari_medseg.transforms.augment import SpatialRanges, augment_intensity, draw_matrix, planes_axis

CHANGES = {change.__name__: change for _, change in augment._CHANGES}


def patch(shape: tuple[int, ...] = (2, 8, 10, 12)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(CHANGES))
@pytest.mark.parametrize("shape", [(2, 8, 10, 12), (1, 1, 9, 9)], ids=["3D", "one slice"])
def test_a_change_is_finite_keeps_the_shape_and_repeats_with_its_seed(name: str, shape: tuple[int, ...]) -> None:
    change = CHANGES[name]
    first, again, other = (change(patch(shape), np.random.default_rng(s)) for s in (3, 3, 4))
    assert first.shape == shape
    assert bool(torch.isfinite(first).all())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, patch(shape))
    # A patch stays in the range that the network is used to.
    assert float((first - patch(shape)).abs().mean()) < 1


def test_a_patch_is_changed_about_as_often_as_the_probabilities_say() -> None:
    untouched = sum(
        torch.equal(augment_intensity(patch((1, 3, 3, 3)), np.random.default_rng(s)), patch((1, 3, 3, 3)))
        for s in range(400)
    )
    expected = np.prod([1 - p for p, _ in augment._CHANGES])
    assert untouched / 400 == pytest.approx(expected, abs=0.07)


def test_rotations_keep_lengths_in_mm() -> None:
    spacing = (2.5, 1.0, 0.8)
    ranges = SpatialRanges(scale=(1.0, 1.0), probability=1.0)
    matrix = draw_matrix(np.random.default_rng(0), spacing, ranges)
    assert matrix is not None
    in_mm = np.diag(spacing) @ matrix @ np.diag(1 / np.array(spacing))
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)


def test_scale_larger_than_one_enlarges() -> None:
    ranges = SpatialRanges(rotation_degrees=0, scale=(2.0, 2.0), probability=1.0)
    matrix = draw_matrix(np.random.default_rng(0), (1, 1, 1), ranges)
    # An offset of 1 voxel in the patch is half a voxel in the image: the image looks twice as large.
    assert matrix is not None
    np.testing.assert_allclose(matrix, np.eye(3) / 2)


def test_thick_slices_and_single_ones_turn_in_their_planes_only() -> None:
    assert planes_axis((5.0, 1.0, 1.0), (8, 8, 8)) == 0
    assert planes_axis((1.0, 1.0, 4.0), (8, 8, 8)) == 2
    assert planes_axis((1.0, 1.0, 1.0), (1, 8, 8)) == 0
    assert planes_axis((2.0, 1.0, 1.0), (8, 8, 8)) is None
    matrix = draw_matrix(
        np.random.default_rng(0), (5.0, 1.0, 1.0), SpatialRanges(scale=(1, 1), probability=1.0), in_plane_of=0
    )
    assert matrix is not None
    np.testing.assert_allclose(matrix[0], [1, 0, 0])
    np.testing.assert_allclose(matrix[:, 0], [1, 0, 0])
    assert abs(matrix[1, 2]) > 0.01


def test_mirroring_only_where_asked() -> None:
    still = SpatialRanges(probability=0.0)
    assert all(draw_matrix(np.random.default_rng(s), (1, 1, 1), still) is None for s in range(20))
    mirrored = SpatialRanges(probability=0.0, mirror=True)
    signs = [draw_matrix(np.random.default_rng(s), (1, 1, 1), mirrored) for s in range(40)]
    assert any(m is not None and np.linalg.det(m) < 0 for m in signs)
