"""Random changes of training patches, in torch on the patch's device.

Shapes: a patch is (C, z, y, x) float32, normalised (mean near 0, deviation near 1); its classes are (z, y, x).
Probabilities and ranges follow nnU-Net (Isensee et al., Nature Methods 2021, supplement), where they served most data
sets. Every draw comes from the generator handed in: a patch is the same for the same seed, epoch and case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from napari_medseg.geometry import FloatArray, Triple

Draw = np.random.Generator
Change = Callable[[torch.Tensor, Draw], torch.Tensor]
"""A patch (C, z, y, x) in, another of the same shape out; the patch itself stays as it is."""

_OF_CHANNEL = (1, 2, 3)
"""The axes of a patch that make up a channel."""
_ANISOTROPIC = 3.0
"""Ratio of the largest spacing to the smallest above which a volume is rotated in its planes only."""
_FEWEST_KNOTS, _MOST_KNOTS = 3, 6
"""Knots of an elastic deformation along an axis."""


@dataclass(frozen=True)
class SpatialRanges:
    """How far a patch is turned, scaled and mirrored."""

    rotation_degrees: float = 30.0
    """About each axis, to either side."""
    scale: tuple[float, float] = (0.7, 1.4)
    """Smallest and largest; above 1 enlarges."""
    probability: float = 0.4
    """Of a rotation, and of a scaling."""
    mirror_axes: tuple[int, ...] = ()
    """Axes (0 z, 1 y, 2 x), each of which is flipped in half of the patches."""
    elastic_mm: float = 0.0
    """Largest shift of a voxel by an elastic deformation; 0 for none."""
    elastic_probability: float = 0.2


def planes_axis(spacing_zyx_mm: Triple, patch_zyx: tuple[int, int, int]) -> int | None:
    """The only axis that a patch is rotated about: across a single slice, or thick slices; None for all three."""
    if 1 in patch_zyx:
        return patch_zyx.index(1)
    spacing = np.array(spacing_zyx_mm)
    return int(spacing.argmax()) if spacing.max() / spacing.min() > _ANISOTROPIC else None


def draw_matrix(
    draw: Draw, spacing_zyx_mm: Triple, ranges: SpatialRanges, in_plane_of: int | None = None
) -> FloatArray | None:
    """A (3, 3) matrix from offsets in the patch to offsets in the image, both in voxels; None for no change."""
    matrix = np.eye(3)
    spacing = np.array(spacing_zyx_mm)
    if draw.random() < ranges.probability:
        turned = _rotation(draw, np.radians(ranges.rotation_degrees), in_plane_of)
        matrix = np.diag(1 / spacing) @ turned @ np.diag(spacing)
    if draw.random() < ranges.probability:
        matrix = matrix / draw.uniform(*ranges.scale)
    if ranges.mirror_axes:
        signs = np.ones(3)
        signs[list(ranges.mirror_axes)] = draw.choice([-1.0, 1.0], len(ranges.mirror_axes))
        matrix = matrix @ np.diag(signs)
    return None if np.array_equal(matrix, np.eye(3)) else matrix


def _rotation(draw: Draw, limit: float, in_plane_of: int | None) -> FloatArray:
    result = np.eye(3)
    for axis in range(3):
        if in_plane_of is not None and axis != in_plane_of:
            continue
        angle = draw.uniform(-limit, limit)
        a, b = (i for i in range(3) if i != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def draw_shifts(
    draw: Draw, spacing_zyx_mm: Triple, patch: tuple[int, int, int], ranges: SpatialRanges
) -> FloatArray | None:
    """An elastic deformation as shifts (3, z, y, x) of a few knots, in voxels; None for no change.

    The knots lie evenly over the patch, and the shifts between them follow by interpolation, so that neighbours move
    together (free-form deformation, Rueckert et al., IEEE TMI 1999). A flat axis has one knot, and stays.
    """
    if not ranges.elastic_mm or draw.random() >= ranges.elastic_probability:
        return None
    knots = [1 if n == 1 else int(draw.integers(_FEWEST_KNOTS, _MOST_KNOTS + 1)) for n in patch]
    most = draw.uniform(0, ranges.elastic_mm)
    shifts = draw.uniform(-most, most, (3, *knots)) / np.array(spacing_zyx_mm)[:, None, None, None]
    shifts[[n == 1 for n in patch]] = 0
    return np.asarray(shifts)


def sample_grid(
    centre: FloatArray,
    matrix: FloatArray,
    patch: tuple[int, int, int],
    size: tuple[int, ...],
    shifts: FloatArray | None = None,
) -> torch.Tensor:
    """Where each patch voxel lies in an image of `size`, as `grid_sample` (align_corners) wants it.

    shifts: those of `draw_shifts`, added in the image. Returns (1, z, y, x, 3), the last axis in the order x, y, z.
    """
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    position = offsets @ torch.from_numpy(matrix.T.astype(np.float32)) + torch.from_numpy(centre.astype(np.float32))
    if shifts is not None:
        knots = torch.from_numpy(shifts.astype(np.float32))[None]
        position = position + functional.interpolate(knots, patch, mode="trilinear", align_corners=True)[0].movedim(
            0, -1
        )
    last = torch.tensor([max(1, n - 1) for n in size], dtype=torch.float32)
    return (2 * position / last - 1).flip(-1)[None]


def noise(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Gaussian noise with a variance of up to 0.1 added."""
    generator = torch.Generator(patch.device).manual_seed(int(draw.integers(2**62)))
    noise = torch.randn(patch.shape, generator=generator, device=patch.device)
    return patch + noise * float(np.sqrt(draw.uniform(0, 0.1)))


