"""Bidirectional copy and paste: half of a labelled patch in one without labels, and the other way round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.learner import inner
from napari_medseg.training.schemes.semi.base import Teaching, knob, shows, unlabelled_of
from napari_medseg.training.schemes.semi.pseudo import pseudo_labels
from napari_medseg.training.state import TrainState

_SIDE = 2 / 3
"""Of the patch, along each axis: the box that is pasted."""


class CopyPaste(Teaching):
    """The network learns on mixtures. Where they show a labelled patch its labels count, elsewhere pseudo-labels.

    Until the pseudo-labels count, labelled patches are mixed with each other.

    Source: Bai et al., CVPR 2023. The box lies anywhere here, and the labels of both sides count alike in the loss of
    labels, so that a network with several outputs learns with all of them.
    """

    def labelled(self, batch: PatchBatch, state: TrainState) -> dict[str, torch.Tensor]:
        if len(batch.images) < 2 or batch.shapes is not None:
            return super().labelled(batch, state)
        box = self._box(batch.images, state)
        images = torch.where(box, batch.images, batch.images.roll(1, 0))
        classes = torch.where(box[0], batch.classes, batch.classes.roll(1, 0))
        return super().labelled(replace(batch, images=images, classes=classes), state)

    def taught(self, batch: PatchBatch, state: TrainState, weight: float) -> dict[str, torch.Tensor]:
        changed, plain = unlabelled_of(batch)
        images, classes = batch.images, batch.classes
        box = self._box(images, state)
        mixtures = torch.cat([torch.where(box, images, changed), torch.where(box, changed, images)])
        outputs = self.learner.outputs(mixtures, state)
        found = pseudo_labels(self.learner.taught(plain, state), float(knob(self.setup, "confidence")))
        found = _as_large(found, classes).where(shows(plain)[:, 0], IGNORE)
        inside = box[0].expand_as(classes)
        true = torch.cat([classes.where(inside, IGNORE), classes.where(~inside, IGNORE)])
        guessed = torch.cat([found.where(~inside, IGNORE), found.where(inside, IGNORE)])
        mixed = replace(batch, images=mixtures, classes=true, shapes=None)
        losses = self.learner.losses(outputs, mixed, state)
        context = self.learner.context(inner(mixed.images, logits_of(outputs)), state)
        pseudo = self.setup.loss(outputs, inner(guessed, logits_of(outputs)), context)
        return losses | {"pseudo_labels": weight * pseudo}

    def _box(self, images: torch.Tensor, state: TrainState) -> torch.Tensor:
        """(1, z, y, x), true in a box somewhere in the patch."""
        draw = np.random.default_rng((self.setup.config.seed, state.step))
        inside = torch.ones((), dtype=torch.bool, device=images.device)
        for size in images.shape[2:]:
            side = max(1, round(size * _SIDE))
            low = int(draw.integers(size - side + 1))
            places = torch.arange(size, device=images.device)
            inside = inside[..., None] & (places >= low) & (places < low + side)
        return inside[None]


def _as_large(found: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Pseudo-labels of the inner slices with unknown ones around them: mode 2.5d has no logits there."""
    halo = (classes.shape[1] - found.shape[1]) // 2
    return functional.pad(found, (0, 0, 0, 0, halo, halo), value=IGNORE)
