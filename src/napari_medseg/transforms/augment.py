"""Random changes of training patches, in torch on the patch's device.

Shapes: a patch is (C, z, y, x) float32, normalised (mean near 0, deviation near 1); its classes are (z, y, x).
Probabilities and ranges follow nnU-Net (Isensee et al., Nature Methods 2021, supplement), which were found to serve
most data sets. Every draw comes from the generator handed in: a patch is the same for the same seed, epoch and case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from napari_medseg.geometry import FloatArray, Triple

Draw = np.random.Generator
_ANISOTROPIC = 3.0
"""Ratio of spacings from which a volume is rotated in its planes only."""


@dataclass(frozen=True)
class SpatialRanges:
    """How far a patch is turned, scaled and mirrored."""

    rotation_degrees: float = 30.0
    scale: tuple[float, float] = (0.7, 1.4)
    probability: float = 0.4
    mirror: bool = False


def planes_axis(spacing_zyx_mm: Triple, patch_zyx: tuple[int, int, int]) -> int | None:
    """The axis across the planes that a patch is turned in: of a single slice, or of thick slices; None in between."""
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
    if ranges.mirror:
        matrix = matrix @ np.diag(draw.choice([-1.0, 1.0], 3))
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


def sample_grid(
    centre: FloatArray, matrix: FloatArray, patch: tuple[int, int, int], size: tuple[int, ...]
) -> torch.Tensor:
    """Where each patch voxel lies in an image of `size`, as `grid_sample` (align_corners) wants it.

    Returns (1, z, y, x, 3), the last axis in the order x, y, z.
    """
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    position = offsets @ torch.from_numpy(matrix.T.astype(np.float32)) + torch.from_numpy(centre.astype(np.float32))
    last = torch.tensor([max(1, n - 1) for n in size], dtype=torch.float32)
    return (2 * position / last - 1).flip(-1)[None]


def augment_intensity(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Noise, blur, brightness, contrast, low resolution and gamma, each with its own probability and per patch."""
    for probability, change in _CHANGES:
        if draw.random() < probability:
            patch = change(patch, draw)
    return patch


def degrade_guide(guide: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Make probabilities (C, z, y, x) of the stage before as wrong as they are on cases that it has not seen.

    That stage has learned the very cases that the next stage learns from. So a guide is now and then missing, or
    blurred and shifted by some voxels; nnU-Net erodes, dilates and drops parts of its own for the same reason.
    """
    if draw.random() < 0.1:
        return torch.zeros_like(guide)
    if draw.random() < 0.5:
        guide = _blur(guide, draw)
    shifts = [int(draw.integers(-min(2, n - 1), min(2, n - 1) + 1)) for n in guide.shape[1:]]
    return torch.roll(guide, shifts, (1, 2, 3)) if draw.random() < 0.5 else guide


def _noise(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    generator = torch.Generator(patch.device).manual_seed(int(draw.integers(2**62)))
    noise = torch.randn(patch.shape, generator=generator, device=patch.device)
    return patch + noise * float(np.sqrt(draw.uniform(0, 0.1)))


def _blur(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
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


def _brightness(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    return patch * draw.uniform(0.75, 1.25)


def _contrast(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    mean = patch.mean(dim=(1, 2, 3), keepdim=True)
    low, high = patch.amin(dim=(1, 2, 3), keepdim=True), patch.amax(dim=(1, 2, 3), keepdim=True)
    return ((patch - mean) * draw.uniform(0.75, 1.25) + mean).clamp(low, high)


def _low_resolution(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    factor = draw.uniform(0.5, 1.0)
    small = [max(1, round(n * factor)) for n in patch.shape[1:]]
    coarse = functional.interpolate(patch[None], size=small, mode="nearest-exact")
    return functional.interpolate(coarse, size=patch.shape[1:], mode="trilinear", align_corners=False)[0]


def _gamma(patch: torch.Tensor, draw: Draw) -> torch.Tensor:
    power = draw.uniform(0.7, 1.5)
    sign = -1.0 if draw.random() < 0.25 else 1.0
    values = patch * sign
    mean, std = values.mean(), values.std()
    low = values.amin()
    reach = values.amax() - low + 1e-7
    bent = ((values - low) / reach).pow(power) * reach + low
    return ((bent - bent.mean()) / (bent.std() + 1e-7) * std + mean) * sign


_CHANGES: tuple[tuple[float, Callable[[torch.Tensor, Draw], torch.Tensor]], ...] = (
    (0.15, _noise),
    (0.15, _blur),
    (0.2, _brightness),
    (0.2, _contrast),
    (0.15, _low_resolution),
    (0.3, _gamma),
)
