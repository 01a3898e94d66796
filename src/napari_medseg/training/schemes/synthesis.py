"""Training on made-up images of label maps: no contrast is foreign to the network, and no image is needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from napari_medseg.training.generative.appearance import deformed, synthesised
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.state import Setup, TrainState

_MADE = 0.5
"""Share of the patches that are made up where there are real images."""


class Synthesis(Supervised):
    """Supervised training on made-up images (SynthSeg, Billot et al., Medical Image Analysis 2023).

    With real images, half of the patches keep them, and the others take the regions of their background from them.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__(setup, network)
        assert setup.spec.spacing_zyx_mm is not None, "a plan states its spacing"
        self._spacing = setup.spec.spacing_zyx_mm

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        return super().step(self.made(batch, state.step), state)

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
        if self._setup.pictured and draw.random() >= _MADE:
            return image, classes
        classes, image = deformed(classes, image, self._spacing, draw)
        backdrop = image[0] if self._setup.pictured else None
        return synthesised(classes, len(image), draw, backdrop), classes
