"""A scheme of one network and its optimiser; others add a second network, or scores of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from napari_medseg.training.losses.context import Context
from napari_medseg.training.schemes.descent import descend, set_learning_rate
from napari_medseg.training.state import Setup, TrainState


class OneNetwork:
    """What the schemes of this folder share: AdamW, its learning rate, draws that follow from seed and step."""

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        self._setup = setup
        self._network = network
        self._optimiser = self._optimiser_of(network)

    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self._network}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"network": self._optimiser}

    def network_to_keep(self) -> nn.Module:
        return self._network

    def _optimiser_of(self, network: nn.Module) -> torch.optim.Optimizer:
        config = self._setup.config.optimiser
        return torch.optim.AdamW(network.parameters(), lr=config.peak, weight_decay=config.weight_decay)

    def _descend(
        self, optimiser: torch.optim.Optimizer, losses: Mapping[str, torch.Tensor], state: TrainState
    ) -> dict[str, float]:
        config = self._setup.config.optimiser
        set_learning_rate(optimiser, config, self._setup.budget.fraction(state.step))
        return descend(optimiser, losses, config.gradient_clip)

    def _draw(self, state: TrainState) -> np.random.Generator:
        return np.random.default_rng((self._setup.config.seed, state.step))

    def _context(self, images: torch.Tensor, state: TrainState) -> Context:
        spec = self._setup.spec
        assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
        return Context(
            done=self._setup.budget.fraction(state.step),
            spacing=spec.spacing_zyx_mm,
            class_weights=self._setup.config.loss.class_weights or (),
            images=images,
        )
