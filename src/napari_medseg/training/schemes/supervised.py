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
from napari_medseg.training.losses.guesses import guess, towards
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import descend, drawing, follow, set_learning_rate, train_mode
from napari_medseg.training.state import Setup, TrainState, phases_of

_GUESSING = 0.98
"""Decay of the average that guesses, where the settings ask for no average."""
_RISE = 0.5
"""Share of the budget over which the guesses come to trust the network."""


class Supervised:
    """One network, AdamW, and an average of its weights where the settings ask for one.

    Between painted slices the network also learns from guesses: see `losses.guesses`. The average makes them, from the
    image before its intensities were changed (mean teacher, Tarvainen and Valpola, NeurIPS 2017).
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        config = setup.config.optimiser
        self._setup = setup
        self._network = network
        self._decay = config.ema or (_GUESSING if setup.sampler.guesses else 0.0)
        self._average = copy.deepcopy(network) if self._decay else None
        self._phases = phases_of(network, setup.spec)
        self._teachers = {} if self._average is None else phases_of(self._average, setup.spec)
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
        train_mode(self._network)
        with drawing(config.seed + state.step), autocast(setup.device, setup.precision):
            outputs = self._phases[state.phase](batch.images)
        # In mode 2.5d the outermost slices are neighbours only: the network gives no logits for them.
        halo = (batch.classes.shape[1] - logits_of(outputs).shape[2]) // 2
        classes = batch.classes[:, halo : batch.classes.shape[1] - halo]
        images = batch.images[:, :, halo : batch.images.shape[2] - halo]
        loss = setup.loss(outputs, classes, self._context(images, setup.budget.epoch(state.step + 1)))
        losses = {"loss": loss}
        if batch.shapes is not None:
            guessed = self._guessed(batch, logits_of(outputs), halo, state.phase, min(1.0, done / _RISE))
            losses["guesses"] = config.loss.shapes * guessed
        values = descend(self._optimiser, losses, config.optimiser.gradient_clip)
        if self._average is not None:
            follow(self._average, self._network, self._decay, state.step)
        return values

    def _guessed(self, batch: PatchBatch, logits: torch.Tensor, halo: int, phase: str, trust: float) -> torch.Tensor:
        """The loss towards guesses, where nobody painted."""
        assert batch.shapes is not None, "the caller looked"
        assert batch.plain is not None, "comes with the shapes"
        assert self._average is not None, "is made where there are shapes"
        self._average.eval()
        with torch.no_grad(), autocast(self._setup.device, self._setup.precision):
            found = self._teachers[phase](batch.plain)
        shapes = batch.shapes[:, :, halo : batch.shapes.shape[2] - halo]
        where = shapes.sum(1, keepdim=True).clamp(max=1)
        return towards(logits, guess(shapes, logits_of(found), trust), where)

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
