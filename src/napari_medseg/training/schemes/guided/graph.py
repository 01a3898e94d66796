"""Training a graph network on the supervoxels of patches (Gao and Ji, ICML 2019)."""

from __future__ import annotations

import torch

from napari_medseg.architectures.interactive.graph_unet import OnSupervoxels, majority, supervoxels
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import drawing, train_mode
from napari_medseg.training.schemes.guided.one_network import OneNetwork
from napari_medseg.training.state import TrainState


class Supervoxels(OneNetwork):
    """Each supervoxel learns the commonest class of its voxels, and counts by those that are annotated in the loss."""

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        parts = [supervoxels(image) for image in batch.images]
        count = len(self._setup.spec.label_ids)
        common = torch.stack([majority(p, c, count) for p, c in zip(parts, batch.classes, strict=True)])
        wanted = torch.where(batch.classes == IGNORE, IGNORE, common)
        train_mode(self._network)
        with drawing(self._setup.config.seed + state.step):
            logits = OnSupervoxels(self._network).on(batch.images, parts)
        loss = self._setup.loss(logits, wanted, self._context(batch.images, state))
        return self._descend(self._optimiser, {"loss": loss}, state)
