"""Training on made-up images of label maps: no contrast is foreign to the network, and no image is needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from napari_medseg.events import MadeUp
from napari_medseg.training.generative.appearance import deformed, synthesised
from napari_medseg.training.patches import PatchBatch, as_missing
from napari_medseg.training.schemes.made.pictures import shown
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.state import Setup, TrainState


class Synthesis(Supervised):
    """Supervised training on made-up images (SynthSeg, Billot et al., Medical Image Analysis 2023).

    With real images, some patches keep them, and the others take the regions of their background from them, and their
    mean and deviation where the model's own numbers normalise a channel, as those of CT.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__(setup, network)
        self._setup = setup
        self._share = scheme_named("synthesis").knob(setup.config, "made_share") if setup.pictured else 1.0
        assert setup.spec.spacing_zyx_mm is not None, "a plan states its spacing"
        self._spacing = setup.spec.spacing_zyx_mm

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        return super().step(self.made(batch, state.step), state)

    def made_up(self, batch: PatchBatch, state: TrainState) -> tuple[MadeUp, ...]:
        made = self.made(batch, state.step)
        return tuple(shown("made-up image", *each) for each in zip(made.images, made.classes, strict=True))

    def made(self, batch: PatchBatch, step: int) -> PatchBatch:
        """The batch of a step with made-up images, and with its labels deformed alike."""
        drawn = [
            self._patch(image, classes, np.random.default_rng((self._setup.config.seed, step, number)))
            for number, (image, classes) in enumerate(zip(batch.images, batch.classes, strict=True))
        ]
        images, classes = (torch.stack(tensors) for tensors in zip(*drawn, strict=True))
        return replace(batch, images=images, classes=classes, shapes=None, plain=None)

    def _patch(
        self, image: torch.Tensor, classes: torch.Tensor, draw: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if draw.random() >= self._share:
            return image, classes
        classes, image = deformed(classes, image, self._spacing, draw)
        channels = len(self._setup.spec.channels)  # those behind are probabilities of a stage before
        seen = image[:channels]
        there = int((seen != 0).flatten(1).any(1).int().argmax())  # another one may be missing
        made = synthesised(classes, channels, draw, seen[there] if self._setup.pictured else None)
        made = self._on_scale(made, seen, classes >= 0)
        return torch.cat([as_missing(made, seen), image[channels:]]), classes

    def _on_scale(self, made: torch.Tensor, seen: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Made-up channels (C, z, y, x) of mean 0 and deviation 1, as the image itself is normalised."""
        voxels = inside.sum().clamp(min=1)
        for channel, rule in enumerate(self._setup.spec.normalisation):
            if rule.kind != "zscore":
                mean = (seen[channel] * inside).sum() / voxels
                deviation = ((seen[channel] - mean).square() * inside).sum().div(voxels).sqrt()
                made[channel] = (made[channel] * deviation + mean) * inside
        return made
