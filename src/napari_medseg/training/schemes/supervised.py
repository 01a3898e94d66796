"""Training from images and their labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.inference.device import autocast
from napari_medseg.registry import network as network_named
from napari_medseg.training.losses.context import Context
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import descend, drawing, follow, set_learning_rate
from napari_medseg.training.state import Setup, TrainState, phases_of


class Supervised:
    """One network, AdamW, and an average of its weights where the settings ask for one."""

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        config = setup.config.optimiser
        self._setup = setup
        self._network = network
        self._average = copy.deepcopy(network) if config.ema else None
        self._phases = phases_of(network, setup.spec)
        self._optimiser = torch.optim.AdamW(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=setup.device.type != "mps",
        )

    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self._network} | ({} if self._average is None else {"average": self._average})

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"network": self._optimiser}

    def network_to_keep(self) -> nn.Module:
        return self._network if self._average is None else self._average

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        setup, config = self._setup, self._setup.config
        done = setup.budget.fraction(state.step)
        set_learning_rate(self._optimiser, config.optimiser, done)
        self._network.train()
        with drawing(config.seed + state.step), autocast(setup.device, setup.precision):
            outputs = self._phases[state.phase](batch.images)
        # In mode 2.5d the outermost slices are neighbours only: the network gives no logits for them.
        halo = (batch.classes.shape[1] - logits_of(outputs).shape[2]) // 2
        classes = batch.classes[:, halo : batch.classes.shape[1] - halo]
        images = batch.images[:, :, halo : batch.images.shape[2] - halo]
        loss = setup.loss(outputs, classes, self._context(images, setup.budget.epoch(state.step + 1)))
        values = descend(self._optimiser, {"loss": loss}, config.optimiser.gradient_clip)
        if self._average is not None:
            follow(self._average, self._network, config.optimiser.ema, state.step)
        return values

    def _context(self, images: torch.Tensor, epoch: int) -> Context:
        spec = self._setup.spec
        assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
        return Context(
            supervision=network_named(spec.network).supervision,
            epoch=epoch,
            spacing=spec.spacing_zyx_mm,
            class_weights=self._setup.config.loss.class_weights or (),
            images=images,
        )
