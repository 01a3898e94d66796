"""What schemes for another domain share: labelled images that look like it, varied, in the place of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from napari_medseg.training.patches import PatchBatch, as_missing
from napari_medseg.training.state import Setup, TrainState
from napari_medseg.transforms.augment import augment_intensity, intensity_changes, planes_axis

Step = Callable[[PatchBatch, TrainState], dict[str, float]]


def varied(images: torch.Tensor, setup: Setup, draw: np.random.Generator) -> torch.Tensor:
    """The images (B, C, *size) with other intensities, where the training augments."""
    if not setup.config.augmentation.augment:
        return images
    assert setup.spec.spacing_zyx_mm is not None, "a plan states its spacing"
    changes = intensity_changes(planes_axis(setup.spec.spacing_zyx_mm, setup.spec.patch_zyx))
    return torch.stack([augment_intensity(image, draw, changes) for image in images])


def learn_from(step: Step, batch: PatchBatch, images: torch.Tensor, state: TrainState) -> dict[str, float]:
    """A step of the network on other images of the same labels; what is missing in the batch stays so."""
    images = as_missing(images, batch.images)
    plain = None if batch.plain is None else images
    return step(replace(batch, images=images, plain=plain), state)
