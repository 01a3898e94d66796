"""Patches drawn from prepared cases: balanced over the labels, turned and scaled as they are cut out.

Shapes: a batch is images (B, C, z, y, x) and classes (B, z, y, x) on the device.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from napari_medseg.config import AugmentationConfig
from napari_medseg.geometry import FloatArray, Shape3, Triple
from napari_medseg.training.cases import IGNORE, PreparedCase
from napari_medseg.transforms.augment import (
    SpatialRanges,
    augment_intensity,
    degrade_guide,
    draw_matrix,
    draw_shifts,
    planes_axis,
    sample_grid,
)


@dataclass(frozen=True)
class PatchBatch:
    """The patches of one step and the cases that they come from."""

    images: torch.Tensor
    classes: torch.Tensor
    cases: tuple[str, ...]


class PatchSampler:
    """Batches of an epoch, the same for the same seed and epoch."""

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        patch: Shape3,
        spacing: Triple,
        *,
        batch_size: int,
        foreground: float,
        augmentation: AugmentationConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        """patch: in voxels. spacing: in mm. foreground: fraction of the patches that are centred on a label."""
        self.batch_size = batch_size
        self._cases = cases
        self._patch = patch
        self._spacing = spacing
        self._foreground = foreground
        self._augmentation = augmentation
        self._seed = seed
        self._device = device
        voxels = float(np.median([c.classes.size for c in cases]))
        self.patches_per_case = max(1, round(voxels / float(np.prod(patch))))
        """With these, an epoch sees about as many voxels as the cases hold."""

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._cases) * self.patches_per_case // self.batch_size)

    def batches(self, step: int = 0) -> Iterator[PatchBatch]:
        """The batches of all steps after the first `step` ones, without end."""
        for epoch in itertools.count(step // self.steps_per_epoch):
            yield from self.epoch(epoch, step % self.steps_per_epoch)
            step = 0

    def epoch(self, epoch: int, first: int = 0) -> Iterator[PatchBatch]:
        """Every case `patches_per_case` times, in random order, from the batch number `first` on."""
        order = np.tile(np.arange(len(self._cases)), self.patches_per_case)
        np.random.default_rng((self._seed, epoch)).shuffle(order)
        size = self.batch_size
        for start in range(first * size, len(order), size):
            chosen = order[start : start + size]
            drawn = [self._draw(int(case), (epoch, start + i)) for i, case in enumerate(chosen)]
            images, classes = zip(*drawn, strict=True)
            yield PatchBatch(torch.stack(images), torch.stack(classes), tuple(self._cases[c].name for c in chosen))

    def _draw(self, index: int, place: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        draw = np.random.default_rng((self._seed, *place, index))
        case = self._cases[index]
        centre = self._centre(case, draw)
        matrix, shifts = None, None
        if self._augmentation.augment:
            flat = planes_axis(self._spacing, self._patch)
            ranges = SpatialRanges(mirror=self._augmentation.mirror, elastic_mm=self._augmentation.elastic_mm)
            matrix = draw_matrix(draw, self._spacing, ranges, flat)
            shifts = draw_shifts(draw, self._spacing, self._patch, ranges)
        turned = np.eye(3) if matrix is None else matrix
        image, classes = cut(case, centre, turned, self._patch, self._device, shifts)
        return (self._changed(image, case.guides, draw) if self._augmentation.augment else image), classes

    def _changed(self, image: torch.Tensor, guides: int, draw: np.random.Generator) -> torch.Tensor:
        """Other intensities; the guides, which are probabilities, are degraded instead."""
        if not guides:
            return augment_intensity(image, draw)
        return torch.cat([augment_intensity(image[:-guides], draw), degrade_guide(image[-guides:], draw)])

    def _centre(self, case: PreparedCase, draw: np.random.Generator) -> FloatArray:
        size, patch = np.array(case.classes.shape), np.array(self._patch)
        if case.spots and draw.random() < self._foreground:
            spots = case.spots[int(draw.choice(list(case.spots)))]
            wanted = spots[draw.integers(len(spots))].astype(float)
        else:
            wanted = draw.uniform(0, size - 1)
        # Kept inside where the image is larger than the patch, in its middle where it is smaller.
        low, high = np.minimum((patch - 1) / 2, (size - 1) / 2), np.maximum(size - 1 - (patch - 1) / 2, (size - 1) / 2)
        centre = wanted.clip(low, high)
        # Onto whole voxels, so that an unturned patch is a copy and not an interpolation.
        return np.asarray(np.floor(centre - (patch - 1) / 2) + (patch - 1) / 2)


def cut(
    case: PreparedCase,
    centre: FloatArray,
    matrix: FloatArray,
    patch: Shape3,
    device: torch.device,
    shifts: FloatArray | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The patch around `centre` (voxels), seen through `matrix`: image (C, z, y, x) and classes (z, y, x).

    shifts: an elastic deformation, see `draw_shifts`.

    Outside the case the image is 0 (its mean) and the classes are IGNORE. Only the box that the patch needs is read.
    """
    reach = np.abs(matrix) @ ((np.array(patch) - 1) / 2)
    if shifts is not None:
        reach = reach + np.abs(shifts).max(axis=(1, 2, 3))
    low = np.floor(centre - reach).astype(int)
    high = np.ceil(centre + reach).astype(int) + 1
    image = torch.from_numpy(_box(case.image, low, high, 0.0)).to(device)
    classes = torch.from_numpy(_box(case.classes[None], low, high, IGNORE)).to(device)
    if shifts is None and np.array_equal(matrix, np.eye(3)):
        return image, classes[0].long()
    grid = sample_grid(centre - low, matrix, patch, tuple(image.shape[1:]), shifts).to(device)
    turned = functional.grid_sample(image[None], grid, mode="bilinear", align_corners=True)[0]
    # float32 holds class indices exactly; the shift by one makes what lies outside (0) mean IGNORE
    nearest = functional.grid_sample(classes[None].float() - IGNORE, grid, mode="nearest", align_corners=True)[0, 0]
    return turned, nearest.round().long() + IGNORE


def _box(
    data: npt.NDArray[np.generic], low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], fill: float
) -> npt.NDArray[np.generic]:
    """data[:, low:high] with `fill` where the box leaves the array."""
    size = np.array(data.shape[1:])
    inner_low, inner_high = low.clip(0, size), high.clip(0, size)
    box = np.full((data.shape[0], *(high - low)), fill, dtype=data.dtype)
    target = tuple(slice(a, b) for a, b in zip(inner_low - low, inner_high - low, strict=True))
    source = tuple(slice(a, b) for a, b in zip(inner_low, inner_high, strict=True))
    box[(slice(None), *target)] = data[(slice(None), *source)]
    return box