def blur(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    """A Gaussian blur, deviation 0.5 to 1 voxels, cut off after 3; a single slice is blurred in its plane only."""
    sigma = draw.uniform(0.5, 1.0)
    offsets = torch.arange(-3, 4, dtype=torch.float32, device=patch.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    blurred = patch[:, None]
    for axis in range(3):
        if patch.shape[1 + axis] == 1:
            continue
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 7
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = 3
        blurred = functional.conv3d(functional.pad(blurred, pad, mode="replicate"), kernel.view(shape))
    return blurred[:, 0]


def brightness(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Everything times 0.75 to 1.25."""
    return patch * draw.uniform(0.75, 1.25)


def contrast(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Distances from the mean times 0.75 to 1.25, per channel, within the range that the channel had."""
    mean = patch.mean(dim=(1, 2, 3), keepdim=True)
    low, high = patch.amin(dim=(1, 2, 3), keepdim=True), patch.amax(dim=(1, 2, 3), keepdim=True)
    return ((patch - mean) * draw.uniform(0.75, 1.25) + mean).clamp(low, high)


def low_resolution(patch: torch.Tensor, draw: Draw, flat: int | None = None) -> torch.Tensor:
    """Sampled down to 0.5 to 1 times the voxels along each axis but the `flat` one, see `planes_axis`, and back."""
    factor = draw.uniform(0.5, 1.0)
    small = [n if axis == flat else max(1, round(n * factor)) for axis, n in enumerate(patch.shape[1:])]
    coarse = functional.interpolate(patch[None], size=small, mode="nearest-exact")
    return functional.interpolate(coarse, size=patch.shape[1:], mode="trilinear", align_corners=False)[0]


def gamma(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    """A gamma curve from 0.7 to 1.5, in a quarter of the cases on the negative.

    Each channel is bent within its own range, and keeps its mean and deviation.
    """
    power = draw.uniform(0.7, 1.5)
    sign = -1.0 if draw.random() < 0.25 else 1.0
    values = patch * sign
    std, mean = torch.std_mean(values, _OF_CHANNEL, keepdim=True)
    low = values.amin(_OF_CHANNEL, keepdim=True)
    reach = values.amax(_OF_CHANNEL, keepdim=True) - low + 1e-7
    bent = ((values - low) / reach).pow(power) * reach + low
    bent_std, bent_mean = torch.std_mean(bent, _OF_CHANNEL, keepdim=True)
    return ((bent - bent_mean) / (bent_std + 1e-7) * std + mean) * sign


INTENSITY_CHANGES: tuple[tuple[float, Change], ...] = (
    (0.15, noise),
    (0.15, blur),
    (0.2, brightness),
    (0.2, contrast),
    (0.15, low_resolution),
    (0.3, gamma),
)
"""Each change with its probability, in the order in which they are made."""


def intensity_changes(flat: int | None) -> tuple[tuple[float, Change], ...]:
    """INTENSITY_CHANGES of patches that are planes across the axis `flat`, see `planes_axis`: these are not mixed."""
    coarser = partial(low_resolution, flat=flat)
    return tuple((p, coarser if change is low_resolution else change) for p, change in INTENSITY_CHANGES)


def augment_intensity(
    patch: torch.Tensor, draw: Draw, changes: Sequence[tuple[float, Change]] = INTENSITY_CHANGES
) -> torch.Tensor:
    """The patch after some of the changes, each made with its own probability."""
    for probability, change in changes:
        if draw.random() < probability:
            patch = change(patch, draw)
    return patch


def degrade_guide(guide: torch.Tensor, draw: Draw) -> torch.Tensor:
    """The first stage's probabilities (C, z, y, x), made as wrong as they are on cases that it has not seen.

    The first stage has learned the very cases that the second learns from, and is better there than elsewhere. So a
    guide is sometimes missing, blurred, or shifted by a few voxels. nnU-Net erodes, dilates and drops parts of its
    guides for the same reason.
    """
    if draw.random() < 0.1:
        return torch.zeros_like(guide)
    if draw.random() < 0.5:
        guide = blur(guide, draw)
    shifts = [int(draw.integers(-min(2, n - 1), min(2, n - 1) + 1)) for n in guide.shape[1:]]
    return torch.roll(guide, shifts, (1, 2, 3)) if draw.random() < 0.5 else guide
