"""What the semi-supervised schemes share: the labelled part, and when the rest of a step joins in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.learner import Learner, part
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.state import Setup, TrainState

_DECAY = 0.99
"""Of the average that teaches, where the settings ask for none of their own."""
_LEAST_WEIGHT = 0.1
"""Share of its weight below which what is learned without labels is left out of a step: it would cost its time."""


class Teaching:
    """A network that learns from labels, and an average of it that teaches it on images without labels.

    The average is validated and kept. A subclass says what it teaches.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        self.setup = setup
        self.learner = Learner(setup, network, decay=setup.config.optimiser.ema or _DECAY)

    def networks(self) -> Mapping[str, nn.Module]:
        return self.learner.networks()

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"network": self.learner.optimiser}

    def network_to_keep(self) -> nn.Module:
        return self.learner.kept

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        weight = weight_of(self.setup, state)
        losses = self.labelled(batch, state) if weight == 0 else self.taught(batch, state, weight)
        return self.learner.descend(losses, state)

    def labelled(self, batch: PatchBatch, state: TrainState) -> dict[str, torch.Tensor]:
        """The losses of a step without unlabelled images, in the first part of a training."""
        return self.learner.losses(self.learner.outputs(batch.images, state), batch, state)

    def taught(self, batch: PatchBatch, state: TrainState, weight: float) -> dict[str, torch.Tensor]:
        """The losses of labels, and `weight` times what the average teaches on images without labels."""
        raise NotImplementedError


def knob(setup: Setup, name: str) -> Any:
    """The value of a knob of the scheme."""
    return scheme_named(setup.config.scheme).knob(setup.config, name)


def weight_of(setup: Setup, state: TrainState) -> float:
    """The weight of what is learned without labels: exp(-5 (1 - done / ramp)^2) of the whole one, 0 while it is small.

    Source: Laine and Aila, ICLR 2017.
    """
    risen = min(1.0, setup.budget.fraction(state.step) / float(knob(setup, "ramp")))
    share = math.exp(-5 * (1 - risen) ** 2)
    return float(knob(setup, "unlabelled_weight")) * share if share >= _LEAST_WEIGHT else 0.0


def unlabelled_of(batch: PatchBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches without labels: as the network learns from them, and before their intensities were changed.

    As many as labelled ones: where an epoch of them ends, they are repeated.
    """
    assert batch.unlabelled is not None, "the scheme takes them"
    assert batch.unlabelled_plain is not None, "comes with them"
    count = len(batch.images)
    return repeated(batch.unlabelled, count), repeated(batch.unlabelled_plain, count)


def shows(images: torch.Tensor) -> torch.Tensor:
    """(B, 1, z, y, x) where patches (B, C, z, y, x) show their image: outside of it all channels are 0."""
    return (images != 0).any(1, keepdim=True)


def repeated(patches: torch.Tensor, count: int) -> torch.Tensor:
    """That many patches (count, ...), from the first on and, where there are fewer, over again."""
    return patches[torch.arange(count, device=patches.device) % len(patches)]


def both(learner: Learner, batch: PatchBatch, others: torch.Tensor, state: TrainState) -> tuple[Any, Any]:
    """The outputs for labelled patches and for others, of one pass: layers that see a batch see both."""
    count = len(batch.images)
    outputs = learner.outputs(torch.cat([batch.images, others]), state)
    return part(outputs, 0, count), part(outputs, count)
