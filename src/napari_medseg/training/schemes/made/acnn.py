"""A shape prior: an autoencoder of label maps is trained first; then predictions should have the code of the labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.training.generative.hidden import random_part, without_part
from napari_medseg.training.generative.networks import Autoencoder, Flat, one_hot
from napari_medseg.training.losses.supervised import deeply_supervised
from napari_medseg.training.patches import PatchBatch, as_missing
from napari_medseg.training.schemes.descent import descend
from napari_medseg.training.schemes.learner import inner
from napari_medseg.training.schemes.made.contest import adam, seeded
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.state import Setup, TrainState

_RATE = 1e-3
"""Learning rate of the autoencoder."""
_RISE = 0.4
"""Share of the budget over which the prior gains its weight, exp(-5 (1 - t)^2) as in consistency training."""
_HIDDEN = 0.5
"""Share of the patches of which a part is hidden."""
_STREAM = 0xAC77
"""Keeps the draws of this scheme apart from others of the same seed."""


class ShapePrior(Supervised):
    """The loss of the settings, and a share of the squared distance of codes (ACNN, Oktay et al., IEEE TMI 2018).

    Parts of the images are hidden: of what the network sees well its predictions have the shape of the labels anyway.
    The autoencoder of label maps is trained over the first part of the budget and then left as it is. A prediction has
    the code of its probabilities, as published: with its most likely classes instead, voxels that the network is sure
    of would weigh as much, and have no gradient.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__(setup, network)
        self.setup = setup
        spec = scheme_named("acnn")
        self._weight, self.first_share = (spec.knob(setup.config, name) for name in ("shape_weight", "first_share"))
        assert setup.spec.spacing_zyx_mm is not None, "a plan states its spacing"
        self._spacing = setup.spec.spacing_zyx_mm
        self._flat = Flat(setup.spec.patch_zyx, setup.spec.mode)
        self.shapes = seeded(setup, Autoencoder, 1, classes=len(setup.spec.label_ids), size=self._flat.size)
        self._shape_optimiser = adam(self.shapes, _RATE)

    def networks(self) -> Mapping[str, nn.Module]:
        return {**super().networks(), "shapes": self.shapes}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {**super().optimisers(), "shapes": self._shape_optimiser}

    def preparing(self, state: TrainState) -> str:
        return "the autoencoder of label maps" if self.setup.budget.fraction(state.step) < self.first_share else ""

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        if self.preparing(state):
            return self._learn_shapes(batch, state.step)
        batch = self._with_artefacts(batch, state.step)
        outputs = self._learner.outputs(batch.images, state)
        logits = logits_of(outputs).float()
        classes = inner(batch.classes, logits)
        found = logits.softmax(1) * (classes >= 0)[:, None]
        losses = self._learner.losses(outputs, batch, state)
        weight = self._weight * self.risen(self.setup.budget.fraction(state.step))
        self.shapes.eval().requires_grad_(False)
        maps = (self._flat.of(each) for each in (found, one_hot(classes, logits.shape[1])))
        losses["shape"] = weight * code_distance(self.shapes.code, *maps)
        return self._learner.descend(losses, state)

    def risen(self, done: float) -> float:
        """Share of its weight that the prior has: the code of what is no shape yet means nothing."""
        return math.exp(-5 * (1 - min(1.0, (done - self.first_share) / _RISE)) ** 2)

    def _with_artefacts(self, batch: PatchBatch, step: int) -> PatchBatch:
        """The batch with a part of some images hidden and their labels whole."""
        images = batch.images.clone()
        channels = len(self.setup.spec.channels)  # those behind are probabilities of a stage before
        for number, (image, classes) in enumerate(zip(batch.images, batch.classes, strict=True)):
            draw = np.random.default_rng((self.setup.config.seed, _STREAM, step, number))
            part = random_part(classes, self._spacing, draw) if draw.random() < _HIDDEN else None
            if part is not None:
                images[number, :channels] = without_part(image[:channels], classes, part, draw)
        return replace(batch, images=as_missing(images, batch.images))

    def _learn_shapes(self, batch: PatchBatch, step: int) -> dict[str, float]:
        """A step of the autoencoder: maps with a part cut out, or too much, are to become whole."""
        self.shapes.train().requires_grad_(True)
        spoilt = torch.stack([self._spoilt(classes, step, number) for number, classes in enumerate(batch.classes)])
        maps = self._flat.of(one_hot(spoilt, len(self.setup.spec.label_ids)))
        classes = self._flat.of(batch.classes[:, None])[:, 0]
        loss = deeply_supervised(self.shapes(maps), classes)
        return descend(self._shape_optimiser, {"shapes": loss}, self.setup.config.optimiser.gradient_clip)

    def _spoilt(self, classes: torch.Tensor, step: int, number: int) -> torch.Tensor:
        """Classes (z, y, x) of which some have a part of another class."""
        draw = np.random.default_rng((self.setup.config.seed, _STREAM, step, number))
        part = random_part(classes, self._spacing, draw) if draw.random() < _HIDDEN else None
        if part is None:
            return classes
        other = int(draw.integers(len(self.setup.spec.label_ids))) if draw.random() < 0.5 else 0
        return torch.where(part & (classes >= 0), other, classes)


def code_distance(
    code: Callable[[torch.Tensor], torch.Tensor], found: torch.Tensor, true: torch.Tensor
) -> torch.Tensor:
    """The squared distance of the codes of two maps (N, K, *size), the mean over the batch."""
    distance: torch.Tensor = (code(found) - code(true)).square().sum(1).mean()
    return distance
