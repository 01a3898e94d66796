"""Patches drawn from prepared cases: balanced over the labels, turned and scaled as they are cut out.

Shapes: a batch is images (B, C, z, y, x) and classes (B, z, y, x) on the device.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from napari_medseg.config import AugmentationConfig
from napari_medseg.geometry import FloatArray, Shape3, Triple
from napari_medseg.training.cases import IGNORE, PreparedCase
from napari_medseg.training.mistakes import Mistakes, View
from napari_medseg.transforms.augment import (
    SpatialRanges,
    augment_intensity,
    degrade_guide,
    draw_matrix,
    draw_shifts,
    intensity_changes,
    planes_axis,
    sample_grid,
)


@dataclass(frozen=True)
class PatchBatch:
    """The patches of one step and the cases that they come from."""

    images: torch.Tensor
    classes: torch.Tensor
    cases: tuple[str, ...]
    unlabelled: torch.Tensor | None = None
    """(U, C, z, y, x) patches of images without labels, for a scheme that takes them."""
    unlabelled_plain: torch.Tensor | None = None
    """(U, C, z, y, x) the same before their intensities were changed."""
    unlabelled_classes: torch.Tensor | None = None
    """(U, z, y, x) their classes, for a scheme that labels whole images; IGNORE before it has."""
    target: torch.Tensor | None = None
    """(T, C, z, y, x) patches of images of another domain, for a scheme that takes them."""
    shapes: torch.Tensor | None = None
    """(B, K, z, y, x) what the classes may be between painted slices; 0 where somebody painted."""
    plain: torch.Tensor | None = None
    """(B, C, z, y, x) the images before their intensities were changed."""
    objects: torch.Tensor | None = None
    """(B, z, y, x) numbers of the objects in each patch, 0 outside, for a scheme that learns them."""
    views: tuple[View, ...] = ()
    """Where each patch was cut from."""


@dataclass(frozen=True)
class _Patch:
    image: torch.Tensor
    classes: torch.Tensor
    shapes: torch.Tensor | None
    plain: torch.Tensor
    objects: torch.Tensor | None
    view: View


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
        mirror_axes: tuple[int, ...] = (),
        seed: int,
        device: torch.device,
        intensities: bool = True,
    ) -> None:
        """patch: in voxels. spacing: in mm. foreground: fraction of the patches that are centred on a label.

        mirror_axes: (0 z, 1 y, 2 x) along which augmentation mirrors. intensities: whether it changes them too.
        """
        self.batch_size = batch_size
        self.cases = cases
        self._intensities = intensities
        self._patch = patch
        self._spacing = spacing
        self._flat = planes_axis(spacing, patch)
        self._changes = intensity_changes(self._flat)
        self._foreground = foreground
        self._anywhere = False
        self._augmentation = augmentation
        self._mirror_axes = mirror_axes
        self._seed = seed
        self._device = device
        voxels = float(np.median([c.classes.size for c in cases]))
        self.patches_per_case = max(1, round(voxels / float(np.prod(patch))))
        """With these, an epoch sees about as many voxels as the cases hold."""

    def draw_from(self, cases: Sequence[PreparedCase]) -> None:
        """Draw from as many other cases from now on."""
        assert len(cases) == len(self.cases), "an epoch stays as long"
        self.cases = cases

    def anywhere(self) -> PatchSampler:
        """The same batches, with patches that lie as those of images without labels do."""
        other = copy.copy(self)
        other._anywhere = True
        return other

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.cases) * self.patches_per_case // self.batch_size)

    def batches(self, step: int = 0, mistakes: Mistakes | None = None) -> Iterator[PatchBatch]:
        """The batches of all steps after the first `step` ones, without end.

        mistakes: where some of the patches are centred; each batch asks it when it is drawn.
        """
        for epoch in itertools.count(step // self.steps_per_epoch):
            yield from self.epoch(epoch, step % self.steps_per_epoch, mistakes)
            step = 0

    def epoch(self, epoch: int, first: int = 0, mistakes: Mistakes | None = None) -> Iterator[PatchBatch]:
        """Every case `patches_per_case` times, in random order, from the batch number `first` on.

        A patch centred on a mistake takes the place of one of these, and may be of another case.
        """
        order = np.tile(np.arange(len(self.cases)), self.patches_per_case)
        np.random.default_rng((self._seed, epoch)).shuffle(order)
        size = self.batch_size
        for start in range(first * size, len(order), size):
            chosen = order[start : start + size]
            drawn = [self._draw(int(case), (epoch, start + i), mistakes) for i, case in enumerate(chosen)]
            yield _batch(drawn, tuple(self.cases[patch.view.case].name for patch in drawn))

    @property
    def guesses(self) -> bool:
        """Whether a case has shapes between painted slices."""
        return any(case.shapes is not None for case in self.cases)

    def _draw(self, index: int, place: tuple[int, int], mistakes: Mistakes | None) -> _Patch:
        draw = np.random.default_rng((self._seed, *place, index))
        hard = None if mistakes is None else mistakes.place(draw)
        index = index if hard is None else hard[0]
        case = self.cases[index]
        centre = self._inside(case, self._wanted(case, draw) if hard is None else hard[1])
        matrix, shifts = None, None
        if self._augmentation.augment:
            ranges = SpatialRanges(mirror_axes=self._mirror_axes, elastic_mm=self._augmentation.elastic_mm)
            matrix = draw_matrix(draw, self._spacing, ranges, self._flat)
            shifts = draw_shifts(draw, self._spacing, self._patch, ranges)
        view = (centre, np.eye(3) if matrix is None else matrix, self._patch, self._device, shifts)
        image, classes = cut(case, *view)
        shapes = None if case.shapes is None else seen(case.shapes, 0.0, *view)
        augments = self._augmentation.augment and self._intensities
        changed = self._changed(image, case, draw) if augments else image
        for channel in self._missing(len(image) - case.guides, draw):
            changed, image = (without(patch, channel) for patch in (changed, image))
        numbers = None if case.objects is None else seen_labels(case.objects, 0, *view)
        return _Patch(changed, classes, shapes, image, numbers, View(index, *view[:2]))

    def _missing(self, channels: int, draw: np.random.Generator) -> list[int]:
        """The channels that a patch lacks; one at least stays."""
        probability = self._augmentation.modality_dropout
        if not probability:
            return []
        dropped = draw.random(channels) < probability
        dropped[draw.integers(channels)] &= not dropped.all()
        return np.flatnonzero(dropped).tolist()

    def _changed(self, image: torch.Tensor, case: PreparedCase, draw: np.random.Generator) -> torch.Tensor:
        """Other intensities; the guides, which are probabilities, are degraded instead, unless they are exact."""
        if not case.guides:
            return augment_intensity(image, draw, self._changes)
        changed, guide = augment_intensity(image[: -case.guides], draw, self._changes), image[-case.guides :]
        return torch.cat([changed, guide if case.exact_guides else degrade_guide(guide, draw)])

    def _wanted(self, case: PreparedCase, draw: np.random.Generator) -> FloatArray:
        """Where a patch should have its centre, in voxels."""
        spots = {} if self._anywhere else case.spots
        labelled = [k for k in spots if k]
        if labelled and draw.random() < self._foreground:
            of_label = spots[int(draw.choice(labelled))]
            return np.asarray(of_label[draw.integers(len(of_label))], float)
        if 0 in spots:  # where a part is not annotated, "anywhere" is anywhere in the rest
            return np.asarray(spots[0][draw.integers(len(spots[0]))], float)
        return np.asarray(draw.uniform(0, np.array(case.classes.shape) - 1))

    def _inside(self, case: PreparedCase, wanted: npt.NDArray[Any]) -> FloatArray:
        """The centre for a patch that should lie around `wanted`.

        It is kept inside where the image is larger than the patch, in its middle where it is smaller.
        """
        size, patch = np.array(case.classes.shape), np.array(self._patch)
        low, high = np.minimum((patch - 1) / 2, (size - 1) / 2), np.maximum(size - 1 - (patch - 1) / 2, (size - 1) / 2)
        centre = wanted.clip(low, high)
        # Onto whole voxels, so that an unturned patch is a copy and not an interpolation.
        return np.asarray(np.floor(centre - (patch - 1) / 2) + (patch - 1) / 2)


def without(patch: torch.Tensor, channel: int) -> torch.Tensor:
    """The patch (C, z, y, x) with 0 in a channel, as networks see a missing one."""
    kept = patch.clone()
    kept[channel] = 0
    return kept


def as_missing(images: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Images (..., C, z, y, x) with 0 in the channels that the images they were made from lack."""
    there = (like != 0).flatten(-3).any(-1)
    return images * there[..., None, None, None]


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
    view = (centre, matrix, patch, device, shifts)
    return seen(case.image, 0.0, *view), seen_labels(case.classes, IGNORE, *view)


