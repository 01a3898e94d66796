"""One step of the optimiser."""

from __future__ import annotations

import math

import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.inference.device import autocast
from napari_medseg.registry import network as network_named
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schedule import learning_rate
from napari_medseg.training.state import Setup, TrainState


def train_step(setup: Setup, state: TrainState, batch: PatchBatch) -> float:
    """Fit the weights to a batch; returns the loss. A loss or a gradient that is not finite leaves them as they are."""
    config = setup.config
    rate = learning_rate(config.optimiser, setup.budget.fraction(state.step))
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.network.train()
    with torch.random.fork_rng():  # dropout draws from torch's global generator, which belongs to the caller
        torch.manual_seed(config.seed + state.step)
        with autocast(setup.device, setup.precision):
            outputs = state.volumes(batch.images)
    # In mode 2.5d the outermost slices are neighbours only: the network gives no logits for them.
    halo = (batch.classes.shape[1] - logits_of(outputs).shape[2]) // 2
    classes = batch.classes[:, halo : batch.classes.shape[1] - halo]
    loss = setup.loss(outputs, classes, network_named(setup.spec.network).supervision)
    state.step += 1
    value = float(loss.detach())
    if math.isfinite(value):
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.optimiser.gradient_clip)
        if torch.isfinite(norm):
            state.optimiser.step()
    return value
