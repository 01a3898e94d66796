"""The network that a scheme is about: its optimiser, its average, and what it learns from labelled patches.

A scheme puts further networks and losses beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import Outputs, logits_of
from napari_medseg.inference.device import autocast
from napari_medseg.registry import network as network_named
from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.guesses import guess, towards
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import descend, drawing, follow, is_finite, set_learning_rate, train_mode
from napari_medseg.training.state import Setup, TrainState, phases_of

_GUESSING = 0.98
"""Decay of the average that guesses between painted slices, where none is wanted otherwise."""
_RISE = 0.5
"""Share of the budget over which the guesses between painted slices come to trust the network."""
_SGD_SHARE = 10.0
"""Learning rate of SGD over that of AdamW: 0.01 where the latter has its default."""
_MOMENTUM, _SGD_DECAY = 0.9, 1e-4


class Learner:
    """A network that learns, and an average of its weights where one is wanted."""

    def __init__(
        self, setup: Setup, network: nn.Module, *, decay: float, descent: Literal["adamw", "sgd"] = "adamw"
    ) -> None:
        """decay: of the average; 0 for none, but for the one that guesses where a case has shapes."""
        decay = decay or (_GUESSING if setup.sampler.guesses else 0.0)
        self.network = network
        self.average = copy.deepcopy(network) if decay else None
        self.optimiser = _optimiser(setup, network, descent)
        self._setup = setup
        self._decay = decay
        self._phases = phases_of(network, setup.spec)
        self._teachers = {} if self.average is None else phases_of(self.average, setup.spec)

    @property
    def kept(self) -> nn.Module:
        """The average, or the network where there is none."""
        return self.network if self.average is None else self.average

    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self.network} | ({} if self.average is None else {"average": self.average})

    def outputs(self, images: torch.Tensor, state: TrainState) -> torch.Tensor | Outputs:
        """What the network says of patches (B, C, z, y, x), in training mode; dropout draws by seed and step."""
        setup = self._setup
        train_mode(self.network)
        with drawing(setup.config.seed + state.step), autocast(setup.device, setup.precision):
            found: torch.Tensor | Outputs = self._phases[state.phase](images)
        return found

    def taught(self, images: torch.Tensor, state: TrainState) -> torch.Tensor:
        """The logits (B, K, z, y, x) of the average, to which no gradient leads."""
        assert self.average is not None, "the scheme asked for an average"
        self.average.eval()
        with torch.no_grad(), autocast(self._setup.device, self._setup.precision):
            return logits_of(self._teachers[state.phase](images)).float()

    def losses(self, outputs: torch.Tensor | Outputs, batch: PatchBatch, state: TrainState) -> dict[str, torch.Tensor]:
        """The losses of labelled patches. Between painted slices the network also learns from guesses."""
        logits = logits_of(outputs)
        classes, images = inner(batch.classes, logits), inner(batch.images, logits)
        losses = {"loss": self._setup.loss(outputs, classes, self.context(images, state))}
        if batch.shapes is not None:
            losses["guesses"] = self._setup.config.loss.shapes * self._guessed(batch, logits, state)
        return losses

    def context(self, images: torch.Tensor, state: TrainState) -> Context:
        """What a loss of this step knows. images: (B, C, *size), as large as the logits."""
        spec, config = self._setup.spec, self._setup.config
        assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
        return Context(
            supervision=network_named(spec.network).supervision,
            done=self._setup.budget.fraction(state.step),
            spacing=spec.spacing_zyx_mm,
            class_weights=config.loss.class_weights or (),
            images=images,
        )

    def descend(self, losses: Mapping[str, torch.Tensor], state: TrainState) -> dict[str, float]:
        """One step down the sum of the losses; the average follows one that was taken. Returns the losses."""
        config = self._setup.config.optimiser
        set_learning_rate(self.optimiser, config, self._setup.budget.fraction(state.step))
        values = descend(self.optimiser, losses, config.gradient_clip)
        if self.average is not None and is_finite(values):
            follow(self.average, self.network, self._decay, state.step)
        return values

    def _guessed(self, batch: PatchBatch, logits: torch.Tensor, state: TrainState) -> torch.Tensor:
        """The loss towards guesses, where nobody painted.

        The average makes them, from the image before its intensities were changed (mean teacher, Tarvainen and Valpola,
        NeurIPS 2017).
        """
        assert batch.shapes is not None, "the caller looked"
        assert batch.plain is not None, "a sampler gives it"
        trust = min(1.0, self._setup.budget.fraction(state.step) / _RISE)
        shapes = inner(batch.shapes, logits)
        where = shapes.sum(1, keepdim=True).clamp(max=1)
        return towards(logits, guess(shapes, self.taught(batch.plain, state), trust), where)


def inner(seen: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The slices (..., z, y, x) of what the network saw for which there are logits.

    In mode 2.5d the outermost slices are neighbours only.
    """
    halo = (seen.shape[-3] - logits.shape[-3]) // 2
    return seen[..., halo : seen.shape[-3] - halo, :, :]


def part(outputs: torch.Tensor | Outputs, first: int, last: int | None = None) -> torch.Tensor | Outputs:
    """The outputs of some patches of a batch."""
    if isinstance(outputs, Outputs):
        return outputs.map(lambda tensor: tensor[first:last])
    return outputs[first:last]


def _optimiser(setup: Setup, network: nn.Module, descent: Literal["adamw", "sgd"]) -> torch.optim.Optimizer:
    config = setup.config.optimiser
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if descent == "sgd":
        group = {"params": learning, "share": _SGD_SHARE}
        return torch.optim.SGD([group], lr=config.peak, momentum=_MOMENTUM, weight_decay=_SGD_DECAY)
    return torch.optim.AdamW(
        learning,
        lr=config.peak,
        weight_decay=config.weight_decay,
        fused=setup.device.type != "mps",
    )
