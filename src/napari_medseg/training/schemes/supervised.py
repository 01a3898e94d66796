"""Training from images and their labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.learner import Learner, inner
from napari_medseg.training.state import Setup, TrainState


class Supervised:
    """One network, AdamW, and an average of its weights where the settings ask for one.

    Between painted slices the network also learns from guesses of the average: see `losses.guesses`.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        self._learner = Learner(setup, network, decay=setup.config.optimiser.ema)

    def networks(self) -> Mapping[str, nn.Module]:
        return self._learner.networks()

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"network": self._learner.optimiser}

    def network_to_keep(self) -> nn.Module:
        return self._learner.kept

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        outputs = self._learner.outputs(batch.images, state)
        if state.mistakes is not None:
            logits = logits_of(outputs)
            state.mistakes.learn(logits, inner(batch.classes, logits), batch.views, state.step)
        return self._learner.descend(self._learner.losses(outputs, batch, state), state)
