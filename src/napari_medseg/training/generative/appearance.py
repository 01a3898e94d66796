"""Images for label maps, without a network: random intensities for each region, and what a scanner does to them.

After SynthSeg (Billot et al., Medical Image Analysis 2023): a network that is trained on such images has seen any
contrast. It needs no image at all.

Shapes: classes (z, y, x), IGNORE outside of the image; regions (z, y, x), their number for each voxel; images (C, z, y,
x) float32 with mean 0 and deviation 1, 0 outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from napari_medseg.geometry import Triple
from napari_medseg.training.cases import IGNORE
from napari_medseg.transforms.augment import Draw, SpatialRanges, draw_shifts, sample_grid


@dataclass(frozen=True)
class Looks:
    """How different the images are."""

    regions: tuple[int, int] = (4, 16)
    """Fewest and most regions of the background."""
    tissues: tuple[int, int] = (2, 5)
    """Fewest and most tissues of the background besides those of the labels, which it has, too."""
    grain: tuple[float, float] = (3.0, 12.0)
    """Size of the background's regions, in voxels."""
    deviation: float = 0.08
    """Largest deviation of the intensities in a region; their means lie in 0 to 1."""
    blur: tuple[float, float] = (0.3, 1.0)
    """Deviation of the blur, in voxels."""
    bias: float = 0.4
    """Largest deviation of the logarithm of the bias field."""
    coarsest: float = 3.0
    """How many times thicker the slices may be that the image was sampled in."""
    noise: float = 0.05
    """Largest deviation of the noise over the whole image."""
    gamma: float = 0.3
    """Deviation of the logarithm of the gamma."""
    shift: float = 0.1
    """Largest shift of a voxel by the deformation, as a share of the shortest side."""


LOOKS = Looks()


def deformed(
    classes: torch.Tensor, image: torch.Tensor, spacing: Triple, draw: Draw, looks: Looks = LOOKS
) -> tuple[torch.Tensor, torch.Tensor]:
    """The classes and the image (C, z, y, x) after the same smooth deformation."""
    patch = (classes.shape[0], classes.shape[1], classes.shape[2])
    sides = [n * s for n, s in zip(patch, spacing, strict=True) if n > 1]
    most = looks.shift * min(sides, default=0.0)
    shifts = draw_shifts(draw, spacing, patch, SpatialRanges(elastic_mm=most, elastic_probability=1.0))
    if shifts is None:
        return classes, image
    centre = (np.array(patch) - 1) / 2
    grid = sample_grid(centre, np.eye(3), patch, patch, shifts).to(classes.device)
    # The shift by one makes what comes from outside (0) mean IGNORE.
    moved = functional.grid_sample((classes[None, None] - IGNORE).float(), grid, mode="nearest", align_corners=True)
    return moved[0, 0].round().long() + IGNORE, functional.grid_sample(image[None], grid, align_corners=True)[0]


def synthesised(
    classes: torch.Tensor, channels: int, draw: Draw, backdrop: torch.Tensor | None = None, looks: Looks = LOOKS
) -> torch.Tensor:
    """An image (channels, z, y, x) of the classes.

    backdrop: (z, y, x) a real image, whose intensities divide the background; without it, random regions do.
    """
    inside = (classes >= 0).float()
    count = int(draw.integers(looks.regions[0], looks.regions[1] + 1))
    parts = _random_parts(classes > 0, count, draw, looks) if backdrop is None else _parts_of(backdrop, count, draw)
    first = int(classes.max().clamp(min=0)) + 1
    regions = torch.where(classes > 0, classes, parts + first)
    return torch.stack([_channel(regions, first, first + count, inside, draw, looks) for _ in range(channels)])


def _random_parts(labelled: torch.Tensor, count: int, draw: Draw, looks: Looks) -> torch.Tensor:
    """Regions of random shapes: where each of some smooth random fields is the largest.

    Some fields grow or fall towards the labels, since an organ has neighbours that follow its surface.
    """
    shape = labelled.shape
    near = labelled[None, None].float()
    for _ in range(2):
        near = _averaged(near, 5)
    pulls = _normal((count, 1, 1, 1), draw, labelled.device) * 3
    fields = torch.cat([_smooth(shape, draw.uniform(*looks.grain), draw, labelled.device) for _ in range(count)])
    return (fields + pulls * near[0]).argmax(0)


