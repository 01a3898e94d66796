"""Training against a critic of label maps, which learns to tell them from annotated ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.architectures.translation import PatchCritic
from napari_medseg.training.generative.networks import Flat, one_hot
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import is_finite
from napari_medseg.training.schemes.learner import inner
from napari_medseg.training.schemes.made.contest import adam, compete, judged, real, seeded
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.state import Setup, TrainState

_SURE = 0.9
"""Least probability that the annotated class gets in the map that the critic takes for real."""


class Adversarial(Supervised):
    """The loss of the settings, and the binary cross-entropy of a critic of (label map, image).

    Source: Luc et al., NIPS Workshop on Adversarial Training 2016.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__(setup, network)
        self.setup = setup
        self._weight = scheme_named("adversarial").knob(setup.config, "critic_weight")
        self._flat = Flat(setup.spec.patch_zyx, setup.spec.mode)
        channels = len(setup.spec.label_ids) + len(setup.spec.channels)
        self.critic = seeded(setup, PatchCritic, 1, in_channels=channels, size=self._flat.size)
        self._critic_optimiser = adam(self.critic)

    def networks(self) -> Mapping[str, nn.Module]:
        return {**super().networks(), "critic": self.critic}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {**super().optimisers(), "critic": self._critic_optimiser}

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        outputs = self._learner.outputs(batch.images, state)
        logits = logits_of(outputs).float()
        classes, images = inner(batch.classes, logits), inner(batch.images, logits)[:, : len(self.setup.spec.channels)]
        known = (classes >= 0)[:, None]
        made = logits.softmax(1) * known
        true = scaled(made.detach(), one_hot(classes, logits.shape[1]))
        seen_true, seen_made = (self._flat.of(torch.cat([maps, images], 1)) for maps in (true, made))
        clip = self.setup.config.optimiser.gradient_clip
        found = compete(self._critic_optimiser, {"critic": judged(self.critic, seen_true, seen_made)}, clip)
        if not is_finite(found):
            return found
        losses = self._learner.losses(outputs, batch, state)
        losses["adversary"] = self._weight * real(self.critic(seen_made))
        return found | self._learner.descend(losses, state)


def scaled(made: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Annotated maps (B, K, *size) that are as soft as made ones, or a critic would know them by their ones and zeros.

    The annotated class has its probability in the made map, 0.9 at least; the others share the rest as they do there.
    """
    own = (made * true).sum(1, keepdim=True)
    sure = own.clamp(min=_SURE)
    rest = made * (1 - true) * (1 - sure) / (1 - own).clamp(min=1e-6)
    return (true * sure + rest) * true.sum(1, keepdim=True)
