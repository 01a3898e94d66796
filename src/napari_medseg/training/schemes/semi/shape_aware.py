"""SASSNet and CA-Net: maps of distances on images without labels should look like those on labelled ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from napari_medseg.architectures.blocks.outputs import Outputs, logits_of
from napari_medseg.inference.device import autocast
from napari_medseg.training.losses.distance import signed_distance
from napari_medseg.training.losses.masked import Masked
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import descend, drawing, is_finite, set_learning_rate
from napari_medseg.training.schemes.learner import Learner, inner
from napari_medseg.training.schemes.semi.base import both, knob, unlabelled_of, weight_of
from napari_medseg.training.schemes.semi.critic import Critic, distances_of
from napari_medseg.training.state import Setup, TrainState

_DISTANCE_WEIGHT = 0.3
_CRITIC_SHARE = 0.1
"""Learning rate of the discriminator over that of AdamW: 1e-4 where the latter has its default."""
_CRITIC_BETAS = (0.9, 0.99)
_OWN = ("sassnet", "canet")
"""The networks that the schemes were published with; these descend by SGD, as published."""


class SASSNet:
    """A network that also learns signed distances, and a discriminator that tells labelled patches by them.

    On patches without labels the network learns to be taken for one with labels. The distances are those of its head,
    or of its logits where it has none.

    Source: Li, Zhang and He, MICCAI 2020. The loss of labels is that of the settings, plus 0.3 of the squared error of
    the distances. The discriminator is given the log odds in float32, of labelled patches that lie anywhere, as those
    without labels do: by patches centred on labels it would learn how much of a label a patch shows.
    """

    attention = False

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        spec, config = setup.spec, setup.config
        descent = knob(setup, "descent")
        if descent == "auto":
            descent = "sgd" if spec.network in _OWN else "adamw"
        self._setup = setup
        self._learner = Learner(setup, network, decay=config.optimiser.ema, descent=descent)
        with drawing(config.seed):
            self._critic = Critic(
                distances=len(spec.labels),
                channels=len(spec.channels) + (spec.first.channels if spec.first else 0),
                spatial_dims=3 if spec.mode == "3d" else 2,
                width=int(knob(setup, "critic_width")),
                attention=self.attention,
            ).to(setup.device)
        group = {"params": list(self._critic.parameters()), "share": _CRITIC_SHARE}
        self._labelled_anywhere = setup.sampler.anywhere()
        self._critics = torch.optim.Adam([group], lr=config.optimiser.peak, betas=_CRITIC_BETAS)

    def networks(self) -> Mapping[str, nn.Module]:
        return {**self._learner.networks(), "discriminator": self._critic}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"network": self._learner.optimiser, "discriminator": self._critics}

    def network_to_keep(self) -> nn.Module:
        return self._learner.kept

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        weight = weight_of(self._setup, state)
        if weight == 0:
            outputs = self._learner.outputs(batch.images, state)
            return self._learner.descend(self._labelled(outputs, batch, state), state)
        changed, _ = unlabelled_of(batch)
        outputs, others = both(self._learner, batch, changed, state)
        losses = self._labelled(outputs, batch, state)
        fooled = self._judged(others, changed, state, real=True, learns=False)
        found = self._learner.descend(losses | {"adversarial": weight * fooled}, state)
        if not is_finite(found):  # what the discriminator would see is no map of distances
            return found
        set_learning_rate(self._critics, self._setup.config.optimiser, self._setup.budget.fraction(state.step))
        labelled = next(self._labelled_anywhere.batches(state.step))
        with torch.no_grad():
            outputs, others = both(self._learner, labelled, changed, state)
        told = self._judged(outputs, labelled.images, state, real=True)
        told = 0.5 * (told + self._judged(others, changed, state, real=False))
        return found | descend(self._critics, {"discriminator": told}, self._setup.config.optimiser.gradient_clip)

    def _labelled(
        self, outputs: torch.Tensor | Outputs, batch: PatchBatch, state: TrainState
    ) -> dict[str, torch.Tensor]:
        """A head for distances has its loss among those of labels already."""
        losses = self._learner.losses(outputs, batch, state)
        if isinstance(outputs, Outputs) and "sdf" in outputs.heads:
            return losses
        logits = logits_of(outputs)
        given = Masked.of(logits, inner(batch.classes, logits))
        context = self._learner.context(inner(batch.images, logits), state)
        return losses | {"distances": _DISTANCE_WEIGHT * signed_distance(given, context)}

    def _judged(
        self,
        outputs: torch.Tensor | Outputs,
        images: torch.Tensor,
        state: TrainState,
        *,
        real: bool,
        learns: bool = True,
    ) -> torch.Tensor:
        """The discriminator's cross-entropy, where the answer should be: with labels (real), or without.

        learns: whether it is the discriminator that will descend.
        """
        distances = distances_of(outputs)
        images = inner(images, distances)
        if self._setup.spec.mode != "3d":  # it judges slice by slice
            distances, images = (each.movedim(2, 1).flatten(0, 1) for each in (distances, images))
        self._critic.train(learns).requires_grad_(learns)
        with drawing(self._setup.config.seed + state.step), autocast(self._setup.device, self._setup.precision):
            logits = self._critic(distances, images)
        answers = torch.full((len(logits),), int(real), device=logits.device)
        return functional.cross_entropy(logits.float(), answers)


class CANet(SASSNet):
    """The same with channel attention in the discriminator, for a network with a transformer at its coarsest level.

    Source: Zhao et al., Expert Systems with Applications 2023.
    """

    attention = True