def _parts_of(image: torch.Tensor, count: int, draw: Draw) -> torch.Tensor:
    """Regions of like intensities: the image, a little smoothed, between random percentiles of it."""
    smooth = _averaged(image[None, None], 3)[0, 0]
    some = torch.linspace(0, smooth.numel() - 1, min(smooth.numel(), 20_000), device=image.device).long()
    edges = torch.quantile(
        smooth.flatten()[some],
        torch.tensor(np.sort(draw.uniform(0, 1, count - 1)), dtype=torch.float32, device=image.device),
    )
    return torch.bucketize(smooth.contiguous(), edges)


def _channel(
    regions: torch.Tensor, first: int, count: int, inside: torch.Tensor, draw: Draw, looks: Looks
) -> torch.Tensor:
    """A channel (z, y, x). first: the number of the first region of the background; below are the labels."""
    # Labels share some tissues, often a single one, as the parts of an organ do. Regions around them have these and
    # some others: where an organ lies on a like one, only shape and place tell where it ends.
    own = draw.integers(0, draw.integers(1, max(2, first)), first)
    tissues = int(own.max()) + 1 + int(draw.integers(looks.tissues[0], looks.tissues[1] + 1))
    kinds = np.concatenate([own, draw.integers(0, tissues, count - first)])
    means, deviations = draw.uniform(0, 1, tissues)[kinds], draw.uniform(0, looks.deviation, tissues)[kinds]
    device = regions.device
    drawn = [torch.tensor(x, dtype=torch.float32, device=device) for x in (means, deviations)]
    mean, deviation = (x[regions.clamp(min=0)] for x in drawn)
    image = mean + deviation * _normal(regions.shape, draw, device)
    image = _blurred(image, draw.uniform(*looks.blur))
    bias = _smooth(regions.shape, min(regions.shape[1:]) / 3, draw, device)[0]
    image = image * torch.exp(draw.uniform(0, looks.bias) * bias)
    image = _thick(image, draw, looks.coarsest)
    image = image + draw.uniform(0, looks.noise) * _normal(regions.shape, draw, device)
    image = (image - image.amin()) / (image.amax() - image.amin()).clamp(min=1e-6)
    image = image.pow(float(np.exp(draw.normal(0, looks.gamma))))
    return _normalised(image, inside)


def _normalised(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    voxels = inside.sum().clamp(min=1)
    mean = (image * inside).sum() / voxels
    variance = ((image - mean).square() * inside).sum() / voxels
    return (image - mean) / variance.sqrt().clamp(min=1e-6) * inside


def _thick(image: torch.Tensor, draw: Draw, coarsest: float) -> torch.Tensor:
    """In half of the images, sampled in thick slices along one axis, and back."""
    if draw.random() < 0.5:
        return image
    size = list(image.shape)
    axis = int(draw.integers(3))
    size[axis] = max(1, round(size[axis] / draw.uniform(1, coarsest)))
    coarse = functional.interpolate(image[None, None], size=size, mode="area")
    return functional.interpolate(coarse, size=image.shape, mode="trilinear", align_corners=False)[0, 0]


def _smooth(shape: torch.Size, grain: float, draw: Draw, device: torch.device) -> torch.Tensor:
    """(1, z, y, x) a smooth random field; its knots are `grain` voxels apart."""
    knots = [1 if n == 1 else max(2, round(n / grain) + 1) for n in shape]
    field = _normal((1, 1, *knots), draw, device)
    return functional.interpolate(field, size=shape, mode="trilinear", align_corners=True)[0]


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    offsets = torch.arange(-2, 3, dtype=torch.float32, device=image.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    blurred = image[None, None]
    for axis in range(3):
        if image.shape[axis] > 1:
            sides = [0] * 6
            sides[2 * (2 - axis)] = sides[2 * (2 - axis) + 1] = 2
            shape = [1] * 5
            shape[2 + axis] = 5
            blurred = functional.conv3d(functional.pad(blurred, sides, mode="replicate"), kernel.view(shape))
    return blurred[0, 0]


def _averaged(image: torch.Tensor, width: int) -> torch.Tensor:
    """The mean over cubes of (1, 1, z, y, x); flat axes stay."""
    kernel = [1 if n == 1 else width for n in image.shape[2:]]
    return functional.avg_pool3d(image, kernel, 1, [k // 2 for k in kernel], count_include_pad=False)


def _normal(shape: tuple[int, ...] | torch.Size, draw: Draw, device: torch.device) -> torch.Tensor:
    generator = torch.Generator(device).manual_seed(int(draw.integers(2**62)))
    return torch.randn(shape, generator=generator, device=device)
