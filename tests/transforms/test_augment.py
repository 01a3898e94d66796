from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast
from scipy import ndimage

from napari_medseg.transforms.augment import (
    INTENSITY_CHANGES,
    Draw,
    SpatialRanges,
    augment_intensity,
    blur,
    brightness,
    contrast,
    draw_matrix,
    draw_shifts,
    gamma,
    intensity_changes,
    low_resolution,
    planes_axis,
    sample_grid,
)

CHANGES = {change.__name__: change for _, change in INTENSITY_CHANGES}


def patch(shape: tuple[int, ...] = (2, 8, 10, 12)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def drawn(uniform: float, random: float = 0.5) -> Draw:
    """A generator whose draws are known."""

    class Known:
        def uniform(self, low: float, high: float) -> float:
            assert low <= uniform <= high
            return uniform

        def random(self) -> float:
            return random

    return cast(Draw, Known())


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


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.0])
def test_blur_is_the_gaussian_filter_of_scipy(sigma: float) -> None:
    expected = [
        ndimage.gaussian_filter(channel, sigma, mode="nearest", radius=3) for channel in patch().double().numpy()
    ]
    np.testing.assert_allclose(blur(patch(), drawn(sigma)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("negative", [False, True], ids=["as it is", "negative"])
@pytest.mark.parametrize("power", [0.7, 1.5])
def test_gamma_is_the_contrast_adjustment_of_monai(power: float, negative: bool) -> None:
    """Channel by channel, however far apart these lie."""
    channels = patch() * torch.tensor([1.0, 40.0])[:, None, None, None] + 3
    bend = AdjustContrast(power, invert_image=negative, retain_stats=True)
    theirs = torch.cat([torch.as_tensor(bend(channel[None])) for channel in channels])
    ours = gamma(channels, drawn(power, random=0.0 if negative else 0.5))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-4)


def test_a_lower_resolution_does_not_mix_thick_slices() -> None:
    slices = torch.arange(8.0)[None, :, None, None].expand(1, 8, 6, 6) % 2
    (coarser,) = (c for _, c in intensity_changes(planes_axis((5.0, 1.0, 1.0), (8, 6, 6))) if isinstance(c, partial))
    assert torch.equal(coarser(slices, drawn(0.5)), slices)
    assert not torch.equal(low_resolution(slices, drawn(0.5)), slices)
    across = slices.movedim(1, 2)
    assert not torch.equal(coarser(across, drawn(0.5)), across)


def test_brightness_and_contrast_by_hand() -> None:
    values = torch.tensor([-4.0, -1.0, 1.0, 4.0]).reshape(1, 1, 1, 4)
    assert brightness(values, drawn(1.25)).ravel().tolist() == [-5, -1.25, 1.25, 5]
    assert contrast(values, drawn(1.25)).ravel().tolist() == [-4, -1.25, 1.25, 4]  # within the range there was
    assert contrast(values + 1, drawn(0.75)).ravel().tolist() == [-2, 0.25, 1.75, 4]


def test_a_turned_patch_is_the_affine_transform_of_scipy() -> None:
    image = patch((1, 20, 21, 22))
    ranges = SpatialRanges(probability=1.0)
    matrix = draw_matrix(np.random.default_rng(1), (2.0, 1.0, 1.0), ranges)
    assert matrix is not None
    size, centre = (7, 9, 8), np.array([10.0, 9.5, 11.0])
    grid = sample_grid(centre, matrix, size, (20, 21, 22))
    found = torch.nn.functional.grid_sample(image[None], grid, align_corners=True)[0, 0]
    offset = centre - matrix @ ((np.array(size) - 1) / 2)
    expected = ndimage.affine_transform(image[0].numpy(), matrix, offset, size, order=1, mode="grid-constant")
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_changes_are_made_in_turn_each_with_its_probability() -> None:
    changes = [(0.4, lambda x, draw: x + 1), (0.6, lambda x, draw: 10 * x), (0.9, lambda x, draw: x + 2)]
    one = torch.ones(1, 1, 1, 1)
    assert augment_intensity(one, drawn(0, random=0.5), changes).item() == 12
    assert augment_intensity(one, drawn(0, random=0.95), changes).item() == 1
    assert augment_intensity(one, drawn(0, random=0.1), changes).item() == 22


def test_a_patch_is_changed_about_as_often_as_the_probabilities_say() -> None:
    small = patch((1, 3, 3, 3))
    untouched = sum(torch.equal(augment_intensity(small, np.random.default_rng(s)), small) for s in range(400))
    expected = np.prod([1 - p for p, _ in INTENSITY_CHANGES])
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
    mirrored = SpatialRanges(probability=0.0, mirror_axes=(0, 2))
    signs = [draw_matrix(np.random.default_rng(s), (1, 1, 1), mirrored) for s in range(40)]
    drawn = {tuple(np.diag(m)) for m in signs if m is not None} | {(1.0, 1.0, 1.0) for m in signs if m is None}
    assert drawn == {(z, 1.0, x) for z in (-1.0, 1.0) for x in (-1.0, 1.0)}


def test_an_elastic_deformation_by_hand() -> None:
    """The ends of a line of five voxels move by 0 and 2 in x: those between by 0.5, 1 and 1.5."""
    shifts = np.zeros((3, 1, 1, 2))
    shifts[2, 0, 0] = (0.0, 2.0)
    grid = sample_grid(np.array([0.0, 0.0, 2.0]), np.eye(3), (1, 1, 5), (1, 1, 9), shifts)
    places = (grid[0, 0, 0, :, 0].numpy() + 1) * 8 / 2
    np.testing.assert_allclose(places, [0, 1.5, 3, 4.5, 6], atol=1e-6)


def test_elastic_shifts_are_in_mm_smooth_and_rare() -> None:
    ranges = SpatialRanges(elastic_mm=4.0, elastic_probability=1.0)
    for seed in range(20):
        shifts = draw_shifts(np.random.default_rng(seed), (2.0, 1.0, 1.0), (16, 16, 16), ranges)
        assert shifts is not None
        assert np.abs(shifts * np.array([2.0, 1.0, 1.0])[:, None, None, None]).max() <= 4
        assert all(3 <= n <= 6 for n in shifts.shape[1:])
    flat = draw_shifts(np.random.default_rng(0), (1.0, 1.0, 1.0), (1, 16, 16), ranges)
    assert flat is not None
    assert flat.shape[1] == 1
    assert not flat[0].any()
    drawn = [
        draw_shifts(np.random.default_rng(s), (1, 1, 1), (8, 8, 8), SpatialRanges(elastic_mm=1.0)) for s in range(200)
    ]
    assert 0.1 < np.mean([d is not None for d in drawn]) < 0.3
    assert draw_shifts(np.random.default_rng(0), (1, 1, 1), (8, 8, 8), SpatialRanges()) is None