def seen_labels(
    labels: npt.NDArray[np.integer[Any]],
    outside: int,
    centre: FloatArray,
    matrix: FloatArray,
    patch: Shape3,
    device: torch.device,
    shifts: FloatArray | None = None,
) -> torch.Tensor:
    """The patch (z, y, x) of labels (Z, Y, X) around `centre`, through `matrix`: those of the nearest voxels."""
    low, high = _reach(centre, matrix, patch, shifts)
    box = torch.from_numpy(_box(labels[None], low, high, outside)).to(device)
    if shifts is None and np.array_equal(matrix, np.eye(3)):
        return box[0].long()
    grid = sample_grid(centre - low, matrix, patch, tuple(box.shape[1:]), shifts).to(device)
    # float32 holds numbers up to 2^24 exactly; the shift makes what lies outside of the box (0) mean `outside`
    nearest = functional.grid_sample(box[None].float() - outside, grid, mode="nearest", align_corners=True)[0, 0]
    return nearest.round().long() + outside


def seen(
    data: npt.NDArray[np.float32],
    outside: float,
    centre: FloatArray,
    matrix: FloatArray,
    patch: Shape3,
    device: torch.device,
    shifts: FloatArray | None = None,
) -> torch.Tensor:
    """The patch (C, z, y, x) of an array (C, Z, Y, X) around `centre`, through `matrix`, between its voxels."""
    low, high = _reach(centre, matrix, patch, shifts)
    box = torch.from_numpy(_box(data, low, high, outside)).to(device)
    if shifts is None and np.array_equal(matrix, np.eye(3)):
        return box
    grid = sample_grid(centre - low, matrix, patch, tuple(box.shape[1:]), shifts).to(device)
    return functional.grid_sample(box[None], grid, mode="bilinear", align_corners=True)[0]


def _reach(
    centre: FloatArray, matrix: FloatArray, patch: Shape3, shifts: FloatArray | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The box of voxels that a patch needs: (low, high), high exclusive."""
    reach = np.abs(matrix) @ ((np.array(patch) - 1) / 2)
    if shifts is not None:
        reach = reach + np.abs(shifts).max(axis=(1, 2, 3))
    return np.floor(centre - reach).astype(int), np.ceil(centre + reach).astype(int) + 1


def _batch(drawn: Sequence[_Patch], cases: tuple[str, ...]) -> PatchBatch:
    images, classes, plain = (torch.stack([getattr(p, name) for p in drawn]) for name in ("image", "classes", "plain"))
    numbers = [patch.objects for patch in drawn if patch.objects is not None]
    count = next((len(patch.shapes) for patch in drawn if patch.shapes is not None), None)
    shapes = None
    if count is not None:
        none = images.new_zeros((count, *classes.shape[1:]))
        shapes = torch.stack([none if patch.shapes is None else patch.shapes for patch in drawn])
    objects = torch.stack(numbers) if numbers else None
    views = tuple(patch.view for patch in drawn)
    return PatchBatch(images, classes, cases, shapes=shapes, plain=plain, objects=objects, views=views)


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
